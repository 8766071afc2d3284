"""`ssps audit behind`: how far each party is with downloading what it may see.

A party may see every page that was filed in its scope. It has a page when a complete transfer of it
is on record. It is behind by the age of the oldest page that it does not have.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.table import Table

from config import layout, load, times
from config.party import Party
from scripts.audit import evidence, index
from scripts.shared import console

_PLACES = """create temp table filed as
    select path, min(time) as time,
    regexp_replace(path, '(/sandik-[^/]*)?/[^/]*$', '') as place
    from (select ltrim(what, '/') as path, time from record
        where name = 'filing' and event = 'filed') group by path"""
_TAKEN = """create temp table taken as
    select who, ltrim(what, '/') as path, max(time) as time from record
    where name = 'transfer' and event = 'close' and outcome = 'ok'
    and (detail->>'complete') = 'true' group by 1, 2"""
_BEHIND = """select count(*), count(taken.path),
    min(filed.time) filter (where taken.path is null), max(taken.time)
    from filed left join taken on taken.path = filed.path and taken.who = ?
    where filed.place in (select unnest(?))"""


@dataclass(frozen=True, slots=True)
class Behind:
    """How far a party is: pages, those that it has, and the age of the oldest that it lacks."""

    party: str
    pages: int
    taken: int
    behind_seconds: float
    last_fetch: str | None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def behind(as_json: bool, site: Path) -> None:
    """Show how far behind each party is.

    How many pages it may see, how many it has, and the age of the oldest that it lacks. A party
    that mirrors all the time is behind by seconds.
    """
    settings = load.load(site)
    sources = evidence.find((), (), site, with_keys=False)
    found = of_parties(
        index.open_index(sources.ledgers),
        [party for party in settings.parties if party.mirrors],
        datetime.now(UTC),
    )
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
        return
    table = Table("party", "pages", "taken", "missing", "behind", "last fetch", box=None)
    for each in found:
        age = f"{each.behind_seconds:,.0f} s" if each.taken < each.pages else "-"
        numbers = (f"{n:,}" for n in (each.pages, each.taken, each.pages - each.taken))
        table.add_row(each.party, *numbers, age, each.last_fetch or "never")
    console.out.print(table)


def of_parties(database: index.Connection, parties: list[Party], now: datetime) -> list[Behind]:
    """Return how far each of the parties is."""
    # Temporary tables belong to one connection of the database.
    cursor = database.cursor()
    cursor.execute(_PLACES)
    cursor.execute(_TAKEN)
    rows = cursor.execute("select place, any_value(path) from filed group by 1").fetchall()
    places = []
    for place, path in rows:
        try:
            places.append((place, layout.parse(path).sheet))
        except ValueError:
            continue  # not a page
    found = []
    for party in parties:
        covered = [place for place, sheet in places if party.scope.covers(sheet)]
        pages, taken, oldest, last = cursor.execute(_BEHIND, [party.id, covered]).fetchall()[0]
        age = (now - oldest.replace(tzinfo=UTC)).total_seconds() if oldest else 0.0
        fetched = times.format_time(last.replace(tzinfo=UTC), UTC) if last else None
        found.append(Behind(party.id, pages, taken, round(max(0.0, age), 1), fetched))
    return found
