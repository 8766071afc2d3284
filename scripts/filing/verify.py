"""`ssps verify`: check that a site's parts agree. `ssps rebuild`: rebuild a folder or catalog."""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import click
import sqlalchemy as sa
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from config import load
from config.event import Value
from config.settings import Settings
from config.site import (
    CATALOG,
    FILING,
    LEDGERS,
    PARTIES_TOML,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    STORE,
    TREES,
    ledger_kind,
    ledgers_of_kind,
)
from keys.ledger.writer import Ledger, LedgerBusy, write_policy
from keys.operations import server_state
from publisher.catalog.queries import counts
from publisher.database import name_of
from publisher.fsck import rebuild, rebuild_catalog, rebuild_results, rebuilt_file
from publisher.fsck.finding import Finding
from publisher.fsck.repair import SEAL, Repair, failed_line
from publisher.fsck.verify import verify as verify_site
from publisher.requests import queue
from publisher.requests.queue import Answer
from publisher.results.reading import open_results
from scripts.shared import change, console, request, signing

_REPAIRS_PER_REQUEST = 500
_FOLDERS_PER_REQUEST = 4  # of the 256 in store/
_STOP_PUBLISHER = "the publisher runs, stop it first: `ssps publish`, or `ssps run`"
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
@click.argument("party_id", metavar="[PARTY]", required=False)
@click.option("--catalog", is_flag=True, help="Rebuild the catalog instead; no publisher may run.")
@change.mode_options()
@console.why_option("What happened to the folder or the catalog.")
@click.option("--grace", type=click.FloatRange(0), default=_GRACE_SECONDS, hidden=True)
@console.with_site
def rebuild_(
    party_id: str | None, catalog: bool, mode: change.Mode, why: str, grace: float, site: Path
) -> None:
    """Rebuild PARTY's folder, or the catalog.

    The folder is rebuilt from the catalog and the store, and the catalog from the ledgers.

    The new folder replaces the old one at once: a client sees either one or the other. Files of
    the old folder that are not in the store are moved to quarantine. The publisher may run
    meanwhile.

    With --catalog, the catalog is rebuilt from the filing ledger, the operations ledger, the store
    and the trees, and the database of the results from the results ledger and the batches in the
    store. The publisher must be stopped. The old ones stay, as state/catalog.sqlite.before and
    state/results.sqlite.before. Run `ssps audit verify` first, and `ssps verify` afterwards.
    """
    if catalog == (party_id is not None):
        raise click.UsageError("name one PARTY, or give --catalog")
    if party_id is None:
        _rebuild_catalog(site, why, mode)
    else:
        _rebuild_tree(party_id, mode, why, grace, site)


def _rebuild_tree(party_id: str, mode: change.Mode, why: str, grace: float, site: Path) -> None:
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


def _rebuild_catalog(site: Path, why: str, mode: change.Mode) -> None:
    settings = load.load(site)
    names = [
        name
        for kind in (FILING, RESULTS_LEDGER)
        for name in ledgers_of_kind(site / LEDGERS, kind)
        if (site / LEDGERS / name).is_dir()
    ]
    if not any(ledger_kind(name) == FILING for name in names):
        raise console.fault(str(LEDGERS / FILING), "", "there is no filing ledger to rebuild from")
    # One that reads for another host has no ledger open, and may be elected.
    if any(host for _, host in server_state.running(site, server_state.PUBLISH)):
        raise console.fault(name_of(site, CATALOG), "", _STOP_PUBLISHER)
    policy = write_policy(settings.ledger)
    try:
        # The locks of the ledgers keep out a publisher until the new databases are in place.
        with ExitStack() as stack:
            records = 0
            for name in names:
                ledger = stack.enter_context(Ledger(site / LEDGERS / name, policy=policy))
                signing.mark_unconfirmed(site, name, ledger)
                records += ledger.next_seq
            change.carry_out(site, _CatalogRebuild(settings, why, records), mode)
    except LedgerBusy:
        raise console.fault(name_of(site, CATALOG), "", _STOP_PUBLISHER) from None


class _CatalogRebuild(change.Change[list[str]]):
    """Replaces catalog and results by what is rebuilt from the ledgers."""

    def __init__(self, settings: Settings, why: str, records: int) -> None:
        super().__init__("rebuild", name_of(settings.site, CATALOG), why)
        self._settings = settings
        self._records = records

    def read(self) -> list[str]:
        """Return what catalog and results have, nothing if they are missing or damaged."""
        site, found = self._settings.site, list[str]()
        with (
            suppress(sa.exc.SQLAlchemyError, sqlite3.Error),
            counts.open_read_only(site) as connection,
        ):
            if connection is not None:
                found += rebuild_catalog.summary(connection).lines()
        with suppress(sa.exc.SQLAlchemyError, sqlite3.Error), open_results(site) as results:
            if results.store is not None:
                found += rebuild_results.summary(results.store.connection).lines()
        return found

    def describe(self, old: list[str]) -> Value:
        return old or None

    def plan(self, old: list[str]) -> change.Plan[list[str]]:
        """Build the new databases beside the old ones."""
        site = self._settings.site
        with Progress(console=console.err, transient=True) as bar:
            task = bar.add_task("records", total=self._records)
            built = rebuild_catalog.build(
                self._settings, lambda done: bar.update(task, completed=done + 1)
            )
            filed = bar.tasks[0].completed
            results = rebuild_results.build(
                site,
                self._settings.election.id,
                rebuilt_file.new_file(site / CATALOG),
                lambda done: bar.update(task, completed=filed + done + 1),
            )
        new = [*built.lines(), *(results.lines() if results else ())]
        name = name_of(site, CATALOG)
        preview = [f"{name}: now {', '.join(old) or 'missing or damaged'}"]
        preview.append(f"{name}: rebuilt {', '.join(new)}")

        def apply() -> None:
            for path in (site / CATALOG, site / RESULTS_DATABASE):
                rebuilt_file.move_log_into(path)  # it is refused before either is replaced
            rebuild_catalog.put_in_place(site)
            rebuild_results.put_in_place(site)

        return change.Plan(new, preview, lambda: new, apply)
