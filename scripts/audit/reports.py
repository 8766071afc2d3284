"""`ssps audit report`: what a party was served, or all of them side by side; HTML, CSV beside."""

import csv
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from config import scope
from config.scope import Scope
from config.site import PARTIES_TOML
from scripts.audit import evidence, index, report_figures, report_pages
from scripts.audit.report_figures import PartyReport
from scripts.shared import console

_COLUMNS = ("party", "sheet", "visible", "taken", "lag_seconds", "sha256_filed", "sha256_served")
_PARTIES = "select distinct who from record where name = 'transfer' and event = 'login' order by 1"


@click.command()
@click.argument("party", required=False)
@click.option("--all", "every", is_flag=True, help="All parties, and a page that compares them.")
@click.option(
    "--ledgers",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A copy of a ledger or of several; without it, the site's.",
)
@click.option(
    "--parties",
    "listed",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A copy of parties.toml, which states the scopes; without it, the site's.",
)
@click.option(
    "--scope", "stated", multiple=True, help="PARTY's scope in its place: all, or a place."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="The folder to write into.",
)
@console.with_optional_site
def report(
    party: str | None,
    every: bool,
    folders: tuple[Path, ...],
    listed: Path | None,
    stated: tuple[str, ...],
    output: Path,
    site: Path | None,
) -> None:
    """Report on PARTY: what it was entitled to, what it took and when, what was refused.

    With --all, on all parties: whether they were treated equally.
    """
    if every == (party is not None):
        raise click.UsageError("name one PARTY, or ask for --all.")
    sources = evidence.find(folders, (), site, with_keys=False)
    database = index.open_index(sources.ledgers)
    if listed is None and site is not None:
        listed = site / PARTIES_TOML
    scopes = _scopes(listed) if listed is not None else {}
    seen = [who for (who,) in index.select_rows(database, _PARTIES)]
    if party is not None:
        if stated:
            scopes = {party: _scope(stated)}
        if party not in scopes and (listed is not None or party not in seen):
            wrong = "is no party of these ledgers, see `ssps party list`"
            raise console.fault(party, "", wrong)
        scopes = {party: scopes.get(party, scope.ALL)}
    elif not scopes:
        scopes = dict.fromkeys(seen, scope.ALL)
    filed = report_figures.filed_sheets(database)
    made = datetime.now(UTC)
    output.mkdir(parents=True, exist_ok=True)
    accounts = []
    for each, what in scopes.items():
        found = report_figures.party_report(database, each, what, filed)
        (output / f"{each}.html").write_text(report_pages.party_page(found, made), encoding="utf-8")
        _write(output / f"{each}.csv", [found])
        accounts.append(found)
    if every:
        unequal = list(report_figures.unequally_linked(filed, scopes))
        page = report_pages.comparison_page(accounts, unequal, made)
        (output / "index.html").write_text(page, encoding="utf-8")
        _write(output / "sheets.csv", accounts)
    for found in accounts:
        done = report_pages.format_share(found.taken, len(found.sheets))
        click.echo(f"{found.party}: {found.taken:,} of {len(found.sheets):,} taken ({done})")
    click.echo(output / ("index.html" if every else f"{party}.html"))


def _scopes(path: Path) -> Mapping[str, Scope]:
    """Read the scopes of those who mirror, and nothing else, from a copy of parties.toml."""
    try:
        parties = tomllib.loads(path.read_text(encoding="utf-8")).get("party", [])
        return {
            each["id"]: scope.parse(each["scope"])
            for each in parties
            if each.get("kind") != "independent"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise console.fault(str(path), "", f"is no parties.toml ({error})") from None


def _scope(stated: Iterable[str]) -> Scope:
    places = list(stated)
    try:
        return scope.parse("all" if places == ["all"] else places)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _write(path: Path, accounts: Iterable[PartyReport]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for account in accounts:
            for each in account.sheets:
                taken = each.time.isoformat() if each.time else ""
                lag = "" if each.lag is None else f"{each.lag:.3f}"
                visible, hashed = each.filed.time.isoformat(), each.filed.sha256 or ""
                served = each.sha256 or ""
                writer.writerow(
                    (account.party, each.filed.path, visible, taken, lag, hashed, served)
                )
