"""`ssps party sessions`: who is connected now. `ssps party end-session` ends one session."""

import json
import time
from pathlib import Path
from typing import Any

import click

from config import load
from config.event import Value
from config.fault import visible
from keys.credentials.users import login_name
from keys.operations import live_sessions, server_state
from keys.operations.live_sessions import LiveSession
from scripts.access import parties
from scripts.shared import change, console
from scripts.shared.change import Change, Plan

_TIMEOUT = 10.0  # seconds; the server looks three times a second
_POLL_INTERVAL = 0.05
_PARTS = {live_sessions.SFTP: server_state.SERVE, live_sessions.WEB: server_state.PORTAL}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def sessions(as_json: bool, site: Path) -> None:
    """List who is connected over SFTP or to the web site now."""
    found = live_sessions.read(site)
    if as_json:
        click.echo(json.dumps([session.as_dict() for session in found], ensure_ascii=False))
        return
    rows: list[tuple[str, ...]] = [
        ("session", "service", "party", "from", "since", "files", "bytes", "client")
    ]
    for each in found:
        party, numbers = each.party, (f"{each.files:,}", f"{each.bytes:,}")
        if each.service == live_sessions.WEB:
            party, numbers = login_name(each.party, each.user), ("-", "-")
        first = (each.number, each.service, party, each.origin, each.since)
        # The web daemon and the client state these texts: escape control codes.
        rows.append(tuple(map(visible, (*first, *numbers, each.client))))
    # A table that fits the terminal would cut the numbers, which end-session needs.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


class _Number(click.ParamType["tuple[int, str]"]):
    """The number of a session, and the host in it: `90`, or `90@gw2`."""

    name = "session"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        try:
            return live_sessions.parse_number(str(value))
        except ValueError as error:
            self.fail(f"{error}: see `ssps party sessions`", param, ctx)


@click.command("end-session")
@click.argument("party_id", metavar="PARTY")
@click.argument("number", metavar="SESSION", type=_Number())
@change.mode_options()
@console.why_option()
@console.with_site
def end_session(
    party_id: str, number: tuple[int, str], mode: change.Mode, why: str, site: Path
) -> None:
    """End one session of PARTY, of SFTP or of the web site.

    SESSION is its number, which `ssps party sessions` lists. It ends within a second. The party may
    log in again: to keep it out, suspend it or its key.
    """
    parties.find(load.load(site), party_id)
    change.carry_out(site, _Ended(site, party_id, number, why), mode)


class _Ended(Change[LiveSession | None]):
    """Ends a session that is connected."""

    def __init__(self, site: Path, party: str, number: tuple[int, str], why: str) -> None:
        super().__init__("party end-session", party, why)
        self._site, (self._number, self._host) = site, number
        self._part = server_state.SERVE

    def read(self) -> LiveSession | None:
        found = live_sessions.read(self._site)
        wanted = (self._number, self._host, self.what)
        return next((s for s in found if (s.session, s.host, s.party) == wanted), None)

    def describe(self, old: LiveSession | None) -> Value:
        if old is None:
            return None
        whose = f"{old.service} session {old.number}" + (f" of {old.user}" if old.user else "")
        return visible(f"{whose} from {old.origin} since {old.since}")

    def plan(self, old: LiveSession | None) -> Plan[LiveSession | None] | None:
        if old is None:
            wrong = f"has no session {self._shown()} now: see `ssps party sessions`"
            raise console.fault(self.what, "", wrong)
        preview = [f"{self.what}: - {self.describe(old)}"]
        self._part = _PARTS[old.service]
        detail: dict[str, Value] = {"session": self._number, "service": old.service}
        if self._host:
            detail["host"] = self._host
        return Plan(
            None,
            preview,
            lambda: None,
            lambda: live_sessions.end(self._site, self._number, self._host),
            detail,
        )

    def _shown(self) -> str:
        return live_sessions.numbered(self._number, self._host)

    def wait(self, new: LiveSession | None) -> bool:
        end = time.monotonic() + _TIMEOUT
        while time.monotonic() < end:
            if self.read() is None:
                if not server_state.is_alive(self._site, self._part, self._host):
                    click.echo(f"`ssps {self._part}` has stopped, and the session ended", err=True)
                    return False
                click.echo(f"in force: session {self._shown()} has ended", err=True)
                return True
            time.sleep(_POLL_INTERVAL)
        log = f"the log of `ssps {self._part}`"
        wrong = f"session {self._shown()} has not ended after {_TIMEOUT:.0f} s: see {log}"
        raise console.fault(self.what, "", wrong)
