"""Runs the portal of a site on a port of its own, as if it were on another host.

python -m portal_on SITE PORT, with SSPS_HOST in the environment
"""

import sys
from dataclasses import replace
from pathlib import Path

from keys.operations import server_state
from scripts.daemons.portal import run_portal
from scripts.daemons.run import load_ready_settings
from scripts.shared.json_log import configure_logging


def main(site: str, port: str) -> None:
    """Run it until SIGTERM."""
    configure_logging(server_state.PORTAL)
    settings = load_ready_settings(Path(site))
    if settings.portal is None:
        raise AssertionError("the site has a portal")
    run_portal(replace(settings, portal=replace(settings.portal, port=int(port))))


if __name__ == "__main__":
    main(*sys.argv[1:])
