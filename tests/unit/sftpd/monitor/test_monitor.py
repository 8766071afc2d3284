import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from unit.sftpd.ticking import Time

from config.party import Address, address
from keys.ledger.writer import Ledger, Terms, read
from sftpd.access.authorize import Reason
from sftpd.access.penalties import Cost
from sftpd.ipc.messages import Kind, Message
from sftpd.monitor.monitor import MOST_TRIES, Book, Entry, Liar

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
HOME = address("192.0.2.7")
ADMIT = (b"a", b"publickey", b"SHA256:x", b"SSH-2.0-x", b"aes", b"mlkem", b"")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger(folder, lambda: NOON) as ledger:
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
    assert book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    time.now += 0.25
    book.hear(entry, Message(Kind.CLOSE, (b"", b""), 1, 9, True))
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
    closed = {"session": 0, "handle": 1, "bytes": 9, "complete": True, "sha256": None, "ms": 250}
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


def test_a_close_says_which_version_was_served_and_which_ranges(book: Book, folder: Path) -> None:
    entry = admitted(book)
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    book.hear(entry, Message(Kind.OPEN, (b"/x", sha256.encode()), 1, 9))
    book.hear(entry, Message(Kind.CLOSE, (b"", b"0-3,6-6"), 1, 5))

    detail = told(folder)[-1][4]
    assert (detail["complete"], detail["ranges"], detail["sha256"]) == (False, "0-3,6-6", sha256)


def test_what_comes_together_is_written_down_in_its_order(book: Book, folder: Path) -> None:
    entry = admitted(book)
    assert book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    assert book.hear(
        entry,
        Message(Kind.CLOSE, (b"", b""), 1, 9, True),
        Message(Kind.OPEN, (b"/y", b""), 2, 9),
    )

    assert [t[:3] for t in told(folder)[1:]] == [
        ("open", "a", "/x"),
        ("close", "a", "/x"),
        ("open", "a", "/y"),
    ]
    assert list(entry.open) == [2]


def test_a_close_stands_even_if_a_lie_follows_it(book: Book, folder: Path) -> None:
    entry = admitted(book)
    assert book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    close = Message(Kind.CLOSE, (b"", b""), 1, 9, True)
    with pytest.raises(Liar, match="closes handle 1"):
        book.hear(entry, close, close)

    assert [t[0] for t in told(folder)[1:]] == ["open", "close"]


@pytest.mark.parametrize(
    "early",
    [
        Message(Kind.OPEN, (b"/x", b""), 1, 9),
        Message(Kind.TIMES, (b"1" + b",0" * 10,)),
        Message(Kind.PACE, (b"",), count=1),
    ],
)
def test_nothing_but_closes_goes_with_another_message(
    book: Book, folder: Path, early: Message
) -> None:
    entry = admitted(book)
    with pytest.raises(Liar, match="held back"):
        book.hear(entry, early, Message(Kind.END, (b"closed",)))

    assert [t[0] for t in told(folder)] == ["login"]


def test_a_killed_child_leaves_no_open_without_its_close(book: Book, folder: Path) -> None:
    entry = admitted(book)
    book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    book.hear(entry, Message(Kind.OPEN, (b"/y", b""), 2, 9))
    book.hear(entry, Message(Kind.CLOSE, (b"", b""), 1, 9, True))
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
        Kind.REFUSE,
        (b"a", b"publickey", b"SHA256:y", b"SSH-2.0-x", b"aes", b"mlkem", b"wrong credential"),
        flag=True,
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
    assert told(folder)[2][4] == {
        "session": entry.session,
        "method": "publickey",
        "credential": "SHA256:y",
        "client": "SSH-2.0-x",
        "cipher": "aes",
        "kex": "mlkem",
        "reason": "wrong credential",
    }


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
        Message(Kind.CLOSE, (b"", b""), 5),
        Message(Kind.OPEN, (b"/x", b""), 1),
        Message(Kind.PACE, (b"",), count=1 << 40),
    ],
)
def test_a_child_that_lies_is_found_out(book: Book, message: Message) -> None:
    entry = admitted(book)
    book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1))
    with pytest.raises(Liar):
        book.hear(entry, message)


@pytest.mark.parametrize("reason", ["", "made up", "wrong \udcff"])
def test_a_login_is_refused_for_a_reason_that_there_is(book: Book, reason: str) -> None:
    with pytest.raises(Liar, match="reason"):
        book.hear(book.begin(HOME), refuse(reason))


@pytest.mark.parametrize(
    "again",
    [
        lambda: refuse("wrong credential"),
        lambda: refuse("wrong credential", probe=True),
        lambda: Message(Kind.CHANGE, (b"a", b"SHA256:x", b"hash")),
    ],
)
def test_nobody_tries_to_log_in_for_ever(book: Book, again: Callable[[], Message]) -> None:
    entry = book.begin(HOME)
    for _ in range(MOST_TRIES):
        book.hear(entry, again())
    with pytest.raises(Liar, match="attempts"):
        book.hear(entry, again())


def test_nothing_is_opened_before_the_login_or_after_the_goodbye(book: Book) -> None:
    entry = book.begin(HOME)
    with pytest.raises(Liar):
        book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1))
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
    assert not book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    assert not book.hear(entry, Message(Kind.LIST, (b"/",), 2))
    assert not book.hear(early, Message(Kind.ADMIT, ADMIT))
    assert entry.open == {}
    assert early.party is None


def test_a_close_that_the_disk_had_no_room_for_is_on_record_before_its_sessions_end(
    book: Book, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = admitted(book)
    assert book.hear(entry, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    closing = Message(Kind.CLOSE, (b"", b""), 1, 9, True)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        assert not book.hear(entry, closing, Message(Kind.OPEN, (b"/y", b""), 2, 9))
    book.end(entry, "closed")

    assert [(t[0], t[2], t[4].get("bytes")) for t in told(folder)[1:]] == [
        ("open", "/x", None),
        ("close", "/x", 9),
        ("session-end", "", 9),
    ]


@pytest.fixture
def gathering(folder: Path, time: Time) -> Iterator[Book]:
    with Ledger(folder, lambda: NOON, terms=Terms(always=True)) as ledger:
        yield Book(ledger, 2, time)


def test_what_many_ask_is_written_in_their_order_and_synced_once(
    gathering: Book, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = admitted(gathering), admitted(gathering)
    gathering.turn_away(address("192.0.2.9"), "address")
    assert gathering.journal.settle()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    assert gathering.hear(two, Message(Kind.OPEN, (b"/x", b""), 1, 9))
    assert gathering.hear(one, Message(Kind.OPEN, (b"/y", b""), 1, 9))
    close, missed = Message(Kind.CLOSE, (b"", b""), 1, 9, True), (b"open", b"/none")
    assert gathering.hear(two, close, Message(Kind.MISS, missed))
    assert len(told(folder)) == 3
    assert gathering.journal.settle()

    assert len(synced) == 1
    assert [t[0] for t in told(folder)[:3]] == ["login", "login", "connection-refused"]
    assert [(t[0], t[2], t[4]["session"]) for t in told(folder)[3:]] == [
        ("open", "/x", two.session),
        ("open", "/y", one.session),
        ("close", "/x", two.session),
        ("open", "/none", two.session),
    ]
    assert gathering.journal.settle()
    assert (len(synced), gathering.journal.unsynced) == (1, 0)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_what_cannot_be_written_together_is_granted_to_nobody(
    gathering: Book, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    entry, early = admitted(gathering), gathering.begin(HOME)
    assert gathering.journal.settle()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    opening = Message(Kind.OPEN, (b"/x", b""), 1, 9)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, full)
        gathering.hear(entry, opening)
        gathering.hear(early, Message(Kind.ADMIT, ADMIT))
        assert not gathering.journal.settle()
    assert (entry.open, entry.files, early.party, early.credential) == ({}, 0, None, "")
    assert gathering.sessions == {"a": 1}

    assert gathering.hear(entry, opening)
    assert gathering.hear(early, Message(Kind.ADMIT, ADMIT))
    assert gathering.journal.settle()
    assert (list(entry.open), gathering.sessions) == ([1], {"a": 2})
    # What was written and not granted has its close, so that nobody takes it for served.
    events = [(t[0], t[3], t[4].get("reason")) for t in told(folder) if t[2] == "/x"]
    refused = [("open", "ok", None), ("close", "failed", "record not synced")]
    assert events == [*(refused if call == "fdatasync" else []), ("open", "ok", None)]


def test_probes_are_recorded_if_the_login_that_follows_does_not_come_to_stand(
    gathering: Book, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    entry = gathering.begin(HOME)
    gathering.hear(entry, refuse("wrong credential", probe=True))
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        gathering.hear(entry, Message(Kind.ADMIT, ADMIT))
        assert not gathering.journal.settle()
    gathering.end(entry, "closed")
    assert gathering.journal.settle()

    assert [(t[0], t[4]["reason"]) for t in told(folder)] == [
        ("login-refused", "wrong credential"),
        ("session-end", "closed"),
    ]


def test_nobody_can_tell_of_more_bytes_than_a_record_holds(book: Book, folder: Path) -> None:
    entry = admitted(book)
    most = (1 << 53) - 1
    for handle in (1, 2):
        assert book.hear(entry, Message(Kind.OPEN, (b"/x", b""), handle, 9))
    assert book.hear(entry, Message(Kind.CLOSE, (b"", b""), 1, most))
    with pytest.raises(Liar, match="bytes"):
        book.hear(entry, Message(Kind.CLOSE, (b"", b""), 2, most))
    book.end(entry, "killed")

    assert [(t[0], t[4]["bytes"]) for t in told(folder)[-2:]] == [
        ("close", None),
        ("session-end", most),
    ]


def test_the_parent_judges_once_more_who_comes_in(ledger: Ledger, folder: Path, time: Time) -> None:
    asked = []

    def judge(party: str, credential: str, origin: Address, rehearsal: str) -> Reason | None:
        asked.append((party, credential, origin))
        return Reason.SUSPENDED

    book = Book(ledger, 2, time, judge=judge)
    entry = book.begin(HOME)
    assert not book.hear(entry, Message(Kind.ADMIT, ADMIT))
    assert asked == [("a", "SHA256:x", HOME)]
    [(event, who, _, outcome, detail)] = told(folder)
    assert (event, who, outcome) == ("login-refused", "a", "refused")
    assert detail["reason"] == "suspended"
    assert (detail["cipher"], detail["kex"]) == ("aes", "mlkem")
    assert book.sessions == {}


def test_why_the_parent_ended_a_session_is_recorded_whatever_the_child_says(
    book: Book, folder: Path
) -> None:
    entry = admitted(book)
    entry.ending = "key revoked"
    book.hear(entry, Message(Kind.END, (b"server stopped",)))
    book.end(entry, "killed")
    killed = admitted(book)
    killed.ending = "party suspended"
    book.end(killed, "killed")

    ends = [(out, d["reason"]) for event, _, _, out, d in told(folder) if event == "session-end"]
    assert ends == [("ok", "key revoked"), ("failed", "party suspended")]


def test_the_balancer_is_named_where_a_connection_came_by_way_of_one(
    book: Book, folder: Path
) -> None:
    balancer = address("203.0.113.1")
    entry = book.begin(HOME, balancer)
    refused = (b"a", b"password", b"", b"", b"", b"", b"wrong credential")
    book.hear(entry, Message(Kind.REFUSE, refused))
    book.hear(entry, Message(Kind.ADMIT, ADMIT))
    book.hear(entry, Message(Kind.LIST, (b"/",), 1))
    book.end(entry, "closed")
    book.turn_away(HOME, "address", balancer)

    assert [(event, detail.get("via")) for event, _, _, _, detail in told(folder)] == [
        ("login-refused", "203.0.113.1"),
        ("login", "203.0.113.1"),
        ("list", None),
        ("session-end", "203.0.113.1"),
        ("connection-refused", "203.0.113.1"),
    ]
    assert {record.event.origin for record in read(folder)} == {"192.0.2.7"}


def charged(book: Book, *messages: Message, reason: str = "closed") -> list[Cost]:
    found: list[Cost] = []
    book._charge = lambda _, cost: found.append(cost)
    entry = book.begin(HOME)
    for message in messages:
        book.hear(entry, message)
    book.end(entry, reason)
    return found


def refuse(reason: str, *, probe: bool = False) -> Message:
    texts = (b"a", b"publickey", b"SHA256:y", b"", b"", b"", os.fsencode(reason))
    return Message(Kind.REFUSE, texts, flag=probe)


def test_failures_cost_the_address_that_they_came_from(book: Book) -> None:
    assert charged(book, refuse("wrong credential"), refuse("unknown user")) == [Cost.LOGIN] * 2
    assert charged(book, refuse("wrong credential", probe=True)) == [Cost.LOGIN]
    assert charged(book, Message(Kind.END, (b"no login in time",))) == [Cost.GRACE]
    assert charged(book, Message(Kind.END, (b"protocol error",))) == [Cost.PROTOCOL]
    assert charged(book, reason="killed") == [Cost.CRASH]


def test_a_partys_own_client_is_charged_nothing(book: Book) -> None:
    assert charged(book, refuse("not yet open"), refuse("closed")) == []
    probe = refuse("wrong credential", probe=True)
    assert charged(book, probe, Message(Kind.ADMIT, ADMIT), reason="killed") == []
    admitted(book), admitted(book)
    assert charged(book, probe, Message(Kind.ADMIT, ADMIT)) == []  # all sessions are taken
    assert charged(book, Message(Kind.END, (b"closed",))) == []


def test_the_accounts_of_parties_that_have_left_are_forgotten(book: Book) -> None:
    for number in range(100):
        book.end(admitted(book, f"party-{number}".encode()), "closed")
    assert book.sessions == {}


def test_a_histogram_that_is_none_is_a_lie(book: Book) -> None:
    entry = admitted(book)
    book.hear(entry, Message(Kind.TIMES, (b"1,0,0,0,0,0,0,0,0,0,2",), count=7))
    assert (book.tally.reads.counts[0], book.tally.reads.microseconds) == (1, 7)
    for counts in (b"", b"1", b"x", b"-1,0,0,0,0,0,0,0,0,0,2", b"9" * 400 + b",0" * 10):
        with pytest.raises(Liar):
            book.hear(entry, Message(Kind.TIMES, (counts,)))
