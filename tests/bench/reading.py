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
possible. The exit code is 1 if a kind is below its reach, a page is wrong, or a time is above its
limit.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import damaged_pages

from config.registry import RegistryEntry, is_karekod
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.filing.decide import identified
from publisher.page import MEASURE, ReadResult
from publisher.reading.worker import read_file
from publisher.reading.worker_client import ENVIRONMENT

ORDINARY = 99.5  # reach of the kinds that a good scanner delivers
MAX_MEDIAN, MAX_P95 = 20.0, 60.0  # ms, of ordinary pages


class Outcome(NamedTuple):
    """The result of reading one page."""

    kind: str
    read: bool
    wrong: bool
    misread: bool
    first: bool
    ms: float


def lookup(karekod: str) -> RegistryEntry:
    """Look up a karekod in a registry that contains every number of ten digits."""
    place = f"k-{karekod}"
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", place, "1", 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


def read(task: tuple[str, int, int]) -> Outcome:
    """Draw one page and read it."""
    name, number, seed = task
    kind = next(kind for kind in damaged_pages.KINDS if kind.name == name)
    content, karekod = damaged_pages.page(kind, number, seed)
    began = time.process_time()
    seen = read_file(content)
    ms = (time.process_time() - began) * 1000
    found = seen.fault or identified(seen.readings, lookup, 2)
    filed = found.karekod if isinstance(found, RegistryEntry) else None
    return Outcome(
        name,
        filed == karekod,
        filed not in (None, karekod),
        any(is_karekod(text) and text != karekod for text in seen.texts),
        filed == karekod and _first(seen),
        ms,
    )


def _first(seen: ReadResult) -> bool:
    scans = {reading.scan for reading in seen.readings if reading.engine != MEASURE}
    return scans == {"whole"}


def outcomes(tasks: list[tuple[str, int, int]], jobs: int) -> Iterator[Outcome]:
    """Read the pages on several cores, and yield the outcomes in any order."""
    os.environ.update(ENVIRONMENT)  # of the processes that are started now
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, outcome in enumerate(pool.imap_unordered(read, tasks, 8), start=1):
            if sys.stderr.isatty() and number % 20 == 0:
                print(f"\r{number} of {len(tasks)} pages", end="", file=sys.stderr)
            yield outcome
    if sys.stderr.isatty():
        print(file=sys.stderr)


def table(found: list[Outcome]) -> bool:
    """Print the table; return whether all goals were reached."""
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
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object for each page and no table"
    )
    given = parser.parse_args()
    kinds = given.kinds or [kind.name for kind in damaged_pages.KINDS]
    each = -(-given.pages // len(kinds)) if given.pages else 100
    tasks = [(kind, number, given.seed) for number in range(each) for kind in kinds]
    found = []
    for outcome in outcomes(tasks, given.jobs):
        found.append(outcome)
        if given.json:
            print(json.dumps(outcome._asdict()), flush=True)
    if not given.json:
        sys.exit(0 if table(found) else 1)


if __name__ == "__main__":
    main()
