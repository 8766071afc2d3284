"""`ssps ballot`: import the table of what a vote can go to, and show it."""

from pathlib import Path

import click

from config import ballot as ballots
from config import csv_text
from config.ballot import Ballot, BallotChanges
from config.fault import Fault, Faults
from config.site import BALLOT_CSV
from keys import files
from publisher.results.ballot_file import load_ballot
from scripts.shared import console

_MAX_SHOWN = 20


@click.group()
def ballot() -> None:
    """Manage the ballot: what a vote can go to, by contest and district."""


@ballot.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@console.why_option()
@console.with_site
def import_(file: Path, dry_run: bool, why: str, site: Path) -> None:
    """Import the ballot from FILE, a CSV file, completely or not at all.

    The header is secim,cevre,sira,secenek,tur,ad,ittifak. If rows are wrong, nothing is imported,
    and up to a hundred of them are named by line. Prints the differences from the ballot in force.
    Results are checked against the new ballot from the next row on; results that were accepted
    before stay.
    """
    new, _ = read_file(file)
    _show(ballots.compare(load_ballot(site) or Ballot((), ""), new))
    if dry_run:
        click.echo("dry run: nothing has changed", err=True)
        return
    click.echo(_describe(import_ballot(site, file, why)))


def import_ballot(site: Path, file: Path, why: str) -> Ballot:
    """Import `file` as the site's ballot.csv; raise Faults if it is wrong."""
    new, content = read_file(file)
    with console.recorded_change(site, "ballot import", file.name, why) as change:
        old = load_ballot(site)
        change.before = _describe(old) if old is not None else None
        change.done(_describe(new), {"rows": len(new.rows)})
        files.replace(site / BALLOT_CSV, content, 0o644)
    return new


def read_file(file: Path) -> tuple[Ballot, bytes]:
    """Read a ballot's CSV as a spreadsheet saves it; return it, and its bytes in UTF-8."""
    try:
        text = csv_text.decode(file.read_bytes())
    except ValueError as error:
        raise Faults([Fault(file.name, "", str(error))]) from None
    lines = list(csv_text.lines(text))
    content = "".join(lines).encode()
    return ballots.read(file.name, lines, content), content


@ballot.command()
@console.with_site
def show(site: Path) -> None:
    """Show the ballot in force.

    For each contest it lists the options of each district.
    """
    found = load_ballot(site)
    if found is None:
        raise console.fault(BALLOT_CSV, "", "is missing: run `ssps ballot import FILE.csv`")
    for secim in found.contests():
        click.echo(f"{secim}  {secim.turkish}")
        for district in ("", *found.districts(secim)):
            click.echo(f"  {district or 'every district'}")
            for row in found.rows:
                if (row.secim, row.cevre) == (secim, district):
                    option = row.option
                    alliance = f"  [{option.ittifak}]" if option.ittifak else ""
                    name = f"{option.id:<12} {option.tur:<8} {option.ad}"
                    click.echo(f"    {option.sira:>3}  {name}{alliance}")


def _describe(found: Ballot) -> str:
    return f"{len(found.rows)} options, sha256 {found.sha256}"


def _show(changes: BallotChanges) -> None:
    for word, listed in (
        ("added", changes.added),
        ("removed", changes.removed),
        ("changed", changes.changed),
    ):
        for line in listed[:_MAX_SHOWN]:
            click.echo(f"{word:<8} {line}")
        if len(listed) > _MAX_SHOWN:
            click.echo(f"{word:<8} {len(listed) - _MAX_SHOWN} more")
    if not any((changes.added, changes.removed, changes.changed)):
        click.echo("no change: the ballot is the same")
