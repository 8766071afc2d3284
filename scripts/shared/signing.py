"""Signs the ledgers of a site: continuously for a daemon, or once after an operator's change."""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.site import LEDGERS, OPERATIONS, SIGNED, SIGNING_KEYS
from keys.ledger import unconfirmed
from keys.ledger.signer import LedgerMismatch, Signer
from keys.ledger.tiles import Report
from keys.ledger.unconfirmed import Unconfirmed
from keys.ledger.writer import Ledger
from keys.operations import server_state, site_keys
from keys.operations.key_files import KeyFilesOnRecord
from keys.server_keys import host

SIGNER = "signer"  # the part of a site that signs (scripts/shared/signer_process)
_LOCK_TIMEOUT = 60.0  # seconds to wait for another process that writes the ledger
_SIGNER_TIMEOUT = 20.0  # seconds for the signer of the last writer to finish
SIGN_INTERVAL = 1.0  # seconds between two checkpoints of a ledger that grows
_log = structlog.get_logger()


def log_hashing(folder: Path, hashed: int, records: int) -> None:
    """Log how many lines of a ledger are hashed again (keys/ledger/tiles)."""
    _log.warning("ledger-hashed-again", ledger=folder.name, hashed=hashed, records=records)


def open_signer(
    site: Path,
    ledger: str,
    *,
    wait: bool = True,
    report: Report = lambda folder, hashed, records: None,
) -> Signer:
    """Open the signer of one of the site's ledgers; raises LedgerMismatch, OSError, ValueError.

    Without `wait` it raises BlockingIOError if another signer works on the ledger. It raises Faults
    if the signing key cannot be used: there is none, or it is not the one on record.

    Checkpoints that were signed with an earlier key of the site are accepted too.
    """
    on_record = KeyFilesOnRecord(site)
    former = site_keys.public_signing_keys(site, on_record)
    key = site_keys.signing_key(site, on_record)
    copy = site / SIGNED / ledger
    folder = site / LEDGERS / ledger
    return Signer(folder, key, former=former, wait=wait, copy=copy, report=report)


def mark_unconfirmed(
    site: Path, name: str, ledger: Ledger | None = None, *, at_once: bool = False
) -> Unconfirmed | None:
    """Mark the records that the last writer of a ledger left unsigned (keys/ledger/unconfirmed).

    Call it before the ledger is signed. `ledger` is the open ledger; without it, it is opened and
    closed. While a daemon runs, on any host, its signer signs the operations ledger within seconds,
    so records of that ledger are not marked. With `at_once` it waits for no other process. Raises
    Unwritable and LedgerBusy.
    """
    if name == OPERATIONS and server_state.running(site, SIGNER):
        return None
    folder = site / LEDGERS / name
    wait = 0.0 if at_once else _SIGNER_TIMEOUT
    if ledger is not None:
        return unconfirmed.mark(ledger, folder, wait)
    if not folder.exists():
        return None
    with Ledger(folder, wait_seconds=0.0 if at_once else _LOCK_TIMEOUT) as opened:
        return unconfirmed.mark(opened, folder, wait)


@contextmanager
def sign_after(site: Path, ledger: str, opened: Ledger) -> Iterator[None]:
    """Sign a ledger, `opened` for writing, in this process when the body has ended.

    What an earlier writer left unsigned is marked first (keys/ledger/unconfirmed). Raises Faults if
    the ledger does not match its newest checkpoint. Without a signing key that is on record the
    ledger stays unsigned: `ssps check` reports that, and `ssps key adopt` can still record.
    """
    try:
        mark_unconfirmed(site, ledger, opened)
        if not usable_key(site):
            yield
            sign_if_free(site, ledger)  # the change may have put a key on record
            return
        signer = open_signer(site, ledger)
    except LedgerMismatch as error:
        raise Faults([Fault(str(LEDGERS / ledger), "", str(error))]) from None
    with signer:
        try:
            yield
        finally:
            signer.sign(last=True)


def sign_if_free(site: Path, ledger: str) -> None:
    """Sign what was appended to a ledger, unless a signer works on it or the site has no key.

    Raises Faults if the ledger does not match its newest checkpoint.
    """
    if not usable_key(site):
        return
    try:
        with open_signer(site, ledger, wait=False) as signer:
            signer.sign(last=True)
    except LedgerMismatch as error:
        raise Faults([Fault(str(LEDGERS / ledger), "", str(error))]) from None
    except BlockingIOError:
        return


def usable_key(site: Path) -> bool:
    """Say whether the site has a signing key, and it is the one on record."""
    if not (site / SIGNING_KEYS / host.SIGNING_KEY).exists():
        return False
    try:
        site_keys.signing_key(site)
    except site_keys.Unrecorded as error:
        _log.error("key-file-unrecorded", file=str(SIGNING_KEYS), cause=str(error))
        return False
    return True


def sign_until_closed(
    signer: Signer,
    closed: int,
    ledger: str = "",
    *,
    compress: bool = True,
    monotonic: Callable[[], float] = time.monotonic,
    alive: Callable[[], object] = lambda: None,
) -> None:
    """Sign once a second, and a last time when reading the descriptor `closed` reaches the end.

    `alive` is called once a second.

    With `compress`, sealed segments are compressed too, one a second. An error of the disk is
    logged, and signing is tried again a second later.
    """
    ended, due = False, monotonic() + SIGN_INTERVAL
    while not ended:
        now = monotonic()
        readable, _, _ = select.select([closed], [], [], max(0.0, due - now))
        # The time that signing takes is not added to the interval; missed signatures are skipped.
        due = max(due, now) + SIGN_INTERVAL
        ended = bool(readable) and not _read(closed)
        alive()
        try:
            signer.sign(last=ended)
            if compress and not ended and (compressed := signer.compress_next()):
                _log.info("segment-compressed", ledger=ledger, segment=str(compressed.path))
        except OSError as error:
            _log.error("signing-failed", ledger=ledger, cause=str(error))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except ConnectionResetError:  # the other process has died
        return b""
