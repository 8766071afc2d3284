"""`ssps portal`: start the web site and the web service, or announce something on it."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from config import load
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import ACCESS, SITE_TOML
from keys.kernel.process import holding_signals
from keys.operations import server_state
from scripts.daemons import announce, obstacles, web_daemon
from scripts.daemons.run import load_ready_settings, log_warnings
from scripts.shared import console
from scripts.shared.json_log import configure_logging
from scripts.shared.start_errors import json_option, start_errors


@click.group(invoke_without_command=True)
@json_option
@console.with_optional_site
@click.pass_context
def portal(ctx: click.Context, as_json: bool, site: Path | None) -> None:
    """Run the web site and the web service, which record every access.

    SIGHUP reloads the settings and the certificate, SIGTERM stops. With
    `announce` it runs nothing: it writes what the entry page announces.
    """
    if ctx.invoked_subcommand is None:
        with holding_signals(), start_errors(server_state.PORTAL, as_json=as_json):
            _run(console.existing_site(site))
    elif site is not None:
        console.set_site(site)


portal.add_command(announce.announce)


def _run(site: Path) -> None:
    settings = load_ready_settings(site)
    if settings.portal is None:
        wrong = "is missing: add [portal] with the address to listen on"
        raise Faults([Fault(SITE_TOML, "portal.listen", wrong)])
    if found := list(obstacles.shared_faults(settings)):
        raise Faults(found)
    configure_logging(server_state.PORTAL)
    log_warnings(settings)
    run_portal(settings)


def run_portal(settings: Settings, **how: Any) -> None:
    """Run the portal with its signer until SIGTERM; `how` is passed to portal.server."""
    from portal.programs import ONE_THREAD

    os.environ.update(ONE_THREAD)  # before NumPy is imported
    from portal.server import serve

    sites = [settings.site, *(each.folder for each in settings.rehearsals)]
    web_daemon.run(
        settings,
        server_state.PORTAL,
        ACCESS,
        partial(serve, settings, **how),
        connects=any(load.catalog(each).url for each in sites),
    )
