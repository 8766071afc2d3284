"""Records each start of a daemon, and refuses it if a ledger lacks records that were signed.

Before anything is signed, the ledgers are compared with the anchors that exist (keys/ledger/
anchors). If a ledger is shorter than an anchor says, such as after a restore from a backup, no
daemon starts until `ssps recover` has recorded why. Records that the last daemon left unsigned are
marked (keys/ledger/unconfirmed). Settings and key files that have changed are recorded.

The `start` record has the newest checkpoint of every ledger in `checkpoints`, and in `unconfirmed`
a line for each mark: the ledger, the first of the records, and how many there are.
"""

import socket
from collections.abc import Sequence
from contextlib import nullcontext

import structlog

from config.event import Event, Value
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import LEDGERS, OPERATIONS, ledger_names
from keys.ledger import anchors, unconfirmed, writer
from keys.ledger.unconfirmed import UNCONFIRMED, Unconfirmed
from keys.operations import freshness
from scripts.daemons import settings_record
from scripts.shared import console, signing

_log = structlog.get_logger()
_LOCK_TIMEOUT = 60.0  # seconds to wait for another process that writes the ledger


def prepare(settings: Settings, *names: str) -> list[Unconfirmed]:
    """Check the ledgers before a daemon starts, and mark what is unsigned in its own ones, `names`.

    It also records settings and key files that have changed. Call it before the daemon's signer is
    started. Raises Faults if a ledger lacks records or cannot be written, and LedgerBusy.
    """
    site = settings.site
    if behind := freshness.ledgers_behind(site, anchors.LineRoots(signing.log_hashing)):
        raise Faults([_fault(each) for each in behind])
    marked: list[Unconfirmed] = []
    for name in (OPERATIONS, *names):
        try:
            found = signing.mark_unconfirmed(site, name)
        except (writer.Unwritable, OSError, ValueError) as error:
            raise Faults([Fault(str(LEDGERS / name), "", str(error))]) from None
        if found is not None:
            _log.error("records-unconfirmed", ledger=name, cause=str(found))
            marked.append(found)
    # The signer uses only a key that is on record. The records are signed at once: those of an
    # earlier writer that are not would be marked.
    settings_record.record_if_changed(settings, "found at a start")
    return marked


def record_start(
    settings: Settings, part: str, marked: Sequence[Unconfirmed] = (), *, signed: bool = True
) -> None:
    """Record that a daemon starts, and settings and key files that have changed.

    `marked` is what `prepare` returned. With `signed` False, the daemon's signer must be running:
    it signs the record. Raises Faults if the start cannot be recorded, and LedgerBusy.
    """
    site = settings.site
    settings_record.record_if_changed(settings, f"ssps {part} started", signed=signed)
    folder = site / LEDGERS / OPERATIONS
    try:
        with (
            writer.Ledger(folder, wait_seconds=_LOCK_TIMEOUT) as operations,
            signing.sign_after(site, OPERATIONS, operations) if signed else nullcontext(),
        ):
            lines = anchors.newest_lines(site / LEDGERS, ledger_names(site / LEDGERS))
            detail: dict[str, Value] = {anchors.CHECKPOINTS: lines}
            if marked:
                detail[UNCONFIRMED] = list(map(unconfirmed.format_line, marked))
            who, here = console.operator(), socket.gethostname()
            operations.append(Event(anchors.START, who, here, f"ssps {part}", detail=detail))
            operations.sync()
    except (writer.Unwritable, OSError, ValueError) as error:
        cannot = f"the start cannot be recorded: {error}"
        raise Faults([Fault(str(LEDGERS / OPERATIONS), "", cannot)]) from None


def _fault(lack: anchors.Behind) -> Fault:
    message = (
        f"{lack}: it lacks its newest records, so no daemon starts. Restore the newer ledger, or "
        "accept the loss with `ssps recover`"
    )
    return Fault(str(LEDGERS / lack.anchor.ledger), "", message)
