"""`ssps absent`: sheets that will not come, and why; never counted as missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from publisher import absence, census, errands
from publisher.errands import Answer
from scripts import console, errand


@click.group()
def absent() -> None:
    """Boxes that will send no sheet, each with a reason; it stands in the filing ledger.

    A PLACE is a box, 34-istanbul-1/kadikoy-2/1234, with all its sheets, or one sheet's karekod.
    """


@absent.command()
@click.argument("places", metavar="PLACE...", nargs=-1, required=True)
@click.option(
    "--reason",
    required=True,
    type=click.Choice([cause.value for cause in absence.Cause]),
    help="The box was not opened, joined with another, or burnt; or what --why says.",
)
@console.why("What this rests on: minutes, a call, by whom.")
@console.with_site
def add(places: tuple[str, ...], reason: str, why: str, site: Path) -> None:
    """Record that no sheet will come from each PLACE; exit code 1 if any was refused."""
    known = [(place, _parsed(place)) for place in places]
    answers = []
    for place, parsed in known:
        change = errand.Change("absent add", place, why, _standing(site, parsed))
        asked = {"place": place, "reason": reason}
        answers.append(errand.send(site, errands.ABSENT, change, asked))
        errand.say(answers[-1])
    sys.exit(int(not all(answer.done for answer in answers)))


@absent.command()
@click.argument("place")
@console.why("Why it is expected after all.")
@console.with_site
def remove(place: str, why: str, site: Path) -> None:
    """Take back what was recorded for PLACE: it is expected again. The record keeps both."""
    change = errand.Change("absent remove", place, why, _standing(site, _parsed(place)))
    errand.show(errand.send(site, errands.EXPECTED, change, {"place": place}))


@absent.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a script: one JSON array.")
@console.with_site
def list_(as_json: bool, site: Path) -> None:
    """List what is absent today."""
    with census.looking(site) as connection:
        found = absence.standing(connection) if connection is not None else []
    if as_json:
        rows = [
            {
                "place": str(a.place),
                "reason": a.reason,
                "why": a.why,
                "who": a.who,
                "recorded_at": a.recorded_at,
            }
            for a in found
        ]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("place", "reason", "why", "who", "recorded", box=None, pad_edge=False)
    for a in found:
        table.add_row(str(a.place), a.reason, a.why, a.who, a.recorded_at)
    console.out.print(table)


def _standing(site: Path, place: absence.Place) -> Callable[[Answer | None], str]:
    def said(_: Answer | None) -> str:
        with census.looking(site) as connection:
            found = absence.at(connection, place) if connection is not None else None
        return f"absent: {found.reason}, by {found.who}" if found else "expected"

    return said


def _parsed(place: str) -> absence.Place:
    try:
        return absence.parse(place)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
