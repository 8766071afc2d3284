"""`ssps portal announce`: what the entry page of the web site tells all users (Genelge md. 7)."""

import json
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from config import load, times
from config.event import Value
from config.site import ANNOUNCEMENTS
from keys.operations import announcements
from keys.operations.announcements import Announcement
from scripts.shared import change, console
from scripts.shared.change import Change, Plan

_All = tuple[Announcement, ...]


@click.group()
def announce() -> None:
    """Show announcements on the entry page of the web site.

    Genelge md. 7. Everybody at a registered address sees it at once, before and after the
    login. It is plain text, in Turkish.
    """


@announce.command()
@click.argument("text")
@change.mode_options()
@console.why_option()
@console.with_site
def add(text: str, mode: change.Mode, why: str, site: Path) -> None:
    """Announce TEXT, and print the number of the announcement."""
    made = _AnnouncementChange(
        site, "portal announce add", why, lambda old: announcements.added(old, text, _now())
    )
    done = change.carry_out(site, made, mode)
    if done is not None:
        click.echo(done.new[-1].id)


@announce.command()
@click.argument("number", type=click.IntRange(min=1))
@change.mode_options()
@console.why_option()
@console.with_site
def withdraw(number: int, mode: change.Mode, why: str, site: Path) -> None:
    """Remove the announcement NUMBER from the page."""
    made = _AnnouncementChange(
        site,
        "portal announce withdraw",
        why,
        lambda old: announcements.withdrawn(old, number, _now()),
    )
    change.carry_out(site, made, mode)


@announce.command("list")
@click.option("--all", "every", is_flag=True, help="List those that were withdrawn, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(every: bool, as_json: bool, site: Path) -> None:
    """List what is announced now."""
    zone = load.load(site).election.opens.tzinfo
    found = [a for a in announcements.read(site) if every or a.withdrawn is None]
    rows = [(a, times.format_time(a.at, zone), _withdrawn_at(a, zone)) for a in found]
    if as_json:
        entries = [
            {"number": a.id, "at": at, "withdrawn": withdrawn, "text": a.text}
            for a, at, withdrawn in rows
        ]
        click.echo(json.dumps(entries, ensure_ascii=False))
        return
    table = Table("number", "announced", "withdrawn", "text", box=None)
    for a, at, withdrawn in rows:
        table.add_row(str(a.id), at, withdrawn or "-", escape(a.text))
    console.out.print(table)


def _withdrawn_at(shown: Announcement, zone: tzinfo | None) -> str | None:
    return None if shown.withdrawn is None else times.format_time(shown.withdrawn, zone)


class _AnnouncementChange(Change[_All]):
    """One more announcement, or one less."""

    def __init__(self, site: Path, command: str, why: str, edit: Callable[[_All], _All]) -> None:
        super().__init__(command, str(ANNOUNCEMENTS), why)
        self._site, self._edit = site, edit

    def read(self) -> _All:
        """Return all announcements."""
        return announcements.read(self._site)

    def describe(self, old: _All) -> Value:
        """Return a line for each one that is shown."""
        return _lines(old)

    def plan(self, old: _All) -> Plan[_All]:
        """Edit the announcements; raise Faults if that is not possible."""
        try:
            new = self._edit(old)
        except ValueError as error:
            raise console.fault(str(ANNOUNCEMENTS), "", str(error)) from None
        shown = {a.id for a in old if a.withdrawn is None}
        after = {a.id for a in new if a.withdrawn is None}
        preview = [
            f"  {_mark(a.id in shown, a.id in after)} {a.id:4}  {a.text}"
            for a in new
            if a.id in shown or a.id in after
        ]
        return Plan(new, preview, lambda: _lines(new), lambda: announcements.write(self._site, new))


def _lines(shown: _All) -> Value:
    return [f"{a.id}: {a.text}" for a in shown if a.withdrawn is None]


def _mark(before: bool, after: bool) -> str:
    """Return + for one that is new, - for one that is withdrawn."""
    return " " if before and after else "+" if after else "-"


def _now() -> datetime:
    return console.utc_now().replace(microsecond=0)
