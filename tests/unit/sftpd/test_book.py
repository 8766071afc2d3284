import errno
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.party import address
from keys.ledger import Ledger, read
from sftpd.book import Book, Entry, Liar
from sftpd.recorder import Kind, Message

HOME = address("192.0.2.7")
ADMIT = (b"a", b"publickey", b"SHA256:x", b"SSH-2.0-x", b"aes", b"mlkem")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger(folder, lambda: datetime(2023, 5, 14, 14, tzinfo=UTC)) as ledger:
        yield ledger


@pytest.fixture
def book(ledger: Ledger, time: Time) -> Book:
    return Book(ledger, 2, time)


def told(folder: Path) -> list[tuple[str, str, str, str, dict[str, Any]]]:
    return [
        (e.event, e.who, e.what, e.outcome, dict(e.detail))
        for e in (record.event for record in read(folder))
    ]


def admitted(book: Book, party: bytes = b"a") -> Entry:
    entry = book.begin(HOME)
    assert book.hear(entry, Message(Kind.ADMIT, (party, *ADMIT[1:])))
    return entry


def test_a_session_from_login_to_end(book: Book, folder: Path, time: Time) -> None:
    entry = admitted(book)
    assert book.hear(entry, Message(Kind.OPEN, (b"/x",), 1, 9))
    time.now += 0.25
    book.hear(entry, Message(Kind.CLOSE, (b"",), 1, 9, True))
    book.hear(entry, Message(Kind.LIST, (b"/",), 2))
    book.hear(entry, Message(Kind.MISS, (b"open", b"/none")))
    book.hear(entry, Message(Kind.DENY, (b"mkdir", b"/new")))
    book.hear(entry, Message(Kind.END, (b"closed",)))
    book.end(entry, "killed")

    login = {
        "session": 0,
        "method": "publickey",
        "credential": "SHA256:x",
        "client": "SSH-2.0-x",
        "cipher": "aes",
        "kex": "mlkem",
    }
    closed = {"session": 0, "handle": 1, "bytes": 9, "complete": True, "ms": 250}
    end = {"session": 0, "files": 1, "bytes": 9, "ms": 250, "reason": "closed"}
    assert told(folder) == [
        ("login", "a", "", "ok", login),
        ("open", "a", "/x", "ok", {"session": 0, "handle": 1, "size": 9}),
        ("close", "a", "/x", "ok", closed),
        ("list", "a", "/", "ok", {"session": 0, "handle": 2}),
        ("open", "a", "/none", "refused", {"session": 0, "reason": "no such file"}),
        ("denied", "a", "/new", "refused", {"session": 0, "verb": "mkdir"}),
        ("session-end", "a", "", "ok", end),
    ]
    assert {record.event.origin for record in read(folder)} == {"192.0.2.7"}


def test_a_killed_child_leaves_no_open_without_its_close(book: Book, folder: Path) -> None:
    entry = admitted(book)
    book.hear(entry, Message(Kind.OPEN, (b"/x",), 1, 9))
    book.hear(entry, Message(Kind.OPEN, (b"/y",), 2, 9))
    book.hear(entry, Message(Kind.CLOSE, (b"",), 1, 9, True))
    book.end(entry, "killed")

    close, end = told(folder)[-2:]
    assert close[:4] == ("close", "a", "/y", "failed")
    assert (close[4]["complete"], close[4]["reason"]) == (False, "session ended")
    assert end[3:] == (
        "failed",
        {"session": 0, "files": 2, "bytes": 9, "ms": 0, "reason": "killed"},
    )


def test_the_cap_on_a_partys_sessions_is_exact(book: Book, folder: Path) -> None:
    first, _ = admitted(book), admitted(book)
    third = book.begin(HOME)
    assert not book.hear(third, Message(Kind.ADMIT, ADMIT))
    assert told(folder)[-1][0] == "login-refused"
    assert told(folder)[-1][4]["reason"] == "too many sessions"
    admitted(book, b"b")

    book.end(first, "closed")
    assert book.hear(third, Message(Kind.ADMIT, ADMIT))


def test_probes_are_recorded_only_if_no_login_follows(book: Book, folder: Path) -> None:
    probe = Message(
        Kind.REFUSE, (b"a", b"publickey", b"SHA256:y", b"", b"wrong credential"), flag=True
    )
    entry = book.begin(HOME)
    book.hear(entry, probe)
    book.hear(entry, Message(Kind.ADMIT, ADMIT))
    book.end(entry, "closed")
    assert [event for event, *_ in told(folder)] == ["login", "session-end"]

    entry = book.begin(HOME)
    book.hear(entry, probe)
    book.end(entry, "closed")
    assert [event for event, *_ in told(folder)][2:] == ["login-refused", "session-end"]
    assert told(folder)[2][1] == "a"


def test_a_number_of_a_session_never_comes_back(ledger: Ledger, time: Time) -> None:
    book = Book(ledger, 9, time)
    numbers = [book.begin(HOME).session for _ in range(3)]
    entry = book.begin(HOME)
    book.end(entry, "closed")
    after_a_crash = Book(ledger, 9, time)
    numbers += [entry.session, after_a_crash.begin(HOME).session, after_a_crash.begin(HOME).session]
    assert numbers == [0, 1, 2, 3, 10_000, 10_001]


def test_refused_connections_are_recorded_once_a_second_with_their_count(
    book: Book, folder: Path, time: Time
) -> None:
    for _ in range(5):
        book.turn_away(HOME, "address")
    assert len(told(folder)) == 1
    assert book.next_due() == 101.0

    time.now = 101.0
    book.catch_up()
    time.now = 101.5
    book.turn_away(HOME, "address")
    book.catch_up()
    time.now = 102.0
    book.catch_up()
    time.now = 103.0
    book.catch_up()

    assert [(event, detail) for event, _, _, _, detail in told(folder)] == [
        ("connection-refused", {"reason": "address", "count": 1}),
        ("connection-refused", {"reason": "address", "count": 4}),
        ("connection-refused", {"reason": "address", "count": 1}),
    ]
    assert book.next_due() is None


@pytest.mark.parametrize(
    "message",
    [
        Message(Kind.ADMIT, ADMIT),
        Message(Kind.CLOSE, (b"",), 5),
        Message(Kind.OPEN, (b"/x",), 1),
    ],
)
def test_a_child_that_lies_is_found_out(book: Book, message: Message) -> None:
    entry = admitted(book)
    book.hear(entry, Message(Kind.OPEN, (b"/x",), 1))
    with pytest.raises(Liar):
        book.hear(entry, message)


def test_nothing_is_opened_before_the_login_or_after_the_goodbye(book: Book) -> None:
    entry = book.begin(HOME)
    with pytest.raises(Liar):
        book.hear(entry, Message(Kind.OPEN, (b"/x",), 1))
    book.hear(entry, Message(Kind.END, (b"closed",)))
    with pytest.raises(Liar):
        book.hear(entry, Message(Kind.ADMIT, ADMIT))


def test_what_the_ledger_does_not_take_is_not_granted(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, early = admitted(book), book.begin(HOME)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not book.hear(entry, Message(Kind.OPEN, (b"/x",), 1, 9))
    assert not book.hear(entry, Message(Kind.LIST, (b"/",), 2))
    assert not book.hear(early, Message(Kind.ADMIT, ADMIT))
    assert entry.open == {}
    assert early.party is None
