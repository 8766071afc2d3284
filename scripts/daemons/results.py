"""The results process of `ssps publish`: started with it, started again if it dies.

    python -m scripts.daemons.results SITE        ends when its standard input is closed

It takes in the batches in results/ (publisher/results/process) and has a ledger of its own.
"""

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from config import load
from config.site import RESULTS_LEDGER, ledger_name
from keys.kernel.process import forbid_inspection
from keys.operations import site_keys
from scripts.shared import signer_client, signing
from scripts.shared.json_log import configure_logging

_COMMAND = (sys.executable, "-P", "-m", "scripts.daemons.results")
_MIN_BACKOFF, _MAX_BACKOFF = 1.0, 30.0
_STABLE_AFTER = 60.0
_STOP_TIMEOUT = 60.0

log = structlog.get_logger()


class ResultsProcess:
    """The process as the publisher sees it; `poll` is called often and never waits."""

    def __init__(
        self,
        command: tuple[str, ...],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._monotonic = monotonic
        self._backoff = _MIN_BACKOFF
        self._next_start = 0.0
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self.poll()

    def poll(self) -> None:
        """Start the process, or start it again after a pause that doubles."""
        now = self._monotonic()
        if self._process is not None:
            if (status := self._process.poll()) is None:
                return
            if now - self._started >= _STABLE_AFTER:
                self._backoff = _MIN_BACKOFF
            log.error(
                "daemon-died", daemon="results", exit_status=status, retry_seconds=self._backoff
            )
            self._reap()
            self._next_start = now + self._backoff
            self._backoff = min(self._backoff * 2, _MAX_BACKOFF)
        if now >= self._next_start:
            self._started = now
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)

    def stop(self) -> None:
        """Let the process finish the chunk that it works on, and wait for its end."""
        if self._process is None:
            return
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            log.error("daemon-killed", daemon="results", timeout_seconds=_STOP_TIMEOUT)
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            process.wait()


@contextmanager
def running_results(site: Path) -> Iterator[ResultsProcess]:
    """Keep the results process running during the body."""
    process = ResultsProcess((*_COMMAND, str(site)))
    try:
        yield process
    finally:
        process.stop()


def main(site: Path) -> int:
    """Be the results process until standard input is closed."""
    from publisher.results.process import run

    configure_logging("results")
    tune_garbage_collection()
    forbid_inspection()
    settings = load.load(site)
    stop = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(stop,), daemon=True).start()
    ledger = ledger_name(RESULTS_LEDGER, settings.host)
    if marked := signing.mark_unconfirmed(site, ledger):
        log.error("records-unconfirmed", ledger=ledger, cause=str(marked))
    with signer_client.running_signer(site, ledger, settings.ledger) as signer:
        run(settings, site_keys.signing_key(site), stop=stop, poll_signer=signer.poll)
    return 0


def tune_garbage_collection() -> None:
    """Look for cycles less often: a chunk of results has many objects, and cycles are rare."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def _wait_for_end_of_input(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
