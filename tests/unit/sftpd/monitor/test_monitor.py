import errno
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from unit.fake_clock import FakeClock

from config.party import Address, parse_address
from keys import digest
from keys.credentials.admission import Reason
from keys.credentials.penalties import Cost
from keys.digest import Claim
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.ipc.messages import LoginAnswer, Message, MessageKind
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import (
    MAX_LOGIN_ATTEMPTS,
    ConnectionState,
    KeyExchange,
    Monitor,
    ProtocolViolation,
)
from sftpd.monitor.records.stamps import StampChecker

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
HOME = parse_address("192.0.2.7")
PAGE = digest.digests_of(b"oku beni\n")
OTHER = "f" * 64
EXCHANGE = KeyExchange(b"s" * 32, "SSH-2.0-x", "aes", "mlkem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "transfer"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with Ledger(folder, lambda: NOON) as ledger:
        yield ledger


@pytest.fixture
def monitor(loop: Loop, ledger: Ledger) -> Monitor:
    return Monitor(loop, ledger, 2)


def recorded(folder: Path) -> list[tuple[str, str, str, str, dict[str, Any]]]:
    return [
        (e.event, e.who, e.what, e.outcome, dict(e.detail))
        for e in (record.event for record in read_records(folder))
    ]


def begun(monitor: Monitor, via: Address | None = None) -> ConnectionState:
    """Return a connection whose key exchange is done."""
    state = monitor.begin(HOME, via)
    state.exchange = EXCHANGE
    return state


def admit(monitor: Monitor, state: ConnectionState, party: str = "a") -> bool:
    answer = monitor.admit(state, party, "publickey", "SHA256:x")
    return answer is LoginAnswer.ADMITTED


def admitted(monitor: Monitor, party: str = "a") -> ConnectionState:
    state = begun(monitor)
    assert admit(monitor, state, party)
    return state


def test_the_end_of_a_session_without_a_login_names_the_client_and_what_it_lacked(
    monitor: Monitor, folder: Path
) -> None:
    state = monitor.begin(HOME)
    texts = (b"SSH-2.0-JSCH-0.1.55", b"MAC: hmac-md5")
    monitor.handle_messages(state, Message(MessageKind.NO_LOGIN, texts))
    monitor.handle_messages(state, Message(MessageKind.END, (b"protocol error",)))
    monitor.end(state, "killed")

    [(*_, detail)] = recorded(folder)
    assert (detail["client"], detail["missing"]) == ("SSH-2.0-JSCH-0.1.55", "MAC: hmac-md5")
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(admitted(monitor), Message(MessageKind.NO_LOGIN, texts))


def test_a_session_is_recorded_from_login_to_end(
    monitor: Monitor, folder: Path, clock: FakeClock
) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    clock.now += 0.25
    monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True))
    monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 2))
    monitor.handle_messages(state, Message(MessageKind.MISS, (b"open", b"/none", b"no such file")))
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
    sent = {"session": 0, "handle": 1, "bytes": 9, "complete": True, "ms": 250}
    closed = {**sent, "sha256": None, "stamp": "unstamped"}
    end = {"session": 0, "files": 1, "bytes": 9, "ms": 250, "reason": "closed"}
    assert recorded(folder) == [
        ("login", "a", "", "ok", login),
        ("open", "a", "/x", "ok", {"session": 0, "handle": 1, "size": 9}),
        ("close", "a", "/x", "ok", closed),
        ("list", "a", "/", "ok", {"session": 0, "handle": 2}),
        ("open", "a", "/none", "refused", {"session": 0, "reason": "no such file"}),
        ("denied", "a", "/new", "refused", {"session": 0, "verb": "mkdir"}),
        ("session-end", "a", "", "ok", end),
    ]
    assert {record.event.origin for record in read_records(folder)} == {"192.0.2.7"}


@pytest.fixture
def page(tmp_path: Path, monitor: Monitor) -> Iterator[int]:
    """A file, sealed with the key that the monitor has."""
    monitor.stamps = StampChecker(lambda rehearsal: bytes(32))
    (tmp_path / "page").write_bytes(b"oku beni\n")
    with (tmp_path / "page").open("rb") as file:
        digest.stamp(file.fileno(), PAGE, bytes(32))
        yield file.fileno()


def served(
    monitor: Monitor, folder: Path, claim: bytes, computed: str = "", sent: int = 5
) -> tuple[object, object]:
    """Open and close a file, and return digest and mark on record."""
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", claim), 1, 9))
    close = (b"", b"0-3,6-6", computed.encode())
    monitor.handle_messages(state, Message(MessageKind.CLOSE, close, 1, sent))
    detail = recorded(folder)[-1][4]
    monitor.end(state, "closed")
    assert (detail["complete"], detail["ranges"]) == (False, "0-3,6-6")
    return detail["sha256"], detail.get("stamp")


def test_a_close_has_the_digest_that_the_seal_proves_and_the_ranges_sent(
    monitor: Monitor, folder: Path, page: int
) -> None:
    assert served(monitor, folder, Claim.of(page).pack()) == (PAGE.sha256, None)


def test_a_digest_that_no_seal_proves_is_the_computed_one_with_a_mark(
    monitor: Monitor, folder: Path, page: int
) -> None:
    claim = Claim.of(page)
    elsewhere = claim._replace(inode=claim.inode + 1).pack()
    unsealed = claim._replace(seal="").pack()
    forged = claim._replace(seal=claim.seal.replace(PAGE.sha256, "0" * 64)).pack()

    for stated in (elsewhere, forged):
        assert served(monitor, folder, stated, OTHER) == (OTHER, "stamp-wrong")
    assert served(monitor, folder, unsealed, OTHER) == (OTHER, "unstamped")
    assert served(monitor, folder, b"", OTHER) == (OTHER, "unstamped")
    assert served(monitor, folder, forged, sent=0) == (None, "stamp-wrong")


def test_a_file_that_was_linked_again_has_the_computed_digest_without_a_mark(
    monitor: Monitor, folder: Path, page: int
) -> None:
    claim = Claim.of(page)
    later = claim._replace(changed_ns=claim.changed_ns + 2 * digest.SETTLE_NS).pack()

    assert served(monitor, folder, later, PAGE.sha256) == (PAGE.sha256, None)
    assert served(monitor, folder, later, OTHER) == (OTHER, "stamp-wrong")


def test_a_file_that_changes_while_it_is_sent_has_no_digest(
    monitor: Monitor, folder: Path, page: int
) -> None:
    claim = Claim.of(page).pack()

    assert served(monitor, folder, claim, PAGE.sha256) == (PAGE.sha256, None)
    assert served(monitor, folder, claim, OTHER) == (None, "changed")


def test_a_request_for_a_digest_is_marked_and_the_session_must_compute(
    monitor: Monitor, folder: Path, page: int
) -> None:
    state = admitted(monitor)
    claim = Claim.of(page)
    for stated, unproven, mark in (
        (claim, False, None),
        (claim._replace(seal=""), True, "unstamped"),
        (claim._replace(size=1), True, "stamp-wrong"),
    ):
        monitor.handle_messages(state, Message(MessageKind.HASH, (b"md5", b"/x", stated.pack())))
        assert state.unproven is unproven
        assert recorded(folder)[-1][4].get("stamp") == mark


def test_a_rehearsal_has_a_stamp_key_of_its_own(monitor: Monitor, folder: Path, page: int) -> None:
    monitor.stamps = StampChecker(lambda rehearsal: {"": bytes(32)}.get(rehearsal, b"x" * 32))
    state = begun(monitor)
    monitor.admit(state, "a", "publickey", "SHA256:x", "prova-1")

    claim = Claim.of(page).pack()
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", claim), 1, 9))

    assert state.unproven


@pytest.mark.parametrize(
    "claim",
    [
        *(b"x", b"1 2", b"a b c d", b"1 2 x v1", b"1 2 3"),
        f"1 2 3 4 v1 5 {64 * 'a'} {40 * 'b'} {32 * 'c'} ü".encode(),
        b"1 2 3 4 \xff",
    ],
)
def test_a_malformed_claim_or_digest_is_a_violation(monitor: Monitor, claim: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(admitted(monitor), Message(MessageKind.OPEN, (b"/x", claim), 1, 9))
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"", claim), 1, 9))


def test_messages_of_one_datagram_are_recorded_in_order(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert monitor.handle_messages(
        state,
        Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True),
        Message(MessageKind.OPEN, (b"/y", b""), 2, 9),
    )

    assert [t[:3] for t in recorded(folder)[1:]] == [
        ("open", "a", "/x"),
        ("close", "a", "/x"),
        ("open", "a", "/y"),
    ]
    assert list(state.open_files) == [2]


def test_a_close_is_recorded_even_if_a_violation_follows_in_the_same_datagram(
    monitor: Monitor, folder: Path
) -> None:
    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    close = Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True)
    with pytest.raises(ProtocolViolation, match="CLOSE of handle 1"):
        monitor.handle_messages(state, close, close)

    assert [t[0] for t in recorded(folder)[1:]] == ["open", "close"]


@pytest.mark.parametrize(
    "early",
    [
        Message(MessageKind.OPEN, (b"/x", b""), 1, 9),
        Message(MessageKind.TIMES, (b"1" + b",0" * 10,)),
        Message(MessageKind.PACE, (b"",), count=1),
    ],
)
def test_only_a_close_may_be_followed_by_another_message(
    monitor: Monitor, folder: Path, early: Message
) -> None:
    state = admitted(monitor)
    with pytest.raises(ProtocolViolation, match="not the last message"):
        monitor.handle_messages(state, early, Message(MessageKind.END, (b"closed",)))

    assert [t[0] for t in recorded(folder)] == ["login"]


def test_files_that_a_killed_child_left_open_are_closed_in_the_record(
    monitor: Monitor, folder: Path
) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/y", b""), 2, 9))
    monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True))
    monitor.end(state, "killed")

    close, end = recorded(folder)[-2:]
    assert close[:4] == ("close", "a", "/y", "failed")
    assert (close[4]["complete"], close[4]["reason"]) == (False, "session ended")
    assert end[3:] == (
        "failed",
        {"session": 0, "files": 2, "bytes": 9, "ms": 0, "reason": "killed"},
    )


def test_a_party_cannot_exceed_its_maximum_of_sessions(monitor: Monitor, folder: Path) -> None:
    first, _ = admitted(monitor), admitted(monitor)
    third = begun(monitor)
    assert not admit(monitor, third)
    assert recorded(folder)[-1][0] == "login-refused"
    assert recorded(folder)[-1][4]["reason"] == "too many sessions"
    admitted(monitor, "b")

    monitor.end(first, "closed")
    assert admit(monitor, third)


def test_probes_are_recorded_only_if_no_login_follows(monitor: Monitor, folder: Path) -> None:
    state = begun(monitor)
    probe(monitor, state)
    admit(monitor, state)
    monitor.end(state, "closed")
    assert [event for event, *_ in recorded(folder)] == ["login", "session-end"]

    state = begun(monitor)
    probe(monitor, state)
    monitor.end(state, "closed")
    assert [event for event, *_ in recorded(folder)][2:] == ["login-refused", "session-end"]
    assert recorded(folder)[2][1] == "a"
    assert recorded(folder)[2][4] == {
        "session": state.session,
        "method": "publickey",
        "credential": "SHA256:y",
        "client": "SSH-2.0-x",
        "cipher": "aes",
        "kex": "mlkem",
        "reason": "wrong credential",
    }


def test_a_session_number_is_never_used_twice(loop: Loop, ledger: Ledger) -> None:
    monitor = Monitor(loop, ledger, 9)
    numbers = [monitor.begin(HOME).session for _ in range(3)]
    state = monitor.begin(HOME)
    monitor.end(state, "closed")
    after_a_crash = Monitor(loop, ledger, 9)
    numbers += [state.session, after_a_crash.begin(HOME).session, after_a_crash.begin(HOME).session]

    assert numbers == [0, 1, 2, 3, 10_000, 10_001]


def test_refused_connections_are_counted_and_recorded_once_a_second(
    monitor: Monitor, loop: Loop, folder: Path, clock: FakeClock
) -> None:
    for _ in range(5):
        monitor.refuse_connection(HOME, "address")
    assert len(recorded(folder)) == 1
    clock.now = 101.0
    loop.run_once(clock.now)
    monitor.refuse_connection(HOME, "address")
    monitor.flush_refusals()

    assert [(event, detail) for event, _, _, _, detail in recorded(folder)] == [
        ("connection-refused", {"reason": "address", "count": 1}),
        ("connection-refused", {"reason": "address", "count": 4}),
        ("connection-refused", {"reason": "address", "count": 1}),
    ]
    assert monitor.counters.refusals == {("connection-refused", "address"): 6}


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageKind.REFUSE, (b"a", b"none", b"", b"method not offered")),
        Message(MessageKind.CLOSE, (b"", b"", b""), 5),
        Message(MessageKind.OPEN, (b"/x", b""), 1),
        Message(MessageKind.PACE, (b"",), count=1 << 40),
    ],
)
def test_a_message_that_contradicts_the_state_is_a_violation(
    monitor: Monitor, message: Message
) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1))
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, message)


@pytest.mark.parametrize("reason", ["", "made up", "wrong \udcff", "suspended", "not yet open"])
def test_a_refusal_for_a_reason_that_the_monitor_decides_on_is_a_violation(
    monitor: Monitor, reason: str
) -> None:
    with pytest.raises(ProtocolViolation, match="reason"):
        monitor.handle_messages(begun(monitor), refusal(reason))


def test_a_change_that_failed_is_recorded_only_of_an_initial_password(
    monitor: Monitor, folder: Path
) -> None:
    state = begun(monitor)
    with pytest.raises(ProtocolViolation, match="initial password"):
        monitor.handle_messages(state, refusal("password must be changed"))

    state.initial_password = ("a", "SHA256:old")
    monitor.handle_messages(state, refusal("password must be changed"))
    assert recorded(folder)[0][1] == "a"
    assert recorded(folder)[0][4]["credential"] == "SHA256:old"


@pytest.mark.parametrize("probe", [False, True])
def test_too_many_login_attempts_are_a_violation(monitor: Monitor, probe: bool) -> None:
    state = begun(monitor)
    for _ in range(MAX_LOGIN_ATTEMPTS):
        monitor.handle_messages(state, refusal("wrong credential", probe=probe))
    with pytest.raises(ProtocolViolation, match="attempts"):
        monitor.handle_messages(state, refusal("wrong credential", probe=probe))


def test_questions_count_as_attempts_too(monitor: Monitor) -> None:
    state = begun(monitor)
    key = Message(MessageKind.KEY, (b"a", b"ssh-ed25519", b"", b""))
    for _ in range(MAX_LOGIN_ATTEMPTS):
        monitor.accept_question(state, key)
        state.waiting = False
    with pytest.raises(ProtocolViolation, match="attempts"):
        monitor.accept_question(state, key)


def test_a_child_that_waits_for_an_answer_says_nothing(monitor: Monitor) -> None:
    state = begun(monitor)
    sign = Message(MessageKind.SIGN, (b"ssh-ed25519", b"00" * 32, b"", b"", b""))
    monitor.accept_question(state, sign)
    for message in (Message(MessageKind.END, (b"closed",)), refusal("wrong credential")):
        with pytest.raises(ProtocolViolation, match="answered"):
            monitor.handle_messages(state, message)
    with pytest.raises(ProtocolViolation, match="answered"):
        monitor.accept_question(state, sign)


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageKind.KEY, (b"a", b"ssh-ed25519", b"", b"")),
        Message(MessageKind.PASSWORD, (b"a", b"password", b"x")),
        Message(MessageKind.CHANGE, (b"x",)),
        Message(MessageKind.PROVE, (b"rsa-sha2-512", b"0")),
    ],
)
def test_a_question_at_the_wrong_time_is_a_violation(monitor: Monitor, message: Message) -> None:
    with pytest.raises(ProtocolViolation, match="before the key exchange"):
        monitor.accept_question(monitor.begin(HOME), message)
    with pytest.raises(ProtocolViolation, match="the login"):
        other = admitted(monitor) if message.kind is not MessageKind.PROVE else begun(monitor)
        monitor.accept_question(other, message)


def test_a_message_at_the_wrong_time_is_a_violation(monitor: Monitor) -> None:
    state = monitor.begin(HOME)
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1))
    monitor.handle_messages(state, Message(MessageKind.END, (b"closed",)))
    with pytest.raises(ProtocolViolation):
        monitor.handle_messages(state, Message(MessageKind.END, (b"closed",)))
    with pytest.raises(ProtocolViolation, match="before the key exchange"):
        monitor.handle_messages(monitor.begin(HOME), refusal("wrong credential"))


def test_a_request_is_not_granted_if_its_record_cannot_be_written(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, early = admitted(monitor), begun(monitor)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert not monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 2))
    assert not admit(monitor, early)
    assert early.login_answer is LoginAnswer.NOT_RECORDED
    assert state.open_files == {}
    assert early.party is None


def test_a_close_that_a_full_disk_delayed_is_recorded_before_the_session_end(
    monitor: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = admitted(monitor)
    assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    closing = Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        assert not monitor.handle_messages(
            state, closing, Message(MessageKind.OPEN, (b"/y", b""), 2, 9)
        )
    monitor.end(state, "closed")

    assert [(t[0], t[2], t[4].get("bytes")) for t in recorded(folder)[1:]] == [
        ("open", "/x", None),
        ("close", "/x", 9),
        ("session-end", "", 9),
    ]


@pytest.fixture
def batching(folder: Path, loop: Loop) -> Iterator[Monitor]:
    with Ledger(folder, lambda: NOON, policy=WritePolicy(sync_always=True)) as ledger:
        yield Monitor(loop, ledger, 2)


def test_a_batch_is_written_in_order_with_one_sync(
    batching: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = admitted(batching), admitted(batching)
    batching.refuse_connection(parse_address("192.0.2.9"), "address")
    assert batching.group_commit.commit()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)

    assert batching.handle_messages(two, Message(MessageKind.OPEN, (b"/x", b""), 1, 9))
    assert batching.handle_messages(one, Message(MessageKind.OPEN, (b"/y", b""), 1, 9))
    close, missed = (
        Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True),
        (b"open", b"/none", b"no such file"),
    )
    assert batching.handle_messages(two, close, Message(MessageKind.MISS, missed))
    assert len(recorded(folder)) == 3
    assert batching.group_commit.commit()

    assert len(synced) == 1
    assert [t[0] for t in recorded(folder)[:3]] == ["login", "login", "connection-refused"]
    assert [(t[0], t[2], t[4]["session"]) for t in recorded(folder)[3:]] == [
        ("open", "/x", two.session),
        ("open", "/y", one.session),
        ("close", "/x", two.session),
        ("open", "/none", two.session),
    ]
    assert batching.group_commit.commit()
    assert (len(synced), batching.group_commit.unsynced) == (1, 0)


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_batch_that_cannot_be_written_is_rolled_back(
    batching: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    state, early = admitted(batching), begun(batching)
    assert batching.group_commit.commit()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    opening = Message(MessageKind.OPEN, (b"/x", b""), 1, 9)
    with monkeypatch.context() as broken:
        broken.setattr(os, call, full)
        batching.handle_messages(state, opening)
        admit(batching, early)
        assert not batching.group_commit.commit()
    assert (state.open_files, state.files, early.party, early.credential) == ({}, 0, None, "")
    assert batching.sessions == {"a": 1}

    assert batching.handle_messages(state, opening)
    assert admit(batching, early)
    assert batching.group_commit.commit()
    assert (list(state.open_files), batching.sessions) == ([1], {"a": 2})
    # The OPEN that was written but not granted has a CLOSE that says so.
    events = [(t[0], t[3], t[4].get("reason")) for t in recorded(folder) if t[2] == "/x"]
    refused = [("open", "ok", None), ("close", "failed", "record not synced")]
    assert events == [*(refused if call == "fdatasync" else []), ("open", "ok", None)]


def test_probes_are_recorded_if_the_login_after_them_is_rolled_back(
    batching: Monitor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = begun(batching)
    probe(batching, state)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        admit(batching, state)
        assert not batching.group_commit.commit()
    batching.end(state, "closed")
    assert batching.group_commit.commit()

    assert [(t[0], t[4]["reason"]) for t in recorded(folder)] == [
        ("login-refused", "wrong credential"),
        ("session-end", "closed"),
    ]


def test_more_bytes_than_a_record_can_hold_are_a_violation(monitor: Monitor, folder: Path) -> None:
    state = admitted(monitor)
    most = (1 << 53) - 1
    for handle in (1, 2):
        assert monitor.handle_messages(state, Message(MessageKind.OPEN, (b"/x", b""), handle, 9))
    assert monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"", b""), 1, most))
    with pytest.raises(ProtocolViolation, match="bytes"):
        monitor.handle_messages(state, Message(MessageKind.CLOSE, (b"", b"", b""), 2, most))
    monitor.end(state, "killed")

    assert [(t[0], t[4]["bytes"]) for t in recorded(folder)[-2:]] == [
        ("close", None),
        ("session-end", most),
    ]


def test_the_reason_of_the_monitor_replaces_the_reason_that_the_child_reports(
    monitor: Monitor, folder: Path
) -> None:
    state = admitted(monitor)
    state.termination_reason = "key revoked"
    monitor.handle_messages(state, Message(MessageKind.END, (b"server stopped",)))
    monitor.end(state, "killed")
    killed = admitted(monitor)
    killed.termination_reason = "party suspended"
    monitor.end(killed, "killed")

    ends = [
        (out, d["reason"]) for event, _, _, out, d in recorded(folder) if event == "session-end"
    ]
    assert ends == [("ok", "key revoked"), ("failed", "party suspended")]


def test_login_and_end_name_the_balancer(monitor: Monitor, folder: Path) -> None:
    balancer = parse_address("203.0.113.1")
    state = begun(monitor, balancer)
    monitor.handle_messages(state, refusal("wrong credential"))
    admit(monitor, state)
    monitor.handle_messages(state, Message(MessageKind.LIST, (b"/",), 1))
    monitor.end(state, "closed")
    monitor.refuse_connection(HOME, "address", balancer)

    assert [(event, detail.get("via")) for event, _, _, _, detail in recorded(folder)] == [
        ("login-refused", "203.0.113.1"),
        ("login", "203.0.113.1"),
        ("list", None),
        ("session-end", "203.0.113.1"),
        ("connection-refused", "203.0.113.1"),
    ]
    assert {record.event.origin for record in read_records(folder)} == {"192.0.2.7"}


Step = Callable[[Monitor, ConnectionState], object]


def charged(monitor: Monitor, *steps: Message | Step, reason: str = "closed") -> list[Cost]:
    found: list[Cost] = []
    monitor._charge = lambda _, cost: found.append(cost)
    state = begun(monitor)
    for step in steps:
        if isinstance(step, Message):
            monitor.handle_messages(state, step)
        else:
            step(monitor, state)
    monitor.end(state, reason)
    return found


def probe(monitor: Monitor, state: ConnectionState) -> None:
    """Refuse a key that the client only probed."""
    state.login_attempts += 1
    wrong = Reason.CREDENTIAL
    monitor.refuse(state, "a", "publickey", "SHA256:y", wrong, probe=True)


def refused(reason: Reason) -> Step:
    def refuse(monitor: Monitor, state: ConnectionState) -> None:
        state.login_attempts += 1
        monitor.refuse(state, "a", "password", "", reason)

    return refuse


def refusal(reason: str, *, probe: bool = False) -> Message:
    texts = (b"a", b"publickey", b"SHA256:y", os.fsencode(reason))
    return Message(MessageKind.REFUSE, texts, flag=probe)


def test_failures_before_the_login_charge_the_address(monitor: Monitor) -> None:
    wrong, unknown = refused(Reason.CREDENTIAL), refused(Reason.UNKNOWN_USER)
    assert charged(monitor, wrong, unknown) == [Cost.LOGIN] * 2
    assert charged(monitor, probe) == [Cost.LOGIN]
    assert charged(monitor, refusal("wrong credential", probe=True)) == [Cost.LOGIN]
    assert charged(monitor, Message(MessageKind.END, (b"no login in time",))) == [Cost.GRACE]
    assert charged(monitor, Message(MessageKind.END, (b"protocol error",))) == [Cost.PROTOCOL]
    assert charged(monitor, reason="killed") == [Cost.CRASH]


def test_a_client_that_hangs_up_without_a_login_attempt_is_charged_a_little(
    monitor: Monitor,
) -> None:
    assert charged(monitor, Message(MessageKind.END, (b"closed",))) == [Cost.NO_ATTEMPT]


def test_an_honest_client_is_not_charged(monitor: Monitor) -> None:
    assert charged(monitor, refused(Reason.NOT_YET_OPEN), refused(Reason.CLOSED)) == []
    assert charged(monitor, probe, admit, reason="killed") == []
    admitted(monitor), admitted(monitor)
    assert charged(monitor, probe, admit) == []  # too many sessions


def test_parties_without_a_session_are_forgotten(monitor: Monitor) -> None:
    for number in range(100):
        monitor.end(admitted(monitor, f"party-{number}"), "closed")
    assert monitor.sessions == {}


def test_a_malformed_histogram_is_a_violation(monitor: Monitor) -> None:
    state = admitted(monitor)
    monitor.handle_messages(state, Message(MessageKind.TIMES, (b"1,0,0,0,0,0,0,0,0,0,2",), count=7))
    assert (monitor.counters.reads.counts[0], monitor.counters.reads.microseconds) == (1, 7)
    for counts in (b"", b"1", b"x", b"-1,0,0,0,0,0,0,0,0,0,2", b"9" * 400 + b",0" * 10):
        with pytest.raises(ProtocolViolation):
            monitor.handle_messages(state, Message(MessageKind.TIMES, (counts,)))
