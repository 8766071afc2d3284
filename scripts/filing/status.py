"""`ssps status`: count the sheets that are expected, filed and missing; show the filing rate."""

import csv
import io
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from config import load, times
from config.fault import Faults
from config.site import LEDGERS, STATE, STORE
from keys.credentials import rotation
from keys.operations import (
    freshness,
    key_files,
    publisher_state,
    ring_files,
    server_state,
    site_keys,
)
from keys.operations.key_files import KeyFilesOnRecord
from keys.operations.publisher_state import PublisherState
from publisher.catalog.queries import coverage
from publisher.catalog.queries.coverage import Coverage, CoverageLine, MissingSheet
from publisher.results.reading import compare_with_sheets, count_results
from publisher.status import figures
from publisher.status.places import Places
from publisher.status.publishers import publishers
from scripts.access.key import rotate
from scripts.filing.live_status import StatusScreen
from scripts.shared import console

_COLUMNS = ("expected", "filed", "absent", "missing")
_RESULT_PLACES = ("cevre", "kurul")  # boxes are counted with and without results by these
_RESULT_COLUMNS = ("result and sheet", "only result", "only sheet", "neither")
# What a page may become, as it is counted here: a blank back is ignored.
SETTLED = ("filed", "versions", "duplicates", "quarantined", "ignored")
_SOMETHING_IS_WRONG = 3  # exit code of --check
_SLOW_SECONDS = 600.0  # a page that waits this much longer than `quiet_seconds` is reported
_MAX_TROUBLES = 10
_MAX_UNEXPECTED = 50
_MIN_FREE_BYTES = 1 << 30  # room for some thousand pages
_UNCONFIRMED_NOTICE = timedelta(days=1)  # a start that found unsigned records is named this long
_EXPIRY_NOTICE = timedelta(days=1)  # a party is named this long before its last credential ends


@click.command()
@click.option(
    "--by", type=click.Choice(list(coverage.GROUP_COLUMNS)), help="Print a line for each of these."
)
@click.option("--missing", "named", is_flag=True, help="List the missing sheets by box.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV for a spreadsheet.")
@click.option("--watch", is_flag=True, help="Refresh the figures until interrupted.")
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, hidden=True)
@click.option("--check", "checking", is_flag=True, help="Print only what is wrong; then exit 3.")
@click.argument("place", required=False)
@console.with_site
def status(
    by: str | None,
    named: bool,
    as_json: bool,
    as_csv: bool,
    watch: bool,
    every: float,
    checking: bool,
    place: str | None,
    site: Path,
) -> None:
    """Count expected, filed, absent and missing sheets.

    What is wrong now comes first: the publisher halts, pages wait but no publisher runs, a file or
    folder of the intake cannot be read, a page waits too long, a disk is nearly full, links are
    missing from a party's tree, a party's last credential ends within a day, a rotation was
    interrupted, records are not signed, or a start found unsigned records. With --check only that
    is printed, and the exit code is 3 if there is anything.

    If several hosts have a publisher, it says which one files and which ones read pages for it.

    Also counts the pages that were not filed (duplicates, in quarantine, waiting) and the links
    that are missing from a party's tree (gaps).

    With --by cevre or --by kurul it also counts the boxes with a result, a result sheet, both, or
    neither, once for each contest.

    PLACE limits --missing to 34-istanbul-1, 34-istanbul-1/kadikoy-2 or
    34-istanbul-1/kadikoy-2/1234.
    """
    if place and not named:
        raise click.UsageError("PLACE works only with --missing")
    if sum((as_json, as_csv, watch, checking)) > 1:
        raise click.UsageError("use only one of --json, --csv, --watch and --check")
    if checking:
        _check(site)
    elif watch:
        _watch(site, by or "cevre", every)
    elif named:
        _show_missing(site, place, as_json, as_csv)
    elif as_csv:
        click.echo(_csv(site, by), nl=False)
    elif as_json:
        taken = figures.take(load.load(site), datetime.now(UTC))
        counted: dict[str, Any] = {**taken.counted, **taken.as_dict()}
        if by:
            with coverage.open_coverage(site) as opened:
                lines: dict[str, Any] = {line.key: _numbers(line) for line in opened.lines(by)}
            if by == "cevre":
                for found in Places(site).lines():
                    lines[found.place] |= found.as_dict()
            for place, numbers in _results_by(site, by).items():
                lines.setdefault(place, {})["results"] = numbers
            counted["by"] = lines
        if hosts := publishers(site):
            counted["publishers"] = [host.as_dict() for host in hosts]
        counted["warnings"] = list(_warnings(site, counted))
        click.echo(json.dumps(counted))
    else:
        console.out.print(_screen(site, by))


def count_sheets(site: Path) -> dict[str, Any]:
    """Return the counts that `ssps status` shows."""
    return figures.counted(site)


_LABELS = {"ruled": "reviewed", "pages_a_second": "pages per second"}
_MEANING = {
    "filed": "sheets with at least one page filed",
    "versions": "later scans of sheets that were filed before",
    "quarantined": "not filed: see `ssps desk list`",
    "ruled": "quarantined and reviewed by operators",
    "waiting": "claimed from the intake, not filed yet",
    "in_intake": "not claimed yet",
    "ignored": "blank backs, and litter in the intake: see [intake] ignore_folders",
    "oldest_seconds": "how long the oldest page has waited (claimed or not)",
    "pages_a_second": "in the last minute",
    "gaps": "links missing from a party's tree: run `ssps verify`",
    "unexpected": "filed, and not in the registry any more",
    "missing": "see `ssps status --missing`",
    "results_expected": "results of boxes, one for each contest",
    "results_here": "see `ssps results coverage`",
    "results_rejected": "rows that were not accepted: see `ssps results quarantine`",
    "results_findings": "numbers that must agree and do not: see `ssps results check`",
}


def _screen(site: Path, by: str | None) -> Group:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    counted = count_sheets(site)
    figures = {key: value for key, value in counted.items() if key != "results"}
    figures |= {f"results_{key}": value for key, value in counted["results"].items()}
    for key, value in figures.items():
        share = ""
        if key == "filed" and counted["expected"]:
            done = value - counted["unexpected"]
            share = f"{100 * done / counted['expected']:.1f} %, "
        shown = "-" if value is None else f"{value:,}"
        label = _LABELS.get(key, key.replace("_", " "))
        table.add_row(label, shown, f"{share}{_MEANING.get(key, '')}")
    parts: list[RenderableType] = []
    if warnings := list(_warnings(site, counted)):
        parts += [*(Text(line, style="bold yellow") for line in warnings), Text()]
    parts.append(table)
    if by is not None:
        with coverage.open_coverage(site) as opened:
            parts += [Text(), _table(by, opened.lines(by))]
        if results := _results_by(site, by):
            parts += [Text(), _results_table(by, results)]
    if notes := list(_notes(site)):
        parts += [Text(), *(Text(line, style="dim") for line in notes)]
    return Group(*parts)


def _check(site: Path) -> None:
    warnings = list(_warnings(site, count_sheets(site)))
    for line in warnings:
        click.echo(line)
    if warnings:
        sys.exit(_SOMETHING_IS_WRONG)


def _notes(site: Path) -> Iterator[str]:
    """Yield what an operator may want to know and need not fix."""
    with coverage.open_coverage(site) as opened:
        for path, karekod in opened.unexpected_sheets(_MAX_UNEXPECTED):
            yield f"filed and no longer expected: {path} ({karekod})"
    yield from map(str, publishers(site))
    for state in publisher_state.read_all(site).values():
        for folder, cause in state.by_rescan_only:
            yield f"{folder}: new files are found by rescan only: {cause}"
        if state.held:
            yield f"{state.held:,} filed pages stay in the intake until nothing can write to them"


def _warnings(site: Path, counted: dict[str, Any]) -> Iterator[str]:
    """Yield what an operator must fix before filing stops or a party cannot log in."""
    settings = load.load(site)
    waiting = counted["waiting"] + counted["in_intake"]
    if waiting and not server_state.running(site, server_state.PUBLISH):
        advice = "start it, or check why with `systemctl status`"
        yield f"pages are waiting ({waiting:,}) but no publisher is running: {advice}"
    for part, seconds in server_state.hanging(site):
        yield f"`ssps {part}` has not done anything for {seconds:,.0f} s: it hangs, restart it"
    yield from _publisher_warnings(site)
    patience = settings.intake.quiet_seconds + _SLOW_SECONDS
    oldest = counted["oldest_seconds"]
    if waiting and oldest is not None and oldest > patience:
        yield f"the oldest page has waited for {oldest / 60:,.0f} minutes: see the publisher's log"
    if counted["gaps"]:
        yield f"{counted['gaps']:,} links are missing from parties' trees: run `ssps verify`"
    yield from _disk_warnings(site, settings.intake.folders)
    rings = []
    on_record = KeyFilesOnRecord(site)
    for party in settings.parties:
        if not party.mirrors or party.suspended:
            continue
        try:
            rings.append(ring_files.load(site, party.id, on_record))
        except Faults as error:
            yield from map(str, error.faults)
    yield from map(str, rotation.expiring(rings, datetime.now(UTC), _EXPIRY_NOTICE))
    yield from rotate.unfinished(site)
    # A ring that is refused is named above already.
    faults = site_keys.unrecorded(site, on_record)
    yield from (str(fault) for fault in faults if not key_files.holds_credentials(fault.file))
    yield from _ledger_warnings(site)


def _ledger_warnings(site: Path) -> Iterator[str]:
    """Yield what is wrong with the record: unsigned for too long, or unconfirmed."""
    now = datetime.now(UTC)
    for name, seconds in freshness.not_signed(site, now):
        hangs = "the process that signs it does not, see the log"
        yield f"{LEDGERS / name}: records have not been signed for {seconds:,.0f} s: {hangs}"
    for lack in freshness.behind_kept_checkpoints(site):
        advice = "it was rolled back, see docs/operate.md"
        yield f"{LEDGERS / lack.anchor.ledger}: {lack}: {advice}"
    for found in freshness.unconfirmed_since(site, now - _UNCONFIRMED_NOTICE):
        yield f"{LEDGERS / found.ledger}: {found}: see `ssps audit verify`"


def _publisher_warnings(site: Path) -> Iterator[str]:
    for host, state in publisher_state.read_all(site).items():
        yield from _warnings_of(state, f" of {host}" if host else "")


def _warnings_of(state: PublisherState, of_host: str) -> Iterator[str]:
    if state.halted is not None:
        cause, since = state.halted
        yield f"the publisher{of_host} has filed nothing since {since}: {cause}"
    for path, cause, advice, since in state.troubles[:_MAX_TROUBLES]:
        yield f"{path}: {cause}, since {since}" + (f": {advice}" if advice else "")
    if (more := state.trouble_count - _MAX_TROUBLES) > 0:
        yield f"and {more:,} more files or folders of the intake cannot be read"


def _disk_warnings(site: Path, intake: Iterable[Path]) -> Iterator[str]:
    seen = set()
    for folder in (site / STORE, site / STATE, site / LEDGERS, *intake):
        if not folder.exists() or (disk := folder.stat().st_dev) in seen:
            continue
        seen.add(disk)
        usage = shutil.disk_usage(folder)
        free = usage.free
        if usage.total and free < _MIN_FREE_BYTES:  # some shares do not say how large they are
            left = f"only {free / 1e6:,.0f} MB are free on its disk"
            yield f"{folder}: {left}: make room, or the publisher stops claiming pages"


def _results_by(site: Path, by: str) -> dict[str, dict[str, int]]:
    """Return how many boxes of each place have result and sheet; nothing if there is no result."""
    if by not in _RESULT_PLACES or count_results(site).here == 0:
        return {}
    return compare_with_sheets(site, by)


def _results_table(by: str, results: dict[str, dict[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(by, no_wrap=True)
    for name in _RESULT_COLUMNS:
        table.add_column(name, justify="right")
    for place, numbers in sorted(results.items()):
        table.add_row(place, *(f"{number:,}" for number in numbers.values()))
    return table


def _table(by: str, lines: list[CoverageLine]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(by, no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", min_width=20)
    for line in lines:
        done = line.filed + line.absent
        bar = ProgressBar(total=max(line.expected, 1), completed=done, width=20)
        table.add_row(line.key, *(f"{n:,}" for n in _numbers(line).values()), bar)
    return table


def _numbers(line: CoverageLine) -> dict[str, int]:
    return {name: getattr(line, name) for name in _COLUMNS}


def _csv(site: Path, by: str | None) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((by or "all", *_COLUMNS))
    with coverage.open_coverage(site) as opened:
        for line in opened.lines(by):
            writer.writerow((line.key, *_numbers(line).values()))
    return text.getvalue()


def _watch(site: Path, by: str, every: float) -> None:
    screen = _take_screen(site, by)
    with Live(screen, console=console.out, screen=console.out.is_terminal) as live:
        try:
            while True:
                time.sleep(every)
                try:
                    screen = _take_screen(site, by)
                except Faults as error:  # for example while an operator edits a settings file
                    screen = screen.with_faults([str(fault) for fault in error.faults])
                live.update(screen)
        except KeyboardInterrupt:
            return


def _take_screen(site: Path, by: str) -> StatusScreen:
    counted = count_sheets(site)
    with coverage.open_coverage(site) as opened:
        lines = opened.lines(by)
    at = times.format_time(datetime.now(UTC))
    return StatusScreen(at, counted, by, lines, list(_warnings(site, counted)))


def _show_missing(site: Path, place: str | None, as_json: bool, as_csv: bool) -> None:
    with coverage.open_coverage(site) as opened:
        if place and not opened.expects(place):
            raise click.UsageError(f"{place}: no such place in the registry")
        if as_csv:
            _missing_csv(opened, place)
            return
        for box, sheets in groupby(opened.missing(place), _box):
            named = [
                (f"{m.sheet.secim}-{m.sheet.belge}-s{m.sheet.page}", m.karekod) for m in sheets
            ]
            if as_json:
                names, karekods = zip(*named, strict=True)
                click.echo(json.dumps({"place": box, "sheets": names, "karekods": karekods}))
            else:
                click.echo(f"{box}: {'  '.join(f'{name} ({karekod})' for name, karekod in named)}")


def _missing_csv(opened: Coverage, place: str | None) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("karekod", "secim", "belge", "cevre", "kurul", "sandik", "sayfa"))
    for karekod, sheet in opened.missing(place):
        place_columns = (sheet.cevre or "", sheet.kurul or "", sheet.sandik or "")
        writer.writerow((karekod, sheet.secim, sheet.belge, *place_columns, sheet.page))


def _box(missing: MissingSheet) -> str:
    sheet = missing.sheet
    return "/".join(filter(None, (sheet.cevre, sheet.kurul, sheet.sandik))) or "(the election)"
