"""`ssps run`, `publish`, `serve`: the two daemons, and the supervisor that keeps both up.

The supervisor starts each daemon as a process of its own, starts one that died again after a
pause that doubles up to half a minute, and on SIGTERM or SIGINT asks both to finish. On SIGHUP
the settings are read anew: if they are without fault the server takes them as it runs, and the
publisher, which nobody is connected to, is started afresh; if not, both go on with the old ones.
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
from types import MappingProxyType
from typing import Any

import click
import structlog

from config import load
from config.fault import Faults
from config.settings import Settings
from config.site import FILING, TRANSFER
from keys.operations import server_state
from keys.server_keys import host, sshsig
from scripts.daemons import settings_record
from scripts.shared import console, signer_client
from scripts.shared.json_log import configure_logging as configure_logging
from sftpd.sandbox import sandbox

_MIN_BACKOFF, _MAX_BACKOFF = 0.5, 30.0
_STABLE_AFTER = 60.0  # a part that ran this long starts its pauses anew
_RECORD_TIMEOUT = 10.0  # seconds that the parts may go untended
_KILL_MARGIN = 10.0  # from the end of the server's draining to SIGKILL
_PR_SET_PDEATHSIG = 1
RELOAD_SIGNALS = {"publish": signal.SIGTERM, "serve": signal.SIGHUP}
_STOPS = (signal.SIGTERM, signal.SIGINT)
_FORWARDED = (*_STOPS, signal.SIGHUP)


@click.command()
@console.with_site
def run(site: Path) -> None:
    """Run publisher and server, and keep both up.

    The one that dies is started again; SIGHUP has the settings read anew; SIGTERM stops both.
    """
    settings = load_ready_settings(site)
    if found := sandbox.faults(settings.sftp, sandbox.kernel(), os.geteuid()):
        raise Faults(found)  # a server that is started again and again would not mend them
    settings_record.record_if_changed(settings, "ssps run started")
    configure_logging("run")
    _log_warnings(settings)
    commands = {
        part: [sys.executable, "-P", "-m", "scripts.ssps", part, "--site", str(site)]
        for part in RELOAD_SIGNALS
    }
    stop_timeout = settings.sftp.drain_seconds + _KILL_MARGIN
    with server_state.claim(site, server_state.RUN):
        sys.exit(
            Supervisor(
                commands, RELOAD_SIGNALS, lambda: _accept_new_settings(site), stop_timeout
            ).run()
        )


@click.command()
@console.with_site
def publish(site: Path) -> None:
    """Read and file what arrives in the intake."""
    settings = load_ready_settings(site)
    configure_logging("publish")
    _log_warnings(settings)
    run_publisher(settings)


def run_publisher(settings: Settings, **how: Any) -> None:
    """Be the publisher until told to stop, with all that it takes; `how` is publish's own.

    So that a rehearsal, which changes a clock or a reader, changes nothing else.
    """
    from publisher.publish import publish as run

    site = settings.site
    settings_record.record_if_changed(settings, "ssps publish started")
    # A folder of a tree is to be seen by others from the moment it is made; all that is not for
    # them is made with a mode that says so, or stands in a folder of ours alone.
    os.umask(0o022)
    with (
        server_state.claim(site, server_state.PUBLISH),
        signer_client.running_signer(site, FILING, settings.ledger) as ledger_signer,
        stop_on_signal() as stop,
    ):
        run(
            settings,
            stop=stop,
            signer=sshsig.site_signing_key(site),
            poll_signer=ledger_signer.poll,
            **how,
        )


@click.command()
@console.with_site
def serve(site: Path) -> None:
    """Serve the trees over SFTP, all on the record."""
    settings = load_ready_settings(site)
    configure_logging("serve")
    _log_warnings(settings)
    run_server(settings)


def run_server(settings: Settings, **how: Any) -> None:
    """Be the server until told to stop, with all that it takes; `how` is sftpd's own."""
    from sftpd.server import serve as run

    site = settings.site
    # Signed for by another process: the server does not see the key.
    settings_record.record_if_changed(settings, "ssps serve started", signed=False)
    with signer_client.running_signer(site, TRANSFER, settings.ledger) as signer:

        def record_new_settings(new_settings: Settings) -> None:
            _log_warnings(new_settings)
            settings_record.record_if_changed(
                new_settings, "taken up by ssps serve", wait_seconds=0, signed=False
            )

        run(settings, poll_signer=signer.poll, record_new_settings=record_new_settings, **how)


def load_ready_settings(site: Path) -> Settings:
    """Return the site's settings; raise Faults for anything that keeps it from running."""
    settings, found = load.read(site)
    found += host.faults(site)
    if settings is None or found:
        raise Faults(found)
    return settings


def _log_warnings(settings: Settings) -> None:
    for warning in settings.warnings:
        structlog.get_logger().warning("setting-ignored", cause=str(warning))


def _accept_new_settings(site: Path) -> bool:
    try:
        settings_record.record_if_changed(
            load_ready_settings(site), "taken up by ssps run", wait_seconds=_RECORD_TIMEOUT
        )
    except Faults as error:
        for fault in error.faults:
            structlog.get_logger().error("settings-rejected", cause=str(fault))
        return False
    except Exception:  # whatever it is, it must not take the service down
        structlog.get_logger().exception("settings-unreadable")
        return False
    return True


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yield what SIGTERM and SIGINT set for as long as the `with` lasts."""
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
    backoff: float = _MIN_BACKOFF
    next_start: float = 0.0
    restarting: bool = False  # it was asked to end, so as to be started afresh


class Supervisor:
    """Keeps one process a command running until it is told to stop.

    On SIGHUP, if `reloadable` says that there is something to take up, each part is sent its
    signal of `on_reload`; one that is sent SIGTERM is started again at once. Told to stop, the
    parts have `stop_timeout` seconds before they are killed.
    """

    def __init__(
        self,
        commands: Mapping[str, list[str]],
        on_reload: Mapping[str, signal.Signals] = MappingProxyType({}),
        reloadable: Callable[[], bool] = lambda: True,
        stop_timeout: float = _KILL_MARGIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = {name: _Part(command) for name, command in commands.items()}
        self._on_reload = on_reload
        self._reloadable = reloadable
        self._stop_timeout = stop_timeout
        self._clock = clock
        self._log = structlog.get_logger()

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; return 0 if every part then ended of itself, else 1."""
        wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        received: set[int] = set()
        for number in (*_STOPS, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda got, _: received.add(got))
        while not received.intersection(_STOPS):
            if signal.SIGHUP in received:
                received.discard(signal.SIGHUP)
                self._reload()
            pause = self.poll()
            select.select([wake_reader], [], [], pause)
            _empty_pipe(wake_reader)
        return self._stop(wake_reader)

    def poll(self) -> float | None:
        """Reap who died, start who is due; return the seconds until the next is due, if any."""
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
            # Between fork and exec our own handlers stand: a signal would be lost on them.
            signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
            part.process = subprocess.Popen(
                part.command, stdin=subprocess.DEVNULL, preexec_fn=_set_up_child
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

    def _stop(self, wake_reader: int) -> int:
        running = {n: p.process for n, p in self._parts.items() if p.process is not None}
        for process in running.values():
            process.terminate()
        deadline = self._clock() + self._stop_timeout
        while any(p.poll() is None for p in running.values()) and self._clock() < deadline:
            select.select([wake_reader], [], [], max(0.0, deadline - self._clock()))
            _empty_pipe(wake_reader)
        for name, process in running.items():
            if process.poll() is None:
                self._log.error("daemon-killed", daemon=name, timeout_seconds=self._stop_timeout)
                process.kill()
                process.wait()
            self._log.info("daemon-stopped", daemon=name, exit_status=process.returncode)
        # One that had only just been started knows SIGTERM by no other name than death.
        return int(any(p.returncode not in (0, -signal.SIGTERM) for p in running.values()))


def _set_up_child() -> None:
    # A supervisor that was killed must not leave a daemon that the next one collides with.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for number in _STOPS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the part has a handler of its own
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _empty_pipe(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
