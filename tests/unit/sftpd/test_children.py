import os
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from config.party import address
from keys.ledger import Ledger, read
from sftpd.book import Book
from sftpd.children import Children
from sftpd.loop import Loop
from sftpd.passwords import Passwords
from sftpd.rate import Pacer
from sftpd.recorder import Reporter
from sftpd.slate import Slate

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
Serve = Callable[[socket.socket, Slate], None]


def recorded(folder: Path, serve: Serve) -> list[tuple[str, str, str, object]]:
    """Have a child serve, and return what the ledger says of its files."""
    loop = Loop()
    with Ledger(folder, lambda: NOON) as ledger:
        passwords = Passwords(loop, folder, lambda: NOON)
        children = Children(loop, Book(ledger, 2), lambda _: None, Pacer(), passwords)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            children.begin(theirs, address("192.0.2.7"), None, serve)
        while children:
            loop.turn([children])
    loop.close()
    events = [record.event for record in read(folder)]
    return [
        (e.event, e.what, e.outcome, e.detail.get("bytes"))
        for e in events
        if e.event in ("open", "close")
    ]


def test_what_a_child_held_back_is_on_record_although_it_was_killed(tmp_path: Path) -> None:
    def serve(parent: socket.socket, slate: Slate) -> None:
        reporter = Reporter(parent, slate)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.opened(1, b"/x", 9, b"")
        reporter.opened(2, b"/y", 9, b"")
        reporter.closed(1, 9, True, b"", "")
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("open", "/y", "ok", None),
        ("close", "/x", "ok", 9),
        ("close", "/y", "failed", None),
    ]


def test_what_was_told_and_not_yet_wiped_away_counts_once(tmp_path: Path) -> None:
    def serve(parent: socket.socket, slate: Slate) -> None:
        reporter = Reporter(parent, slate)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.opened(1, b"/x", 9, b"")
        reporter.closed(1, 9, True, b"", "")
        held = slate.read()
        reporter.opened(2, b"/y", 9, b"")
        slate.write(held)
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("close", "/x", "ok", 9),
        ("open", "/y", "ok", None),
        ("close", "/y", "failed", None),
    ]
