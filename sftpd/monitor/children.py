"""Has one child started per connection, reads its messages, answers them, and reaps it.

The forker starts the child (sftpd/processes/forker), and the monitor is its parent. The monitor
holds a pidfd and one end of a socket pair for each child. Messages (ipc/messages) go to Monitor,
which records and decides, and questions to Logins. The child gets its answer at once. If records
are written in batches (group_commit), it gets the answer after the commit at the end of the loop's
turn.

Parties take turns: one message of each party is handled, then another of each. After `_SLICE` the
loop looks for new messages before it goes on. So a party with many sessions makes another one's
message wait for one of its own, and not for one of each session.

A child ends in one of four ways, and `reap` is the last step of each:

    it exits             its client is gone; it has sent END
    `terminate`          SIGTERM, and SIGKILL if it is still there after the timeout
    it is not trusted    SIGKILL, after a message that an honest child would not send
    something kills it   the kernel, or a person; what it had sent before still counts
"""

import math
import os
import signal
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Protocol

import structlog

from config.party import Address
from keys.credentials.ratelimit import BandwidthLimits, OpenRates
from keys.kernel import process
from keys.kernel.memory_groups import MemoryGroups
from sftpd.ipc.messages import (
    MAX_DATAGRAM,
    MEMORY_FILE,
    NO,
    QUESTIONS,
    UNPROVEN,
    UNPROVEN_PACED,
    WAIT_MS,
    YES,
    YES_PACED,
    Message,
    MessageKind,
    unpack,
)
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor import cpu_shares, memory
from sftpd.monitor.answers.logins import Answer, Logins
from sftpd.monitor.cpu_shares import CpuShares, Share
from sftpd.monitor.loop import Loop, Timer
from sftpd.monitor.monitor import ConnectionState, Monitor, ProtocolViolation

MAX_OPEN_FILES = 2048  # of one connection: 2,000 handles (sftpd/sftp/budget), and a reserve
LOGINS = frozenset((MessageKind.KEY.letter, MessageKind.PASSWORD.letter))
_MEMORY_TIMEOUT = 0.3  # seconds from SIGTERM to SIGKILL
_MAX_LEFTOVER_DATAGRAMS = 4096  # read from a dead child; an honest one leaves fewer
_SLICE = 0.25e-3  # seconds; a message takes about 0.05 ms
_WITH_CLAIM = (MessageKind.OPEN, MessageKind.HASH)
# Each is a record, and counts as an open of its party.
_OPENS = (
    MessageKind.OPEN,
    MessageKind.LIST,
    MessageKind.HASH,
    MessageKind.MISS,
    MessageKind.DENY,
)

_last_turn = attrgetter("last_turn")

_log = structlog.get_logger()


@dataclass(slots=True)
class Child:
    """A child process, the descriptors for reaching it, and the state of its connection."""

    pid: int
    pidfd: int
    channel: socket.socket  # the monitor's end of the socket pair
    pending_closes: PendingCloses
    state: ConnectionState
    cpu_share: Share | None = None
    cpu_seconds: float = 0.0  # that it had used when this was last looked up
    busy_until: float = math.inf  # when it stops counting for its party's share
    last_turn: int = 0  # the number of the message that was handled last
    memory_at_login: int = 0
    memory_file: int | None = None  # its statm, which it has opened itself (memory)
    has_sent: bool = False
    answer_due: bool = False  # it waits for an answer that is not sent yet
    killed_by_monitor: bool = False
    kill_timer: Timer | None = None


class Starter(Protocol):
    """Starts processes for connections; see sftpd/processes/forker."""

    def start(
        self,
        descriptors: tuple[int, int, int],
        address: Address,
        started: Callable[[int | OSError], object],
    ) -> None:
        """Start one, and call `started` with its process id, or with the error; raise OSError.

        `descriptors` are the client's connection, the child's end of its socket pair, and its page
        of pending closes. The process is a child of this one.
        """


class Children:
    """All child processes.

    `rate_of` returns a party's bandwidth limit in Mbit/s, if it has one. `opens_per_second` limits
    the files and folders that a party opens: beyond it, each answer waits. `charge_login_cpu` gets
    the processor time that each connection used until its login, or its end without one.
    `on_failure` is called if a child could not be started, after `start` has returned.
    """

    def __init__(
        self,
        loop: Loop,
        monitor: Monitor,
        starter: Starter,
        rate_of: Callable[[str], float | None],
        pacer: BandwidthLimits,
        logins: Logins | None = None,
        charge_login_cpu: Callable[[Address, float], object] = lambda *_: None,
        on_failure: Callable[[Address, Address | None, OSError], object] = lambda *_: None,
        cpu: CpuShares | None = None,
        memory_groups: MemoryGroups | None = None,
    ) -> None:
        self._loop = loop
        self._monitor = monitor
        self._starter = starter
        self._rate_of = rate_of
        self._pacer = pacer
        self._logins = logins
        self._charge_login_cpu = charge_login_cpu
        self._on_failure = on_failure
        self._starting: list[ConnectionState] = []
        self._children: dict[int, Child] = {}
        self._pending_answers: list[tuple[Child, Answer, float]] = []
        self._open_rates = OpenRates(loop.time)
        self.opens_per_second = math.inf
        self.shares: Mapping[str, float] = {}  # of parties, if not all (access/gateways)
        self._ready: defaultdict[str, list[Child]] = defaultdict(list)
        self._last_turn = 0
        loop.after_events = self._end_turn
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._cpu_shares = CpuShares() if cpu is None else cpu
        self._memory_groups = memory_groups

    def __len__(self) -> int:
        return len(self._children) + len(self._starting)

    def __iter__(self) -> Iterator[Child]:
        return iter(list(self._children.values()))

    def states(self) -> Iterator[ConnectionState]:
        """Yield the state of each connection, including those whose child is being started."""
        yield from (child.state for child in self._children.values())
        yield from self._starting

    def start(self, peer: socket.socket, address: Address, via: Address | None) -> None:
        """Have a child started for a connection; the caller closes its copy of `peer`.

        Raises OSError, and leaves nothing behind, if the machine lacks a descriptor.
        """
        pending_closes = PendingCloses()
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            pending_closes.close()
            raise
        state = self._monitor.begin(address, via)

        def started(found: int | OSError) -> None:
            self._starting.remove(state)
            try:
                if isinstance(found, OSError):
                    raise found
                self._add(found, ours, pending_closes, state)
            except OSError as error:
                ours.close()
                pending_closes.close()
                self._monitor.forget(state)
                self._on_failure(address, via, error)

        self._starting.append(state)
        with theirs:
            try:
                descriptors = peer.fileno(), theirs.fileno(), pending_closes.descriptor
                self._starter.start(descriptors, address, started)
            except OSError:
                self._starting.remove(state)
                ours.close()
                pending_closes.close()
                self._monitor.forget(state)
                raise
        pending_closes.close_descriptor()

    def _add(
        self,
        pid: int,
        channel: socket.socket,
        pending_closes: PendingCloses,
        state: ConnectionState,
    ) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        channel.setblocking(False)
        self._monitor.counters.forks += 1
        child = Child(pid, pidfd, channel, pending_closes, state)
        self._children[pid] = child
        self._loop.watch(channel, lambda: self._ready[child.state.payer].append(child))
        self._loop.watch(pidfd, lambda: self.reap(child))
        self._set_cpu_share(child)

    def _end_turn(self) -> None:
        self._receive_in_turn()
        if self._monitor.group_commit.batching:
            self.commit()

    def _receive_in_turn(self) -> None:
        """Handle the messages that are there, in the parties' turns, until the slice is over.

        If records are written in batches, all messages of a turn go into the same batch. So then
        there is no slice.
        """
        if not self._ready:
            return
        waiting = [sorted(each, key=_last_turn)[::-1] for each in self._ready.values()]
        self._ready.clear()
        now = time.thread_time()
        end = math.inf if self._monitor.group_commit.batching else now + _SLICE
        while waiting:
            for children in waiting:
                child = children.pop()
                if self._loop.is_watching(child.channel):
                    self._last_turn = child.last_turn = self._last_turn + 1
                    self._receive(child)
                began, now = now, time.thread_time()
                self._cpu_shares.add_other_work(child.state.payer, now - began)
            waiting = [children for children in waiting if children]
            if now >= end:
                return  # the loop finds those that are left again

    def _receive(self, child: Child) -> bool:
        """Handle one datagram of a child; return whether it may have sent more.

        It handles only one, so that no child makes the others wait.
        """
        try:
            first, data = not child.has_sent, self._read(child)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True  # it died before it read an answer; what it sent before is still there
        if first and data == MEMORY_FILE:
            return True
        if not data:
            self._loop.unwatch(child.channel)
            if child.state.reported_reason is None:
                # Either it is dead, or it closed the socket to go on without records.
                signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            return False
        try:
            if child.answer_due:
                raise ProtocolViolation("a message while another one is being answered")
            messages = unpack(data)
            last = messages[-1].kind
            if last.letter in QUESTIONS:
                self._ask(child, messages)
            elif answer := self._answer(child, messages):
                pause = self._seconds_to_wait(child, last)
                self._send(child, Answer(answer), pause, committed=not last.needs_answer)
        except (BrokenPipeError, ConnectionResetError):
            return True  # it is dead; what it sent before still counts
        except (ProtocolViolation, ValueError, BlockingIOError) as error:
            self._kill_untrusted(child, str(error))
            return False
        except Exception as error:  # a fault of ours, which must not end the other sessions
            _log.exception("message-failed", session=child.state.session)
            self._kill_untrusted(child, repr(error))
            return False
        return True

    def _read(self, child: Child) -> bytes:
        """Return a datagram of a child. With the first one, it may send the file of its memory.

        It sends that before it has read anything from its client, so what it sends is its own.
        """
        if child.has_sent:
            return child.channel.recv(MAX_DATAGRAM)
        data, files, _, _ = socket.recv_fds(child.channel, MAX_DATAGRAM, 1, socket.MSG_CMSG_CLOEXEC)
        child.has_sent = True
        if data == MEMORY_FILE and files:
            [child.memory_file] = files
        else:
            for file in files:
                os.close(file)
        return data

    def commit(self) -> None:
        """Write the batch of records, and answer the children that wait for it."""
        committed = self._monitor.group_commit.commit()
        pending_answers, self._pending_answers = self._pending_answers, []
        for child, answer, pause in pending_answers:
            if not committed:
                _close(answer)
                answer = Answer(child.state.login_answer.value)
            with suppress(OSError):  # the child is dead, or does not read its answers
                self._send(child, answer, pause, committed=True)

    def _seconds_to_wait(self, child: Child, last: MessageKind) -> float:
        if last not in _OPENS or child.state.party is None or self.opens_per_second == math.inf:
            return 0.0
        party = child.state.party
        return self._open_rates.wait(party, self.opens_per_second, self.shares.get(party, 1.0))

    def _send(self, child: Child, answer: Answer, pause: float, *, committed: bool) -> None:
        """Answer a child, after the commit that its record waits for and `pause` seconds.

        It does nothing else meanwhile.
        """
        child.answer_due = True
        if not committed and self._monitor.group_commit.batching:
            self._pending_answers.append((child, answer, pause))
        elif pause:
            when = self._loop.time() + pause
            self._loop.call_at(when, lambda: self._send_late(child, answer))
        else:
            child.answer_due = False
            _send(child.channel, answer)

    def _send_late(self, child: Child, answer: Answer) -> None:
        child.answer_due = False
        with suppress(OSError):  # the child is dead, or does not read its answers
            _send(child.channel, answer)

    def _ask(self, child: Child, messages: list[Message]) -> None:
        if self._logins is None:
            raise ProtocolViolation("a question of an unknown kind")
        *closes, question = messages
        if any(message.kind is not MessageKind.CLOSE for message in closes):
            raise ProtocolViolation("a message before a question")
        if closes:
            self._monitor.handle_messages(child.state, *closes)

        def answer(found: Answer) -> None:
            if self._children.get(child.pid) is not child:
                _close(found)  # it has ended meanwhile
                return
            if question.kind.letter in LOGINS and child.state.party is not None:
                self._account_for_login(child)  # before the child goes on
            with suppress(OSError):
                self._send(child, found, 0.0, committed=False)

        self._logins.handle(child.state, question, answer)

    def _account_for_login(self, child: Child) -> None:
        child.cpu_seconds = process.cpu_seconds(child.pid)
        child.busy_until = self._loop.time() + cpu_shares.REMEMBERED
        self._charge_login_cpu(child.state.address, child.cpu_seconds)
        child.memory_at_login = memory.anonymous_bytes(child.pid, child.memory_file)
        self._put_into_memory_group(child)
        self._update_cpu_shares()

    def _put_into_memory_group(self, child: Child) -> None:
        """Let the kernel limit the memory of the party's sessions, if it has groups for that."""
        party = child.state.party
        if self._memory_groups is None or party is None:
            return
        try:
            self._memory_groups.put(party, child.pid)
        except OSError as error:
            _log.error("memory-group-failed", party=party, cause=str(error))

    def _answer(self, child: Child, messages: list[Message]) -> bytes:
        state = child.state
        granted = self._monitor.handle_messages(state, *messages)
        message = messages[-1]
        paced = message.kind is MessageKind.PACE
        if not (paced or message.kind.needs_answer):
            return b""
        rate = self._rate_of(state.party) if state.party is not None else None
        if paced:
            share = self.shares.get(state.who, 1.0)
            wait = self._pacer.wait(state.who, rate, message.count, share)
            return WAIT_MS.pack(min(round(wait * 1000), (1 << 32) - 1))
        if not granted:
            return NO
        if message.kind in _WITH_CLAIM and state.unproven:
            return UNPROVEN if rate is None else UNPROVEN_PACED
        return YES if rate is None else YES_PACED

    def enforce_memory_limit(self, limit: int) -> None:
        """End the largest session of each party whose sessions take more than `limit` bytes.

        Only what they took since their logins counts. Call it now and then: the kernel limits each
        session by itself (sftpd/sandbox), and the party's sessions together only where the server
        has cgroups for them (keys/kernel/memory_groups).
        """
        used: defaultdict[str, list[tuple[int, Child]]] = defaultdict(list)
        for child in self:
            state = child.state
            if state.party is not None and state.termination_reason is None:
                bytes_now = memory.anonymous_bytes(child.pid, child.memory_file)
                grown = bytes_now - child.memory_at_login
                used[state.party].append((max(0, grown), child))
        for party, sessions in used.items():
            total = sum(size for size, _ in sessions)
            if total > limit:
                size, largest = max(sessions, key=itemgetter(0))
                _log.error(
                    "too-much-memory",
                    party=party,
                    session=largest.state.session,
                    bytes=size,
                    party_bytes=total,
                )
                self.terminate(largest, "too much memory", _MEMORY_TIMEOUT)

    def enforce_open_limit(self) -> None:
        """Kill every child with more open files than a client can have. Call it now and then.

        The limit is not checked at each open: opens are frequent, and no honest child reaches it.
        """
        for child in self:
            if len(child.state.open_files) > MAX_OPEN_FILES and not child.killed_by_monitor:
                self._kill_untrusted(child, f"{len(child.state.open_files)} files open at once")

    def _kill_untrusted(self, child: Child, cause: str) -> None:
        self._loop.unwatch(child.channel)
        _log.error("child-not-trusted", session=child.state.session, cause=cause)
        self._kill(child)

    def _kill(self, child: Child) -> None:
        child.killed_by_monitor = True
        signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)

    def terminate(self, child: Child, reason: str, timeout: float) -> None:
        """Send SIGTERM and record `reason`; send SIGKILL after `timeout` seconds."""
        if child.state.termination_reason is None:
            child.state.termination_reason = reason
            signal.pidfd_send_signal(child.pidfd, signal.SIGTERM)
        when = self._loop.time() + timeout
        if child.kill_timer is None or when < child.kill_timer.when:
            if child.kill_timer is not None:
                child.kill_timer.cancel()
            child.kill_timer = self._loop.call_at(when, lambda: self._kill(child))

    def kill_all(self) -> None:
        """Kill and reap every child."""
        for child in self:
            self._kill(child)
        for child in self:
            self.reap(child)

    def reap(self, child: Child) -> None:
        """Wait for a child that is dead or dying, and record the end of its connection."""
        # WNOWAIT leaves a zombie, so that _receive can still send it a signal.
        status = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT)
        if self._loop.is_watching(child.channel):
            for _ in range(_MAX_LEFTOVER_DATAGRAMS):
                if not self._receive(child):
                    break
        self._read_pending_closes(child)
        self.commit()  # if this is rolled back, that must come before the records of the end
        if child.state.party is None:
            self._charge_login_cpu(child.state.address, process.cpu_seconds(child.pid))
        os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
        for watched in (child.channel, child.pidfd):
            self._loop.unwatch(watched)
        if child.kill_timer is not None:
            child.kill_timer.cancel()
        child.channel.close()
        child.pending_closes.close()
        os.close(child.pidfd)
        if child.memory_file is not None:
            os.close(child.memory_file)
        del self._children[child.pid]
        exited = status is not None and status.si_code == os.CLD_EXITED
        if status is not None and not exited and not child.killed_by_monitor:
            _log.error("child-died", session=child.state.session, signal=status.si_status)
        self._monitor.end(child.state, "server error" if exited else "killed")
        party = child.state.party
        if party is not None:
            if party not in self._monitor.sessions:
                self._pacer.forget(party)
                self._open_rates.forget(party)
            self._update_cpu_shares()

    def _read_pending_closes(self, child: Child) -> None:
        data = child.pending_closes.read()
        if not data or child.state.reported_reason is not None:
            return
        try:
            messages = unpack(data)
            if all(message.kind is MessageKind.CLOSE for message in messages):
                self._monitor.handle_messages(child.state, *messages)
        except (ProtocolViolation, ValueError):
            # It was killed after it sent these and before it cleared them, or it is not honest.
            # In both cases what it sent over the socket stays recorded.
            return
        except Exception:
            _log.exception("message-failed", session=child.state.session)

    def share_processors(self) -> None:
        """Share the processors by what each party has used since the last call.

        Call it several times a second.
        """
        now = self._loop.time()
        for child in self._children.values():
            if child.state.party is None:
                continue
            before, child.cpu_seconds = child.cpu_seconds, process.cpu_seconds(child.pid)
            used = child.cpu_seconds - before
            self._cpu_shares.add_session_work(child.state.party, used)
            if used >= cpu_shares.BUSY:
                child.busy_until = now + cpu_shares.REMEMBERED
        self._cpu_shares.end_interval()
        self._update_cpu_shares()

    def _update_cpu_shares(self) -> None:
        now = self._loop.time()
        busy: Counter[str] = Counter()
        for child in self._children.values():
            busy[child.state.payer] += now < child.busy_until
        self._cpu_shares.set_busy(busy)
        for child in self._children.values():
            self._set_cpu_share(child)

    def _set_cpu_share(self, child: Child) -> None:
        logged_in = child.state.party is not None
        share = self._cpu_shares.share(child.state.payer, logged_in=logged_in)
        if share != child.cpu_share:
            child.cpu_share = share
            cpu_shares.set_share(child.pid, self._nice + share.nice, share.rank)


def _send(channel: socket.socket, answer: Answer) -> None:
    try:
        if answer.descriptor is None:
            channel.send(answer.data)
        else:
            socket.send_fds(channel, [answer.data], [answer.descriptor])
    finally:
        _close(answer)


def _close(answer: Answer) -> None:
    if answer.descriptor is not None:
        os.close(answer.descriptor)
