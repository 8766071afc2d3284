"""`ssps rehearse`: rehearse with a synthetic election, from printed page to mirrored file.

It has a site of its own. `rehearsal.toml` keeps the parameters of the election, and `scanned.csv`
lists the pages that were dropped into the intake, so that a mirror can be compared with what the
scanner delivered, and not only with our own store.
"""

import csv
import json
import shutil
import tempfile
import time
import tomllib
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import click
import tomli_w
from rich.progress import track

from config import load, times
from config.registry import Registry
from config.site import (
    BALLOT_CSV,
    CLIENTS,
    PARTIES_TOML,
    REGISTRY_CSV,
    REGISTRY_INDEX,
    REHEARSAL_TOML,
    SCANNED_CSV,
    SITE_TOML,
)
from keys.server_keys import host, sshsig
from scripts.access.key.key import add_credential, load_public_key
from scripts.filing import registry
from scripts.rehearsal import options
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS
from scripts.rehearsal.rehearsal_site import (
    ADDRESS,
    client_command,
    client_key,
    known_hosts,
    own_address,
    scanned_pages,
)
from scripts.rehearsal.staff_clients import staff_toml, write_staff_clients
from scripts.rehearsal.synthetic import election as synthetic
from scripts.rehearsal.synthetic import scanner
from scripts.rehearsal.synthetic.result_batches import RehearsalResults, deliver_batch
from scripts.rehearsal.synthetic.results import ballot_csv
from scripts.rehearsal.web_clients import make_certificate, portal_toml, write_web_clients
from scripts.results.ballot import import_ballot
from scripts.shared import console
from scripts.site.init import SITE_TEMPLATE, create_site

_WHY = "rehearsal"
_ROWS_PER_BATCH = 100
_TITLE = "PROVA: Cumhurbaşkanı ve Milletvekili Seçimi"


class _NationalOptionGroup(click.Group):
    """A group that accepts the option `--national` as the name of the command `national`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["national" if a == "--national" else a for a in args])


@click.group(cls=_NationalOptionGroup)
def rehearse() -> None:
    """Rehearse with a synthetic election.

    Its sheets are made up, printed and scanned.

    No sheet and no person is real. Everything after the scanner works as on polling night.
    `--national` is the same as `national`.
    """


@rehearse.command("init")
@options.count_option("--boxes", 250_000, 12, "Number of ballot boxes.")
@options.count_option("--parties", 200, 3, "Number of parties.")
@options.seed_option()
@options.count_option("--port", 65535, 2222, "Port of the SFTP server.")
@click.option(
    "--web-port",
    type=click.IntRange(1, 65535),
    help="Port of the web site and the web service. Default: there are none.",
)
@click.option(
    "--staff-port",
    type=click.IntRange(1, 65535),
    help="Port of the staff site. Default: there is none.",
)
@click.option(
    "--like",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Use the parties of this site, whose server serves the rehearsal on a test day.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_new_site
def init(
    boxes: int,
    parties: int,
    seed: int,
    port: int,
    web_port: int | None,
    staff_port: int | None,
    like: Path | None,
    as_json: bool,
    site: Path,
) -> None:
    """Create DIR as the site of a rehearsal election that is open now.

    It has an imported registry and parties with a key each: the first has the scope all, the
    last one district. DIR/clients has the files that each party's client needs, with
    --web-port also the users of the web site, with --staff-port accounts of the staff site.
    """
    opened = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    site_toml = SITE_TEMPLATE.format(
        id="prova-cb-mv",
        title=_TITLE,
        opens=times.format_time(opened),
        listen=f"{ADDRESS}:{port}",
    )
    site_toml += portal_toml(web_port) if web_port else ""
    site_toml += staff_toml(staff_port) if staff_port else ""
    districts = synthetic.districts(synthetic.entries(boxes, seed))
    theirs = (like / PARTIES_TOML).read_text(encoding="utf-8") if like else None
    create_site(site, site_toml, theirs or _parties_toml(parties, districts), _WHY)
    parameters = {"boxes": boxes, "parties": parties, "seed": seed}
    (site / REHEARSAL_TOML).write_text(tomli_w.dumps(parameters), encoding="utf-8")
    registry_csv = site / REGISTRY_CSV
    sheets = synthetic.write_csv(synthetic.entries(boxes, seed), registry_csv)
    registry.import_registry(site, registry_csv, _WHY)
    ballot_file = site / BALLOT_CSV
    ballot_file.write_text(ballot_csv(synthetic.CONTESTS, districts), encoding="utf-8")
    import_ballot(site, ballot_file, _WHY)
    _write_client_files(site, port)
    if web_port or staff_port:
        make_certificate(site)
    if web_port:
        write_web_clients(site, web_port)
    if staff_port:
        write_staff_clients(site, staff_port)
    if like is not None:
        count = len(load.load(site).parties)
        made = f"{sheets} sheets of {boxes} boxes for the parties of {like}"
        steps = [
            f"ssps publish --site {site} &",
            f"ssps rehearse scan --site {site}",
            f"add a [[rehearsal]] to {like / SITE_TOML} and send SIGHUP to its `ssps run`",
        ]
    else:
        count = parties
        made = f"{sheets} sheets of {boxes} boxes, {parties} parties"
        steps = [
            f"ssps run --site {site} &",
            f"ssps rehearse scan --site {site}",
            client_command(site, "parti-a", port),
        ]
        if web_port:
            steps.append(f"https://{ADDRESS}:{web_port}, with {CLIENTS}/parti-a/web.json")
        if staff_port:
            steps.append(f"https://{ADDRESS}:{staff_port}, with {CLIENTS}/staff.json")
    if as_json:
        found = {"site": str(site), "sheets": sheets, "boxes": boxes, "parties": count}
        click.echo(json.dumps({**found, "next": steps}, ensure_ascii=False))
        return
    click.echo(f"{site}: {made}. Next:")
    for step in steps:
        click.echo(f"  {step}")


def _write_client_files(site: Path, port: int) -> None:
    """Create a key for each party, add it to the party's credentials, and write known_hosts."""
    (site / CLIENTS).mkdir()
    known_hosts(site).write_text(host.known_hosts(site, ADDRESS, port), encoding="utf-8")
    for party in load.load(site).parties:
        key = client_key(site, party.id)
        host.create_key(key, f"{party.id}@rehearsal")
        signers = sshsig.site_allowed_signers(site)
        key.with_name(sshsig.ALLOWED_SIGNERS).write_text(signers, encoding="utf-8")
        if party.mirrors:
            public_key = load_public_key(key.with_name("id_ed25519.pub"), "")
            add_credential(site, party.id, public_key, _WHY)


def _parties_toml(count: int, districts: list[str]) -> str:
    """Return parties.toml: the first party has scope all, the last the district with most boxes."""
    half = [d for i, d in enumerate(districts) if i % 2] or districts[:1]
    parties = []
    for number in range(count):
        last = number == count - 1 and count > 1
        scope = districts[:1] if last else half if number % 3 == 1 else "all"
        parties.append(
            {
                "id": party_id(number),
                "name": f"{party_id(number).removeprefix('parti-').upper()} Partisi",
                "kind": "candidate" if number % 5 == 4 else "party",
                "scope": scope,
                "static_ips": [ADDRESS, own_address(number)],
                "contact": {"name": "", "email": "", "phone": ""},
            }
        )
    return tomli_w.dumps({"party": parties})


def party_id(number: int) -> str:
    """Return the id of party `number`, from 0: parti-a, parti-b, ... parti-z, parti-aa."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"parti-{letters}"


@rehearse.command()
@click.option("--count", type=click.IntRange(1), help="Number of pages. Default: all that remain.")
@click.option(
    "--rate",
    type=click.FloatRange(0.01),
    help="Pages per second. Default: as fast as they can be drawn.",
)
@click.option(
    "--in-place",
    "--rude",
    "in_place",
    is_flag=True,
    help="Write each file slowly and in place, as some scanners do.",
)
@click.option("--again", is_flag=True, help="Start at the first page again.")
@click.option("--no-results", is_flag=True, help="Do not deliver the results of the scanned boxes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def scan(
    count: int | None,
    rate: float | None,
    in_place: bool,
    again: bool,
    no_results: bool,
    as_json: bool,
    site: Path,
) -> None:
    """Print and scan the next pages into the intake.

    The result of each box whose result sheet is scanned is delivered as well, in batches.
    """
    settings = load.load(site)
    if not (site / REHEARSAL_TOML).exists():
        wrong = "is missing: this is not a rehearsal's site; create one with `ssps rehearse init`"
        raise console.fault(REHEARSAL_TOML, "", wrong)
    seed = tomllib.loads((site / REHEARSAL_TOML).read_text(encoding="utf-8"))["seed"]
    index = Registry(site / REGISTRY_INDEX)
    done = 0 if again else len(list(scanned_pages(site)))
    last = done + count if count else None
    planned = list(islice(scanner.plan(index.entries(), seed, last), done, None))
    results = RehearsalResults(index.entries(), seed)
    index.close()
    rows: list[dict[str, Any]] = []
    delivered = 0
    folder = settings.intake.folders[0]
    started = time.monotonic()
    with (site / SCANNED_CSV).open("a", encoding="utf-8", newline="") as file:
        log = csv.writer(file)
        for number, page in enumerate(track(planned, "scanning", console=console.err)):
            if rate:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
            name, content = scanner.render(page, settings.election, seed, results.numbers(page))
            if in_place:
                scanner.drop_in_place(folder, name, content, lambda: time.sleep(0.05))
            else:
                scanner.drop(folder, name, content)
            log.writerow((name, scanner.digest(content), page.karekod or "", page.kind))
            file.flush()
            row = None if no_results else results.row(page, console.utc_now())
            rows += [] if row is None else [row]
            delivered += row is not None
            if rows and (len(rows) == _ROWS_PER_BATCH or number == len(planned) - 1):
                deliver_batch(site, f"sonuc-{done + number:08d}.ndjson", rows)
                rows = []
    if as_json:
        found = {"pages": len(planned), "results": delivered, "folder": str(folder)}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{len(planned)} pages dropped into {folder}")
    if not planned:
        click.echo("all pages are scanned already: use --again to start at the first page")


@rehearse.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--factor",
    type=click.IntRange(1),
    default=4000,
    show_default=True,
    help="Divide the 201,000 ballot boxes by this.",
)
@click.option(
    "--pages",
    type=click.Choice(("real", "shared")),
    default="real",
    show_default=True,
    help="Draw and read every page, or share one small scan for each sheet type.",
)
@options.count_option("--parties", 200, 40, "Number of parties.")
@click.option("--mirrors", type=click.IntRange(0), help="Parties that mirror. Default: all.")
@click.option(
    "--client",
    "clients",
    type=click.Choice(tuple(MIRROR_CLIENTS)),
    multiple=True,
    help="A client that the parties use. May be repeated: they use them in turn. Default: all.",
)
@options.web_parties_option(4)
@options.minutes_option(0.1, 3.0, "the rehearsal")
@options.seed_option()
@options.report_option
@console.print_faults
def national(
    folder: Path | None,
    factor: int,
    pages: str,
    parties: int,
    mirrors: int | None,
    clients: tuple[str, ...],
    web_parties: int,
    minutes: float,
    seed: int,
    file: Path | None,
) -> None:
    """Play a whole polling night, and print a report.

    The country has 201,000 ballot boxes; --factor divides that number.

    In --minutes it plays the boxes that close at 17.00, the peak, the long tail and the days of
    corrections. Some scanners write slowly and in place, some pages cannot be read, and some boxes
    never come. The parties mirror meanwhile with several kinds of clients, and some use the web
    site and the web service. With --pages shared, even --factor 1 fits on a small disk.

    It uses DIR, or a temporary folder that is deleted afterwards. The exit code is 1 if anything
    was lost, or if a party's disk differs from its tree.
    """
    from scripts.rehearsal.national import NationalRehearsal, run_rehearsal

    mirrors = parties if mirrors is None else mirrors
    clients = clients or tuple(MIRROR_CLIENTS)
    rehearsal = NationalRehearsal(
        factor, pages, parties, mirrors, clients, minutes, seed, min(web_parties, parties)
    )
    work = folder or Path(tempfile.mkdtemp(prefix="ssps-national-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        report = run_rehearsal(rehearsal, work.absolute())
    finally:
        if folder is None:
            shutil.rmtree(work)
    options.finish(report, file)
