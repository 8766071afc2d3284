"""Signs the ledgers of a site: continuously for a daemon, or once after an operator's change."""

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.site import LEDGERS, SIGNING_KEYS
from keys.ledger import note
from keys.ledger.signer import LedgerMismatch, Signer, load_signing_key
from keys.server_keys import host

SIGN_INTERVAL = 1.0  # seconds between two checkpoints of a ledger that grows
_log = structlog.get_logger()


def open_signer(site: Path, ledger: str) -> Signer:
    """Open the signer of one of the site's ledgers; raises LedgerMismatch, OSError, ValueError.

    Checkpoints that were signed with an earlier key of the site are accepted too.
    """
    keys = site / SIGNING_KEYS
    public = sorted(keys.rglob("*.pub"))
    former = [note.parse_public_key(path.read_text(encoding="utf-8")) for path in public]
    key = load_signing_key(keys / host.SIGNING_KEY)
    return Signer(site / LEDGERS / ledger, key, former=former)


@contextmanager
def sign_after(site: Path, ledger: str) -> Iterator[None]:
    """Sign a ledger in this process when the body has ended.

    Raises Faults if the ledger does not match its newest checkpoint. Without a signing key the
    ledger stays unsigned: `ssps check` reports that, and a credential can still be revoked.
    """
    try:
        signer = open_signer(site, ledger)
    except LedgerMismatch as error:
        raise Faults([Fault(str(LEDGERS / ledger), "", str(error))]) from None
    except FileNotFoundError:
        yield
        return
    with signer:
        try:
            yield
        finally:
            signer.sign(last=True)


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
