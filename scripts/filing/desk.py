"""`ssps desk`: list the files in quarantine, and identify or reject them by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from config.site import QUARANTINE
from publisher.catalog.decisions import review
from publisher.catalog.decisions.review import Identification, Review
from publisher.catalog.queries import counts
from publisher.page import Reason
from publisher.requests import queue
from publisher.requests.queue import Answer
from publisher.store.quarantine import QuarantineNote, parse_note
from scripts.shared import change, console, request


class _QuarantinedFile(NamedTuple):
    """A file in quarantine with all that is known about it; a lost note is None."""

    file: str
    note: QuarantineNote | None
    identifications: list[Identification]
    reviewed: Review | None

    def fields(self) -> dict[str, Any]:
        note = self.note
        return {
            "file": self.file,
            "name": note.name if note else None,
            "reason": note.reason if note else "its note is missing: run `ssps verify`",
            "time": note.time if note else None,
            "sha256": note.sha256 if note else None,
            "pages": note.frames if note else None,
            "readings": list(note.readings) if note else [],
            "named": [
                {
                    "who": n.who,
                    "sheets": review.format_sheets(n.sheets),
                    "why": n.why,
                    "at": n.named_at,
                }
                for n in self.identifications
            ],
            "ruling": self.reviewed._asdict() if self.reviewed else None,
        }

    @property
    def is_blank(self) -> bool:
        return self.note is not None and self.note.reason == Reason.BLANK_BACK

    @property
    def state(self) -> str:
        if self.reviewed:
            return f"{self.reviewed.outcome} by {self.reviewed.who}"
        return (
            ", ".join(
                f"{n.who}: {review.format_sheets(n.sheets) or 'no sheet'}"
                for n in self.identifications
            )
            or "open"
        )


@click.group()
def desk() -> None:
    """Review the files in quarantine: show, identify or reject them.

    To file one by hand, two operators must name the same karekod, each with their own login
    (setting [desk] confirmations). A login and an account of the staff site do not count as two.
    FILE is the name of a file in quarantine/.
    """


@desk.command("list")
@click.option("--all", "everything", is_flag=True, help="Include reviewed files and blank backs.")
@click.option("--reason", help="Only files quarantined for this reason.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def list_(everything: bool, reason: str | None, as_json: bool, site: Path) -> None:
    """List the files that wait for a review, oldest first.

    Blank backs of sheets need none: --all or --reason blank-back lists them too.
    """
    found = [held for held in _quarantined_files(site) if everything or not held.reviewed]
    if reason:
        found = [held for held in found if held.note and held.note.reason == reason]
    elif not everything:
        found = [held for held in found if not held.is_blank]
    if as_json:
        click.echo(json.dumps([held.fields() for held in found]))
        return
    for held in found:
        texts = held.note.texts if held.note else ()
        read = " ".join(text if text.isascii() and text.isalnum() else "?" for text in texts)
        cause, since = (held.note.reason, held.note.time) if held.note else ("no note", "-")
        click.echo(f"{held.file}  {cause}  {since}  {read or '-'}  {held.state}")
    click.echo(f"{len(found)} file{'s' * (len(found) != 1)}", err=True)


@desk.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def show(file: str, as_json: bool, site: Path) -> None:
    """Show all that is known about FILE, and its path."""
    held = next((held for held in _quarantined_files(site) if held.file == file), None)
    if held is None:
        raise console.fault(file, "", "is not in quarantine: see `ssps desk list`")
    if as_json:
        click.echo(json.dumps(held.fields()))
        return
    click.echo(f"{'path':10}{site / QUARANTINE / file}")
    for key, value in held.fields().items():
        for line in value if isinstance(value, list) else [value]:
            text = " ".join(f"{k}={v}" for k, v in line.items()) if isinstance(line, dict) else line
            shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text or "-"))
            click.echo(f"{key:10}{shown}")


@desk.command()
@click.argument("file")
@click.argument("karekod", nargs=-1, required=True)
@change.mode_options()
@console.why_option("How you know, for example: read by eye, compared with the list.")
@console.with_site
def identify(file: str, karekod: tuple[str, ...], mode: change.Mode, why: str, site: Path) -> None:
    """Identify the sheet in FILE by its KAREKOD.

    If FILE has several pages, give PAGE:KAREKOD for each of them.

    The file is filed when a second operator names the same sheet.
    """
    try:
        sheets = review.format_sheets(review.parse_sheets(karekod))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    decision = request.RequestedChange("desk identify", file, why, _describe_state(site, file))
    request.print_answer_or_exit(
        request.send(site, queue.IDENTIFY, decision, {"file": file, "sheets": sheets}, mode)
    )


@desk.command()
@click.argument("file")
@change.mode_options()
@console.why_option("Why it is not a sheet to be filed.")
@console.with_site
def reject(file: str, mode: change.Mode, why: str, site: Path) -> None:
    """Reject FILE: it is not filed, its bytes are kept. It can still be identified later."""
    decision = request.RequestedChange("desk reject", file, why, _describe_state(site, file))
    request.print_answer_or_exit(request.send(site, queue.REJECT, decision, {"file": file}, mode))


def _describe_state(site: Path, file: str) -> Callable[[Answer | None], str | None]:
    def describe(_: Answer | None) -> str | None:
        return next((held.state for held in _quarantined_files(site) if held.file == file), None)

    return describe


def _quarantined_files(site: Path) -> list[_QuarantinedFile]:
    folder = site / QUARANTINE
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    known = set(names)
    with counts.open_read_only(site) as connection:
        identifications = review.identifications(connection) if connection is not None else {}
        reviews = review.reviews(connection) if connection is not None else {}
    return [
        _QuarantinedFile(
            name,
            _read_note(folder / f"{name}.json"),
            identifications.get(name, []),
            reviews.get(name),
        )
        for name in names
        if not name.startswith(".") and not (name.endswith(".json") and name[:-5] in known)
    ]


def _read_note(path: Path) -> QuarantineNote | None:
    try:
        return parse_note(path.read_bytes())
    except (OSError, ValueError):
        return None
