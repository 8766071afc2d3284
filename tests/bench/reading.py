"""Measure how well and how fast damaged pages are read, for each kind of damage.

The pages come from tests/damaged_pages.py, whose docstring describes each kind; the same seed gives
the same pages. It prints a table with one row for each kind:

    n            pages
    read %       pages that would be filed under their karekod, with two agreeing readings
    reach        the lowest `read %` that is accepted
    first %      pages for which the first pass over the whole page was enough
    misread      pages on which any reading was another karekod, even if it was discarded
    wrong        pages that would be filed under another karekod
    median, p95  milliseconds of one core per page (user and system time), from the bytes of the
                 file to the readings

The registry here contains every number of ten digits, so that a wrong reading is as likely as
possible. As in the publisher, the usual place of print is learned from the first pages of each
contest and sheet type (publisher/catalog/print_maps), here those of the ordinary kinds; the last
line says how many pages would be filed wrongly before that. The exit code is 1 if a kind is below
its reach, a page is wrong, or a time is above its limit.

With `--keep DIR` a run may be stopped and started again. Each page is drawn once and kept in
`pages/KIND/SEED-NUMBER-KAREKOD`. Each outcome is a line of `outcomes.ndjson`, with the digest of
the code that read the page; a page is read again only after that code has changed. Pages are taken
in turns from each kind, so a run that was stopped (Ctrl-C, SIGTERM) prints a table of all kinds.
"""

import argparse
import base64
import hashlib
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import damaged_pages
import numpy as np

from config.registry import RegistryEntry, is_karekod
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.filing.decide import identified
from publisher.page import MEASURE, ReadResult
from publisher.print_map import COLUMNS, ROWS, UsualPrint, is_beside_its_code
from publisher.reading.worker import read_file
from publisher.reading.worker_client import ENVIRONMENT

ORDINARY = 99.5  # reach of the kinds that a good scanner delivers
MAX_MEDIAN, MAX_P95 = 20.0, 60.0  # ms, of ordinary pages
LEARNED = 200  # pages of each contest and sheet type
_ROOT = Path(__file__).parents[2]
_READER = (
    *("publisher/reading", "publisher/filing/decide.py"),
    *("publisher/page.py", "publisher/print_map.py"),
)
_BACK = "back"  # in the name of a page without a karekod

Task = tuple[str, int, int]  # kind, number, seed


class Outcome(NamedTuple):
    """The result of reading one page."""

    kind: str
    number: int
    seed: int
    karekod: str | None
    filed: str | None
    misread: bool
    first: bool
    ms: float
    print_map: str | None

    @property
    def read(self) -> bool:
        """Whether the page would be filed under its karekod, or a blank back not at all."""
        return self.filed == self.karekod

    @property
    def wrong(self) -> bool:
        """Whether the page would be filed under another karekod."""
        return self.filed is not None and self.filed != self.karekod


def lookup(karekod: str) -> RegistryEntry:
    """Look up a karekod in a registry that contains every number of ten digits."""
    place = f"k-{karekod}"
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", place, "1", 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


def read(task: Task, kept: Path | None = None) -> Outcome:
    """Draw one page, or take the one that was kept, and read it."""
    name, number, seed = task
    content, karekod = _page(task, kept)
    began = time.process_time()
    seen = read_file(content)
    ms = (time.process_time() - began) * 1000
    found = seen.fault or identified(seen.readings, lookup, 2)
    filed = found.karekod if isinstance(found, RegistryEntry) else None
    return Outcome(
        name,
        number,
        seed,
        karekod,
        filed,
        any(is_karekod(text) and text != karekod for text in seen.texts),
        filed == karekod and _first(seen),
        ms,
        base64.b64encode(seen.print_map).decode() if seen.print_map else None,
    )


def _page(task: Task, kept: Path | None) -> damaged_pages.DamagedPage:
    name, number, seed = task
    folder = kept / "pages" / name if kept else None
    if folder:
        for file in folder.glob(f"{seed}-{number}-*"):
            karekod = file.name.rpartition("-")[2]
            return damaged_pages.DamagedPage(
                file.read_bytes(), None if karekod == _BACK else karekod
            )
    kind = next(kind for kind in damaged_pages.KINDS if kind.name == name)
    page = damaged_pages.page(kind, number, seed)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        drawing = folder / f".{seed}-{number}"
        drawing.write_bytes(page.content)
        drawing.rename(folder / f"{seed}-{number}-{page.karekod or _BACK}")
    return page


def reader_digest() -> str:
    """Return the digest of the code that reads pages and decides on them."""
    state = hashlib.sha256()
    for place in _READER:
        path = _ROOT / place
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".npz"):
                state.update(file.read_bytes())
    return state.hexdigest()[:16]


def _first(seen: ReadResult) -> bool:
    scans = {reading.scan for reading in seen.readings if reading.engine != MEASURE}
    return scans == {"whole"}


def outcomes(tasks: list[Task], jobs: int, kept: Path | None = None) -> Iterator[Outcome]:
    """Read the pages on several cores, and yield the outcomes in any order."""
    os.environ.update(ENVIRONMENT)  # of the processes that are started now
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        done = pool.imap_unordered(partial(read, kept=kept), tasks, 8)
        for number, outcome in enumerate(done, start=1):
            if sys.stderr.isatty() and number % 20 == 0:
                print(f"\r{number} of {len(tasks)} pages", end="", file=sys.stderr)
            yield outcome
    if sys.stderr.isatty():
        print(file=sys.stderr)


def known_outcomes(kept: Path) -> list[Outcome]:
    """Return the outcomes of earlier runs of the same code."""
    reader, file = reader_digest(), kept / "outcomes.ndjson"
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            fields = json.loads(line)
        except ValueError:  # the run was killed while it wrote the line
            continue
        if fields.pop("reader") == reader:
            found.append(Outcome(**fields))
    return found


def kept_outcomes(
    tasks: list[Task], jobs: int, kept: Path, known: list[Outcome]
) -> Iterator[Outcome]:
    """Yield what is known of the pages, then read the others."""
    kept.mkdir(parents=True, exist_ok=True)
    reader, file = reader_digest(), kept / "outcomes.ndjson"
    missing = dict.fromkeys(tasks)
    for outcome in known:
        if outcome[:3] in missing:
            del missing[outcome[:3]]
            yield outcome
    with file.open("a") as lines:
        for outcome in outcomes(list(missing), jobs, kept):
            lines.write(json.dumps({"reader": reader, **outcome._asdict()}) + "\n")
            lines.flush()
            yield outcome


def decided(found: list[Outcome], known: list[Outcome]) -> list[Outcome]:
    """Return the outcomes after the usual print maps were learned from the pages that are known."""
    ordinary = {kind.name for kind in damaged_pages.KINDS if kind.reach == ORDINARY}
    usual: dict[tuple[str, str], UsualPrint] = {}
    for page in sorted(known, key=lambda page: page.number):
        if page.kind in ordinary and page.filed and page.print_map:
            kind = _sheet_kind(page.filed)
            before = usual.get(kind, UsualPrint(0, np.zeros((ROWS, COLUMNS))))
            if before.pages < LEARNED:
                usual[kind] = before.plus(base64.b64decode(page.print_map))
    after = []
    for page in found:
        if page.filed and page.print_map and (place := usual.get(_sheet_kind(page.filed))):
            print_map = base64.b64decode(page.print_map)
            if is_beside_its_code(print_map, place, usual.values()):
                page = page._replace(filed=None, first=False)
        after.append(page)
    return after


def _sheet_kind(karekod: str) -> tuple[str, str]:
    sheet = damaged_pages.form_entry(damaged_pages.form_number(karekod)).sheet
    return sheet.secim.value, sheet.belge.value


def table(found: list[Outcome], known: list[Outcome]) -> bool:
    """Print the table; return whether all goals were reached."""
    wrong_before = sum(page.wrong for page in found)
    found = decided(found, known)
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in found:
        by_kind[outcome.kind].append(outcome)
    print(
        f"{'kind':<15}{'n':>7}{'read %':>9}{'reach':>7}{'first %':>9}"
        f"{'misread':>9}{'wrong':>7}{'median ms':>11}{'p95 ms':>8}"
    )
    reached = True
    for kind in damaged_pages.KINDS:
        if pages := by_kind.get(kind.name):
            share = _share(page.read for page in pages)
            enough = share >= kind.reach
            reached &= enough
            print(_line(kind.name, pages, f"{kind.reach:g}", "" if enough else "  below"))
    print(_line("all", found, "", ""))
    ordinary = [
        page
        for kind in damaged_pages.KINDS
        if kind.reach == ORDINARY
        for page in by_kind[kind.name]
    ]
    if ordinary:
        print(_line("ordinary", ordinary, "", ""))
        times = [page.ms for page in ordinary]
        reached &= statistics.median(times) <= MAX_MEDIAN and _p95(times) <= MAX_P95
    print(f"wrong before the usual print maps are learned: {wrong_before}")
    return reached and not any(page.wrong for page in found)


def _line(name: str, pages: list[Outcome], reach: str, remark: str) -> str:
    times = [page.ms for page in pages]
    shares = (
        f"{_share(p.read for p in pages):>9.2f}{reach:>7}{_share(p.first for p in pages):>9.1f}"
    )
    counts = f"{sum(p.misread for p in pages):>9}{sum(p.wrong for p in pages):>7}"
    took = f"{statistics.median(times):>11.1f}{_p95(times):>8.1f}"
    return f"{name:<15}{len(pages):>7}{shares}{counts}{took}{remark}"


def _share(of: Iterator[bool]) -> float:
    every_one = list(of)
    return 100 * sum(every_one) / len(every_one)


def _p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def main() -> None:
    """Draw and read the pages, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench reading", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pages", type=int, help="pages in total (100 of each kind)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=[kind.name for kind in damaged_pages.KINDS],
        help="only these kinds",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same pages (1)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (one per core)")
    parser.add_argument("--keep", type=Path, help="a folder for the pages and the outcomes")
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each page and no table"
    )
    given = parser.parse_args()
    kinds = given.kinds or [kind.name for kind in damaged_pages.KINDS]
    each = -(-given.pages // len(kinds)) if given.pages else 100
    tasks = [(kind, number, given.seed) for number in range(each) for kind in kinds]
    known: list[Outcome] = []
    if given.keep:
        known = known_outcomes(given.keep)
        every_outcome = kept_outcomes(tasks, given.jobs, given.keep, known)
    else:
        every_outcome = outcomes(tasks, given.jobs)
    found = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for outcome in every_outcome:
            found.append(outcome)
            if given.json:
                print(json.dumps(outcome._asdict()), flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {len(found)} of {len(tasks)} pages", file=sys.stderr)
    if not given.json:
        sys.exit(0 if table(found, [*known, *found]) and len(found) == len(tasks) else 1)


if __name__ == "__main__":
    main()
