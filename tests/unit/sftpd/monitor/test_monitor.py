import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from unit.sftpd.fake_clock import FakeClock

from config.party import Address, parse_address
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.access.authorize import Reason
from sftpd.access.penalties import Cost
from sftpd.ipc.messages import Message, MessageKind
from sftpd.monitor.monitor import MAX_LOGIN_ATTEMPTS, ConnectionState, Monitor, ProtocolViolation

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
HOME = parse_address("192.0.2.7")
ADMIT = (b"a", b"publickey", b"SHA256:x", b"SSH-2.0-x", b"aes", b"mlkem", b"")


@pytest.fixture
def time() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger(folder, lambda: NOON) as ledger:
        yield ledger


@pytest.fixture
def monitor(ledger: Ledger, time: FakeClock) -> Monitor:
    return Monitor(ledger, 2, time)


def told(folder: Path) -> list[tuple[str, str, str, str, dict[str, Any]]]:
    return [
        (e.event, e.who, e.what, e.outcome, dict(e.detail))
        for e in (record.event for record in read_records(folder))
    ]


def admitted(monitor: Monitor, party: bytes = b"a") -> ConnectionState:
    state = monitor.begin(HOME)
    assert monitor.handle_messages(state, Message(MessageKind.ADMIT, (party, *ADMIT[1:])))
    return state


def test_a_session_from_login_to_end(monitor: Monitor, folder: Path, time: FakeClock) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    time.now += 0.25
    monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b""), 1, 9, True))
    monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 2))
    monitor.handle_messages(state, Message(MessageKind.MISS, (b"open", b"/none")))
    monitor.handle_messages(state, Message(MessageKind.DENY, (b"mkdir", b"/new")))
    monitor.handle_messages(state, Message(MessageKind.END, (b"closed",)))
    monitor.end(state, "killed")

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
    assert {record.event.origin for record in read_records(folder)} == {"192.0.2.7"}


def test_a_close_says_which_version_was_served_and_which_ranges(
    monitor: Monitor, folder: Path
) -> None:
    state = admitted(monitor)
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", sha256.encode()), 1, 9))
    monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"0-3,6-6"), 1, 5))

    detail = told(folder)[-1][4]
    assert (detail["complete"], detail["ranges"], detail["sha256"]) == (False, "0-3,6-6", sha256)


def test_what_comes_together_is_written_down_in_its_order(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert monitor.handle_messages(
        state,
        Message(MessageKind.CLOSE, (b"", b""), 1, 9, True),
        Message(MessageKind.OPEN, (b"/y", b""), 2, 9),
    )

    assert [t[:3] for t in told(folder)[1:]] == [
        ("open", "a", "/x"),
        ("close", "a", "/x"),
        ("open", "a", "/y"),
    ]
    assert list(state.open_files) == [2]


def test_a_close_stands_even_if_a_lie_follows_it(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    close = Message(MessageKind.CLOSE, (b"", b""), 1, 9, True)
    with pytest.raises(ProtocolViolation, match="closes handle 1"):
        monitor.handle_messages(state, close, close)

    assert [t[0] for t in told(folder)[1:]] == ["open", "close"]


@pytest.mark.parametrize(
    "early",
    [
        Message(MessageKind.OPEN, (b"/x", b""), 1, 9),
        Message(MessageKind.TIMES, (b"1" + b",0" * 10,)),
        Message(MessageKind.PACE, (b"",), count=1),
    ],
)
def test_nothing_but_closes_goes_with_another_message(
    monitor: Monitor, folder: Path, early: Message
) -> None:
    state = admitted(monitor)
    with pytest.raises(ProtocolViolation, match="held back"):
        monitor.handle_messages(state, early, Message(MessageKind.END, (b"closed",)))

    assert [t[0] for t in told(folder)] == ["login"]


def test_a_killed_child_leaves_no_open_without_its_close(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/y", b""), 2, 9))
    monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b""), 1, 9, True))
    monitor.end(state, "killed")

    close, end = told(folder)[-2:]
    assert close[:4] == ("close", "a", "/y", "failed")
    assert (close[4]["complete"], close[4]["reason"]) == (False, "session ended")
    assert end[3:] == (
        "failed",
        {"session": 0, "files": 2, "bytes": 9, "ms": 0, "reason": "killed"},
    )


def test_the_cap_on_a_partys_sessions_is_exact(monitor: Monitor, folder: Path) -> None:
    first, _ = admitted(monitor), admitted(monitor)
    third = monitor.begin(HOME)
    assert not monitor.handle_messages(third, Message(MessageKind.ADMIT, ADMIT))
    assert told(folder)[-1][0] == "login-refused"
    assert told(folder)[-1][4]["reason"] == "too many sessions"
    admitted(monitor, b"b")

    monitor.end(first, "closed")
    assert monitor.handle_messages(third, Message(MessageKind.ADMIT, ADMIT))


def test_probes_are_recorded_only_if_no_login_follows(monitor: Monitor, folder: Path) -> None:
    probe = Message(
        MessageKind.REFUSE,
        (b"a", b"publickey", b"SHA256:y", b"SSH-2.0-x", b"aes", b"mlkem", b"wrong credential"),
        flag=True,
    )
    state = monitor.begin(HOME)
    monitor.handle_messages(state, probe)
    monitor.handle_messages(state, Message(MessageKind.ADMIT, ADMIT))
    monitor.end(state, "closed")
    assert [event for event, *_ in told(folder)] == ["login", "session-end"]

    state = monitor.begin(HOME)
    monitor.handle_messages(state, probe)
    monitor.end(state, "closed")
    assert [event for event, *_ in told(folder)][2:] == ["login-refused", "session-end"]
    assert told(folder)[2][1] == "a"
    assert told(folder)[2][4] == {
        "session": state.session,
        "method": "publickey",
        "credential": "SHA256:y",
        "client": "SSH-2.0-x",
        "cipher": "aes",
        "kex": "mlkem",
        "reason": "wrong credential",
    }


def test_a_number_of_a_session_never_comes_back(ledger: Ledger, time: FakeClock) -> None:
    monitor = Monitor(ledger, 9, time)
    numbers = [monitor.begin(HOME).session for _ in range(3)]
    state = monitor.begin(HOME)
    monitor.end(state, "closed")
    after_a_crash = Monitor(ledger, 9, time)
    numbers += [state.session, after_a_crash.begin(HOME).session, after_a_crash.begin(HOME).session]
    assert numbers == [0, 1, 2, 3, 10_000, 10_001]


def test_refused_connections_are_recorded_once_a_second_with_their_count(
    monitor: Monitor, folder: Path, time: FakeClock
) -> None:
    for _ in range(5):
        monitor.refuse_connection(HOME, "address")
    assert len(told(folder)) == 1
    assert monitor.next_due() == 101.0

    time.now = 101.0
    monitor.catch_up()
    time.now = 101.5
    monitor.refuse_connection(HOME, "address")
    monitor.catch_up()
    time.now = 102.0
    monitor.catch_up()
    time.now = 103.0
    monitor.catch_up()

    assert [(event, detail) for event, _, _, _, detail in told(folder)] == [
        ("connection-refused", {"reason": "address", "count": 1}),
        ("connection-refused", {"reason": "address", "count": 4}),
        ("connection-refused", {"reason": "address", "count": 1}),
    ]
    assert monitor.next_due() is None


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageKind.ADMIT, ADMIT),
        Message(MessageKind.CLOSE, (b"", b""), 5),
        Message(MessageKind.OPEN, (b"/x", b""), 1),
        Message(MessageKind.PACE, (b"",), count=1 << 40),
    ],
)
def test_a_child_that_lies_is_found_out(monitor: Monitor, message: Message) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1))
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, message)


@pytest.mark.parametrize("reason", ["", "made up", "wrong \udcff"])
def test_a_login_is_refused_for_a_reason_that_there_is(monitor: Monitor, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match="reason"):
        monitor.handle_messages(monitor.begin(HOME), refuse(reason))


@pytest.mark.parametrize(
    "again",
    [
        lambda: refuse("wrong credential"),
        lambda: refuse("wrong credential", probe=True),
        lambda: Message(MessageKind.CHANGE, (b"a", b"SHA256:x", b"hash")),
    ],
)
def test_nobody_tries_to_log_in_for_ever(monitor: Monitor, again: Callable[[], Message]) -> None:
    state = monitor.begin(HOME)
    for _ in range(MAX_LOGIN_ATTEMPTS):
        monitor.handle_messages(state, again())
    with pytest.raises(ProtocolViolation, match="attempts"):
        monitor.handle_messages(state, again())


def test_nothing_is_opened_before_the_login_or_after_the_goodbye(monitor: Monitor) -> None:
    state = monitor.begin(HOME)
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1))
    monitor.handle_messages(state, Message(MessageKind.END, (b"closed",)))
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, Message(MessageKind.ADMIT, ADMIT))


def test_what_the_ledger_does_not_take_is_not_granted(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, early = admitted(monitor), monitor.begin(HOME)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert not monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 2))
    assert not monitor.handle_messages(early, Message(MessageKind.ADMIT, ADMIT))
    assert state.open_files == {}
    assert early.party is None


def test_a_close_that_the_disk_had_no_room_for_is_on_record_before_its_sessions_end(
    monitor: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    closing = Message(MessageKind.CLOSE, (b"", b""), 1, 9, True)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        assert not monitor.handle_messages(
            state, closing, Message(MessageKind.OPEN, (b"/y", b""), 2, 9)
        )
    monitor.end(state, "closed")

    assert [(t[0], t[2], t[4].get("bytes")) for t in told(folder)[1:]] == [
        ("open", "/x", None),
        ("close", "/x", 9),
        ("session-end", "", 9),
    ]


@pytest.fixture
def gathering(folder: Path, time: FakeClock) -> Iterator[Monitor]:
    with Ledger(folder, lambda: NOON, policy=WritePolicy(sync_always=True)) as ledger:
        yield Monitor(ledger, 2, time)


def test_what_many_ask_is_written_in_their_order_and_synced_once(
    gathering: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = admitted(gathering), admitted(gathering)
    gathering.refuse_connection(parse_address("192.0.2.9"), "address")
    assert gathering.group_commit.commit()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    assert gathering.handle_messages(two, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert gathering.handle_messages(one, Message(MessageKind.OPEN, (b"/y", b""), 1, 9))
    close, missed = Message(MessageKind.CLOSE, (b"", b""), 1, 9, True), (b"open", b"/none")
    assert gathering.handle_messages(two, close, Message(MessageKind.MISS, missed))
    assert len(told(folder)) == 3
    assert gathering.group_commit.commit()

    assert len(synced) == 1
    assert [t[0] for t in told(folder)[:3]] == ["login", "login", "connection-refused"]
    assert [(t[0], t[2], t[4]["session"]) for t in told(folder)[3:]] == [
        ("open", "/x", two.session),
        ("open", "/y", one.session),
        ("close", "/x", two.session),
        ("open", "/none", two.session),
    ]
    assert gathering.group_commit.commit()
    assert (len(synced), gathering.group_commit.unsynced) == (1, 0)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_what_cannot_be_written_together_is_granted_to_nobody(
    gathering: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    state, early = admitted(gathering), gathering.begin(HOME)
    assert gathering.group_commit.commit()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    opening = Message(MessageKind.OPEN, (b"/x", b""), 1, 9)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, full)
        gathering.handle_messages(state, opening)
        gathering.handle_messages(early, Message(MessageKind.ADMIT, ADMIT))
        assert not gathering.group_commit.commit()
    assert (state.open_files, state.files, early.party, early.credential) == ({}, 0, None, "")
    assert gathering.sessions == {"a": 1}

    assert gathering.handle_messages(state, opening)
    assert gathering.handle_messages(early, Message(MessageKind.ADMIT, ADMIT))
    assert gathering.group_commit.commit()
    assert (list(state.open_files), gathering.sessions) == ([1], {"a": 2})
    # What was written and not granted has its close, so that nobody takes it for served.
    events = [(t[0], t[3], t[4].get("reason")) for t in told(folder) if t[2] == "/x"]
    refused = [("open", "ok", None), ("close", "failed", "record not synced")]
    assert events == [*(refused if call == "fdatasync" else []), ("open", "ok", None)]


def test_probes_are_recorded_if_the_login_that_follows_does_not_come_to_stand(
    gathering: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = gathering.begin(HOME)
    gathering.handle_messages(state, refuse("wrong credential", probe=True))
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        gathering.handle_messages(state, Message(MessageKind.ADMIT, ADMIT))
        assert not gathering.group_commit.commit()
    gathering.end(state, "closed")
    assert gathering.group_commit.commit()

    assert [(t[0], t[4]["reason"]) for t in told(folder)] == [
        ("login-refused", "wrong credential"),
        ("session-end", "closed"),
    ]


def test_nobody_can_tell_of_more_bytes_than_a_record_holds(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    most = (1 << 53) - 1
    for handle in (1, 2):
        assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), handle, 9))
    assert monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b""), 1, most))
    with pytest.raises(ProtocolViolation, match="bytes"):
        monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b""), 2, most))
    monitor.end(state, "killed")

    assert [(t[0], t[4]["bytes"]) for t in told(folder)[-2:]] == [
        ("close", None),
        ("session-end", most),
    ]


def test_the_parent_judges_once_more_who_comes_in(
    ledger: Ledger, folder: Path, time: FakeClock
) -> None:
    asked = []

    def check_admission(
        party: str, credential: str, origin: Address, rehearsal: str
    ) -> Reason | None:
        asked.append((party, credential, origin))
        return Reason.SUSPENDED

    monitor = Monitor(ledger, 2, time, check_admission=check_admission)
    state = monitor.begin(HOME)
    assert not monitor.handle_messages(state, Message(MessageKind.ADMIT, ADMIT))
    assert asked == [("a", "SHA256:x", HOME)]
    [(event, who, _, outcome, detail)] = told(folder)
    assert (event, who, outcome) == ("login-refused", "a", "refused")
    assert detail["reason"] == "suspended"
    assert (detail["cipher"], detail["kex"]) == ("aes", "mlkem")
    assert monitor.sessions == {}


def test_why_the_parent_ended_a_session_is_recorded_whatever_the_child_says(
    monitor: Monitor, folder: Path
) -> None:
    state = admitted(monitor)
    state.termination_reason = "key revoked"
    monitor.handle_messages(state, Message(MessageKind.END, (b"server stopped",)))
    monitor.end(state, "killed")
    killed = admitted(monitor)
    killed.termination_reason = "party suspended"
    monitor.end(killed, "killed")

    ends = [(out, d["reason"]) for event, _, _, out, d in told(folder) if event == "session-end"]
    assert ends == [("ok", "key revoked"), ("failed", "party suspended")]


def test_the_balancer_is_named_where_a_connection_came_by_way_of_one(
    monitor: Monitor, folder: Path
) -> None:
    balancer = parse_address("203.0.113.1")
    state = monitor.begin(HOME, balancer)
    refused = (b"a", b"password", b"", b"", b"", b"", b"wrong credential")
    monitor.handle_messages(state, Message(MessageKind.REFUSE, refused))
    monitor.handle_messages(state, Message(MessageKind.ADMIT, ADMIT))
    monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 1))
    monitor.end(state, "closed")
    monitor.refuse_connection(HOME, "address", balancer)

    assert [(event, detail.get("via")) for event, _, _, _, detail in told(folder)] == [
        ("login-refused", "203.0.113.1"),
        ("login", "203.0.113.1"),
        ("list", None),
        ("session-end", "203.0.113.1"),
        ("connection-refused", "203.0.113.1"),
    ]
    assert {record.event.origin for record in read_records(folder)} == {"192.0.2.7"}


def charged(monitor: Monitor, *messages: Message, reason: str = "closed") -> list[Cost]:
    found: list[Cost] = []
    monitor._charge = lambda _, cost: found.append(cost)
    state = monitor.begin(HOME)
    for message in messages:
        monitor.handle_messages(state, message)
    monitor.end(state, reason)
    return found


def refuse(reason: str, *, probe: bool = False) -> Message:
    texts = (b"a", b"publickey", b"SHA256:y", b"", b"", b"", os.fsencode(reason))
    return Message(MessageKind.REFUSE, texts, flag=probe)


def test_failures_cost_the_address_that_they_came_from(monitor: Monitor) -> None:
    assert charged(monitor, refuse("wrong credential"), refuse("unknown user")) == [Cost.LOGIN] * 2
    assert charged(monitor, refuse("wrong credential", probe=True)) == [Cost.LOGIN]
    assert charged(monitor, Message(MessageKind.END, (b"no login in time",))) == [Cost.GRACE]
    assert charged(monitor, Message(MessageKind.END, (b"protocol error",))) == [Cost.PROTOCOL]
    assert charged(monitor, reason="killed") == [Cost.CRASH]


def test_a_partys_own_client_is_charged_nothing(monitor: Monitor) -> None:
    assert charged(monitor, refuse("not yet open"), refuse("closed")) == []
    probe = refuse("wrong credential", probe=True)
    assert charged(monitor, probe, Message(MessageKind.ADMIT, ADMIT), reason="killed") == []
    admitted(monitor), admitted(monitor)
    assert (
        charged(monitor, probe, Message(MessageKind.ADMIT, ADMIT)) == []
    )  # all sessions are taken
    assert charged(monitor, Message(MessageKind.END, (b"closed",))) == []


def test_the_accounts_of_parties_that_have_left_are_forgotten(monitor: Monitor) -> None:
    for number in range(100):
        monitor.end(admitted(monitor, f"party-{number}".encode()), "closed")
    assert monitor.sessions == {}


def test_a_histogram_that_is_none_is_a_lie(monitor: Monitor) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.TIMES, (b"1,0,0,0,0,0,0,0,0,0,2",), count=7))
    assert (monitor.counters.reads.counts[0], monitor.counters.reads.microseconds) == (1, 7)
    for counts in (b"", b"1", b"x", b"-1,0,0,0,0,0,0,0,0,0,2", b"9" * 400 + b",0" * 10):
        with pytest.raises(ProtocolViolation):
            monitor.handle_messages(state, Message(MessageKind.TIMES, (counts,)))
