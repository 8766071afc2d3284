"""`ssps verify` and `ssps rebuild`: whether a site tells one story, and a tree from nothing."""

import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config import load
from config.event import Value
from config.site import PARTIES_TOML, TREES
from publisher.fsck import rebuild
from publisher.fsck.finding import Finding
from publisher.fsck.verify import verify as verify_site
from publisher.requests import queue
from publisher.requests.queue import Answer
from scripts.shared import console, request

_REPAIRS_PER_REQUEST = 500
_GRACE_SECONDS = 30.0  # seconds in which who is listing a folder of the old tree may finish


@click.command()
@click.option("--quick", is_flag=True, help="Believe the originals' bytes without hashing them.")
@click.option("--repair", is_flag=True, help="Mend what the catalog proves, then look again.")
@click.option("--json", "as_json", is_flag=True, help="For a script: one JSON object a finding.")
@click.option("--why", type=console.WHY_TEXT, help="For the record; --repair needs it.")
@console.with_site
def verify(quick: bool, repair: bool, as_json: bool, why: str | None, site: Path) -> None:
    """Hold catalog, store, trees, quarantine, spool and filing ledger against one another.

    Each finding is a line that says what to do; exit code 1 if there is any that is no mere note.
    Safe beside a running publisher. With --repair missing links, wrong times and lost notes are
    mended; what stands in a tree and should not goes to quarantine, and nothing is deleted.
    """
    if repair and why is None:
        raise click.UsageError("--repair changes the site: give --why TEXT, for the record")
    found = list(_show_findings(site, quick, as_json))
    if why and repair and (mendable := [f for f in found if f.repair]):
        for start in range(0, len(mendable), _REPAIRS_PER_REQUEST):
            some = mendable[start : start + _REPAIRS_PER_REQUEST]
            change = request.RequestedChange(
                "verify --repair", str(site), why, partial(_describe_findings, some)
            )
            lines = {"repairs": [str(one.repair) for one in some]}
            answer = request.send(site, queue.REPAIR, change, lines)
            console.err.print(answer.message, markup=False)
        found = list(_show_findings(site, True, as_json))
    wrong = [finding for finding in found if not finding.note]
    console.err.print(f"{site}: {len(wrong) or 'no'} finding{'s' * (len(wrong) != 1)}")
    sys.exit(bool(wrong))


def _describe_findings(found: Sequence[Finding], answer: Answer | None) -> list[str]:
    """Say what was found at fault; with an answer, what of it the publisher could not mend."""
    left = set(answer.message.splitlines()) if answer else set()
    return [
        f"{each.place}: {each.problem}"
        for each in found
        if answer is None or f"not mended: {each.repair}" in left
    ]


def _show_findings(site: Path, quick: bool, as_json: bool) -> list[Finding]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    found = []
    with Progress(*columns, console=console.err, transient=True) as bar:
        tasks = {}

        def progress(what: str, done: int, total: int) -> None:
            if done % 100 == 0 or done >= total:
                if what not in tasks:
                    tasks[what] = bar.add_task(what, total=total)
                bar.update(tasks[what], completed=done)

        for finding in verify_site(load.load(site), quick=quick, progress=progress):
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
    """Say of a tree what a record has room for: how much is in it."""
    if not tree.is_dir():
        return None
    return f"{sum(len(files) for _, _, files in os.walk(tree))} files"


@click.command("rebuild")
@click.argument("party_id", metavar="PARTY")
@console.why_option("What happened to the tree.")
@click.option("--grace", type=click.FloatRange(0), default=_GRACE_SECONDS, hidden=True)
@console.with_site
def rebuild_(party_id: str, why: str, grace: float, site: Path) -> None:
    """Make the tree of PARTY from nothing, and put it in place at once.

    A client sees the old tree or the new one. What stood in the old one and is not in the store
    goes to quarantine. A publisher that runs goes on filing meanwhile.
    """
    settings = load.load(site)
    party = settings.party(party_id)
    if party is None or not party.mirrors:
        message = "no party of that id has a tree, `ssps party list` names all"
        raise console.fault(PARTIES_TOML, party_id, message)
    if (site / TREES / rebuild.staging_name(party_id)).exists():
        rebuild.clear_staging(settings, party_id)  # of one that was interrupted
    with console.err.status(f"linking the tree of {party_id}"):
        built = rebuild.build(settings, party)
    detail: dict[str, Value] = {
        "party": party_id,
        "upto": built.last_filing,
        "folders": list(built.folders),
    }
    tree = site / TREES / party_id
    change = request.RequestedChange("rebuild", party_id, why, lambda _: _describe_tree(tree))
    answer = request.send(site, queue.REBUILD, change, detail)
    if answer.done:
        with console.err.status("leaving the old tree to who is listing it"):
            time.sleep(grace)
    kept = rebuild.clear_staging(settings, party_id)
    request.print_answer_or_exit(answer)
    if kept:
        click.echo(f"{kept} files of the old tree were not ours and are in quarantine")
