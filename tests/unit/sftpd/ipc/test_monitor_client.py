import socket
from contextlib import closing

import pytest
from unit.fake_clock import FakeClock

from sftpd.ipc.messages import MAX_DATAGRAM, READ_TIME_BOUNDS, WAIT_MS, Message, MessageKind, unpack
from sftpd.ipc.monitor_client import HOLD_SECONDS, MonitorClient
from sftpd.ipc.pending_closes import PendingCloses


def test_without_a_parent_the_answer_is_no() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        reporter = MonitorClient(theirs, PendingCloses())
        assert reporter.record_open(1, b"/x", 1, b"") is False
        assert reporter.admit("a", "password", "", "", "", "") is False
        reporter.record_denied("write", b"/x")


def test_the_answer_is_the_parents() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = MonitorClient(theirs, PendingCloses())
        ours.send(b"+")
        assert reporter.record_open(1, b"/x", 1, b"") is True
        ours.send(b"-")
        assert reporter.record_list(2, b"/x") is False
        assert unpack(ours.recv(100)) == [Message(MessageKind.OPEN, (b"/x", b""), 1, 1)]
        assert unpack(ours.recv(100)) == [Message(MessageKind.LIST, (b"/x",), 2)]


def test_bytes_are_paced_only_once_the_parent_says_so() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = MonitorClient(theirs, PendingCloses())
        assert reporter.pace(1000) == 0.0
        ours.send(b"~")
        assert reporter.record_open(1, b"/x", 1, b"") is True
        ours.send(WAIT_MS.pack(250))
        assert reporter.pace(1000) == 0.25
        ours.send(b"-")
        assert reporter.record_open(2, b"/x", 1, b"") is False
        ours.send(WAIT_MS.pack(0))
        assert reporter.pace(2000) == 0.0
        ours.send(b"+")
        assert reporter.record_open(3, b"/x", 1, b"") is True
        assert reporter.pace(3000) == 0.0
        heard = [m for _ in range(5) for m in unpack(ours.recv(100))]
    assert [(m.kind, m.count) for m in heard if m.kind is MessageKind.PACE] == [
        (MessageKind.PACE, 1000),
        (MessageKind.PACE, 2000),
    ]


def test_nobody_waits_for_a_parent_that_is_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        reporter = MonitorClient(theirs, PendingCloses())
        reporter.paced = True
        ours.close()
        assert reporter.pace(1000) == 0.0


def test_the_times_of_reads_are_told_together() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = MonitorClient(theirs, PendingCloses())
        for seconds in (0.00005, 0.0001, 0.0002, 5.0):
            reporter.record_read_time(seconds)
        reporter.end("closed")
        (times,), (end,) = unpack(ours.recv(200)), unpack(ours.recv(200))
    counts = [2, 1, *[0] * (len(READ_TIME_BOUNDS) - 2), 1]
    assert times == Message(MessageKind.TIMES, (",".join(map(str, counts)).encode(),), 0, 5_000_350)
    assert end == Message(MessageKind.END, (b"closed",))


def test_a_close_goes_with_what_is_asked_next() -> None:
    now = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as slate:
        reporter = MonitorClient(theirs, slate, now)
        assert reporter.flush_due_closes() is None
        reporter.record_close(1, 9, True, b"", "")
        first = Message(MessageKind.CLOSE, (b"", b""), 1, 9, True)
        assert unpack(slate.read()) == [first]
        assert reporter.flush_due_closes() == pytest.approx(HOLD_SECONDS)
        ours.send(b"+")
        assert reporter.record_open(2, b"/y", 1, b"")
        assert unpack(ours.recv(200)) == [first, Message(MessageKind.OPEN, (b"/y", b""), 2, 1)]
        assert slate.read() == b""
        assert reporter.flush_due_closes() is None


def test_a_close_that_nothing_follows_is_told_soon() -> None:
    now = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as slate:
        reporter = MonitorClient(theirs, slate, now)
        reporter.record_close(1, 9, False, b"0-8", "")
        now.now += HOLD_SECONDS
        assert reporter.flush_due_closes() is None
        assert unpack(ours.recv(200)) == [Message(MessageKind.CLOSE, (b"", b"0-8"), 1, 9)]
        assert slate.read() == b""


def test_more_than_a_slate_holds_is_told_at_once() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(PendingCloses()) as slate:
        reporter = MonitorClient(theirs, slate, FakeClock())
        for handle in range(300):
            reporter.record_close(handle, 9, False, b"0-8", "session ended")
        reporter.end("closed")
        told = [m for _ in range(3) for m in unpack(ours.recv(MAX_DATAGRAM))]
    assert [m.handle for m in told[:-1]] == list(range(300))
    assert told[-1].kind is MessageKind.END
