import os
import select
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.party import parse_address
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.access.ratelimit import Pacer
from sftpd.ipc.messages import Message, MessageKind, pack
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor.children import Children
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import Monitor
from sftpd.monitor.password_change import PasswordChanges

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
Serve = Callable[[socket.socket, PendingCloses], None]


def recorded(
    folder: Path, serve: Serve, wait: Callable[[Children, Monitor], object] = lambda *_: None
) -> list[tuple[str, str, str, object]]:
    """Have a child serve, and return what the ledger says of its files; `wait` before a turn."""
    loop = Loop()
    with Ledger(folder, lambda: NOON) as ledger:
        passwords = PasswordChanges(loop, folder, lambda: NOON)
        monitor = Monitor(ledger, 2)
        children = Children(loop, monitor, lambda _: None, Pacer(), passwords)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            children.begin(theirs, parse_address("192.0.2.7"), None, serve)
        while children:
            wait(children, monitor)
            loop.run_once([children])
    loop.close()
    events = [record.event for record in read_records(folder)]
    return [
        (e.event, e.what, e.outcome, e.detail.get("bytes"))
        for e in events
        if e.event in ("open", "close")
    ]


def test_what_a_child_held_back_is_on_record_although_it_was_killed(tmp_path: Path) -> None:
    def serve(parent: socket.socket, slate: PendingCloses) -> None:
        reporter = MonitorClient(parent, slate)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.record_open(1, b"/x", 9, b"")
        reporter.record_open(2, b"/y", 9, b"")
        reporter.record_close(1, 9, True, b"", "")
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("open", "/y", "ok", None),
        ("close", "/x", "ok", 9),
        ("close", "/y", "failed", None),
    ]


def test_what_was_told_and_not_yet_wiped_away_counts_once(tmp_path: Path) -> None:
    def serve(parent: socket.socket, slate: PendingCloses) -> None:
        reporter = MonitorClient(parent, slate)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.record_open(1, b"/x", 9, b"")
        reporter.record_close(1, 9, True, b"", "")
        held = slate.read()
        reporter.record_open(2, b"/y", 9, b"")
        slate.write(held)
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("close", "/x", "ok", 9),
        ("open", "/y", "ok", None),
        ("close", "/y", "failed", None),
    ]


def test_a_slate_with_anything_but_closes_on_it_takes_nobody_with_it(tmp_path: Path) -> None:
    def serve(parent: socket.socket, slate: PendingCloses) -> None:
        reporter = MonitorClient(parent)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.record_open(1, b"/x", 9, b"")
        slate.write(pack(Message(MessageKind.LIST, (b"/",), 2)))
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("close", "/x", "failed", None),
    ]


def test_a_child_with_more_files_open_than_a_client_may_have_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftpd.monitor.children.MAX_OPEN_FILES", 2)

    def serve(parent: socket.socket, _: PendingCloses) -> None:
        reporter = MonitorClient(parent)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        for handle in range(50):
            reporter.record_open(handle, b"/x", 9, b"")

    found = recorded(tmp_path, serve, lambda children, _: children.enforce_open_limit())
    assert [event for event, *_ in found] == ["open"] * 3 + ["close"] * 3


@pytest.mark.parametrize("last", [2, 9], ids=["honestly", "with a lie"])
def test_a_child_that_dies_with_much_unheard_takes_nobody_with_it(
    tmp_path: Path, last: int
) -> None:
    def serve(parent: socket.socket, _: PendingCloses) -> None:
        reporter = MonitorClient(parent)
        reporter.admit("a", "publickey", "SHA256:x", "", "", "")
        reporter.record_open(1, b"/x", 9, b"")
        reporter.record_open(2, b"/y", 9, b"")
        reporter.record_close(1, 9, True, b"", "")
        reporter.record_close(last, 9, True, b"", "")
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(children: Children, monitor: Monitor) -> None:
        if monitor.counters.files["a"] == 2:
            for child in children:
                select.select([child.pidfd], [], [])

    ended = ("close", "/y", *(("ok", 9) if last == 2 else ("failed", None)))
    assert recorded(tmp_path, serve, wait)[2:] == [("close", "/x", "ok", 9), ended]


class Chatter:
    """A channel on which somebody else goes on after the child is dead."""

    def __init__(self, channel: socket.socket) -> None:
        self.said = 0
        self.fileno, self.close = channel.fileno, channel.close

    def recv(self, _: int) -> bytes:
        self.said += 1
        if self.said > 20_000:
            raise BlockingIOError
        return pack(Message(MessageKind.TIMES, (b"1" + b",0" * 10,)))


def test_a_dead_child_in_whose_name_somebody_talks_on_is_buried_all_the_same(
    tmp_path: Path,
) -> None:
    # As its own child could, where the kernel has no seccomp.
    chatter: list[Chatter] = []

    def serve(parent: socket.socket, _: PendingCloses) -> None:
        MonitorClient(parent).admit("a", "publickey", "SHA256:x", "", "", "")
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(children: Children, monitor: Monitor) -> None:
        for child in children:
            if monitor.sessions and not chatter:
                select.select([child.pidfd], [], [])
                chatter.append(Chatter(child.channel))
                child.channel = chatter[0]  # type: ignore[assignment]

    recorded(tmp_path, serve, wait)
    assert 1000 < chatter[0].said < 20_000


class Together:
    """Some children that ask for a file each at the same time, of a ledger that syncs always."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.loop = Loop()
        self.ledger = Ledger(folder, lambda: NOON, policy=WritePolicy(sync_always=True))
        self.monitor = Monitor(self.ledger, 99)
        passwords = PasswordChanges(self.loop, folder, lambda: NOON)
        self.children = Children(self.loop, self.monitor, lambda _: None, Pacer(), passwords)
        self.go, self.told = os.pipe(), os.pipe()
        for number in range(count):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                serve = self.serving(number)
                kept = [self.go[0], self.told[1]]
                self.children.begin(theirs, parse_address("192.0.2.7"), None, serve, kept)
        while sum(self.monitor.sessions.values()) < count:
            self.loop.run_once([self.children])
        os.write(self.go[1], bytes(count))
        asking = select.poll()
        for child in self.children:
            asking.register(child.channel)
        while sum(bool(events & select.POLLIN) for _, events in asking.poll()) < count:
            pass

    def serving(self, number: int) -> Serve:
        def serve(parent: socket.socket, slate: PendingCloses) -> None:
            reporter = MonitorClient(parent, slate)
            reporter.admit("a", "publickey", "SHA256:x", "", "", "")
            os.read(self.go[0], 1)
            os.write(
                self.told[1], b"+" if reporter.record_open(1, b"/%d" % number, 9, b"") else b"-"
            )
            reporter.end("closed")

        return serve

    def end(self) -> str:
        """Return what the children were told."""
        while self.children:
            self.loop.run_once([self.children])
        self.loop.close()
        self.ledger.close()
        os.close(self.told[1])
        said = os.read(self.told[0], 99).decode()
        for end in (*self.go, self.told[0]):
            os.close(end)
        return said


def test_those_who_ask_in_one_turn_share_one_sync_and_are_answered_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Together(tmp_path, 5)
    opens_at_sync: list[int] = []

    def sync(_: int) -> None:
        assert not select.select([together.told[0]], [], [], 0)[0]
        opens_at_sync.append(sum(r.event.event == "open" for r in read_records(tmp_path)))

    with monkeypatch.context() as counted:
        counted.setattr(os, "fdatasync", sync)
        together.loop.run_once([together.children])
    assert opens_at_sync == [5]
    assert together.end() == "+++++"


def test_a_failed_write_refuses_all_who_asked_in_that_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = Together(tmp_path, 3)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", broken)
        together.loop.run_once([together.children])
    assert together.end() == "---"
