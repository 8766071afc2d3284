"""`ssps audit report`: report on one party or compare all, as HTML, PDF and CSV files.

The ledgers are verified first. The files are for people who were not there, such as a court: they
name the signed roots, explain their words, and are signed.
"""

import csv
import io
import json
import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config import load, scope, times
from config.fault import Faults
from config.scope import Scope
from config.site import PARTIES_TOML
from keys.operations import site_keys
from keys.server_keys import sshsig
from scripts.audit import evidence, index
from scripts.audit.report import figures, html_file, pages, pdf_file
from scripts.audit.report import proof as proofs
from scripts.audit.report.document import Document
from scripts.audit.report.figures import PartyReport
from scripts.audit.report.pages import Setting
from scripts.audit.report.proof import Proof
from scripts.audit.report.words import Language, Words
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
@click.option(
    "--lang",
    type=click.Choice(["tr", "en"]),
    default="tr",
    show_default=True,
    help="Language of the report.",
)
@click.option("--title", help="The election's title. Default: the site's.")
@evidence.key_option
@click.option(
    "--unverified",
    is_flag=True,
    help="Write the report even if the ledgers do not verify. Each page says so.",
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
    lang: Language,
    title: str | None,
    key_files: tuple[Path, ...],
    unverified: bool,
    as_json: bool,
    site: Path | None,
) -> None:
    """Write a report on PARTY, or on all parties.

    What it was entitled to, what it downloaded and when, what was not granted.

    With --all, report on all parties, and show whether they were treated equally.

    The ledgers are verified first, as `ssps audit verify` does. If a record does not match what was
    signed, nothing is written and the exit code is 1. On a site, each file is signed with the
    site's key.
    """
    if every == (party is not None):
        raise click.UsageError("name one PARTY, or use --all")
    sources = evidence.find(folders, key_files, site, with_keys=not unverified)
    proof = _prove(sources, None if folders else site, unverified)
    database = index.open_index(sources.ledgers)
    if parties_file is None and site is not None:
        parties_file = site / PARTIES_TOML
    scopes, names = _read_parties(parties_file) if parties_file is not None else ({}, {})
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
    key = _signing_key(site)
    zone, its_title = _election(site)
    made = datetime.now(UTC)
    setting = Setting(
        Words(lang), zone, made, title or its_title, names, proof, signed=key is not None
    )
    output.mkdir(parents=True, exist_ok=True)
    files = _Files(output, made, key)
    reports = []
    for name, its_scope in scopes.items():
        one = figures.party_report(database, name, its_scope, filed)
        files.write_document(name, pages.party_document(one, setting))
        files.write_csv(name, [one])
        reports.append(one)
    if every:
        unequal = list(figures.unequally_linked(filed, scopes))
        files.write_document("index", pages.comparison_document(reports, unequal, setting))
        files.write_csv("sheets", reports)
    page_file = output / ("index.html" if every else f"{party}.html")
    verified = proof is not None and proof.verified
    if as_json:
        counts = {one.party: {"sheets": len(one.sheets), "downloaded": one.downloaded}
                  for one in reports}  # fmt: skip
        fields = {"report": str(page_file), "pdf": str(page_file.with_suffix(".pdf")),
                  "verified": verified, "signed": key is not None, "parties": counts}  # fmt: skip
        click.echo(json.dumps(fields))
        return
    for one in reports:
        sheets = len(one.sheets)
        share = pages.format_share(one.downloaded, sheets, Words("en"))
        click.echo(f"{one.party}: {one.downloaded:,} of {sheets:,} downloaded ({share})")
    click.echo("the ledgers were not verified" if not verified else "all records verified")
    click.echo(page_file)


class _Files:
    """Writes the files of a report into a folder, each with a signature if there is a key."""

    def __init__(self, folder: Path, made: datetime, key: Ed25519PrivateKey | None) -> None:
        self._folder = folder
        self._made = made
        self._key = key

    def write_document(self, name: str, document: Document) -> None:
        """Write a document as HTML and as PDF."""
        self._write(f"{name}.html", html_file.render(document).encode())
        self._write(f"{name}.pdf", pdf_file.render(document, self._made))

    def write_csv(self, name: str, reports: Iterable[PartyReport]) -> None:
        """Write the times of all sheets as CSV."""
        self._write(f"{name}.csv", _format_csv(reports).encode())

    def _write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)
        signature = self._folder / f"{name}.sig"
        if self._key is not None:
            signature.write_bytes(sshsig.sign(self._key, content))
        else:
            signature.unlink(missing_ok=True)  # of an earlier report


def _prove(sources: evidence.Evidence, site: Path | None, unverified: bool) -> Proof | None:
    """Verify the ledgers; raise Faults if they do not verify, unless `unverified`."""
    if unverified and not sources.keys:
        return None
    proof = proofs.prove(sources, site)
    if proof.findings and not unverified:
        for ledger, finding in proof.findings:
            click.echo(f"{ledger}: {finding}", err=True)
        advice = "no report was written: find the cause, or use --unverified to write it anyway"
        raise console.fault(proof.findings[0][0], "", f"does not verify, {advice}")
    return proof


def _signing_key(site: Path | None) -> Ed25519PrivateKey | None:
    """Return the site's key, or None where it cannot be read: an auditor has copies only."""
    if site is None:
        return None
    try:
        return site_keys.signing_key(site)
    except Faults as faults:
        click.echo(f"the report is not signed: {faults}", err=True)
        return None


def _election(site: Path | None) -> tuple[tzinfo, str]:
    """Return the zone and the title of the site's election."""
    if site is None:
        return times.TURKEY, ""
    election = load.load(site).election
    return election.opens.tzinfo or times.TURKEY, election.title


def _read_parties(path: Path) -> tuple[Mapping[str, Scope], dict[str, str]]:
    """Read from a copy of parties.toml only scope and name of the parties that have a tree."""
    try:
        parties = [
            each
            for each in tomllib.loads(path.read_text(encoding="utf-8")).get("party", [])
            if each.get("kind") != "independent"
        ]
        scopes = {each["id"]: scope.parse(each["scope"]) for each in parties}
        return scopes, {each["id"]: str(each.get("name", "")) for each in parties}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise console.fault(str(path), "", f"not a valid parties.toml ({error})") from None


def _parse_scope(places: Iterable[str]) -> Scope:
    listed = list(places)
    try:
        return scope.parse("all" if listed == ["all"] else listed)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _format_csv(reports: Iterable[PartyReport]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for report in reports:
        for each in report.sheets:
            filed = each.filed
            writer.writerow(
                (
                    report.party,
                    filed.path,
                    times.format_time(filed.time),
                    times.format_time(each.time) if each.time else "",
                    "" if each.lag is None else f"{each.lag:.3f}",
                    filed.sha256 or "",
                    each.sha256 or "",
                )
            )
    return text.getvalue()
