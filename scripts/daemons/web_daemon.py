"""Runs the portal or the staff site: the broker, the signer, and the process that serves."""

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from config.settings import Settings
from config.site import ledger_name
from keys.kernel.process import forbid_inspection
from keys.operations import server_state
from scripts.daemons import starts
from scripts.daemons.run import record_loaded
from scripts.shared import signer_client

if TYPE_CHECKING:
    from portal.programs import StaffCommand


def run(
    settings: Settings,
    part: str,
    kind: str,
    serve: Callable[[], object],
    *,
    connects: bool = False,
    command: "StaffCommand | None" = None,
) -> None:
    """Run the daemon `part` of a site until SIGTERM; `kind` is that of its ledger.

    `serve` is called in a process of its own, which can make connections to PostgreSQL if it
    `connects`. `command` runs the commands of the staff site.
    """
    from portal.broker import Broker, fork

    forbid_inspection()
    child = fork(connects=connects)  # before this process reads a key
    if child is None:
        serve()
        return
    site, ledger = settings.site, ledger_name(kind, settings.host)
    # First of all: a second daemon would wait for the ledger of this one.
    with child, server_state.claim(site, part, settings.host) as beat:
        marked = starts.prepare(settings, ledger)
        with signer_client.running_signer(site, ledger, settings.ledger) as signer:
            # Another process signs these records: the broker never uses the key for them.
            starts.record_start(settings, part, marked, signed=False)
            record_new = partial(record_loaded, part)
            broker = Broker(settings, part, ledger, signer.poll, record_new, command)
            status = broker.run(child, beat)
    if status:
        sys.exit(status)
