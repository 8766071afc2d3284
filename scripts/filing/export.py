"""`ssps export`: a party's pages as a signed bag, for who mirrors nothing or wants a copy."""

import json
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from config import load
from config.party import Party, PartyKind
from config.settings import Settings
from config.site import PARTIES_TOML, SITE_TOML, original_file
from keys.server_keys import sshsig
from publisher.catalog import catalog
from publisher.catalog.feed_queries import FeedQueries
from publisher.feed import bagit
from publisher.feed.bagit import Contents, Damaged
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
        wrong = f"{error}, name one, or a number of the filing ledger, or make a whole one"
        raise click.BadParameter(wrong, param_hint="--since") from error


@click.command()
@click.argument("party_id", metavar="PARTY")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--since",
    "since",
    metavar="BAG",
    help="Only what was filed after an earlier bag, or from a number of the filing ledger on.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@console.why_option("For the record: who takes it along, say.")
@console.with_site
def export(
    party_id: str, folder: Path, since: str | None, as_json: bool, why: str, site: Path
) -> None:
    """Make a bag (BagIt, RFC 8493) of all that PARTY may see, its manifest signed.

    An independent candidate is entitled to it once the publication ban is lifted (Genelge
    md. 3/c), and is refused before. Broken off, it goes on where it was; it is read back before it
    gets its name, and recorded.
    """
    settings = load.load(site)
    with console.recorded_change(site, COMMAND, party_id, why):  # who was refused stands there too
        party = _entitled_party(settings, party_id, datetime.now(UTC))
    election = settings.election.id
    first = _first_number(since, election, party)
    sign = partial(sshsig.sign, sshsig.site_signing_key(site))
    with FeedQueries(catalog.url(site)) as filings:
        what = bagit.select_contents(
            filings, party, first, bagit.unfinished_last_number(folder, election, party.id, first)
        )
    if not what.filed:
        click.echo(f"nothing was filed for {party.id} from number {first} on", err=True)
        sys.exit(1)
    if (there := folder / what.name(election, party.id)).exists():
        click.echo(f"{there} is there already, and nothing was filed since", err=True)
        sys.exit(1)
    try:
        whole = _make_bag(site, settings, party, what, folder, sign, why)
    except Damaged as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    said = {"bag": str(whole), "files": len(what.filed), "first": what.first, "last": what.last}
    if as_json:
        click.echo(json.dumps(said))
    else:
        click.echo(f"{whole}: {len(what.filed)} pages, read back and signed. The next one:")
        click.echo(f"  ssps export {party.id} --to {folder} --since {whole}")


def _entitled_party(settings: Settings, party_id: str, now: datetime) -> Party:
    party = settings.party(party_id)
    if party is None:
        raise console.fault(PARTIES_TOML, party_id, "no such party, `ssps party list` names them")
    election = settings.election
    if party.suspended:
        raise console.fault(PARTIES_TOML, party_id, "is suspended, and gets no export")
    if now < election.opens:
        wrong = f"nobody may look before {election.opens.isoformat()}"
        raise console.fault(SITE_TOML, "election.opens", wrong)
    lifts = election.ban_lifts
    if party.kind is PartyKind.INDEPENDENT and (lifts is None or now < lifts):
        wrong = (
            "is not set: set it once YSK lifts the publication ban"
            if lifts is None
            else f"is {lifts.isoformat()}, try again then"
        )
        advice = f"{wrong}; {party_id} is independent, and entitled from then on (md. 3/c)"
        raise console.fault(SITE_TOML, "election.ban_lifts", advice)
    return party


def _make_bag(
    site: Path,
    settings: Settings,
    party: Party,
    what: Contents,
    folder: Path,
    sign: "partial[bytes]",
    why: str,
) -> Path:
    def original(digest: str) -> Path:
        return site / original_file(digest)

    size = sum(original(filed.sha256).stat().st_size for filed in what.filed)
    bar, progress = console.progress_bar(f"copying for {party.id}", 2 * size)
    done = 0

    def more(bytes_done: int) -> None:
        nonlocal done
        done += bytes_done
        progress(done)

    with bar:
        now = datetime.now(UTC)
        part = bagit.make(folder, party, settings.election.id, what, original, sign, now, more)
    with console.recorded_change(site, COMMAND, party.id, why) as record:
        detail = {"files": len(what.filed), "first": what.first, "last": what.last, "bytes": size}
        record.done(bagit.describe(part), {**detail, "to": str(folder.absolute())})
        return bagit.finish(part)
