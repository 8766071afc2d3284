"""Whether the running server took a change: it is asked, and its own word is waited for."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from config.fault import Fault, Faults
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import server_state
from keys.operations.server_state import Serving

PATIENCE = 10.0  # seconds; the server looks three times a second
_OFTEN = 0.05


def rings(site: Path, *changed: Ring) -> bool:
    """Wait for the server to have these rings in force; see `proved`."""
    wanted = {new.party: ring.digest(new) for new in changed}
    return proved(
        site, lambda word: all(word.rings.get(p) == wanted[p] for p in wanted), ", ".join(wanted)
    )


def reload(site: Path) -> bool:
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


def proved(site: Path, taken: Callable[[Serving], bool], what: str) -> bool:
    """Wait until the server's word says that the change is in force, and say so on stderr.

    False if no server runs; Faults, naming its own reasons, if one does and does not take it.
    """
    end = time.monotonic() + PATIENCE
    word = None
    while time.monotonic() < end:
        pid = server_state.holder(site, server_state.SERVE)
        word = server_state.read(site)
        if pid is None and server_state.holder(site, server_state.RUN) is None:
            click.echo("no server is running: it takes effect at its start", err=True)
            return False
        if word is not None and taken(word):
            click.echo(f"in force: the server (process {word.pid}) has taken up {what}", err=True)
            return True
        time.sleep(_OFTEN)
    why = [Fault("", "", f"the server says: {fault}") for fault in (word.faults if word else ())]
    message = (
        f"written, but the running server has NOT taken up {what} within {PATIENCE:.0f} s: "
        "look at its log, and start it anew if need be"
    )
    raise Faults([Fault(str(server_state.FILE), "", message), *why])
