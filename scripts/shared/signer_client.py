"""A daemon's connection to the signer process of its site (scripts/shared/signer_process).

The daemon starts the process if none is running. If the process dies, the daemon logs
`signer-died` and starts it again after a pause, which doubles each time; its records are written
meanwhile and are signed afterwards. A process that gives no sign of life for `STUCK_AFTER` seconds,
for example because it was stopped, is logged as `signer-stuck`, killed and replaced in the same
way. A daemon does not start if the ledger that it is about to write does not match its newest
checkpoint.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.settings import LedgerSettings
from config.site import LEDGERS, ledger_host
from keys.operations import server_state
from scripts.shared.signer_process import (
    ENDED,
    MAX_MESSAGE,
    PART,
    READY,
    SIGNED,
    socket_address,
)

_STOP_TIMEOUT = 60.0  # seconds for the last signature
_MIN_BACKOFF, _MAX_BACKOFF = 1.0, 30.0  # seconds before the next attempt
_CONNECT_INTERVAL = 0.02
_STOP_ATTEMPTS = 3
STUCK_AFTER = 15.0  # seconds without a sign of life; the signer gives one every second
_log = structlog.get_logger()


class SignerClient:
    """Has one ledger signed. It uses no thread and `poll` never blocks, because a server forks."""

    def __init__(
        self,
        site: Path,
        ledger: str,
        settings: LedgerSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._ledger, self._monotonic = site, ledger, monotonic
        self._host = ledger_host(ledger)
        self._request = f"sign {ledger}{' compress' * settings.compress}".encode()
        self._command = [sys.executable, "-P", "-m", "scripts.shared.signer_process", str(site)]
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff = _MIN_BACKOFF
        self._next_attempt = 0.0
        self._heard: float | None = None  # the last sign of life on this connection

    def start(self) -> None:
        """Wait until the ledger is being signed; raise Faults if the signer refuses it."""
        while True:
            connection = self._connect_or_spawn()
            answer = connection.recv(MAX_MESSAGE)
            if answer == READY:
                self._heard = self._monotonic()
                return
            self._disconnect()
            if answer not in (
                b"",
                ENDED,
            ):  # it refuses; otherwise it ended together with its daemon
                raise self._fault(answer.decode())

    def poll(self) -> None:
        """Reconnect if the signer has ended, replace it if it is stuck. Must be called often."""
        now = self._monotonic()
        if self._connection is None:
            if now >= self._next_attempt:
                self._reconnect(now)
            return
        try:
            while (answer := self._connection.recv(MAX_MESSAGE, socket.MSG_DONTWAIT)) == READY:
                self._heard = now
        except BlockingIOError:
            if self._heard is not None and now >= self._heard + STUCK_AFTER:
                self._replace_stuck(now)
            return
        except OSError:
            answer = b""
        self._disconnect()
        if answer == ENDED:
            self._next_attempt = now
        elif answer:
            self._wait_to_retry("signing-refused", answer.decode(), now)
        else:
            self._wait_to_retry("signer-died", self._exit_cause(), now)

    def stop(self) -> None:
        """Have the rest of the ledger signed, and end the process if this daemon started it."""
        try:
            for _ in range(
                _STOP_ATTEMPTS
            ):  # more than one, because the signer may end or die at that moment
                if self._connection is None:
                    if self._process is not None and self._process.poll() is not None:
                        self._reap()  # `poll` would have logged this
                    self.start()
                if self._sign_the_rest() == SIGNED:
                    break
            else:
                _log.error("signing-failed", ledger=self._ledger, cause="the signer has ended")
        except (Faults, OSError) as error:
            _log.error("signing-failed", ledger=self._ledger, cause=str(error))
        finally:
            self._disconnect()
            self._end_process()

    def _sign_the_rest(self) -> bytes:
        assert self._connection is not None  # noqa: S101 - for the type
        self._connection.settimeout(_STOP_TIMEOUT)
        try:
            self._connection.shutdown(socket.SHUT_WR)
            while (answer := self._connection.recv(MAX_MESSAGE)) == READY:
                pass
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        self._disconnect()
        if answer not in (b"", ENDED, SIGNED):
            raise self._fault(answer.decode())
        return answer

    def _connect_or_spawn(self) -> socket.socket:
        while self._connection is None and not self._connect():
            if self._process is None:
                self._spawn()
            elif self._process.poll() is not None and (status := self._reap()):
                raise self._fault(f"the signer process ended with {status}: see the log")
            time.sleep(_CONNECT_INTERVAL)
        assert self._connection is not None  # noqa: S101 - for the type
        return self._connection

    def _reconnect(self, now: float) -> None:
        if self._connect():
            return
        if self._process is not None and self._process.poll() is not None and (end := self._reap()):
            self._wait_to_retry("signer-died", f"it ended with {end}", now)
        elif self._process is None:
            self._spawn()

    def _connect(self) -> bool:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with socket_address(self._site, self._host) as address:
                connection.connect(address)
            connection.send(self._request)
        except OSError:  # there is none, or it is about to end
            connection.close()
            return False
        self._connection = connection
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._heard = None

    def _replace_stuck(self, now: float) -> None:
        # The other daemon may have started it, so the kernel is asked who holds the signer's lock.
        if (pid := server_state.holder(self._site, PART, self._host)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._disconnect()
        cause = f"process {pid} gave no sign of life for {STUCK_AFTER:.0f} s and was killed"
        self._wait_to_retry("signer-stuck", cause, now)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )

    def _wait_to_retry(self, event: str, cause: str, now: float) -> None:
        _log.error(event, ledger=self._ledger, cause=cause, retry_seconds=self._backoff)
        self._next_attempt = now + self._backoff
        self._backoff = min(self._backoff * 2, _MAX_BACKOFF)

    def _exit_cause(self) -> str:
        if self._process is not None:
            try:
                self._process.wait(_CONNECT_INTERVAL)
            except subprocess.TimeoutExpired:
                return "it closed the connection"
            return f"it ended with {self._reap()}"
        return "it ended; the other daemon had started it"

    def _end_process(self) -> None:
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            _log.error("signer-killed", timeout_seconds=_STOP_TIMEOUT)
            self._process.kill()
        if status := self._reap():
            _log.error("signer-died", ledger=self._ledger, cause=f"it ended with {status}")

    def _reap(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        if process.stdin is not None:
            process.stdin.close()
        return process.wait()

    def _fault(self, message: str) -> Faults:
        return Faults([Fault(str(LEDGERS / self._ledger), "", message)])


@contextmanager
def running_signer(site: Path, ledger: str, settings: LedgerSettings) -> Iterator[SignerClient]:
    """Have a ledger signed once a second while the body runs, and once after it.

    The body calls `poll` often. Raises Faults if the ledger does not match its newest checkpoint,
    or if there is no key to sign with.
    """
    client = SignerClient(site, ledger, settings)
    try:
        client.start()
    except BaseException:
        client._end_process()
        raise
    try:
        yield client
    finally:
        client.stop()
