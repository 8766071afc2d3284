"""`ssps staff`: start the staff site."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from config.fault import Fault, Faults
from config.settings import Settings
from config.site import SITE_TOML, STAFF
from keys.kernel.process import holding_signals
from keys.operations import server_state
from scripts.daemons import obstacles, web_daemon
from scripts.daemons.run import load_ready_settings, log_warnings
from scripts.shared import console
from scripts.shared.json_log import configure_logging
from scripts.shared.start_errors import json_option, start_errors

# Runs a command for an operator of the staff site.
COMMAND_LINE = (sys.executable, "-P", "-m", "scripts.staff_command")


@click.command()
@json_option
@console.with_site
def staff(as_json: bool, site: Path) -> None:
    """Run the staff site, which records every view and action.

    YSK's own people (`ssps operator`) identify quarantined pages there, and see the coverage.
    SIGHUP reloads the settings and the certificate, SIGTERM stops.
    """
    with holding_signals(), start_errors(server_state.STAFF, as_json=as_json):
        settings = load_ready_settings(site)
        if settings.staff is None:
            wrong = (
                "is missing: add [staff], it listens on 127.0.0.1:8444 unless `listen` says else"
            )
            raise Faults([Fault(SITE_TOML, "staff", wrong)])
        if found := list(obstacles.shared_faults(settings)):
            raise Faults(found)
        configure_logging(server_state.STAFF)
        log_warnings(settings)
        run_staff(settings)


def run_staff(settings: Settings, **how: Any) -> None:
    """Run the staff site with its signer until SIGTERM; `how` is passed to portal.staff.server."""
    from portal.programs import ONE_THREAD

    os.environ.update(ONE_THREAD)  # before NumPy is imported
    from portal import programs
    from portal.staff.server import serve

    web_daemon.run(
        settings,
        server_state.STAFF,
        STAFF,
        partial(serve, settings, command_line=COMMAND_LINE, **how),
        command=programs.staff_command(COMMAND_LINE, settings.site),
    )
