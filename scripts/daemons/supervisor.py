"""Keeps the daemons running: starts each as a child process and restarts one that dies.

A child that dies is started again after a pause, which doubles each time up to half a minute. On
SIGTERM or SIGINT the supervisor asks both to finish, and kills one that does not. On SIGHUP it
sends each child its reload signal, and SIGUSR1 (drain for maintenance) is passed on to those that
know it. On a named host (keys/operations/server_state) it also looks
every `_LOOK_INTERVAL` whether a command wants the settings to be read again.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import structlog

from keys.kernel import process

KILL_MARGIN = 10.0  # seconds from the end of the server's draining to SIGKILL
_MIN_BACKOFF, _MAX_BACKOFF = 0.5, 30.0  # seconds
_LOOK_INTERVAL = 0.5  # seconds
_STABLE_AFTER = 60.0  # seconds; a child that ran this long is restarted after the shortest pause
_STOPS = (signal.SIGTERM, signal.SIGINT)
_FORWARDED = (*_STOPS, signal.SIGHUP, signal.SIGUSR1)


@dataclass
class _Part:
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    backoff: float = _MIN_BACKOFF
    next_start: float = 0.0
    restarting: bool = False  # it was told to end, and is started again at once


class Supervisor:
    """Runs one child process for each command until it is told to stop.

    On SIGHUP, if `reloadable` returns True, each child is sent its signal of `on_reload`; a child
    that is sent SIGTERM is started again at once. When the supervisor is told to stop, the
    children have `stop_timeout` seconds before they are killed. `look_after` is called every
    `_LOOK_INTERVAL`; True has the same effect as SIGHUP. The children in `draining` get SIGUSR1
    when the supervisor does.
    """

    def __init__(
        self,
        commands: Mapping[str, list[str]],
        on_reload: Mapping[str, signal.Signals] = MappingProxyType({}),
        reloadable: Callable[[], bool] = lambda: True,
        stop_timeout: float = KILL_MARGIN,
        clock: Callable[[], float] = time.monotonic,
        look_after: Callable[[], bool] | None = None,
        draining: Collection[str] = (),
    ) -> None:
        self._draining = [name for name in draining if name in commands]
        self._look_after = look_after
        self._parts = {name: _Part(command) for name, command in commands.items()}
        # A site need not have every daemon that has a signal.
        self._on_reload = {name: on_reload[name] for name in on_reload if name in commands}
        self._reloadable = reloadable
        self._stop_timeout = stop_timeout
        self._clock = clock
        self._log = structlog.get_logger()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return 0 if every child then ended cleanly, else 1."""
        wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        received: set[int] = set()
        for number in (*_FORWARDED, signal.SIGCHLD):
            signal.signal(number, lambda got, _: received.add(got))
        process.release_signals()
        while not received.intersection(_STOPS):
            asked = self._look_after is not None and self._look_after()
            if asked or signal.SIGHUP in received:
                received.discard(signal.SIGHUP)
                self._reload()
            if signal.SIGUSR1 in received:
                received.discard(signal.SIGUSR1)
                self._drain()
            pause = self.poll()
            if self._look_after is not None:
                pause = _LOOK_INTERVAL if pause is None else min(pause, _LOOK_INTERVAL)
            select.select([wake_reader], [], [], pause)
            _empty_pipe(wake_reader)
        return self._stop(wake_reader)

    def poll(self) -> float | None:
        """Reap and start children; return the seconds until the next start, None if none is due."""
        now = self._clock()
        waits: list[float] = []
        for name, part in self._parts.items():
            status = part.process.poll() if part.process is not None else None
            if status is not None:
                self._schedule_restart(name, part, status, now)
            if part.process is None:
                if part.next_start <= now:
                    self._start(name, part, now)
                if part.process is None:
                    waits.append(part.next_start - now)
        return min(waits, default=None)

    def _start(self, name: str, part: _Part, now: float) -> None:
        part.started = now
        try:
            # Between fork and exec the child has our handlers, which would swallow a signal.
            signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
            part.process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(_set_up_child, os.getpid()),
            )
        except OSError as error:
            self._log.error("daemon-start-failed", daemon=name, cause=str(error))
            self._schedule_restart(name, part, -1, now)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        self._log.info("daemon-started", daemon=name, pid=part.process.pid)

    def _schedule_restart(self, name: str, part: _Part, status: int, now: float) -> None:
        part.process = None
        if part.restarting:
            part.restarting = False
            part.next_start = now
            return
        if now - part.started >= _STABLE_AFTER:
            part.backoff = _MIN_BACKOFF
        part.next_start = now + part.backoff
        self._log.error("daemon-died", daemon=name, exit_status=status, retry_seconds=part.backoff)
        part.backoff = min(part.backoff * 2, _MAX_BACKOFF)

    def _reload(self) -> None:
        if not self._reloadable():
            return
        for name, number in self._on_reload.items():
            part = self._parts[name]
            if part.process is not None:
                part.restarting = number == signal.SIGTERM
                part.process.send_signal(number)
                self._log.info("settings-reloaded", daemon=name)

    def _drain(self) -> None:
        for name in self._draining:
            if (daemon := self._parts[name].process) is not None:
                daemon.send_signal(signal.SIGUSR1)

    def _stop(self, wake_reader: int) -> int:
        running = {n: p.process for n, p in self._parts.items() if p.process is not None}
        for daemon in running.values():
            daemon.terminate()
        deadline = self._clock() + self._stop_timeout
        while any(p.poll() is None for p in running.values()) and self._clock() < deadline:
            select.select([wake_reader], [], [], max(0.0, deadline - self._clock()))
            _empty_pipe(wake_reader)
        for name, daemon in running.items():
            if daemon.poll() is None:
                self._log.error("daemon-killed", daemon=name, timeout_seconds=self._stop_timeout)
                daemon.kill()
                daemon.wait()
            self._log.info("daemon-stopped", daemon=name, exit_status=daemon.returncode)
        # A child that has no handler yet is ended by SIGTERM itself.
        return int(any(p.returncode not in (0, -signal.SIGTERM) for p in running.values()))


def _set_up_child(supervisor: int) -> None:
    # If the supervisor is killed, its daemons must not stay and block the next ones.
    process.end_with_parent(supervisor, signal.SIGTERM)
    for number in _STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # the daemon releases the others itself


def _empty_pipe(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
