"""Has it on record which settings a daemon goes by (keys/settled), where that is news."""

import socket
from contextlib import nullcontext

from config.fault import Fault, Faults
from config.settings import Settings
from keys import ledger, settled
from scripts import console, notary

_OTHERS = 60.0  # seconds that others may write the ledger


def on_record(
    settings: Settings, why: str, *, patience: float = _OTHERS, signed: bool = True
) -> None:
    """Record a site's settings unless they stand on record; `signed` here, or by another.

    Raises Faults where they cannot be, so that nothing goes by them, and ledger.Busy where others
    write that ledger for longer than `patience` seconds.
    """
    site = settings.site
    folder = site / ledger.FOLDER / ledger.OPERATIONS
    try:
        if settled.recorded(folder) == settled.lines(settings.digests):
            return
        with (
            ledger.Ledger(folder, patience=patience) as operations,
            notary.within(site, ledger.OPERATIONS) if signed else nullcontext(),
        ):
            who, here = console.operator(), socket.gethostname()
            settled.settle(operations, settings, who, here, why)
    except (ledger.Unwritable, OSError, ValueError) as error:
        cannot = f"new settings cannot be put on record, nothing goes by them ({error})"
        raise Faults([Fault(str(ledger.FOLDER / ledger.OPERATIONS), "", cannot)]) from None
