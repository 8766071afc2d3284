"""`ssps export`: copy a party's pages into a signed bag, to hand over or to keep."""

import json
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from config import load, times
from config.event import Value
from config.party import Party, PartyKind
from config.settings import Settings
from config.site import PARTIES_TOML, SITE_TOML, original_file
from keys.operations import site_keys
from keys.server_keys import sshsig
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed import bagit
from publisher.feed.bagit import Contents, Damaged
from publisher.results.ballot_file import load_ballot
from publisher.results.snapshots.scoped import scoped_results
from scripts.shared import console

COMMAND = "export"


def _first_number(since: str | None, election: str, party: Party) -> int:
    if since is None:
        return 0
    if since.isascii() and since.isdecimal():
        return int(since)
    try:
        return bagit.next_number(Path(since), election, party)
    except ValueError as error:
        advice = "name an earlier bag or a number of the filing ledger, or leave --since out"
        raise click.BadParameter(f"{error}: {advice}", param_hint="--since") from error


@click.command()
@click.argument("party_id", metavar="PARTY")
@click.option(
    "--to",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder in which to make the bag.",
)
@click.option(
    "--since",
    "since",
    metavar="BAG",
    help="Only pages filed after this earlier bag, or from this number of the filing ledger on.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be copied, and copy nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.why_option("For the record, for example who gets the bag.")
@console.with_site
def export(
    party_id: str,
    folder: Path,
    since: str | None,
    dry_run: bool,
    as_json: bool,
    why: str,
    site: Path,
) -> None:
    """Copy all pages in PARTY's scope into a bag (BagIt).

    The bag follows RFC 8493 and has a signed manifest. If there are results, the newest ones in
    PARTY's scope are in it too, as CSV.

    An independent candidate gets an export only after the publication ban is lifted (Genelge
    md. 3/c). An interrupted export continues when it is run again. The bag gets its final name
    only after all files were read back and the export is on record.
    """
    settings = load.load(site)
    refusal = nullcontext() if dry_run else console.recorded_change(site, COMMAND, party_id, why)
    with refusal:
        party = _entitled_party(settings, party_id, datetime.now(UTC))
    election = settings.election.id
    first = _first_number(since, election, party)
    sign = partial(sshsig.sign, site_keys.signing_key(site))
    with FeedQueries(catalog.url(site)) as filings:
        contents = bagit.select_contents(
            filings, party, first, bagit.unfinished_last_number(folder, election, party.id, first)
        )
    if not contents.filed:
        click.echo(f"nothing was filed for {party.id} from number {first} on", err=True)
        sys.exit(1)
    if (existing := folder / contents.name(election, party.id)).exists():
        click.echo(f"{existing} exists already, and nothing was filed since", err=True)
        sys.exit(1)
    if dry_run:
        size = sum((site / original_file(f.sha256)).stat().st_size for f in contents.filed)
        fields = {"bag": str(existing), "files": len(contents.filed), "bytes": size}
        text = f"would copy {len(contents.filed)} pages, {size:,} bytes, to {existing}"
        click.echo(json.dumps(fields) if as_json else text)
        click.echo("dry run: nothing has changed", err=True)
        return
    try:
        bag = _make_bag(site, settings, party, contents, folder, sign, why)
    except Damaged as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    files = len(contents.filed)
    if as_json:
        fields = {"bag": str(bag), "files": files, "first": contents.first, "last": contents.last}
        click.echo(json.dumps(fields))
    else:
        click.echo(f"{bag}: {files} pages, verified and signed. Next bag:")
        click.echo(f"  ssps export {party.id} --to {folder} --since {bag}")


def _entitled_party(settings: Settings, party_id: str, now: datetime) -> Party:
    party = settings.party(party_id)
    if party is None:
        raise console.fault(PARTIES_TOML, party_id, "unknown party: see `ssps party list`")
    election = settings.election
    if party.suspended:
        wrong = "is suspended and gets no export"
        raise console.fault(PARTIES_TOML, party_id, wrong)
    if now < election.opens:
        wrong = f"no party gets an export before {times.format_time(election.opens)}"
        raise console.fault(SITE_TOML, "election.opens", wrong)
    lifts = election.ban_lifts
    if party.kind is PartyKind.INDEPENDENT and (lifts is None or now < lifts):
        advice = (
            "is not set: set it when YSK lifts the publication ban"
            if lifts is None
            else f"is {times.format_time(lifts)}: try again then"
        )
        wrong = f"{advice}; {party_id} is independent and gets no export before (Genelge md. 3/c)"
        raise console.fault(SITE_TOML, "election.ban_lifts", wrong)
    return party


def _make_bag(
    site: Path,
    settings: Settings,
    party: Party,
    contents: Contents,
    folder: Path,
    sign: "partial[bytes]",
    why: str,
) -> Path:
    def original(digest: str) -> Path:
        return site / original_file(digest)

    size = sum(original(filed.sha256).stat().st_size for filed in contents.filed)
    # Every byte is counted twice: when it is copied and when it is read back.
    bar, show = console.progress_bar(f"copying for {party.id}", 2 * size)
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        show(done)

    election = settings.election.id
    with bar:
        now = datetime.now(UTC)
        results = scoped_results(site, election, party.scope, load_ballot(site))
        part = bagit.make(folder, party, election, contents, original, sign, now, progress, results)
    detail: dict[str, Value] = {
        "files": len(contents.filed),
        "first": contents.first,
        "last": contents.last,
        "bytes": size,
        "to": str(folder.absolute()),
    }
    with console.recorded_change(site, COMMAND, party.id, why) as change:
        change.done(bagit.describe(part), detail)
        return bagit.finish(part)
