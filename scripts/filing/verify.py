"""`ssps verify`: check that the parts of a site agree. `ssps rebuild`: rebuild a party's folder."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config import load
from config.event import Value
from config.site import PARTIES_TOML, STORE, TREES
from publisher.fsck import rebuild
from publisher.fsck.finding import Finding
from publisher.fsck.repair import SEAL, Repair, failed_line
from publisher.fsck.verify import verify as verify_site
from publisher.requests import queue
from publisher.requests.queue import Answer
from scripts.shared import change, console, request

_REPAIRS_PER_REQUEST = 500
_FOLDERS_PER_REQUEST = 4  # of the 256 in store/
_GRACE_SECONDS = 30.0  # for clients that are listing a folder of the old tree


@click.command()
@click.option("--quick", is_flag=True, help="Skip re-hashing originals.")
@click.option("--repair", is_flag=True, help="Repair what the catalog proves, then check again.")
@click.option("--dry-run", is_flag=True, help="With --repair: show what would be repaired.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each finding.")
@click.option("--why", type=console.WHY_TEXT, help="For the record; required with --repair.")
@console.with_site
def verify(
    quick: bool, repair: bool, dry_run: bool, as_json: bool, why: str | None, site: Path
) -> None:
    """Check that catalog, store, trees and ledger agree.

    Quarantine and spool are checked too.

    Each finding is one line that says what to do. The exit code is 1 if there is a finding that is
    not just a note. The publisher may be running.

    With --repair, missing links, wrong file times and lost notes are repaired. Files that do not
    belong in a tree are moved to quarantine. Nothing is deleted.
    """
    if repair and why is None and not dry_run:
        raise click.UsageError("--repair changes the site: add --why TEXT for the record")
    found = _show_findings(site, quick, as_json, relinked=repair)
    if repair and dry_run:
        for each in found:
            if each.repair:
                console.err.print(f"would repair {each.place}", markup=False)
        console.err.print("dry run: nothing has changed")
    elif why and repair and (repairable := [f for f in found if f.repair]):
        for some, lines in _batches(site, repairable):
            repairs = request.RequestedChange(
                "verify --repair", str(site), why, partial(_describe_findings, some)
            )
            answer = request.send(site, queue.REPAIR, repairs, {"repairs": list(lines)})
            console.err.print(answer.message, markup=False)
        found = _show_findings(site, True, as_json)
    problems = sum(not finding.note for finding in found)
    summary = f"{problems} finding{'s' * (problems != 1)}" if problems else "OK: no findings"
    console.err.print(f"{site}: {summary}")
    sys.exit(bool(problems))


def _batches(site: Path, found: Sequence[Finding]) -> Iterator[tuple[list[Finding], list[str]]]:
    """Yield the findings that are repaired with one request each, and the repairs."""
    single = [one for one in found if one.repair and one.repair.kind != SEAL]
    for start in range(0, len(single), _REPAIRS_PER_REQUEST):
        some = single[start : start + _REPAIRS_PER_REQUEST]
        yield some, [str(one.repair) for one in some]
    # Sealing reads all originals, and the publisher files pages between two requests.
    folders = sorted(path.name for path in (site / STORE).iterdir() if len(path.name) == 2)
    for sealing in (one for one in found if one.repair and one.repair.kind == SEAL):
        for start in range(0, len(folders), _FOLDERS_PER_REQUEST):
            some_folders = folders[start : start + _FOLDERS_PER_REQUEST]
            yield [sealing], [str(Repair(SEAL, name)) for name in some_folders]


def _describe_findings(found: Sequence[Finding], answer: Answer | None) -> list[str]:
    """Describe the findings; with the publisher's answer, only those that it could not repair."""
    lines = set(answer.message.splitlines()) if answer else set()
    return [
        f"{each.place}: {each.problem}"
        for each in found
        if answer is None or (each.repair and failed_line(each.repair) in lines)
    ]


def _show_findings(
    site: Path, quick: bool, as_json: bool, *, relinked: bool = False
) -> list[Finding]:
    """Check the site, and print each finding as it is found."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found = []
    with Progress(*columns, console=console.err, transient=True) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if done % 100 == 0 or done >= total:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done)

        for finding in verify_site(
            load.load(site), quick=quick, progress=progress, relinked=relinked
        ):
            found.append(finding)
            click.echo(json.dumps(_fields(finding)) if as_json else str(finding))
    return found


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "place": finding.place,
        "said": finding.problem,
        "advice": finding.advice,
        "repair": str(finding.repair) if finding.repair else None,
        "note": finding.note,
    }


def _describe_tree(tree: Path) -> str | None:
    """Return the number of files in a tree, for the record."""
    if not tree.is_dir():
        return None
    return f"{sum(len(files) for _, _, files in os.walk(tree))} files"


@click.command("rebuild")
@click.argument("party_id", metavar="PARTY")
@change.mode_options()
@console.why_option("What happened to the folder.")
@click.option("--grace", type=click.FloatRange(0), default=_GRACE_SECONDS, hidden=True)
@console.with_site
def rebuild_(party_id: str, mode: change.Mode, why: str, grace: float, site: Path) -> None:
    """Rebuild PARTY's folder from the catalog and the store.

    The new folder replaces the old one at once: a client sees either one or the other. Files of
    the old folder that are not in the store are moved to quarantine. The publisher may run
    meanwhile.
    """
    settings = load.load(site)
    party = settings.party(party_id)
    if party is None or not party.mirrors:
        wrong = "no party with this id has a folder: see `ssps party list`"
        raise console.fault(PARTIES_TOML, party_id, wrong)
    tree = site / TREES / party_id
    if mode.dry_run:
        change.show([f"{party_id}: now {_describe_tree(tree)}"])
        change.may_apply(mode)
        return
    if (site / TREES / rebuild.staging_name(party_id)).exists():
        rebuild.clear_staging(settings, party_id)  # left by an interrupted rebuild
    with console.err.status(f"linking the files of {party_id}"):
        staged = rebuild.build(settings, party)
    detail: dict[str, Value] = {
        "party": party_id,
        "upto": staged.last_filing,
        "folders": list(staged.folders),
    }
    replacement = request.RequestedChange("rebuild", party_id, why, lambda _: _describe_tree(tree))
    answer = request.send(site, queue.REBUILD, replacement, detail)
    if answer.done:
        with console.err.status("waiting for clients that are listing the old folder"):
            time.sleep(grace)
    quarantined = rebuild.clear_staging(settings, party_id)
    request.print_answer_or_exit(answer)
    if quarantined:
        click.echo(f"moved to quarantine, because they are not in the store: {quarantined} files")
