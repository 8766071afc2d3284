"""`ssps run`, `publish`, `serve`: the two daemons, and the supervisor that keeps both up.

The supervisor starts each daemon as a process of its own, starts one that died again after a
pause that doubles up to half a minute, and on SIGTERM or SIGINT asks both to finish.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import structlog

from config import load
from config.fault import Faults
from keys import host
from scripts import console

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_HEALTHY = 60.0  # a part that ran this long starts its pauses anew
_PATIENCE = 30.0  # from SIGTERM to SIGKILL
_PR_SET_PDEATHSIG = 1
_PARTS = ("publish", "serve")
_STOPS = (signal.SIGTERM, signal.SIGINT)


@click.command()
@console.with_site
def run(site: Path) -> None:
    """Run publisher and server, restart the one that dies, stop both cleanly on SIGTERM."""
    ready(site)
    _log_as("run")
    commands = {
        part: [sys.executable, "-m", "scripts.ssps", part, "--site", str(site)] for part in _PARTS
    }
    sys.exit(Supervisor(commands).run())


@click.command()
@console.with_site
def publish(site: Path) -> None:
    """Watch the intake, read each page's karekod, and file it into the parties' trees."""
    from publisher.publish import publish as run_publisher

    settings = ready(site)
    _log_as("publish")
    with _stopping() as stop:
        run_publisher(settings, stop=stop)


@click.command()
@console.with_site
def serve(site: Path) -> None:
    """Serve the trees over SFTP, read only, every transfer on the record."""
    from sftpd.server import serve as run_server

    settings = ready(site)
    _log_as("serve")
    run_server(settings)


def ready(site: Path) -> load.Settings:
    """Return the site's settings; raise Faults for anything that keeps it from running."""
    settings, found = load.read(site)
    found += host.faults(site)
    if settings is None or found:
        raise Faults(found)
    return settings


def _log_as(part: str) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in _STOPS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Part:
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = _FIRST_PAUSE
    due: float = 0.0


class Supervisor:
    """Keeps one process a command running until it is told to stop."""

    def __init__(
        self, commands: Mapping[str, list[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts = {name: _Part(command) for name, command in commands.items()}
        self._clock = clock
        self._log = structlog.get_logger()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return 0 if every part then ended of itself, else 1."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        stopping = False

        def stop(*_: object) -> None:
            nonlocal stopping
            stopping = True

        for number in _STOPS:
            signal.signal(number, stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while not stopping:
            pause = self.tend()
            select.select([wake], [], [], pause)
            _drain(wake)
        return self._stop(wake)

    def tend(self) -> float | None:
        """Reap who died, start who is due; return the seconds until the next is due, if any."""
        now = self._clock()
        waits: list[float] = []
        for name, part in self._parts.items():
            status = part.process.poll() if part.process is not None else None
            if status is not None:
                self._died(name, part, status, now)
            if part.process is None:
                if part.due <= now:
                    self._start(name, part, now)
                else:
                    waits.append(part.due - now)
        return min(waits, default=None)

    def _start(self, name: str, part: _Part, now: float) -> None:
        part.process = subprocess.Popen(
            part.command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent
        )
        part.started = now
        self._log.info("started", of=name, pid=part.process.pid)

    def _died(self, name: str, part: _Part, status: int, now: float) -> None:
        if now - part.started >= _HEALTHY:
            part.pause = _FIRST_PAUSE
        part.due = now + part.pause
        self._log.error("died", of=name, status=status, again_in=part.pause)
        part.pause = min(part.pause * 2, _LONGEST_PAUSE)
        part.process = None

    def _stop(self, wake: int) -> int:
        running = {n: p.process for n, p in self._parts.items() if p.process is not None}
        for process in running.values():
            process.terminate()
        deadline = self._clock() + _PATIENCE
        while any(p.poll() is None for p in running.values()) and self._clock() < deadline:
            select.select([wake], [], [], deadline - self._clock())
            _drain(wake)
        for name, process in running.items():
            if process.poll() is None:
                self._log.error("killed", of=name, after=_PATIENCE)
                process.kill()
                process.wait()
            self._log.info("stopped", of=name, status=process.returncode)
        return int(any(process.returncode != 0 for process in running.values()))


def _die_with_parent() -> None:
    # A supervisor that was killed must not leave a daemon that the next one collides with.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
