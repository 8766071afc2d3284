"""`ssps absent`: sheets that will not come, and why; never counted as missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from publisher.catalog import absences, counts
from publisher.requests import queue
from publisher.requests.queue import Answer
from scripts.shared import console, request


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
    type=click.Choice([cause.value for cause in absences.AbsenceReason]),
    help="The box was not opened, joined with another, or burnt; or what --why says.",
)
@console.why_option("What this rests on: minutes, a call, by whom.")
@console.with_site
def add(places: tuple[str, ...], reason: str, why: str, site: Path) -> None:
    """Record that no sheet will come from each PLACE; exit code 1 if any was refused."""
    known = [(place, _parse_place(place)) for place in places]
    answers = []
    for place, parsed in known:
        change = request.RequestedChange("absent add", place, why, _state_of(site, parsed))
        asked = {"place": place, "reason": reason}
        answers.append(request.send(site, queue.ABSENT, change, asked))
        request.print_answer(answers[-1])
    sys.exit(int(not all(answer.done for answer in answers)))


@absent.command()
@click.argument("place")
@console.why_option("Why it is expected after all.")
@console.with_site
def remove(place: str, why: str, site: Path) -> None:
    """Take back what was recorded for PLACE: it is expected again. The record keeps both."""
    change = request.RequestedChange(
        "absent remove", place, why, _state_of(site, _parse_place(place))
    )
    request.print_answer_or_exit(request.send(site, queue.EXPECTED, change, {"place": place}))


@absent.command("list")
@click.option("--json", "as_json", is_flag=True, help="For a script: one JSON array.")
@console.with_site
def list_(as_json: bool, site: Path) -> None:
    """List what is absent today."""
    with counts.open_read_only(site) as connection:
        found = absences.current_absences(connection) if connection is not None else []
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


def _state_of(site: Path, place: absences.AbsentPlace) -> Callable[[Answer | None], str]:
    def said(_: Answer | None) -> str:
        with counts.open_read_only(site) as connection:
            found = absences.find_absence(connection, place) if connection is not None else None
        return f"absent: {found.reason}, by {found.who}" if found else "expected"

    return said


def _parse_place(place: str) -> absences.AbsentPlace:
    try:
        return absences.parse_place(place)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
