"""`ssps rehearse`: a synthetic election on a site of its own, from printed page to mirrored file.

`rehearsal.toml` on the site keeps what the election was made from; `scanned.csv` what was
dropped into the intake, so that a mirror can be checked against what left the scanner and not
against our own store.
"""

import csv
import json
import shutil
import sys
import tempfile
import time
import tomllib
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import click
import tomli_w
from rich.progress import track

from config import load
from config.registry import Registry
from config.site import (
    CLIENTS,
    PARTIES_TOML,
    REGISTRY_CSV,
    REGISTRY_INDEX,
    REHEARSAL_TOML,
    SCANNED_CSV,
    SITE_TOML,
)
from keys.server_keys import host, sshsig
from scripts.access.key import add_credential, load_public_key
from scripts.filing import registry
from scripts.rehearsal import election as synthetic
from scripts.rehearsal import scanner
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS
from scripts.rehearsal.rehearsal_site import ADDRESS, client_command, scanned_pages
from scripts.shared import console
from scripts.site.init import SITE_TEMPLATE, create_site

_WHY = "rehearsal"
_TITLE = "PROVA: Cumhurbaşkanı ve Milletvekili Seçimi"


class _NationalOptionGroup(click.Group):
    """Takes `--national` for what it is: a rehearsal of its own kind."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["national" if a == "--national" else a for a in args])


@click.group(cls=_NationalOptionGroup)
def rehearse() -> None:
    """A synthetic election, printed and scanned.

    No real sheet, no real person; everything else as on the night. `--national` is the same as
    `national`.
    """


@rehearse.command("init")
@click.option("--boxes", type=click.IntRange(1, 250_000), default=12, show_default=True)
@click.option("--parties", type=click.IntRange(1, 200), default=3, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same pages.")
@click.option("--port", type=click.IntRange(1, 65535), default=2222, show_default=True)
@click.option(
    "--like",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Take the parties of this site, which serves the rehearsal's trees on its test day.",
)
@console.with_new_site
def init(boxes: int, parties: int, seed: int, port: int, like: Path | None, site: Path) -> None:
    """Lay out DIR as the site of a rehearsal election that is open now.

    Registry imported, parties written (the first sees all, the last one district), a key for
    each, and in DIR/clients what a party's client needs.
    """
    opened = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
    site_toml = SITE_TEMPLATE.format(
        id="prova-cb-mv", title=_TITLE, opens=opened.isoformat(), listen=f"{ADDRESS}:{port}"
    )
    districts = synthetic.districts(synthetic.entries(boxes, seed))
    theirs = (like / PARTIES_TOML).read_text(encoding="utf-8") if like else None
    create_site(site, site_toml, theirs or _parties_toml(parties, districts), _WHY)
    made = {"boxes": boxes, "parties": parties, "seed": seed}
    (site / REHEARSAL_TOML).write_text(tomli_w.dumps(made), encoding="utf-8")
    handed_over = site / REGISTRY_CSV
    sheets = synthetic.write_csv(synthetic.entries(boxes, seed), handed_over)
    registry.import_registry(site, handed_over, _WHY)
    clients = site / CLIENTS
    clients.mkdir()
    known_hosts = clients / "known_hosts"
    known_hosts.write_text(host.known_hosts(site, ADDRESS, port), encoding="utf-8")
    for party in load.load(site).parties:
        kit = clients / party.id / "id_ed25519"
        host.create_key(kit, f"{party.id}@rehearsal")
        kit.with_name(sshsig.ALLOWED_SIGNERS).write_text(
            sshsig.site_allowed_signers(site), encoding="utf-8"
        )
        if party.mirrors:
            add_credential(
                site, party.id, load_public_key(kit.with_name("id_ed25519.pub"), ""), _WHY
            )
    if like is not None:
        click.echo(f"{site}: {sheets} sheets of {boxes} boxes, for the parties of {like}. Next:")
        click.echo(f"  ssps publish --site {site} &")
        click.echo(f"  ssps rehearse scan --site {site}")
        click.echo(f"  a [[rehearsal]] window in {like / SITE_TOML}, and SIGHUP to its `ssps run`")
        return
    click.echo(f"{site}: {sheets} sheets of {boxes} boxes, {parties} parties. Next:")
    click.echo(f"  ssps run --site {site} &")
    click.echo(f"  ssps rehearse scan --site {site}")
    click.echo(f"  {client_command(site, 'parti-a', port)}")


def _parties_toml(count: int, districts: list[str]) -> str:
    """Write the parties: the first sees all, the last the one district with the most boxes."""
    listed = []
    for number in range(count):
        last = number == count - 1 and count > 1
        half = [d for i, d in enumerate(districts) if i % 2] or districts[:1]
        middle = half if number % 3 == 1 and not last else "all"
        listed.append(
            {
                "id": party_id(number),
                "name": f"{party_id(number).removeprefix('parti-').upper()} Partisi",
                "kind": "candidate" if number % 5 == 4 else "party",
                "scope": districts[:1] if last else middle,
                "static_ips": [ADDRESS],
                "contact": {"name": "", "email": "", "phone": ""},
            }
        )
    return tomli_w.dumps({"party": listed})


def party_id(number: int) -> str:
    """Name the party of that number, from 0: parti-a, parti-b, ... parti-z, parti-aa."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"parti-{letters}"


@rehearse.command()
@click.option("--count", type=click.IntRange(1), help="How many pages; all that are left if not.")
@click.option(
    "--rate", type=click.FloatRange(0.01), help="Pages a second; as fast as drawn if not."
)
@click.option(
    "--in-place",
    "--rude",
    "in_place",
    is_flag=True,
    help="Write each file slowly and in place, as some scanners do.",
)
@click.option("--again", is_flag=True, help="From the first page, not where the last scan ended.")
@console.with_site
def scan(count: int | None, rate: float | None, in_place: bool, again: bool, site: Path) -> None:
    """Print the next pages of the rehearsal, scan them, and drop them into the intake."""
    settings = load.load(site)
    if not (site / REHEARSAL_TOML).exists():
        message = "is missing: this is no rehearsal's site, `ssps rehearse init` makes one"
        raise console.fault(REHEARSAL_TOML, "", message)
    seed = tomllib.loads((site / REHEARSAL_TOML).read_text(encoding="utf-8"))["seed"]
    index = Registry(site / REGISTRY_INDEX)
    done = 0 if again else len(list(scanned_pages(site)))
    last = done + count if count else None
    planned = list(islice(scanner.plan(index.entries(), seed, last), done, None))
    index.close()
    folder = settings.intake.folders[0]
    started = time.monotonic()
    with (site / SCANNED_CSV).open("a", encoding="utf-8", newline="") as file:
        log = csv.writer(file)
        for number, page in enumerate(track(planned, "scanning", console=console.err)):
            if rate:
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
            name, content = scanner.render(page, settings.election, seed)
            if in_place:
                scanner.drop_in_place(folder, name, content, lambda: time.sleep(0.05))
            else:
                scanner.drop(folder, name, content)
            log.writerow((name, scanner.digest(content), page.karekod or "", page.kind))
            file.flush()
    click.echo(f"{len(planned)} pages into {folder}")
    if not planned:
        click.echo("every page was scanned already, --again begins anew")


@rehearse.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--factor", type=click.IntRange(1), default=4000, show_default=True)
@click.option("--pages", type=click.Choice(("real", "shared")), default="real", show_default=True)
@click.option("--parties", type=click.IntRange(1, 200), default=40, show_default=True)
@click.option("--mirrors", type=click.IntRange(0), help="How many of them mirror; all if not.")
@click.option(
    "--client",
    "clients",
    type=click.Choice(tuple(MIRROR_CLIENTS)),
    multiple=True,
    help="With which client; may be repeated, and they take turns. All of them if not given.",
)
@click.option("--minutes", type=click.FloatRange(0.1), default=3.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the report there.")
@console.print_faults
def national(
    folder: Path | None,
    factor: int,
    pages: str,
    parties: int,
    mirrors: int | None,
    clients: tuple[str, ...],
    minutes: float,
    seed: int,
    file: Path | None,
) -> None:
    """Play a whole polling night of 201,000 boxes divided by --factor.

    Boxes that close at 17.00, a peak, a long tail, days of corrections, in --minutes; rude
    scanners, pages that no machine can read, boxes that never come; the parties mirror meanwhile,
    with mixed clients. --pages shared takes pages that share their bytes, so that --factor 1 fits
    a small disk. Works in DIR, or in a temporary folder that is removed; prints a report. Exit
    code 1 if anything was lost, or differs on a party's disk.
    """
    from scripts.rehearsal.national import NationalRehearsal, run_rehearsal
    from scripts.rehearsal.reconcile import format_report

    mirrors = parties if mirrors is None else mirrors
    clients = clients or tuple(MIRROR_CLIENTS)
    rehearsal = NationalRehearsal(factor, pages, parties, mirrors, clients, minutes, seed)
    place = folder or Path(tempfile.mkdtemp(prefix="ssps-national-"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        report = run_rehearsal(rehearsal, place.absolute())
    finally:
        if folder is None:
            shutil.rmtree(place)
    click.echo(format_report(report))
    if file:
        file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(int(not report["ok"]))
