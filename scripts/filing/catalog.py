"""`ssps catalog`: where the catalog is, its tables in PostgreSQL, a copy into another database."""

import json
from pathlib import Path

import click
from pydantic import ValidationError
from rich.progress import Progress, TaskID

from config import load, schema, times
from config.event import Value
from config.settings import Settings
from config.site import SITE_TOML
from keys.ledger.writer import utc_now
from publisher import migrations
from publisher.database import Unreachable, changing_tables
from publisher.fsck import copying
from publisher.fsck.copying import Place, TableCopy
from scripts.shared import change, console

_SQLITE = "sqlite"


@click.group()
def catalog() -> None:
    """Keep catalog and results in PostgreSQL, or in SQLite files.

    Without [catalog] url in site.toml they are state/catalog.sqlite and
    state/results.sqlite. With it they are two schemas of that database.
    """


@catalog.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def show(as_json: bool, site: Path) -> None:
    """Show where the catalog is, and how many rows each table has."""
    place = _stated(load.load(site))
    rows = copying.count(place)
    if as_json:
        click.echo(json.dumps({"place": str(place), "rows": rows}))
        return
    click.echo(f"place: {place}")
    for name, number in rows.items():
        click.echo(f"{name}: {number}")


@catalog.command()
@change.mode_options()
@console.why_option("Why the tables change, for the record.")
@console.with_site
def migrate(mode: change.Mode, why: str, site: Path) -> None:
    """Make the tables in PostgreSQL, or those that a new version needs.

    The publisher must be stopped. SQLite needs no such step.
    """
    settings = load.load(site)
    if not settings.catalog.url:
        wrong = "is not stated: an SQLite file is brought up to date when the publisher starts"
        raise console.fault(SITE_TOML, "catalog.url", wrong)
    with copying.no_publisher(site):
        change.carry_out(site, _Migration(settings, why), mode)


@catalog.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@change.mode_options()
@console.why_option("Why the catalog moves, for the record.")
@console.with_site
def copy_(source: str, target: str, mode: change.Mode, why: str, site: Path) -> None:
    """Copy catalog and results from one database to another.

    FROM and TO are `sqlite`, the files of the site, or the URL of a PostgreSQL
    database, without a password: it is in the file that [catalog] password_file
    names, or in PGPASSFILE. The publisher must be stopped, and TO must be empty.

    Every table is compared with its copy before it counts. FROM does not change.
    Afterwards state TO in site.toml, and start the publisher.
    """
    settings = load.load(site)
    places = _place(settings, "FROM", source), _place(settings, "TO", target)
    if str(places[0]) == str(places[1]):
        raise click.UsageError("FROM and TO are the same database")
    with copying.no_publisher(site):
        try:
            done = change.carry_out(site, _Copy(settings, why, *places), mode)
        except Unreachable as error:
            wrong = f"{error.strerror}: {target} is as it was, give the command again"
            raise console.fault("catalog copy", "", wrong) from error
    if done is None:
        return
    if places[1] != _stated(settings):
        line = f'url = "{places[1]}"' if places[1].url else "no url"
        click.echo(f"copied: now write under [catalog] of {SITE_TOML}: {line}", err=True)


def _stated(settings: Settings) -> Place:
    return Place(settings.site, settings.catalog.url, settings.catalog.password_file)


def _place(settings: Settings, name: str, text: str) -> Place:
    if text == _SQLITE:
        return Place(settings.site)
    try:
        schema.Catalog(url=text)
    except ValidationError as error:
        wrong = str(error.errors()[0]["ctx"]["error"])
        raise click.UsageError(f"{name}: {wrong}; or write sqlite") from None
    return Place(settings.site, text, settings.catalog.password_file)


class _Migration(change.Change[list[str]]):
    """Applies the steps that the schemas lack; the state is the names of these steps."""

    def __init__(self, settings: Settings, why: str) -> None:
        super().__init__("catalog migrate", str(_stated(settings)), why)
        self._place = _stated(settings)

    def read(self) -> list[str]:
        """Return the steps that are missing."""
        with changing_tables(self._place.of("catalog")) as connection:
            return [
                f"{name}/{step.name}"
                for name in migrations.SCHEMAS
                for step in migrations.pending(connection, name)
            ]

    def describe(self, old: list[str]) -> Value:
        return list(old)

    def plan(self, old: list[str]) -> change.Plan[list[str]] | None:
        if not old:
            click.echo("no change: the tables are those of this version", err=True)
            return None
        preview = [f"apply {name}" for name in old]
        return change.Plan([], preview, list, self._apply)

    def _apply(self) -> None:
        with changing_tables(self._place.of("catalog")) as connection:
            for name in migrations.SCHEMAS:
                migrations.migrate(connection, name, times.format_stored(utc_now()))


class _Copy(change.Change[dict[str, int]]):
    """Copies both databases; the state is how many rows each table has."""

    def __init__(self, settings: Settings, why: str, source: Place, target: Place) -> None:
        super().__init__("catalog copy", f"{source} {target}", why)
        self._source, self._target = source, target
        self._copied: list[TableCopy] = []

    def read(self) -> dict[str, int]:
        """Return the rows of each table of the source."""
        return copying.count(self._source)

    def describe(self, old: dict[str, int]) -> Value:
        return [f"{name}: {rows}" for name, rows in old.items()]

    def plan(self, old: dict[str, int]) -> change.Plan[dict[str, int]] | None:
        if not old:
            raise console.fault(str(self._source), "", "there is no catalog to copy")
        copying.check_empty(self._target)
        preview = [f"copy {name}: {rows} rows" for name, rows in old.items()]
        return change.Plan(old, preview, lambda: str(self._target), self._apply)

    def _apply(self) -> None:
        with Progress(console=console.err, transient=True) as bar:
            tasks: dict[str, TaskID] = {}

            def progress(name: str, done: int) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(name, total=None)
                bar.update(tasks[name], completed=done)

            copied = copying.copy(self._source, self._target, utc_now(), progress)
        for one in copied:
            click.echo(f"{one.name}: {one.rows} rows, sha256 {one.sha256}")
