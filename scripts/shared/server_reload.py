"""Asks the daemons to reload, and waits until the running server reports the change in force.

The SFTP server, the portal and the staff site each write what they use to a file
(keys/operations/server_state); a command compares that file with what it has just written.
"""

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
from keys.credentials.users import OPERATORS, Users, users_digest
from keys.operations import server_state
from keys.operations.server_state import ServerState

TIMEOUT = 10.0  # seconds; the server looks for new rings three times a second
_POLL_INTERVAL = 0.05
_NAMES = {
    server_state.SERVE: "server",
    server_state.PORTAL: "portal",
    server_state.STAFF: "staff site",
}


def wait_for_rings(site: Path, *changed: Ring) -> bool:
    """Wait until the server uses these rings; see `wait_until_in_force`."""
    wanted = {new.party: ring.ring_digest(new) for new in changed}
    return wait_until_in_force(
        site,
        lambda state: all(state.rings.get(p) == wanted[p] for p in wanted),
        f"credentials of {', '.join(wanted)}",
    )


def wait_for_users(site: Path, *changed: Users) -> bool:
    """Wait until the portal, or the staff site, uses these users; see `wait_until_in_force`."""
    wanted = {new.party: users_digest(new) for new in changed}
    operators = OPERATORS in wanted
    return wait_until_in_force(
        site,
        lambda state: all(state.rings.get(p) == wanted[p] for p in wanted),
        "operators" if operators else f"users of {', '.join(wanted)}",
        server_state.STAFF if operators else server_state.PORTAL,
    )


def reload_daemons(site: Path) -> bool:
    """Send SIGHUP so that the settings are read again; return whether a daemon was running."""
    supervisor = server_state.holder(site, server_state.RUN)
    alone = (server_state.SERVE, server_state.PORTAL, server_state.STAFF)
    asked = server_state.ask_to_reload(site)
    for pid in [supervisor] if supervisor else [server_state.holder(site, part) for part in alone]:
        if pid is not None:
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


def wait_for_settings(site: Path, applied: Callable[[ServerState], bool], what: str) -> bool:
    """Wait until the server, and portal and staff site if they run, use new settings; see below."""
    in_force = wait_until_in_force(site, applied, what)
    for part in (server_state.PORTAL, server_state.STAFF):
        if server_state.running(site, part):
            wait_until_in_force(site, applied, what, part)
    return in_force


def wait_until_in_force(
    site: Path,
    applied: Callable[[ServerState], bool],
    what: str,
    part: str = server_state.SERVE,
) -> bool:
    """Wait until `applied` is true of what every running server reports, and say so on stderr.

    Returns False if no server is running. Raises Faults, with the server's own reasons, if one
    does not use the change within `TIMEOUT` seconds. A named host that gives no sign of life
    meanwhile (keys/operations/server_state) is waited for until it counts as gone.
    """
    # `ssps run` always has the server as a child, the others only if the settings have them.
    parts = (part, server_state.RUN) if part == server_state.SERVE else (part,)
    hosts = sorted({host for _, host in server_state.running(site, *parts)})
    if not hosts:
        name = _NAMES[part]
        click.echo(f"no {name} is running: the change takes effect at its next start", err=True)
        return False
    end = time.monotonic() + TIMEOUT
    in_force = [_wait_for_host(site, applied, what, parts, host, end) for host in hosts]
    return any(in_force)


def _wait_for_host(
    site: Path,
    applied: Callable[[ServerState], bool],
    what: str,
    parts: tuple[str, ...],
    host: str,
    end: float,
) -> bool:
    part = parts[0]
    state, name = None, _NAMES[part] + (f" of {host}" if host else "")
    while True:
        alive = any(server_state.is_alive(site, each, host) for each in parts)
        state = server_state.read(site, part, host)
        if not alive and host:
            silent = f"no sign of life for {server_state.GONE_AFTER:.0f} s, so it counts as gone"
            click.echo(
                f"the {name} has ended or gave {silent}: it uses the change at its next start",
                err=True,
            )
            return False
        if not alive:
            click.echo(f"no {name} is running: the change takes effect at its next start", err=True)
            return False
        if state is not None and applied(state):
            click.echo(f"in force: the {name} (process {state.pid}) uses the {what}", err=True)
            return True
        if time.monotonic() >= end and not _is_silent(site, parts, host):
            break
        time.sleep(_POLL_INTERVAL)
    reasons = [Fault("", "", f"the {name} says: {f}") for f in (state.faults if state else ())]
    message = (
        f"the {what} are written, but the running {name} does NOT use them after {TIMEOUT:.0f} s: "
        "look at its log, and restart it if necessary"
    )
    raise Faults([Fault(str(server_state.state_file(part, host)), "", message), *reasons])


def _is_silent(site: Path, parts: tuple[str, ...], host: str) -> bool:
    """Say whether a named host may have died: its daemons should have given a sign of life."""
    if not host:
        return False
    return min(server_state.age(site, each, host) for each in parts) > 2 * server_state.BEAT
