"""`ssps ballot`: import the table of what a vote can go to, and show it."""

import json
from pathlib import Path

import click

from config import ballot as ballots
from config import csv_text
from config.ballot import Ballot, BallotChanges, BallotRow
from config.fault import Fault, Faults
from config.site import BALLOT_CSV
from keys import files
from publisher.results.ballot_file import load_ballot
from scripts.shared import change, console

_MAX_SHOWN = 20


@click.group()
def ballot() -> None:
    """Manage the ballot: what a vote can go to, in each district."""


@ballot.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@change.mode_options()
@console.why_option()
@console.with_site
def import_(file: Path, mode: change.Mode, why: str, site: Path) -> None:
    """Import the ballot from FILE, a CSV file, completely or not at all.

    The header is secim,cevre,sira,secenek,tur,ad,ittifak, for example

    \b
        secim,cevre,sira,secenek,tur,ad,ittifak
        cb,,1,aday-1,aday,Birinci Aday,
        mv,,1,parti-a,parti,A Partisi,ortak-1

    `tur` is parti, aday, bagimsiz or ittifak; an empty `cevre` is every district.

    If rows are wrong, nothing is imported,
    and up to a hundred of them are named by line. Prints the differences from the ballot in force.
    Results are checked against the new ballot from the next row on; results that were accepted
    before stay.
    """  # noqa: D301
    new, _ = read_file(file)
    _show(ballots.compare(load_ballot(site) or Ballot((), ""), new))
    for secim, name in new.alliances_without_joint_votes():
        missing = f"no row of {secim} with tur ittifak is called that, so it gets no joint votes"
        click.echo(f"{file.name}: ittifak {name!r}: {missing}", err=True)
    if not change.may_apply(mode):
        return
    click.echo(_describe(import_ballot(site, file, why)))
    change.note_outcome(what=file.name, changed=True)


def import_ballot(site: Path, file: Path, why: str) -> Ballot:
    """Import `file` as the site's ballot.csv; raise Faults if it is wrong."""
    new, content = read_file(file)
    with console.recorded_change(site, "ballot import", file.name, why) as record:
        old = load_ballot(site)
        record.before = _describe(old) if old is not None else None
        record.done(_describe(new), {"rows": len(new.rows)})
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def show(as_json: bool, site: Path) -> None:
    """Show the ballot in force.

    For each contest it lists the options of each district.
    """
    found = load_ballot(site)
    if found is None:
        raise console.fault(BALLOT_CSV, "", "is missing: run `ssps ballot import FILE.csv`")
    if as_json:
        click.echo(json.dumps([_option_row(row) for row in found.rows], ensure_ascii=False))
        return
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


def _option_row(row: BallotRow) -> dict[str, str | int | None]:
    option = row.option
    return {
        "secim": str(row.secim),
        "cevre": row.cevre or None,
        "sira": option.sira,
        "secenek": option.id,
        "tur": str(option.tur),
        "ad": option.ad,
        "ittifak": option.ittifak or None,
    }


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
