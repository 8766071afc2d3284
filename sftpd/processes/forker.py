"""The monitor's end of the forker, the process that starts one process for each connection.

The forker (sftpd/sessions) is executed, not forked, before anything is known to it but what all
sessions need. So what it forks has none of the monitor's secrets in its memory, and nothing has to
be wiped. What both say to each other is in sftpd/ipc/session_messages.

The monitor is the parent of each session: so a session ends with the monitor and survives the
forker. If the forker dies or hangs, it is started again (restarts). Connections that arrive
meanwhile are refused.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from config.fault import Fault, Faults
from config.party import Address
from sftpd.ipc.session_messages import MAX_MESSAGE, SessionSettings
from sftpd.processes import restarts
from sftpd.processes.restarts import Loop, Progress, Restarts

COMMAND = (sys.executable, "-P", "-m", "sftpd.sessions")
_START_TIMEOUT = 60.0  # seconds until it has loaded everything

_log = structlog.get_logger()


class Forker:
    """One forker process, from `start` to `stop`; `trees_for` says what a login may open."""

    def __init__(
        self,
        loop: Loop,
        trees_for: Callable[[Address], Sequence[Path]],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._loop = loop
        self._trees_for = trees_for
        self._command = command
        self._settings = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = False
        self._restarts = Restarts("forker", loop, self._spawn)
        self._progress = Progress()
        self._next_number = 0
        self._starting: dict[int, Callable[[int | OSError], object]] = {}

    def configure(self, settings: SessionSettings) -> None:
        """Use these settings for the sessions that start from now on."""
        packed = settings.pack()
        if packed != self._settings:
            self._settings = packed
            if self._socket is not None:
                try:
                    self._socket.send(packed)
                except OSError:  # it has died, or does not read: the next one gets them
                    self._restarts.died(self._end())

    def start_process(self) -> None:
        """Start the forker, which then loads what sessions need."""
        self._spawn()

    def wait_until_ready(self) -> None:
        """Wait until it has loaded everything; raise Faults if it has died."""
        assert self._socket is not None  # noqa: S101 - for the type
        readable, _, _ = select.select([self._socket], [], [], _START_TIMEOUT)
        self._receive()
        if not readable or not self._ready:
            self.stop()
            raise Faults([Fault("", "", "the process that starts sessions has died: see the log")])

    def start(
        self,
        descriptors: tuple[int, int, int],
        address: Address,
        started: Callable[[int | OSError], object],
    ) -> None:
        """Start a session; see Starter in sftpd/monitor/children."""
        if self._socket is None or not self._ready:
            raise ConnectionRefusedError("the process that starts sessions is not running")
        number = self._next_number = self._next_number + 1
        trees = [os.fspath(path) for path in self._trees_for(address)]
        request = json.dumps({"start": number, "trees": trees, "address": str(address)})
        socket.send_fds(self._socket, [request.encode()], descriptors)
        self._starting[number] = started

    def replace_if_stuck(self) -> None:
        """End the forker, and start it again, if it hangs; called once a second."""
        waiting = self._socket is not None and bool(self._starting or not self._ready)
        limit = None if self._ready else _START_TIMEOUT
        if self._progress.look(self._loop.time(), waiting=waiting, limit=limit):
            _log.error("process-stuck", name="forker")
            self._restarts.died(self._end())

    def stop(self) -> None:
        """End the forker; the sessions go on."""
        self._restarts.end()
        self._end()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
            )
        ours.setblocking(False)
        self._restarts.started()
        self._progress = Progress()
        self._socket = ours
        self._loop.watch(ours, self._receive)
        if self._settings:
            ours.send(self._settings)

    def _receive(self) -> None:
        if self._socket is None:
            return
        data = restarts.receive(self._socket, MAX_MESSAGE)
        if data is None:
            return
        if not data:
            self._restarts.died(self._end())
            return
        self._progress.note()
        found: dict[str, Any] = json.loads(data)
        if "ready" in found:
            self._ready = True
        elif "started" in found:
            self._starting.pop(found["started"])(found["pid"])
        else:
            error = OSError(found["errno"], os.strerror(found["errno"]))
            self._starting.pop(found["failed"])(error)

    def _end(self) -> int | None:
        self._ready = False
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._socket = None
        found, self._process = self._process, None
        if found is not None:
            with suppress(ProcessLookupError):
                found.send_signal(signal.SIGKILL)
            found.wait()
        starting, self._starting = self._starting, {}
        for started in starting.values():
            started(ConnectionResetError("the process that starts sessions has died"))
        return None if found is None else found.returncode
