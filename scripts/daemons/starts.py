"""Records each start of a daemon, and refuses it if a ledger lacks records that were signed.

The `start` record has the newest checkpoint of every ledger (keys/ledger/anchors). Before it is
written, the ledgers are compared with the anchors that exist. If a ledger is shorter than an anchor
says, such as after a restore from a backup, no daemon starts until `ssps recover` has recorded why.
"""

import socket
from contextlib import nullcontext

from config.event import Event
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import LEDGER_NAMES, LEDGERS, OPERATIONS
from keys.ledger import anchors, writer
from keys.operations import freshness
from scripts.daemons import settings_record
from scripts.shared import console, signing

_LOCK_TIMEOUT = 60.0  # seconds to wait for another process that writes the ledger


def record_start(settings: Settings, part: str, *, signed: bool = True) -> None:
    """Record that a daemon starts, and settings and key files that have changed.

    Raises Faults if a ledger lacks records or the start cannot be recorded, and LedgerBusy.
    """
    site = settings.site
    if found := freshness.ledgers_behind(site):
        raise Faults([_fault(each) for each in found])
    settings_record.record_if_changed(settings, f"ssps {part} started", signed=signed)
    folder = site / LEDGERS / OPERATIONS
    try:
        with (
            writer.Ledger(folder, wait_seconds=_LOCK_TIMEOUT) as operations,
            signing.sign_after(site, OPERATIONS) if signed else nullcontext(),
        ):
            lines = anchors.newest_lines(site / LEDGERS, LEDGER_NAMES)
            who, here = console.operator(), socket.gethostname()
            start = Event(
                anchors.START, who, here, f"ssps {part}", detail={anchors.CHECKPOINTS: lines}
            )
            operations.append(start)
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
