"""`ssps results`: findings, the history of a box, and the rows that were not accepted."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from config import times
from config.fault import visible
from config.registry import Registry
from config.result import BOX_SHEET, ResultKey
from config.result_batch import BadRow
from config.sheet import Secim
from config.site import BALLOT_CSV, REGISTRY_INDEX, RESULTS
from publisher.catalog.queries.counts import open_read_only as open_catalog
from publisher.results.ballot_file import load_ballot
from publisher.results.checks.box import SheetVersion
from publisher.results.checks.finding import Check, Finding
from publisher.results.intake import ysk_rows
from publisher.results.reading import compare_with_sheets, open_results
from publisher.results.sheets import sheet_versions
from publisher.results.snapshots.headings import safe_text
from publisher.results.store import StoredResult
from scripts.shared import console


@click.group()
def results() -> None:
    """Show the results of the boards, their versions and checks."""


@results.command()
@click.option("--place", help="Only findings at this place or below: 34-istanbul-1/kadikoy-2.")
@click.option(
    "--check",
    "name",
    type=click.Choice([c.value for c in Check]),
    metavar="NAME",
    help="Only findings of this check. An unknown NAME lists all names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@console.with_site
def check(place: str | None, name: str | None, as_json: bool, as_csv: bool, site: Path) -> None:
    """List what the checks find, by check and place.

    A finding blocks nothing: the board's number counts. An error is a contradiction between
    numbers, a note is possible but unusual, a hint is statistical.
    """
    with open_results(site) as reader:
        found = [
            finding
            for finding in reader.findings()
            if (name is None or finding.check == name) and _is_at(finding.places, place)
        ]
    if as_json:
        click.echo(json.dumps([finding.as_json() for finding in found], ensure_ascii=False))
    elif as_csv:
        writer = csv.writer(sys.stdout, delimiter=";")
        writer.writerow(("check", "kind", "secim", "places", "numbers", "sheets"))
        writer.writerows(_csv_row(finding) for finding in found)
    else:
        for finding in found:
            numbers = ", ".join(f"{key} {value}" for key, value in finding.numbers.items())
            places = ", ".join(finding.places)
            click.echo(f"{finding.check.kind:<5} {finding.check:<26} {finding.secim:<2} {places}")
            click.echo(f"      {finding.check.says}{'  ' + numbers if numbers else ''}")
            for sheet in finding.sheets:
                click.echo(f"      sheet {sheet}")
        click.echo(f"{len(found)} findings", err=True)


@results.command()
@click.argument("box")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def show(box: str, as_json: bool, site: Path) -> None:
    """Show every version of the results of BOX.

    A BOX is given as 34-istanbul-1/kadikoy-2/1234.

    Prints reasons, the batch and the record that each came from, the signed sheet that was in the
    trees at that time, all versions of that sheet, and what the checks find.
    """
    cevre, kurul, sandik = _box(box)
    with open_results(site) as reader:
        versions = reader.history(cevre, kurul, sandik)
        findings = [f for f in reader.findings() if _is_at(f.places, _place(box))]
        names = reader.batch_names()
    if not versions:
        raise click.UsageError(f"{box} has no result yet")
    sheets = _sheets(site, {stored.result.key for stored in versions})
    if as_json:
        shown = {
            "box": _place(box),
            "versions": [_version_json(stored, names) for stored in versions],
            "sheets": [
                {"path": s.path, "version": s.version, "filed_at": times.format_time(s.filed_at)}
                for s in sheets
            ],
            "findings": [finding.as_json() for finding in findings],
        }
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    for stored in versions:
        result = stored.result
        click.echo(
            f"{result.key.secim}  version {result.version}{'  counts' if stored.newest else ''}"
            f"  {times.format_time(result.time)}  {visible(result.reason)}"
        )
        numbers = ", ".join(f"{k} {v}" for k, v in result.numbers().items() if v is not None)
        click.echo(f"    {numbers}")
        click.echo("    " + ", ".join(f"{o} {n}" for o, n in sorted(result.votes.items())))
        click.echo(f"    batch {names.get(stored.batch, stored.batch)}, line {stored.line}")
        click.echo(f"    record {stored.seq} of the results ledger, row sha256 {stored.digest}")
        click.echo(f"    sheet {stored.sheet.path or 'none when the result arrived'}")
    for sheet in sheets:
        filed = times.format_time(sheet.filed_at)
        click.echo(f"sheet version {sheet.version}, filed at {filed}: {sheet.path}")
    for finding in findings:
        click.echo(f"{finding.check.kind}  {finding.check}: {finding.check.says}")


def _sheets(site: Path, keys: set[ResultKey]) -> list[SheetVersion]:
    """Return every filed version of the result sheets of a box, by contest."""
    with open_catalog(site) as catalog:
        found = sheet_versions(catalog, keys)
    return [sheet for key in sorted(found, key=str) for sheet in found[key]]


@results.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@console.with_site
def quarantine(as_json: bool, as_csv: bool, site: Path) -> None:
    """List the rows that were rejected.

    For each row: its batch, its line, why it was rejected, and its original text.
    """
    with open_results(site) as reader:
        names = reader.batch_names()
        rows = [
            {
                "batch": names.get(row.batch, row.batch),
                "line": row.line,
                "reason": row.fault,
                "message": row.message,
                "place": row.place,
                "row": row.text,
            }
            for row in reader.quarantined()
        ]
    _print(rows, ("batch", "line", "reason", "message", "place", "row"), as_json, as_csv)


@results.command()
@click.option("--secim", type=click.Choice([s.value for s in Secim]), help="Only this contest.")
@click.option("--place", help="Only results at this place or below: 34-istanbul-1/kadikoy-2.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@console.with_site
def history(secim: str | None, place: str | None, as_json: bool, as_csv: bool, site: Path) -> None:
    """List every result that was changed.

    For each: the new version, its reason, and every number that changed, old and new.
    """
    with open_results(site) as reader:
        rows = [
            {
                "secim": stored.result.key.secim.value,
                "place": stored.result.key.place,
                "version": stored.result.version,
                "reason": stored.result.reason,
                "time": times.format_time(stored.result.time),
                "changed": _changed(before, stored),
                "sheet": stored.sheet.path,
            }
            for before, stored in reader.corrections()
            if secim in (None, stored.result.key.secim.value)
            and _is_at((stored.result.key.place,), place)
        ]
    columns = ("secim", "place", "version", "reason", "time", "changed", "sheet")
    _print(rows, columns, as_json, as_csv)


def _changed(before: StoredResult | None, after: StoredResult) -> str:
    """Return the numbers that differ, for example `gecersiz 5 -> 6`."""
    if before is None:
        return "the version before it has not arrived"
    old, new = _numbers(before), _numbers(after)
    return ", ".join(
        f"{name} {'-' if old.get(name) is None else old[name]} -> "
        f"{'-' if new.get(name) is None else new[name]}"
        for name in dict.fromkeys((*new, *old))
        if old.get(name) != new.get(name)
    )


def _numbers(stored: StoredResult) -> dict[str, int | None]:
    votes = {f"oylar.{option}": number for option, number in stored.result.votes.items()}
    return stored.result.numbers() | votes


@results.command("import")
@click.argument("rows", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("headings", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be delivered, and deliver nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def import_(rows: Path, headings: Path, dry_run: bool, as_json: bool, site: Path) -> None:
    """Put an export of YSK's interface into results/ as a batch.

    ROWS is a saved answer of getSecimSandikSonucList, HEADINGS one of
    getSandikSecimSonucBaslikList. Rows whose box or option is unknown are named and left out;
    exit code 1 if there are any.
    """
    found = load_ballot(site)
    if found is None:
        raise console.fault(BALLOT_CSV, "", "is missing: run `ssps ballot import FILE.csv`")
    index = BoxIndex(site / REGISTRY_INDEX)
    converted = list(ysk_rows.convert(_json_array(rows), _json_array(headings), index, found))
    good = [row for row in converted if not isinstance(row, BadRow)]
    bad = [row for row in converted if isinstance(row, BadRow)]
    for row in bad:
        wrong = visible(row.message)
        click.echo(f"{rows.name}: row {row.line}: {row.fault}: {wrong}", err=True)
    name = f"{rows.stem}-{uuid4().hex[:8]}.ndjson"
    if good and not dry_run:
        fresh = site / RESULTS / f".{name}.part"
        lines = (f"{json.dumps(row)}\n" for row in good)
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.replace(site / RESULTS / name)
    if as_json:
        fields = {"rows": len(good), "left_out": len(bad), "dry_run": dry_run}
        click.echo(json.dumps({**fields, "batch": None if dry_run or not good else name}))
    elif good:
        place = "not delivered (dry run)" if dry_run else f"in results/{name}"
        click.echo(f"{len(good)} rows {place}, {len(bad)} left out")
    sys.exit(int(bool(bad)))


def _json_array(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise console.fault(file.name, "", f"is not JSON ({error})") from None
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise console.fault(file.name, "", "is not a JSON array of objects")
    return content


class BoxIndex:
    """The boxes of the registry by number, read once for each contest."""

    def __init__(self, index: Path) -> None:
        self._index = index
        self._boxes: dict[Secim, dict[str, list[tuple[str, str, str]]]] = {}

    def boxes_numbered(self, secim: Secim, sandik: str) -> list[tuple[str, str, str]]:
        """Return district, board and kind of every box with that number in a contest."""
        if secim not in self._boxes:
            registry = Registry(self._index)
            by_number: dict[str, list[tuple[str, str, str]]] = {}
            for box in registry.boxes(secim, BOX_SHEET):
                by_number.setdefault(box[2], []).append((box[0], box[1], box[3]))
            registry.close()
            self._boxes[secim] = by_number
        return self._boxes[secim].get(sandik, [])


@results.command()
@click.option(
    "--by",
    type=click.Choice(["cevre", "kurul"]),
    default="cevre",
    show_default=True,
    help="Print a line for each of these.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@console.with_site
def coverage(by: str, as_json: bool, as_csv: bool, site: Path) -> None:
    """Count boxes with and without results, by district or board.

    Counts the boxes with a result, a signed sheet, both, or neither.
    """
    rows = [{by: place, **line} for place, line in compare_with_sheets(site, by).items()]
    _print(rows, (by, "both", "result_only", "sheet_only", "neither"), as_json, as_csv)


def _print(
    rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool, as_csv: bool
) -> None:
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    if as_csv:
        writer = csv.writer(sys.stdout, delimiter=";")
        writer.writerow(columns)
        writer.writerows([_cell(row[column]) for column in columns] for row in rows)
        return
    for row in rows:
        named = (
            f"{column} {row[column]}" if isinstance(row[column], int) else str(row[column])
            for column in columns
            if row[column] != ""
        )
        click.echo(visible("  ".join(named)))  # rows come from outside: escape control codes
    click.echo(f"{len(rows)} rows", err=True)


def _cell(value: object) -> object:
    return safe_text(visible(value)) if isinstance(value, str) else value


def _csv_row(finding: Finding) -> Iterator[str]:
    yield finding.check.value
    yield finding.check.kind.value
    yield finding.secim.value
    yield ", ".join(finding.places)
    yield ", ".join(f"{key}={value}" for key, value in finding.numbers.items())
    yield ", ".join(finding.sheets)


def _version_json(stored: StoredResult, names: dict[str, str]) -> dict[str, Any]:
    result = stored.result
    return {
        "secim": result.key.secim.value,
        "belge": result.key.belge.value,
        "surum": result.version,
        "neden": result.reason,
        "zaman": times.format_time(result.time),
        **result.numbers(),
        "oylar": dict(result.votes),
        "newest": stored.newest,
        "batch": names.get(stored.batch, stored.batch),
        "line": stored.line,
        "seq": stored.seq,
        "digest": stored.digest,
        "sheet": stored.sheet.path or None,
    }


def _box(box: str) -> tuple[str, str, str]:
    parts = box.strip("/").split("/")
    if len(parts) != 3:
        raise click.UsageError(f"{box!r} is not a box: write it as 34-istanbul-1/kadikoy-2/1234")
    return parts[0], parts[1], parts[2].removeprefix("sandik-")


def _place(text: str) -> str:
    parts = text.strip("/").split("/")
    if len(parts) == 3 and not parts[2].startswith("sandik-"):
        parts[2] = f"sandik-{parts[2]}"
    return "/".join(parts)


def _is_at(places: Iterable[str], at: str | None) -> bool:
    if at is None:
        return True
    wanted = _place(at)
    return any(place == wanted or place.startswith(f"{wanted}/") for place in places)
