import os
import select
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from config.party import parse_address
from keys.credentials.ratelimit import BandwidthLimits
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, WritePolicy
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
    """Run a child, and return the records of its files: (event, path, outcome, bytes).

    `wait` is called before each turn of the loop.
    """
    loop = Loop()
    with Ledger(folder, lambda: NOON) as ledger:
        passwords = PasswordChanges(loop, folder, lambda: NOON)
        monitor = Monitor(loop, ledger, 2)
        children = Children(loop, monitor, lambda _: None, BandwidthLimits(), passwords)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            children.start(theirs, parse_address("192.0.2.7"), None, serve)
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
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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


def test_a_close_that_was_sent_but_not_cleared_is_recorded_once(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
        client = MonitorClient(monitor, pending_closes)
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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
        client.admit("a", "publickey", "SHA256:x", "", "", "")
        for handle in range(50):
            client.record_open(handle, b"/x", 9, b"")

    found = recorded(tmp_path, serve, lambda children, _: children.enforce_open_limit())
    assert [event for event, *_ in found] == ["open"] * 3 + ["close"] * 3


@pytest.mark.parametrize("last", [2, 9], ids=["honest", "violation"])
def test_messages_left_by_a_dead_child_are_recorded_up_to_a_violation(
    tmp_path: Path, last: int
) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses(), count().__next__)
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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
        MonitorClient(monitor, PendingCloses()).admit("a", "publickey", "SHA256:x", "", "", "")
        os.kill(os.getpid(), signal.SIGKILL)

    def wait(children: Children, monitor: Monitor) -> None:
        for child in children:
            if monitor.sessions and not channels:
                select.select([child.pidfd], [], [])
                channels.append(EndlessChannel(child.channel))
                child.channel = channels[0]  # type: ignore[assignment]

    recorded(tmp_path, serve, wait)
    assert 1000 < channels[0].received < 20_000


class Simultaneous:
    """Children that all ask for an OPEN before the loop's next turn, under `sync = "always"`."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.loop = Loop()
        self.ledger = Ledger(folder, lambda: NOON, policy=WritePolicy(sync_always=True))
        self.monitor = Monitor(self.loop, self.ledger, 99)
        passwords = PasswordChanges(self.loop, folder, lambda: NOON)
        self.children = Children(
            self.loop, self.monitor, lambda _: None, BandwidthLimits(), passwords
        )
        self.go, self.answers = os.pipe(), os.pipe()
        for number in range(count):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                serve = self.serving(number)
                keep = [self.go[0], self.answers[1]]
                self.children.start(theirs, parse_address("192.0.2.7"), None, serve, keep)
        while sum(self.monitor.sessions.values()) < count:
            self.loop.run_once()
        os.write(self.go[1], bytes(count))
        asking = select.poll()
        for child in self.children:
            asking.register(child.channel)
        while sum(bool(events & select.POLLIN) for _, events in asking.poll()) < count:
            pass

    def serving(self, number: int) -> Serve:
        def serve(monitor: socket.socket, pending_closes: PendingCloses) -> None:
            client = MonitorClient(monitor, pending_closes)
            client.admit("a", "publickey", "SHA256:x", "", "", "")
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


def test_the_answers_to_opens_beyond_the_rate_of_a_party_wait(tmp_path: Path) -> None:
    def serve(monitor: socket.socket, _: PendingCloses) -> None:
        client = MonitorClient(monitor, PendingCloses())
        client.admit("a", "publickey", "SHA256:x", "", "", "")
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
        passwords = PasswordChanges(loop, tmp_path, lambda: NOON)
        children = Children(loop, monitor, lambda _: None, BandwidthLimits(), passwords)

        def serve(monitor: socket.socket, _: PendingCloses, size: int) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            client = MonitorClient(monitor, PendingCloses())
            client.admit("a" if size else "b", "publickey", "SHA256:x", "", "", "")
            held = b"x" * size
            client.record_list(len(held), b"/")
            time.sleep(60)

        def listed() -> int:
            return sum(r.event.event == "list" for r in read_records(tmp_path))

        for size in (60_000_000, 120_000_000, 0):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                children.start(theirs, parse_address("192.0.2.7"), None, partial(serve, size=size))
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


def test_the_processor_time_of_logins_is_charged_to_their_address(tmp_path: Path) -> None:
    loop, charged = Loop(), []
    with Ledger(tmp_path, lambda: NOON) as ledger:
        passwords = PasswordChanges(loop, tmp_path, lambda: NOON)
        children = Children(
            loop,
            Monitor(loop, ledger, 9),
            lambda _: None,
            BandwidthLimits(),
            passwords,
            lambda address, seconds: charged.append((str(address), seconds)),
        )

        def serve(monitor: socket.socket, _: PendingCloses, admit: bool) -> None:
            busy(0.05)
            client = MonitorClient(monitor, PendingCloses())
            if admit:
                client.admit("a", "publickey", "SHA256:x", "", "", "")
                busy(0.2)
            os._exit(0)

        for admit in (True, False):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                children.start(
                    theirs, parse_address("192.0.2.7"), None, partial(serve, admit=admit)
                )
            while children:
                loop.run_once()
    loop.close()

    assert [address for address, _ in charged] == ["192.0.2.7"] * 2
    assert all(0.05 <= seconds < 0.2 for _, seconds in charged)


def busy(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
