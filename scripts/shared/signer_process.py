"""The notary's process: signs beside a daemon that writes a ledger, and keeps the key from it.

`beside` starts it before the daemon loads anything else; it reads the private key and the
ledger, and answers nobody. Once a second it signs for what was added, compresses segments that
are sealed, and when the daemon is gone it signs for the rest and ends. A daemon does not start on
a ledger that is not what was signed for. A notary that dies meanwhile is missed within a second or
two (`Beside.tend`), which is said in the log, and another goes on from there.

The operations ledger, which many write for a moment each, has none that stays: a command signs for
what it records (`within`), and the server has the rest signed for (`Passing`).
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.settings import LedgerSettings
from config.site import LEDGERS, SIGNING_KEYS
from keys.ledger import note, segments
from keys.ledger.signer import LedgerMismatch, Signer, load_signing_key
from keys.server_keys import host
from scripts.shared.json_log import configure_logging

_SIGN_INTERVAL = 1.0  # seconds between two looks at the ledger
_CHECK_INTERVAL = 5.0  # seconds between two looks at a ledger that others write
_STOP_TIMEOUT = 60.0  # seconds that the last signature may take
_MIN_BACKOFF, _MAX_BACKOFF = 1.0, 30.0  # seconds before one that died is started again
_READY = "ready"
_log = structlog.get_logger()


class SignerProcess:
    """A notary's process, which is started again should it die; `tend` is to be called often.

    It holds no thread, since a server forks: what it does, it does when it is asked to.
    """

    def __init__(
        self,
        site: Path,
        name: str,
        keeping: LedgerSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        pack = ["--compress"] if keeping.compress else []
        self._command = [
            sys.executable,
            "-P",
            "-m",
            "scripts.shared.signer_process",
            str(site),
            name,
            *pack,
        ]
        self._name = name
        self._monotonic = monotonic
        self._backoff = _MIN_BACKOFF
        self._next_due = 0.0
        self._process: subprocess.Popen[str] | None = self._start()

    def _start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True)

    def wait_until_ready(self) -> None:
        """Wait until it signs; raise Faults with what it says if it will not."""
        assert self._process is not None and self._process.stdout is not None  # noqa: S101
        output = self._process.stdout.readline().strip()
        if output != _READY:
            self._reap()
            where = str(LEDGERS / self._name)
            raise Faults([Fault(where, "", output or "has no notary, see above")])

    def poll(self) -> None:
        """Miss it if it is gone, and start another after a pause that doubles. Never waits."""
        now = self._monotonic()
        process = self._process
        if process is None:
            if now >= self._next_due:
                self._process = self._start()
        elif (status := process.poll()) is not None:
            output = self._reap()
            cause = output.removeprefix(_READY).strip() or f"it ended with {status}"
            _log.error("signer-died", ledger=self._name, cause=cause, retry_seconds=self._backoff)
            self._next_due = now + self._backoff
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)

    def stop(self) -> None:
        """Have it sign for the rest and end; one that died is started once more for that."""
        if self._process is not None and self._process.poll() is not None:
            self._reap()
        process = self._process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            _log.error("signer-killed", ledger=self._name, timeout_seconds=_STOP_TIMEOUT)
            process.kill()
        if status := process.returncode:
            _log.error("signer-died", ledger=self._name, cause=f"it ended with {status}")
        self._reap()

    def _reap(self) -> str:
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None  # noqa: S101 - for the type
        with suppress(OSError):
            process.stdin.close()
        output = process.stdout.read() if process.stdout is not None else ""
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return output


@contextmanager
def running_signer(site: Path, name: str, keeping: LedgerSettings) -> Iterator[SignerProcess]:
    """Have a ledger's state signed once a second while the body runs, and once after it.

    The body calls `tend` of what this yields. Raises Faults if the ledger is not what was signed
    for, or there is no key to sign with.
    """
    signer = SignerProcess(site, name, keeping)
    signer.wait_until_ready()
    try:
        yield signer
    finally:
        signer.stop()


@contextmanager
def sign_after(site: Path, name: str) -> Iterator[None]:
    """Have a ledger's state signed when the body is done, by this process itself.

    Raises Faults if the ledger is not what was signed for; without a key it is left unsigned.
    """
    try:
        signer = open_signer(site, name)
    except LedgerMismatch as error:
        raise Faults([Fault(str(LEDGERS / name), "", str(error))]) from None
    except FileNotFoundError:
        yield  # which `ssps check` names; a credential can be revoked all the same
        return
    with signer:
        try:
            yield
        finally:
            signer.sign(last=True)


class OnDemandSigner:
    """Signs now and then for a ledger that others write, without a notary that stays with it.

    An operator's command signs for what it records itself (`within`); what a party does, and a
    command that was killed, does not. `tend` is to be called often: every few seconds it compares
    the ledger with what was signed for, and starts a process that signs for the rest and ends.
    """

    def __init__(
        self, site: Path, name: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = site / LEDGERS / name
        self._command = [
            sys.executable,
            "-P",
            "-m",
            "scripts.shared.signer_process",
            str(site),
            name,
        ]
        self._monotonic = monotonic
        self._next_due = 0.0
        self._backoff = _CHECK_INTERVAL
        self._process: subprocess.Popen[str] | None = None

    def poll(self) -> None:
        """Look, if it is time to; never waits."""
        if self._process is not None:
            if (status := self._process.poll()) is None:
                return
            output = self._process.stdout.read() if self._process.stdout else ""
            self._reap()
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF) if status else _CHECK_INTERVAL
            if status:
                _log.error("signing-failed", ledger=self._folder.name, cause=output.strip())
        now = self._monotonic()
        if now < self._next_due:
            return
        self._next_due = now + self._backoff
        with suppress(OSError, ValueError):
            if self._has_unsigned_records():
                pipe, none = subprocess.PIPE, subprocess.DEVNULL
                self._process = subprocess.Popen(self._command, stdin=none, stdout=pipe, text=True)

    def stop(self) -> None:
        """Sign for the rest, and wait for that."""
        self._next_due = 0.0
        for _ in range(2):  # one that is under way may have begun before the last record
            if self._process is None:
                self.poll()
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_TIMEOUT)
                self._next_due = 0.0
                self._reap()

    def _has_unsigned_records(self) -> bool:
        if not self._folder.exists():
            return False
        message = segments.read_checkpoint(self._folder)
        signed = 0 if message is None else note.unverified_checkpoint(message).size
        return segments.next_seq(self._folder) > signed

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdout is not None:
            process.stdout.close()


@contextmanager
def on_demand_signer(site: Path, name: str) -> Iterator[OnDemandSigner]:
    """Have a ledger that others write signed for within seconds, while the body runs."""
    signer = OnDemandSigner(site, name)
    try:
        yield signer
    finally:
        signer.stop()


def open_signer(site: Path, name: str) -> Signer:
    """Return the notary of one of the site's ledgers; raises what it does."""
    signing = site / SIGNING_KEYS
    stated = sorted(signing.rglob("*.pub"))
    former = [note.parse_public_key(path.read_text(encoding="utf-8")) for path in stated]
    return Signer(
        site / LEDGERS / name, load_signing_key(signing / host.SIGNING_KEY), former=former
    )


def sign_until_closed(
    signer: Signer,
    gone: int,
    pack: bool = True,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Sign once a second until there is nothing more to read from the descriptor `gone`."""
    over, due = False, monotonic() + _SIGN_INTERVAL
    while not over:
        now = monotonic()
        readable, _, _ = select.select([gone], [], [], max(0.0, due - now))
        # What signing takes is no part of the pause, and what was missed is not made up for.
        due = max(due, now) + _SIGN_INTERVAL
        over = bool(readable) and not os.read(gone, 4096)
        try:
            signer.sign(last=over)
            if pack and not over and (packed := signer.compress_next()):
                _log.info("segment-compressed", segment=str(packed.path))
        except OSError as error:
            _log.error("signing-failed", cause=str(error))


def main(site: Path, name: str, pack: bool) -> int:
    """Be the notary of one ledger until stdin ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the daemon has
    configure_logging("signer")
    try:
        with open_signer(site, name) as signer:
            signer.sign()
            print(_READY, flush=True)
            sign_until_closed(signer, sys.stdin.fileno(), pack)
    except (LedgerMismatch, OSError, ValueError) as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], "--compress" in sys.argv))
