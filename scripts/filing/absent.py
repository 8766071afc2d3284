"""`ssps absent`: record which sheets will not come, and why; they do not count as missing."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from publisher.catalog.decisions import absences
from publisher.catalog.queries import counts
from publisher.requests import queue
from publisher.requests.queue import Answer
from scripts.shared import change, console, request


@click.group()
def absent() -> None:
    """Record which sheets will not come, and why. They do not count as missing.

    A PLACE is a box with all its sheets (34-istanbul-1/kadikoy-2/1234), or one sheet's karekod.
    The absences are in the filing ledger.
    """


@absent.command()
@click.argument("places", metavar="PLACE...", nargs=-1, required=True)
@click.option(
    "--reason",
    required=True,
    type=click.Choice([cause.value for cause in absences.AbsenceReason]),
    help="The box was not opened, joined with another or burnt; other: see --why.",
)
@change.mode_options()
@console.why_option("How you know, for example from minutes or a phone call.")
@console.with_site
def add(places: tuple[str, ...], reason: str, mode: change.Mode, why: str, site: Path) -> None:
    """Record that no sheet will come from each PLACE.

    The exit code is 1 if one was refused.
    """
    parsed_places = [(place, _parse_place(place)) for place in places]
    answers = []
    for place, parsed in parsed_places:
        absence = request.RequestedChange("absent add", place, why, _describe_state(site, parsed))
        detail = {"place": place, "reason": reason}
        answers.append(request.send(site, queue.ABSENT, absence, detail, mode))
        request.print_answer(answers[-1])
    sys.exit(int(not all(answer.done for answer in answers)))


@absent.command()
@click.argument("place")
@change.mode_options()
@console.why_option("Why the sheets are expected again.")
@console.with_site
def remove(place: str, mode: change.Mode, why: str, site: Path) -> None:
    """Expect PLACE again. The filing ledger keeps both records."""
    removal = request.RequestedChange(
        "absent remove", place, why, _describe_state(site, _parse_place(place))
    )
    request.print_answer_or_exit(
        request.send(site, queue.EXPECTED, removal, {"place": place}, mode)
    )


@absent.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(as_json: bool, site: Path) -> None:
    """List the places that are recorded as absent now."""
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


def _describe_state(site: Path, place: absences.AbsentPlace) -> Callable[[Answer | None], str]:
    def describe(_: Answer | None) -> str:
        with counts.open_read_only(site) as connection:
            found = absences.find_absence(connection, place) if connection is not None else None
        return f"absent: {found.reason}, by {found.who}" if found else "expected"

    return describe


def _parse_place(place: str) -> absences.AbsentPlace:
    try:
        return absences.parse_place(place)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
