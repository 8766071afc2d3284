"""The children: forked one a connection, heard, ended, buried; none is ever lost sight of.

The parent has a pidfd and a socket for each. What a child tells goes to the book; what the book
grants goes back, at once or, where the journal gathers, at the end of the loop's turn. A child that
is told to end and does not is killed.
"""

import ctypes
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog

from config.party import Address
from sftpd.access.ratelimit import Pacer
from sftpd.ipc.messages import (
    MAX_DATAGRAM,
    NO,
    WAIT_MS,
    YES,
    YES_PACED,
    Message,
    MessageKind,
    unpack,
)
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor import cpu_shares
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import ConnectionState, Monitor, ProtocolViolation
from sftpd.monitor.password_change import PasswordChanges

MAX_OPEN_FILES = 2048  # files of one connection: 8 channels with 128 handles each, and to spare
_MAX_LEFTOVER_MESSAGES = (
    4096  # messages of a dead child that are still heard; an honest one leaves fewer
)
_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # what the parent acts on

_log = structlog.get_logger()


@dataclass(slots=True)
class Child:
    """A process, what it is heard by, and its account."""

    pid: int
    pidfd: int  # pidfd
    channel: socket.socket
    pending_closes: PendingCloses
    state: ConnectionState
    nice: int = 0
    killed_by_monitor: bool = False  # by us


class Children:
    """All of them; `rate_of` says how much a party may send, in megabits a second."""

    def __init__(
        self,
        loop: Loop,
        monitor: Monitor,
        rate_of: Callable[[str], float | None],
        pacer: Pacer,
        password_changes: PasswordChanges,
    ) -> None:
        self._loop = loop
        self._monitor = monitor
        self._rate_of = rate_of
        self._pacer = pacer
        self._password_changes = password_changes
        self._children: dict[int, Child] = {}
        self._kill_deadlines: dict[int, float] = {}
        self._pending_answers: list[tuple[Child, bytes]] = []
        if monitor.group_commit.batching:
            loop.after_events = self.commit
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def begin(
        self,
        peer: socket.socket,
        address: Address,
        via: Address | None,
        serve: Callable[[socket.socket, PendingCloses], None],
        kept: Iterable[int] = (),
    ) -> None:
        """Fork a child that calls `serve` with its ways to us.

        Of our descriptors it has `peer` and those `kept`, and no others.

        Raises OSError, with nothing left behind, if the machine has no room for it.
        """
        slate = PendingCloses()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                try:
                    _set_up_child(parent, [peer.fileno(), theirs.fileno(), *kept])
                    serve(theirs, slate)
                finally:
                    os._exit(1)
        try:
            process = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ours.close()
            raise
        ours.setblocking(False)
        self._monitor.counters.forks += 1
        child = Child(pid, process, ours, slate, self._monitor.begin(address, via))
        self._children[pid] = child
        self._loop.watch(ours, lambda: self._receive(child))
        self._loop.watch(process, lambda: self.reap(child))

    def _receive(self, child: Child, most: int = 1) -> None:
        # What is left wakes the loop again, after the others have had their turn.
        for _ in range(most):
            try:
                data = child.channel.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # It died with an answer unread; what it said before is still there.
                continue
            if not data:
                self._loop.unwatch(child.channel)
                if child.state.reason is None:
                    # It is dead; and if it is not, it must not go on without its parent.
                    signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
                return
            try:
                messages = unpack(data)
                answer = self._answer(child.state, messages)
                if (
                    answer
                    and self._monitor.group_commit.batching
                    and messages[-1].kind.needs_answer
                ):
                    self._pending_answers.append((child, answer))
                elif answer:
                    child.channel.send(answer)
            except (BrokenPipeError, ConnectionResetError):
                continue
            except (ProtocolViolation, ValueError, BlockingIOError) as error:
                self._kill_untrusted(child, str(error))
                return
            if messages[-1].kind is MessageKind.ADMIT:
                self._update_cpu_shares()

    def commit(self) -> None:
        """Have on record what was told since the last time, and answer those who asked."""
        stands = self._monitor.group_commit.commit()
        pending_answers, self._pending_answers = self._pending_answers, []
        for child, answer in pending_answers:
            with suppress(OSError):  # of one that is gone, or that reads no answers
                child.channel.send(answer if stands else NO)

    def _answer(self, state: ConnectionState, messages: list[Message]) -> bytes:
        granted = self._monitor.handle_messages(state, *messages)
        message = messages[-1]
        if message.kind is MessageKind.CHANGE and granted:
            return self._start_password_change(state, message)
        paced = message.kind is MessageKind.PACE
        if not (paced or message.kind.needs_answer):
            return b""
        rate = self._rate_of(state.party) if state.party is not None else None
        if paced:
            wait = self._pacer.wait(state.who, rate, message.count)
            return WAIT_MS.pack(min(round(wait * 1000), (1 << 32) - 1))
        return NO if not granted else YES if rate is None else YES_PACED

    def _start_password_change(self, state: ConnectionState, message: Message) -> bytes:
        """Have a new password written by another process; the answer follows when it is done."""
        child = next(c for c in self if c.state is state)
        channel = child.channel

        def answer(done: bool) -> None:
            with suppress(OSError):
                channel.send(YES if done else NO)

        party, credential, secret = map(message.text, range(3))
        began = self._password_changes.start(party, credential, secret, str(state.address), answer)
        return b"" if began else NO

    def enforce_open_limit(self) -> None:
        """Kill who has more open than any client may; to be called now and then.

        Asked of each open as it comes, it would be asked a million times for nothing.
        """
        for child in self:
            if len(child.state.open_files) > MAX_OPEN_FILES and not child.killed_by_monitor:
                self._kill_untrusted(child, f"{len(child.state.open_files)} files open at once")

    def _kill_untrusted(self, child: Child, cause: str) -> None:
        self._loop.unwatch(child.channel)
        _log.error("child not believed", session=child.state.session, cause=cause)
        self._kill(child)

    def _kill(self, child: Child) -> None:
        child.killed_by_monitor = True
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def end(self, child: Child, reason: str, patience: float) -> None:
        """Tell a child to end for `reason`; after `patience` seconds it is killed."""
        if child.state.termination_reason is None:
            child.state.termination_reason = reason
            signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
        due = time.monotonic() + patience
        self._kill_deadlines[child.pid] = min(due, self._kill_deadlines.get(child.pid, due))

    def next_due(self) -> float | None:
        """Return when the next is to be killed."""
        return min(self._kill_deadlines.values(), default=None)

    def catch_up(self) -> None:
        """Kill those who were told to end and have not."""
        now = time.monotonic()
        for pid in [pid for pid, due in self._kill_deadlines.items() if due <= now]:
            del self._kill_deadlines[pid]
            self._kill(self._children[pid])

    def kill(self) -> None:
        """Kill and bury all that are left."""
        for child in self:
            self._kill(child)
        for child in self:
            self.reap(child)

    def reap(self, child: Child) -> None:
        """Close the account of a child that is dead or dying."""
        # Left a zombie until all is heard: to one that is quite gone no signal can be sent.
        found = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        if self._loop.is_watching(child.channel):
            # Whatever it said before it died still counts.
            self._receive(child, most=_MAX_LEFTOVER_MESSAGES)
        self._read_pending_closes(child)
        self.commit()  # what is taken back must not come after its end
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        for end in (child.channel, child.pidfd):
            self._loop.unwatch(end)
        child.channel.close()
        child.pending_closes.close()
        os.close(child.pidfd)
        del self._children[child.pid]
        self._kill_deadlines.pop(child.pid, None)
        exited = found is not None and found.si_code == os.CLD_EXITED
        if found is not None and not exited and not child.killed_by_monitor:
            _log.error("child died", session=child.state.session, signal=found.si_status)
        self._monitor.end(child.state, "server error" if exited else "killed")
        party = child.state.party
        if party is not None:
            if party not in self._monitor.sessions:
                self._pacer.forget(party)
            self._update_cpu_shares()

    def _read_pending_closes(self, child: Child) -> None:
        told = child.pending_closes.read()
        if not told or child.state.reason is not None:
            return
        try:
            messages = unpack(told)
            if all(message.kind is MessageKind.CLOSE for message in messages):
                self._monitor.handle_messages(child.state, *messages)
        except (ProtocolViolation, ValueError):
            # It was killed between telling these and wiping them away, or it lied: as it was
            # heard so far, so it stays.
            return

    def _update_cpu_shares(self) -> None:
        wanted = cpu_shares.niceness(self._monitor.sessions)
        for child in self._children.values():
            nice = wanted.get(child.state.party or "", 0)
            if nice != child.nice:
                child.nice = nice
                cpu_shares.set_nice(child.pid, self._nice + nice)


def _set_up_child(parent: int, kept: Iterable[int]) -> None:
    """Leave the parent's signals and descriptors, and die when it dies."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the connection has its own for SIGTERM
    signal.set_wakeup_fd(-1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    cpu_shares.use_batch_scheduling()
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
