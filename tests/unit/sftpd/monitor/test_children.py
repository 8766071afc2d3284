import errno
import math
import os
import select
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.party import Address, parse_address
from keys.credentials.ratelimit import BandwidthLimits
from keys.kernel import process
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
from sftpd.ipc.messages import Message, MessageKind, pack
from sftpd.ipc.monitor_client import MonitorClient, send_memory_file
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor import children as children_module
from sftpd.monitor import memory
from sftpd.monitor.children import Child, Children
from sftpd.monitor.cpu_shares import Rank
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import Monitor

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
Serve = Callable[[socket.socket, PendingCloses], None]


class LocalStarter:
    """Forks children that run a function of the test, instead of a session."""

    def __init__(self, serve: Serve, keep: Iterable[int] = ()) -> None:
        self.serve = serve
        self._keep = keep

    def start(
        self,
        descriptors: tuple[int, int, int],
        __: Address,
        started: Callable[[int | OSError], object],
    ) -> None:
        _, channel, page = descriptors
        pid = os.fork()
        if pid == 0:
            try:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                first = 3
                for kept in sorted([channel, page, *self._keep]):
                    os.closerange(first, kept)
                    first = kept + 1
                os.closerange(first, 1024)
                self.serve(socket.socket(fileno=channel), PendingCloses(page))
            finally:
                os._exit(1)
        started(pid)


def start(children: Children, monitor: Monitor, party: str = "a") -> None:
    """Start a child; the client of its connection has logged in."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        children.start(theirs, parse_address("192.0.2.7"), None)
    for child in children:
        if child.state.party is None:
            monitor.admit(child.state, party, "publickey", "SHA256:x")


def recorded(
    folder: Path, serve: Serve, wait: Callable[[Children, Monitor], object] = lambda *_: None
) -> list[tuple[str, str, str, object]]:
    """Run a child, and return the records of its files: (event, path, outcome, bytes).

    `wait` is called before each turn of the loop.
    """
    loop = Loop()
    with Ledger(folder, lambda: NOON) as ledger:
        monitor = Monitor(loop, ledger, 2)
        starter = LocalStarter(serve)
        children = Children(loop, monitor, starter, lambda _: None, BandwidthLimits())
        start(children, monitor)
        while children:
            wait(children, monitor)
            loop.run_once()
    loop.close()
    events = [record.event for record in read_records(folder)]
    return [
        (e.event, e.what, e.outcome, e.detail.get("bytes"))
        for e in events
        if e.event in ("open", "close")
    ]


def test_pending_closes_of_a_killed_child_are_recorded(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
        client = MonitorClient(monitor, pending_closes)
        client.record_open(1, b"/x", 9, b"")
        client.record_open(2, b"/y", 9, b"")
        client.record_close(1, 9, True, b"", "")
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("open", "/y", "ok", None),
        ("close", "/x", "ok", 9),
        ("close", "/y", "failed", None),
    ]


def test_a_message_that_the_monitor_fails_on_ends_its_session_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise TypeError("a fault of ours")

    def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
        MonitorClient(monitor, pending_closes).record_open(1, b"/x", 9, b"")
        signal.pause()

    monkeypatch.setattr(Monitor, "handle_messages", fail)
    with capture_logs() as logs:
        assert recorded(tmp_path, serve) == []

    assert {"message-failed", "child-not-trusted"} <= {line["event"] for line in logs}


def test_a_close_that_was_sent_but_not_cleared_is_recorded_once(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
        client = MonitorClient(monitor, pending_closes)
        client.record_open(1, b"/x", 9, b"")
        client.record_close(1, 9, True, b"", "")
        held = pending_closes.read()
        client.record_open(2, b"/y", 9, b"")
        pending_closes.write(held)
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("close", "/x", "ok", 9),
        ("open", "/y", "ok", None),
        ("close", "/y", "failed", None),
    ]


def test_pending_closes_that_hold_another_message_are_ignored(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses())
        client.record_open(1, b"/x", 9, b"")
        pending_closes.write(pack(Message(MessageKind.LIST, (b"/",), 2)))
        os.kill(os.getpid(), signal.SIGKILL)

    assert recorded(tmp_path, serve) == [
        ("open", "/x", "ok", None),
        ("close", "/x", "failed", None),
    ]


def test_a_child_with_too_many_open_files_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sftpd.monitor.children.MAX_OPEN_FILES", 2)

    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses())
        for handle in range(50):
            client.record_open(handle, b"/x", 9, b"")

    found = recorded(tmp_path, serve, lambda children, _: children.enforce_open_limit())
    assert [event for event, *_ in found] == ["open"] * 3 + ["close"] * 3


def test_a_child_that_does_not_wait_for_its_answers_is_killed(tmp_path: Path) -> None:
    # It would otherwise open as many files, and cause as many records, as it likes.
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        for handle in range(50):
            monitor.send(pack(Message(MessageKind.OPEN, (b"/x", b""), handle, 9)))

    def limit(children: Children, _: Monitor) -> None:
        children.opens_per_second = 1  # and a burst of two

    with capture_logs() as logs:
        found = recorded(tmp_path, serve, limit)

    assert [event for event, *_ in found] == ["open"] * 3 + ["close"] * 3
    assert [log["cause"] for log in logs if log["event"] == "child-not-trusted"] == [
        "a message while another one is being answered"
    ]


def test_a_child_that_is_denied_too_often_has_to_wait(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        for _number in range(50):
            monitor.send(pack(Message(MessageKind.DENY, (b"remove", b"/x"))))

    def limit(children: Children, _: Monitor) -> None:
        children.opens_per_second = 1

    recorded(tmp_path, serve, limit)

    events = [record.event.event for record in read_records(tmp_path)]
    assert events.count("denied") == 3


@pytest.mark.parametrize("lacking", ["socket.socketpair", "mmap.mmap"])
def test_a_connection_for_which_descriptors_are_lacking_leaves_none_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    loop = Loop()
    with Ledger(tmp_path, lambda: NOON) as ledger:
        monitor = Monitor(loop, ledger, 2)
        starter = LocalStarter(lambda *_: None)
        children = Children(loop, monitor, starter, lambda _: None, BandwidthLimits())
        ours, theirs = socket.socketpair()
        monkeypatch.setattr(lacking, fail)
        before = sorted(Path("/proc/self/fd").iterdir())
        with ours, theirs, pytest.raises(OSError, match="Too many open files"):
            try:
                children.start(theirs, parse_address("192.0.2.7"), None)
            finally:
                after = sorted(Path("/proc/self/fd").iterdir())
    loop.close()
    assert after == before
    assert len(children) == 0


@pytest.mark.parametrize("last", [2, 9], ids=["honest", "violation"])
def test_messages_left_by_a_dead_child_are_recorded_up_to_a_violation(
    tmp_path: Path, last: int
) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses(), count().__next__)
        client.record_open(1, b"/x", 9, b"")
        client.record_open(2, b"/y", 9, b"")
        for handle in (1, last):
            client.record_close(handle, 9, True, b"", "")
            client.flush_due_closes()
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(children: Children, monitor: Monitor) -> None:
        if monitor.counters.files["a"] == 2:
            for child in children:
                select.select([child.pidfd], [], [])

    ended = ("close", "/y", *(("ok", 9) if last == 2 else ("failed", None)))
    assert recorded(tmp_path, serve, wait)[2:] == [("close", "/x", "ok", 9), ended]


def test_a_terminated_child_that_does_not_end_is_killed_after_the_timeout(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses())  # SIGTERM is ignored
        client.record_open(1, b"/x", 9, b"")
        signal.pause()

    def wait(children: Children, monitor: Monitor) -> None:
        for child in children:
            if monitor.counters.files["a"]:
                children.terminate(child, "key revoked", 60.0)
                children.terminate(child, "server stopped", 0.0)

    found = recorded(tmp_path, serve, wait)
    assert found == [("open", "/x", "ok", None), ("close", "/x", "failed", None)]
    end = list(read_records(tmp_path))[-1].event
    assert (end.event, end.detail["reason"]) == ("session-end", "key revoked")


class EndlessChannel:
    """A channel that still has messages when its child is dead."""

    def __init__(self, channel: socket.socket) -> None:
        self.received = 0
        self.fileno, self.close = channel.fileno, channel.close

    def recv(self, _: int) -> bytes:
        self.received += 1
        if self.received > 20_000:
            raise BlockingIOError
        return pack(Message(MessageKind.TIMES, (b"1" + b",0" * 10,)))


def test_a_dead_child_is_reaped_even_if_another_process_holds_its_socket_open(
    tmp_path: Path,
) -> None:
    # Without seccomp a hostile child could fork, and its child would hold the socket.
    channels: list[EndlessChannel] = []

    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(children: Children, monitor: Monitor) -> None:
        for child in children:
            if monitor.sessions and not channels:
                select.select([child.pidfd], [], [])
                channels.append(EndlessChannel(child.channel))
                child.channel = channels[0]  # type: ignore[assignment]
                child.has_sent = True

    recorded(tmp_path, serve, wait)
    assert 1000 < channels[0].received < 20_000


class Simultaneous:
    """Children that all ask for an OPEN before the loop's next turn, under `sync = "always"`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.loop = Loop()
        self.ledger = Ledger(folder, lambda: NOON, policy=WritePolicy(sync_always=True))
        self.monitor = Monitor(self.loop, self.ledger, 99)
        self.go, self.answers = os.pipe(), os.pipe()
        starter = LocalStarter(self.serving(0), [self.go[0], self.answers[1]])
        self.children = Children(
            self.loop, self.monitor, starter, lambda _: None, BandwidthLimits()
        )
        for number in range(count):
            starter.serve = self.serving(number)
            start(self.children, self.monitor)
        assert self.monitor.group_commit.commit()
        os.write(self.go[1], bytes(count))
        asking = select.poll()
        for child in self.children:
            asking.register(child.channel)
        while sum(bool(events & select.POLLIN) for _, events in asking.poll()) < count:
            pass

    def serving(self, number: int) -> Serve:
        def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
            client = MonitorClient(monitor, pending_closes)
            os.read(self.go[0], 1)
            granted = client.record_open(1, b"/%d" % number, 9, b"")
            os.write(self.answers[1], b"+" if granted else b"-")
            client.end("closed")

        return serve

    def end(self) -> str:
        """Return the answers that the children got."""
        while self.children:
            self.loop.run_once()
        self.loop.close()
        self.ledger.close()
        os.close(self.answers[1])
        answers = os.read(self.answers[0], 99).decode()
        for end in (*self.go, self.answers[0]):
            os.close(end)
        return answers


def test_children_that_ask_in_one_turn_share_one_sync_and_are_answered_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simultaneous = Simultaneous(tmp_path, 5)
    opens_at_sync: list[int] = []

    def sync(_: int) -> None:
        assert not select.select([simultaneous.answers[0]], [], [], 0)[0]
        opens_at_sync.append(sum(r.event.event == "open" for r in read_records(tmp_path)))

    with monkeypatch.context() as counted:
        counted.setattr(os, "fdatasync", sync)
        simultaneous.loop.run_once()
    assert opens_at_sync == [5]
    assert simultaneous.end() == "+++++"


def test_a_failed_sync_refuses_every_request_of_that_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simultaneous = Simultaneous(tmp_path, 3)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdatasync", broken)
        simultaneous.loop.run_once()
    assert simultaneous.end() == "---"


class Crowd:
    """Children of several parties that send listings when the test says so."""

    def __init__(self, folder: Path, parties: str) -> None:
        self._folder = folder
        self.loop = Loop()
        self._ledger = Ledger(folder, lambda: NOON)
        self._monitor = Monitor(self.loop, self._ledger, 99)
        self._go: list[int] = []
        self.children: list[Child] = []
        starter = LocalStarter(lambda *_: None)
        self._all = Children(self.loop, self._monitor, starter, lambda _: None, BandwidthLimits())
        for number, party in enumerate(parties):
            waits, go = os.pipe()
            self._go.append(go)
            starter.serve, starter._keep = partial(self._serve, number, waits), [waits]
            start(self._all, self._monitor, party)
            os.close(waits)
            self.children.append(list(self._all)[-1])

    @staticmethod
    def _serve(number: int, waits: int, channel: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(channel, PendingCloses())
        while os.read(waits, 1):
            client.record_list(1, b"/%d" % number)

    def send(self, *numbers: int) -> None:
        """Let these children send a listing, each when the one before has sent it."""
        for number in numbers:
            os.write(self._go[number], b"x")
            select.select([self.children[number].channel], [], [])

    def listed(self) -> str:
        """Return the numbers of the children whose listings are on record."""
        records = [r.event for r in read_records(self._folder)]
        return "".join(e.what[1:] for e in records if e.event == "list")

    def share_processors(self) -> None:
        self._all.share_processors()

    def nice_values(self) -> list[int]:
        return [child.cpu_share.nice for child in self.children if child.cpu_share is not None]

    def end(self) -> None:
        self._all.kill_all()
        for go in self._go:
            os.close(go)
        self._ledger.close()
        self.loop.close()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Callable[[str], Crowd]]:
    made: list[Crowd] = []

    def make(parties: str) -> Crowd:
        made.append(Crowd(tmp_path, parties))
        return made[-1]

    yield make
    for each in made:
        each.end()


def test_parties_take_turns_however_many_sessions_they_have(
    crowd: Callable[[str], Crowd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children_module, "_SLICE", math.inf)
    found = crowd("aaaabc")
    found.send(0, 1, 2, 3, 4, 5)
    found.loop.run_once()

    assert found.listed() == "045123"


def test_after_a_slice_a_new_message_of_another_party_comes_before_those_that_wait(
    crowd: Callable[[str], Crowd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children_module, "_SLICE", 0.0)
    found = crowd("aaaab")
    found.send(0, 1, 2, 3)
    found.loop.run_once()
    assert found.listed() == "0"

    found.send(0, 4)
    found.loop.run_once()
    assert found.listed() == "014"
    for _ in range(3):
        found.loop.run_once()
    assert found.listed() == "014230"  # the sessions of a party take turns too


def test_what_the_monitor_does_for_a_party_counts_for_its_share(
    crowd: Callable[[str], Crowd], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count()
    monkeypatch.setattr(time, "thread_time", lambda: next(clock) * 0.01)
    monkeypatch.setattr(process, "cpu_seconds", lambda _: 0.01)
    found = crowd("ab")
    found.send(0)
    found.loop.run_once()
    found.share_processors()

    assert [child.cpu_share for child in found.children] == [(6, Rank.SECOND), (0, Rank.FIRST)]


def test_an_idle_session_does_not_count_for_the_share_of_its_party(
    crowd: Callable[[str], Crowd], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: defaultdict[int, float] = defaultdict(float)
    monkeypatch.setattr(process, "cpu_seconds", used.__getitem__)
    found = crowd("aaaab")
    for child in found.children:
        child.busy_until = 0.0  # it logged in long ago
    found.share_processors()
    assert found.nice_values() == [0, 0, 0, 0, 0]

    for child in found.children[:2]:
        used[child.pid] = 0.1
    found.share_processors()
    assert found.nice_values() == [6, 6, 6, 6, 0]


@pytest.mark.slow
def test_the_answers_to_opens_beyond_the_rate_of_a_party_wait(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses())
        began = time.monotonic()
        for handle in range(15):
            assert client.record_open(handle, b"/x", 9, b"")
        took = time.monotonic() - began
        (tmp_path / "took").write_text(str(took))
        os._exit(0)

    def limit(children: Children, _: Monitor) -> None:
        children.opens_per_second = 5.0

    found = recorded(tmp_path / "ledger", serve, limit)

    assert [event for event, *_ in found].count("open") == 15
    assert float((tmp_path / "took").read_text()) >= 0.9  # 10 at once, 5 more in a second


def test_the_largest_session_of_a_party_that_takes_too_much_memory_is_ended(
    tmp_path: Path,
) -> None:
    loop = Loop()
    with Ledger(tmp_path, lambda: NOON) as ledger:
        monitor = Monitor(loop, ledger, 9)
        starter = LocalStarter(lambda *_: None)
        children = Children(loop, monitor, starter, lambda _: None, BandwidthLimits())

        def serve(monitor: socket.socket, _: PendingCloses, size: int) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            client = MonitorClient(monitor, PendingCloses())
            select.select([monitor], [], [], 60)  # until the login is accounted for
            held = b"x" * size
            client.record_list(len(held), b"/")
            time.sleep(60)

        def listed() -> int:
            return sum(r.event.event == "list" for r in read_records(tmp_path))

        for size in (60_000_000, 120_000_000, 0):
            starter.serve = partial(serve, size=size)
            start(children, monitor, party="a" if size else "b")
        for child in children:
            children._account_for_login(child)
            child.channel.send(b"+")
        while listed() < 3:
            loop.run_once(loop.time() + 0.1)
        children.enforce_memory_limit(250_000_000)
        assert [c.state.termination_reason for c in children] == [None] * 3
        children.enforce_memory_limit(100_000_000)
        assert [c.state.termination_reason for c in children] == [None, "too much memory", None]
        while len(children) > 2:
            loop.run_once(loop.time() + 0.1)
        children.enforce_memory_limit(100_000_000)
        assert [c.state.termination_reason for c in children] == [None] * 2
        children.kill_all()
    loop.close()


def test_memory_is_counted_where_proc_hides_the_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(*_: object) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", hidden)
    loop = Loop()
    with Ledger(tmp_path, lambda: NOON) as ledger:
        monitor = Monitor(loop, ledger, 9)

        def serve(channel: socket.socket, _: PendingCloses, tells: bool) -> None:
            if tells:
                send_memory_file(channel, memory.open_own())
            client = MonitorClient(channel, PendingCloses())
            client.record_list(1, b"/")
            select.select([channel], [], [], 60)  # until the login is accounted for
            held = b"x" * 60_000_000
            client.record_list(len(held), b"/")
            time.sleep(60)

        def listed() -> int:
            return sum(r.event.event == "list" for r in read_records(tmp_path))

        starter = LocalStarter(lambda *_: None)
        children = Children(loop, monitor, starter, lambda _: None, BandwidthLimits())
        for tells in (True, False):
            starter.serve = partial(serve, tells=tells)
            start(children, monitor, party="a" if tells else "b")
        while listed() < 2:
            loop.run_once(loop.time() + 0.1)
        for child in children:
            children._account_for_login(child)
            child.channel.send(b"+")
        while listed() < 4:
            loop.run_once(loop.time() + 0.1)
        children.enforce_memory_limit(50_000_000)
        assert [c.state.termination_reason for c in children] == ["too much memory", None]
        files = [c.memory_file for c in children]
        children.kill_all()
        while len(children):
            loop.run_once(loop.time() + 0.1)
        assert files[1] is None
        with pytest.raises(OSError):
            os.fstat(files[0] or -1)
    loop.close()


def test_a_descriptor_after_the_first_datagram_is_not_accepted(tmp_path: Path) -> None:
    def serve(channel: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(channel, PendingCloses())
        client.record_list(1, b"/")
        send_memory_file(channel, memory.open_own())
        time.sleep(60)

    loop = Loop()
    with Ledger(tmp_path, lambda: NOON) as ledger, capture_logs() as logs:
        monitor = Monitor(loop, ledger, 9)
        children = Children(loop, monitor, LocalStarter(serve), lambda _: None, BandwidthLimits())
        start(children, monitor, party="a")
        [child] = children
        while len(children):
            loop.run_once(loop.time() + 0.1)
    loop.close()
    assert child.memory_file is None
    assert "child-not-trusted" in [line["event"] for line in logs]


def test_the_processor_time_of_connections_without_a_login_is_charged(tmp_path: Path) -> None:
    loop, charged = Loop(), []
    with Ledger(tmp_path, lambda: NOON) as ledger:
        children = Children(
            loop,
            Monitor(loop, ledger, 9),
            LocalStarter(lambda *_: busy(0.05)),
            lambda _: None,
            BandwidthLimits(),
            charge_login_cpu=lambda address, seconds: charged.append((str(address), seconds)),
        )
        for _ in range(2):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                children.start(theirs, parse_address("192.0.2.7"), None)
            while children:
                loop.run_once()
    loop.close()

    assert [address for address, _ in charged] == ["192.0.2.7"] * 2
    assert all(0.05 <= seconds < 0.2 for _, seconds in charged)


def busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


class BrokenStarter:
    """Starts nothing: it fails at once, or later."""

    def __init__(self, *, later: bool) -> None:
        self.later = later
        self.waiting: list[Callable[[int | OSError], object]] = []

    def start(
        self,
        _: tuple[int, int, int],
        __: Address,
        started: Callable[[int | OSError], object],
    ) -> None:
        if not self.later:
            raise OSError(errno.EMFILE, "Too many open files")
        self.waiting.append(started)


@pytest.mark.parametrize("later", [False, True])
def test_a_connection_without_a_process_leaves_nothing_behind(tmp_path: Path, later: bool) -> None:
    loop, failures = Loop(), []
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names, not paths
    with Ledger(tmp_path, lambda: NOON) as ledger:
        monitor = Monitor(loop, ledger, 2)
        starter = BrokenStarter(later=later)
        children = Children(
            loop,
            monitor,
            starter,
            lambda _: None,
            BandwidthLimits(),
            on_failure=lambda address, via, error: failures.append((str(address), error.errno)),
        )
        ours, theirs = socket.socketpair()
        with ours, theirs:
            if later:
                children.start(theirs, parse_address("192.0.2.7"), None)
                assert len(children) == 1
                starter.waiting[0](OSError(errno.EAGAIN, "no process"))
                assert failures == [("192.0.2.7", errno.EAGAIN)]
            else:
                with pytest.raises(OSError, match="Too many open files"):
                    children.start(theirs, parse_address("192.0.2.7"), None)
        assert len(children) == 0
    loop.close()
    assert len(set(os.listdir("/proc/self/fd")) - before) <= 1  # noqa: PTH208 - names, not paths
    assert list(read_records(tmp_path)) == []
