"""Runs a process of the server that answers the monitor's questions.

The monitor forks it and talks to it over a SOCK_SEQPACKET pair. Each datagram is a number in four
bytes and a JSON object. The first one comes from the process when it is ready, with the number 0:

    monitor   0000002a {"check": ["$argon2id$…"], "password": "…"}
    process   0000002a {"match": 0, "seconds": 0.11}               with the processor time used

Answers may come in any order. The process handles untrusted input, so it has a sandbox: no files,
no programs, no sockets (sandbox.restrict_responder). If it dies, the questions that were not
answered get None as their answer, and it is started again (restarts). One that hangs is ended.
"""

import json
import os
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import Any, Protocol

import structlog

from config.fault import Fault, Faults
from keys.kernel import process, scheduler
from sftpd.processes import restarts
from sftpd.processes.restarts import Loop, Progress, Restarts

MAX_MESSAGE = 1 << 16
_SILENT_SECONDS = 120.0  # as long as a client may take to log in
_START_TIMEOUT = 60.0  # seconds until it has loaded what it needs
_DIED = "a process of the server has died: see the log"
_number = Struct(">I")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Answer = Callable[[dict[str, Any] | None], object]
Spent = Callable[[float], object]

_log = structlog.get_logger()


class Work(Protocol):
    """What runs in the process."""

    def prepare(self) -> dict[str, Any]:
        """Load what is needed, and return what the monitor is told; raise Faults if it fails."""

    def serve(self, channel: "Channel") -> None:
        """Answer questions until the monitor is gone; called in the sandbox."""


class Channel:
    """The process's end of the socket."""

    def __init__(self, monitor: socket.socket) -> None:
        self._monitor = monitor

    def receive(self) -> tuple[int, dict[str, Any]] | None:
        """Return the next question, None if the monitor is gone."""
        data = self._monitor.recv(MAX_MESSAGE)
        if not data:
            return None
        return _number.unpack_from(data)[0], json.loads(data[_number.size :])

    def answer(self, number: int, values: dict[str, Any]) -> None:
        """Answer the question with that number; any thread may call it."""
        self._monitor.send(_number.pack(number) + json.dumps(values).encode())


class Responder:
    """One such process, from `start` to `stop`; `confine` puts it into its sandbox.

    Its nice value is `nice` above the monitor's.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Work],
        loop: Loop,
        confine: Callable[[], object],
        nice: int = 0,
    ) -> None:
        self.name = name
        self._work = work
        self._loop = loop
        self._confine = confine
        self._nice = nice
        self._socket: socket.socket | None = None
        self._pid = 0
        self._restarts = Restarts(name, loop, self.start)
        self._working, self._answering = Progress(), Progress()
        self._ready = False
        self._used = 0.0  # seconds of processor time
        self._next_number = 0
        self._questions: dict[int, tuple[Answer, Spent]] = {}

    def start(self) -> None:
        """Start it. Questions may be asked at once; they are answered when it is ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        with theirs:
            pid = os.fork()
            if pid == 0:
                self._run(parent, theirs)
        self._restarts.started()
        self._working, self._answering = Progress(), Progress()
        self._ready, self._used = False, 0.0
        self._pid = pid
        ours.setblocking(False)
        self._socket = ours
        self._loop.watch(ours, self._receive)

    def wait_until_ready(self) -> dict[str, Any]:
        """Return what it reports just after its start; end it and raise Faults if it cannot."""
        assert self._socket is not None  # noqa: S101 - for the type
        self._socket.settimeout(_START_TIMEOUT)
        try:
            data = self._socket.recv(MAX_MESSAGE)
        except TimeoutError:
            data = b""
        self._socket.setblocking(False)
        found = json.loads(data[_number.size :]) if data else {"faults": [["", "", _DIED]]}
        if "faults" in found:
            self.stop()
            raise Faults([Fault(*each) for each in found["faults"]])
        self._ready = True
        return dict(found)

    def ask(self, question: dict[str, Any], answer: Answer, spent: Spent = lambda _: None) -> None:
        """Send a question; `answer` is called with the reply, or with None if there is none.

        Before that, `spent` gets the processor time that the reply took.
        """
        number = self._next_number = (self._next_number + 1) & 0xFFFFFFFF
        message = _number.pack(number) + json.dumps(question).encode()
        try:
            if self._socket is None:
                raise BrokenPipeError
            self._socket.send(message)
        except OSError:  # it is dead, or has more to do than its socket holds
            self._loop.call_at(self._loop.time(), lambda: answer(None))
            return
        self._questions[number] = answer, spent

    def replace_if_stuck(self) -> None:
        """End the process, and start it again, if it hangs; called once a second.

        It hangs if it owes an answer and uses no processor. On a busy machine an honest one may be
        slow, and so may its start; only after `_SILENT_SECONDS` is that taken for a loop.
        """
        now, waiting = self._loop.time(), bool(self._questions)
        used = process.cpu_seconds(self._pid)
        if used > self._used:
            self._used = used
            self._working.note()
        idle = self._working.look(
            now, waiting=waiting, limit=None if self._ready else _START_TIMEOUT
        )
        silent = self._answering.look(now, waiting=waiting, limit=_SILENT_SECONDS)
        if self._socket is not None and (idle or silent):
            _log.error("process-stuck", name=self.name)
            self._restarts.died(self._end())

    def stop(self) -> None:
        """End the process, and wait for its end."""
        self._restarts.end()
        self._end()

    def _receive(self) -> None:
        if self._socket is None:
            return
        data = restarts.receive(self._socket, MAX_MESSAGE)
        if data is None:
            return
        if not data:
            self._restarts.died(self._end())
            return
        self._ready = True
        self._working.note()
        self._answering.note()
        asked = self._questions.pop(_number.unpack_from(data)[0], None)
        if asked is not None:
            answer, spent = asked
            try:
                found = json.loads(data[_number.size :])
                spent(found.get("seconds", 0.0))
                answer(found)
            except Exception:  # a fault of ours, which must not end the other sessions
                _log.exception("message-failed", name=self.name)

    def _end(self) -> int:
        """End the process and return its exit status; a negative one is a signal."""
        if self._socket is None:
            return 0
        self._loop.unwatch(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        questions, self._questions = self._questions, {}
        for answer, _ in questions.values():
            answer(None)
        return os.waitstatus_to_exitcode(status)

    def _run(self, parent: int, monitor: socket.socket) -> None:
        status = 1
        try:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # it ends with the monitor
            signal.set_wakeup_fd(-1)
            process.end_with_parent(parent)
            process.forbid_inspection()
            process.set_name(f"ssps-{self.name}")
            os.nice(self._nice)
            with suppress(OSError):
                scheduler.set_policy(0, os.SCHED_OTHER)  # without the monitor's short slice
            kept = monitor.fileno()
            os.closerange(3, kept)
            os.closerange(kept + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            work = self._work()
            try:
                ready = work.prepare()
            except Faults as faults:
                _log.error("process-failed", name=self.name, cause=str(faults))
                found = [[fault.file, fault.key, fault.message] for fault in faults.faults]
                Channel(monitor).answer(0, {"faults": found})
            else:
                self._confine()
                Channel(monitor).answer(0, ready)
                work.serve(Channel(monitor))
            status = 0
        except BaseException:
            _log.exception("process-failed", name=self.name)
        finally:
            os._exit(status)
