import socket
from contextlib import closing

import pytest
from unit.sftpd.fake_clock import FakeClock

from sftpd.ipc.messages import BOUNDS, LONGEST, WAIT, Kind, Message, unpack
from sftpd.ipc.monitor_client import HELD, Reporter
from sftpd.ipc.pending_closes import Slate


def test_without_a_parent_the_answer_is_no() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        reporter = Reporter(theirs)
        assert reporter.opened(1, b"/x", 1, b"") is False
        assert reporter.admit("a", "password", "", "", "", "") is False
        reporter.denied("write", b"/x")


def test_the_answer_is_the_parents() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = Reporter(theirs)
        ours.send(b"+")
        assert reporter.opened(1, b"/x", 1, b"") is True
        ours.send(b"-")
        assert reporter.listed(2, b"/x") is False
        assert unpack(ours.recv(100)) == [Message(Kind.OPEN, (b"/x", b""), 1, 1)]
        assert unpack(ours.recv(100)) == [Message(Kind.LIST, (b"/x",), 2)]


def test_bytes_are_paced_only_once_the_parent_says_so() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = Reporter(theirs)
        assert reporter.pace(1000) == 0.0
        ours.send(b"~")
        assert reporter.opened(1, b"/x", 1, b"") is True
        ours.send(WAIT.pack(250))
        assert reporter.pace(1000) == 0.25
        ours.send(b"-")
        assert reporter.opened(2, b"/x", 1, b"") is False
        ours.send(WAIT.pack(0))
        assert reporter.pace(2000) == 0.0
        ours.send(b"+")
        assert reporter.opened(3, b"/x", 1, b"") is True
        assert reporter.pace(3000) == 0.0
        heard = [m for _ in range(5) for m in unpack(ours.recv(100))]
    assert [(m.kind, m.count) for m in heard if m.kind is Kind.PACE] == [
        (Kind.PACE, 1000),
        (Kind.PACE, 2000),
    ]


def test_nobody_waits_for_a_parent_that_is_gone() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        reporter = Reporter(theirs)
        reporter.paced = True
        ours.close()
        assert reporter.pace(1000) == 0.0


def test_the_times_of_reads_are_told_together() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        reporter = Reporter(theirs)
        for seconds in (0.00005, 0.0001, 0.0002, 5.0):
            reporter.read(seconds)
        reporter.end("closed")
        (times,), (end,) = unpack(ours.recv(200)), unpack(ours.recv(200))
    counts = [2, 1, *[0] * (len(BOUNDS) - 2), 1]
    assert times == Message(Kind.TIMES, (",".join(map(str, counts)).encode(),), 0, 5_000_350)
    assert end == Message(Kind.END, (b"closed",))


def test_a_close_goes_with_what_is_asked_next() -> None:
    now = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(Slate()) as slate:
        reporter = Reporter(theirs, slate, now)
        assert reporter.linger() is None
        reporter.closed(1, 9, True, b"", "")
        first = Message(Kind.CLOSE, (b"", b""), 1, 9, True)
        assert unpack(slate.read()) == [first]
        assert reporter.linger() == pytest.approx(HELD)
        ours.send(b"+")
        assert reporter.opened(2, b"/y", 1, b"")
        assert unpack(ours.recv(200)) == [first, Message(Kind.OPEN, (b"/y", b""), 2, 1)]
        assert slate.read() == b""
        assert reporter.linger() is None


def test_a_close_that_nothing_follows_is_told_soon() -> None:
    now = FakeClock()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(Slate()) as slate:
        reporter = Reporter(theirs, slate, now)
        reporter.closed(1, 9, False, b"0-8", "")
        now.now += HELD
        assert reporter.linger() is None
        assert unpack(ours.recv(200)) == [Message(Kind.CLOSE, (b"", b"0-8"), 1, 9)]
        assert slate.read() == b""


def test_more_than_a_slate_holds_is_told_at_once() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, closing(Slate()) as slate:
        reporter = Reporter(theirs, slate, FakeClock())
        for handle in range(300):
            reporter.closed(handle, 9, False, b"0-8", "session ended")
        reporter.end("closed")
        told = [m for _ in range(3) for m in unpack(ours.recv(LONGEST))]
    assert [m.handle for m in told[:-1]] == list(range(300))
    assert told[-1].kind is Kind.END
