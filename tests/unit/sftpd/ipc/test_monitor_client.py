import socket
from contextlib import closing

import pytest
from unit.fake_clock import FakeClock

from sftpd.ipc.messages import (
    MAX_DATAGRAM,
    READ_TIME_BOUNDS,
    WAIT_MS,
    LoginAnswer,
    Message,
    MessageKind,
    Recorded,
    unpack,
)
from sftpd.ipc.monitor_client import HOLD_SECONDS, MonitorClient
from sftpd.ipc.pending_closes import PendingCloses


def test_without_a_monitor_every_answer_is_no() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        client = MonitorClient(theirs, PendingCloses())
        assert client.record_open(1, b"/x", 1, b"") is Recorded.NO
        assert client.check_password("a", "password", "x").answer is LoginAnswer.NOT_RECORDED
        assert client.check_key("a", "ssh-rsa", b"", b"").answer is LoginAnswer.NOT_RECORDED
        assert client.probe_key("a", "ssh-rsa", b"") is False
        assert client.change_password("x") is False
        assert client.sign("ssh-rsa", bytes(32), "", "", "") is None
        assert client.prove("ssh-rsa", [0]) is None
        client.record_denied("write", b"/x")


def test_the_answer_is_the_monitor_s() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        client = MonitorClient(theirs, PendingCloses())
        ours.send(b"+")
        assert client.record_open(1, b"/x", 1, b"") is Recorded.PROVEN
        ours.send(b"-")
        assert client.record_list(2, b"/x") is False
        assert unpack(ours.recv(100)) == [Message(MessageKind.OPEN, (b"/x", b""), 1, 1)]
        assert unpack(ours.recv(100)) == [Message(MessageKind.LIST, (b"/x",), 2)]


def test_bytes_are_paced_only_after_the_monitor_asked_for_it() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        client = MonitorClient(theirs, PendingCloses())
        assert client.pace(1000) == 0.0
        ours.send(b"~")
        assert client.record_open(1, b"/x", 1, b"") is Recorded.PROVEN
        ours.send(WAIT_MS.pack(250))
        assert client.pace(1000) == 0.25
        ours.send(b"-")
        assert client.record_open(2, b"/x", 1, b"") is Recorded.NO
        ours.send(WAIT_MS.pack(0))
        assert client.pace(2000) == 0.0
        ours.send(b"+")
        assert client.record_open(3, b"/x", 1, b"") is Recorded.PROVEN
        assert client.pace(3000) == 0.0
        messages = [m for _ in range(5) for m in unpack(ours.recv(100))]
    assert [(m.kind, m.count) for m in messages if m.kind is MessageKind.PACE] == [
        (MessageKind.PACE, 1000),
        (MessageKind.PACE, 2000),
    ]


def test_without_a_monitor_there_is_no_pacing() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        client = MonitorClient(theirs, PendingCloses())
        client.paced = True
        ours.close()
        assert client.pace(1000) == 0.0


def test_the_times_of_reads_are_sent_together() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        client = MonitorClient(theirs, PendingCloses())
        for seconds in (0.00005, 0.0001, 0.0002, 5.0):
            client.record_read_time(seconds)
        client.end("closed")
        (times,), (end,) = unpack(ours.recv(200)), unpack(ours.recv(200))
    counts = [2, 1, *[0] * (len(READ_TIME_BOUNDS) - 2), 1]
    assert times == Message(MessageKind.TIMES, (",".join(map(str, counts)).encode(),), 0, 5_000_350)
    assert end == Message(MessageKind.END, (b"closed",))


def test_a_close_is_sent_with_the_next_request() -> None:
    clock = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as pending:
        client = MonitorClient(theirs, pending, clock)
        assert client.flush_due_closes() is None
        client.record_close(1, 9, True, b"", "")
        first = Message(MessageKind.CLOSE, (b"", b"", b""), 1, 9, True)
        assert unpack(pending.read()) == [first]
        assert client.flush_due_closes() == pytest.approx(HOLD_SECONDS)
        ours.send(b"+")
        assert client.record_open(2, b"/y", 1, b"")
        assert unpack(ours.recv(200)) == [first, Message(MessageKind.OPEN, (b"/y", b""), 2, 1)]
        assert pending.read() == b""
        assert client.flush_due_closes() is None


def test_a_close_without_a_next_request_is_sent_after_the_hold_time() -> None:
    clock = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as pending:
        client = MonitorClient(theirs, pending, clock)
        client.record_close(1, 9, False, b"0-8", "")
        clock.now += HOLD_SECONDS
        assert client.flush_due_closes() is None
        assert unpack(ours.recv(200)) == [Message(MessageKind.CLOSE, (b"", b"0-8", b""), 1, 9)]
        assert pending.read() == b""


def test_closes_that_exceed_the_shared_page_are_sent_at_once() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as pending:
        client = MonitorClient(theirs, pending, FakeClock())
        for handle in range(300):
            client.record_close(handle, 9, False, b"0-8", "session ended")
        client.end("closed")
        messages = [m for _ in range(3) for m in unpack(ours.recv(MAX_DATAGRAM))]
    assert [m.handle for m in messages[:-1]] == list(range(300))
    assert messages[-1].kind is MessageKind.END
