"""Whether the running server took a change: it is asked, and its own word is waited for."""

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

TIMEOUT = 10.0  # seconds; the server looks three times a second
_POLL_INTERVAL = 0.05


def wait_for_rings(site: Path, *changed: Ring) -> bool:
    """Wait for the server to have these rings in force; see `proved`."""
    wanted = {new.party: ring.ring_digest(new) for new in changed}
    return wait_until_in_force(
        site, lambda state: all(state.rings.get(p) == wanted[p] for p in wanted), ", ".join(wanted)
    )


def reload_daemons(site: Path) -> bool:
    """Have the daemons read the site's files anew; say whether there was one to ask."""
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
        click.echo("the publisher runs by itself: start it anew, or it files as before", err=True)
    return asked


def wait_until_in_force(site: Path, applied: Callable[[ServerState], bool], what: str) -> bool:
    """Wait until the server's word says that the change is in force, and say so on stderr.

    False if no server runs; Faults, naming its own reasons, if one does and does not take it.
    """
    end = time.monotonic() + TIMEOUT
    state = None
    while time.monotonic() < end:
        pid = server_state.holder(site, server_state.SERVE)
        state = server_state.read(site)
        if pid is None and server_state.holder(site, server_state.RUN) is None:
            click.echo("no server is running: it takes effect at its start", err=True)
            return False
        if state is not None and applied(state):
            click.echo(f"in force: the server (process {state.pid}) has taken up {what}", err=True)
            return True
        time.sleep(_POLL_INTERVAL)
    why = [Fault("", "", f"the server says: {fault}") for fault in (state.faults if state else ())]
    message = (
        f"written, but the running server has NOT taken up {what} within {TIMEOUT:.0f} s: "
        "look at its log, and start it anew if need be"
    )
    raise Faults([Fault(str(SERVER_STATE), "", message), *why])
