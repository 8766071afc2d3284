"""Records the settings and key files that a daemon starts with or reloads, if they have changed."""

import socket
from contextlib import nullcontext

from config.fault import Fault, Faults
from config.settings import Settings
from config.site import LEDGERS, OPERATIONS
from keys.ledger import writer
from keys.operations import keys_record, settings_record
from keys.server_keys import stamp_key
from scripts.shared import console, signing

_LOCK_TIMEOUT = 60.0  # seconds to wait for another process that writes the ledger


def record_if_changed(
    settings: Settings, why: str, *, wait_seconds: float = _LOCK_TIMEOUT, signed: bool = True
) -> None:
    """Record a site's settings and key files, unless the last records have the same.

    With `signed` False another process signs the record. Raises Faults if the settings cannot be
    recorded, so that they are not used, and LedgerBusy if another process writes the ledger for
    longer than `wait_seconds`.
    """
    site = settings.site
    folder = site / LEDGERS / OPERATIONS
    try:
        stamp_key.load_or_create(site)  # before the files are recorded: it is one of them
        stated = settings_record.digest_lines(settings.digests)
        if settings_record.last_recorded(folder) == stated and not keys_record.changed(site):
            return
        with (
            writer.Ledger(folder, wait_seconds=wait_seconds) as operations,
            signing.sign_after(site, OPERATIONS, operations) if signed else nullcontext(),
        ):
            who, here = console.operator(), socket.gethostname()
            settings_record.record_if_changed(operations, settings, who, here, why)
            keys_record.record_if_changed(operations, site, who, here, why)
    except (writer.Unwritable, OSError, ValueError) as error:
        cannot = f"the new settings cannot be recorded, so they are not applied: {error}"
        raise Faults([Fault(str(LEDGERS / OPERATIONS), "", cannot)]) from None
