"""Asks the daemons to reload, and waits until the running server reports the change in force.

The server writes what it uses to `state/serving.json` (keys/operations/server_state); a command
compares that file with what it has just written.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from config.fault import Fault, Faults
from config.site import SERVER_STATE
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import server_state
from keys.operations.server_state import ServerState

TIMEOUT = 10.0  # seconds; the server looks for new rings three times a second
_POLL_INTERVAL = 0.05


def wait_for_rings(site: Path, *changed: Ring) -> bool:
    """Wait until the server uses these rings; see `wait_until_in_force`."""
    wanted = {new.party: ring.ring_digest(new) for new in changed}
    return wait_until_in_force(
        site,
        lambda state: all(state.rings.get(p) == wanted[p] for p in wanted),
        f"credentials of {', '.join(wanted)}",
    )


def reload_daemons(site: Path) -> bool:
    """Send SIGHUP so that the settings are read again; return whether a daemon was running."""
    asked = False
    for part in (server_state.RUN, server_state.SERVE):
        pid = server_state.holder(site, part)
        if pid is not None and not asked:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)
                asked = True
    if server_state.holder(site, server_state.RUN) is None and server_state.holder(
        site, server_state.PUBLISH
    ):
        click.echo(
            "the publisher runs without `ssps run`: restart it, it still uses the old settings",
            err=True,
        )
    return asked


def wait_until_in_force(site: Path, applied: Callable[[ServerState], bool], what: str) -> bool:
    """Wait until `applied` is true of what the running server reports, and say so on stderr.

    Returns False if no server is running. Raises Faults, with the server's own reasons, if it
    does not use the change within `TIMEOUT` seconds.
    """
    end = time.monotonic() + TIMEOUT
    state = None
    while time.monotonic() < end:
        pid = server_state.holder(site, server_state.SERVE)
        state = server_state.read(site)
        if pid is None and server_state.holder(site, server_state.RUN) is None:
            click.echo("no server is running: the change takes effect at its next start", err=True)
            return False
        if state is not None and applied(state):
            click.echo(f"in force: the server (process {state.pid}) uses the {what}", err=True)
            return True
        time.sleep(_POLL_INTERVAL)
    reasons = [Fault("", "", f"the server says: {f}") for f in (state.faults if state else ())]
    message = (
        f"the {what} are written, but the running server does NOT use them after {TIMEOUT:.0f} s: "
        "look at its log, and restart it if necessary"
    )
    raise Faults([Fault(str(SERVER_STATE), "", message), *reasons])
