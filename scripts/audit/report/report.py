"""`ssps audit report`: report on one party or compare all, as HTML pages with a CSV file each."""

import csv
import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

from config import scope
from config.scope import Scope
from config.site import PARTIES_TOML
from scripts.audit import evidence, index
from scripts.audit.report import figures, pages
from scripts.audit.report.figures import PartyReport
from scripts.shared import console

_COLUMNS = ("party", "sheet", "visible", "taken", "lag_seconds", "sha256_filed", "sha256_served")
_LOGGED_IN = (
    "select distinct who from record where name = 'transfer' and event = 'login' order by 1"
)


@click.command()
@click.argument("party", required=False)
@click.option("--all", "every", is_flag=True, help="Report on all parties, and compare them.")
@click.option(
    "--ledgers",
    "folders",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A folder that is or contains ledgers. Default: the site's. May be repeated.",
)
@click.option(
    "--parties",
    "parties_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A copy of parties.toml, which has the scopes. Default: the site's.",
)
@click.option(
    "--scope",
    "places",
    multiple=True,
    help="PARTY's scope, instead of parties.toml: all, or a place. May be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Folder for the report.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_optional_site
def report(
    party: str | None,
    every: bool,
    folders: tuple[Path, ...],
    parties_file: Path | None,
    places: tuple[str, ...],
    output: Path,
    as_json: bool,
    site: Path | None,
) -> None:
    """Write a report on PARTY, or on all parties.

    What it was entitled to, what it downloaded and when, what was refused.

    With --all, report on all parties, and show whether they were treated equally.
    """
    if every == (party is not None):
        raise click.UsageError("name one PARTY, or use --all")
    sources = evidence.find(folders, (), site, with_keys=False)
    database = index.open_index(sources.ledgers)
    if parties_file is None and site is not None:
        parties_file = site / PARTIES_TOML
    scopes = _read_scopes(parties_file) if parties_file is not None else {}
    logged_in = [who for (who,) in index.select_rows(database, _LOGGED_IN)]
    if party is not None:
        if places:
            scopes = {party: _parse_scope(places)}
        if party not in scopes and (parties_file is not None or party not in logged_in):
            raise console.fault(party, "", "unknown party: see `ssps party list`")
        scopes = {party: scopes.get(party, scope.ALL)}
    elif not scopes:
        scopes = dict.fromkeys(logged_in, scope.ALL)
    filed = figures.filed_sheets(database)
    made = datetime.now(UTC)
    output.mkdir(parents=True, exist_ok=True)
    reports = []
    for name, its_scope in scopes.items():
        one = figures.party_report(database, name, its_scope, filed)
        (output / f"{name}.html").write_text(pages.party_page(one, made), encoding="utf-8")
        _write_csv(output / f"{name}.csv", [one])
        reports.append(one)
    if every:
        unequal = list(figures.unequally_linked(filed, scopes))
        page = pages.comparison_page(reports, unequal, made)
        (output / "index.html").write_text(page, encoding="utf-8")
        _write_csv(output / "sheets.csv", reports)
    page_file = output / ("index.html" if every else f"{party}.html")
    if as_json:
        counts = {one.party: {"sheets": len(one.sheets), "downloaded": one.downloaded}
                  for one in reports}  # fmt: skip
        click.echo(json.dumps({"report": str(page_file), "parties": counts}))
        return
    for one in reports:
        sheets = len(one.sheets)
        share = pages.format_share(one.downloaded, sheets)
        click.echo(f"{one.party}: {one.downloaded:,} of {sheets:,} downloaded ({share})")
    click.echo(page_file)


def _read_scopes(path: Path) -> Mapping[str, Scope]:
    """Read from a copy of parties.toml only the scopes of the parties that have a tree."""
    try:
        parties = tomllib.loads(path.read_text(encoding="utf-8")).get("party", [])
        return {
            each["id"]: scope.parse(each["scope"])
            for each in parties
            if each.get("kind") != "independent"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise console.fault(str(path), "", f"not a valid parties.toml ({error})") from None


def _parse_scope(places: Iterable[str]) -> Scope:
    listed = list(places)
    try:
        return scope.parse("all" if listed == ["all"] else listed)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _write_csv(path: Path, reports: Iterable[PartyReport]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for report in reports:
            for each in report.sheets:
                filed = each.filed
                writer.writerow(
                    (
                        report.party,
                        filed.path,
                        filed.time.isoformat(),
                        each.time.isoformat() if each.time else "",
                        "" if each.lag is None else f"{each.lag:.3f}",
                        filed.sha256 or "",
                        each.sha256 or "",
                    )
                )
