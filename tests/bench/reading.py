"""How well and how fast damaged pages are read, kind by kind: prints a table.

Pages come from tests/damaged_pages.py, whose docstring says how strong each damage is; the same
seed gives the same pages. A page is `read` if the desk would file it under its own karekod, with
two witnesses, and `wrong` if under any other; to make that as easy as can be, the registry here
knows every ten digits there are. `first` is how many of a hundred pages the first pass over the
whole page was enough for, and so says how hard a kind is; `misread` counts pages on which anything
but the karekod was read at all, be it set aside.

Times are milliseconds of one core a page, file bytes in, decoding and all (user and system time,
which other work on the machine hardly touches). A kind that stays below its reach, a wrong read
or a time above its limit makes the exit code 1.
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
from publisher.page import ReadResult
from publisher.reading.worker import read_file

ORDINARY = 99.5  # the reach of what a good scanner delivers
MOST_MEDIAN, MOST_P95 = 20.0, 60.0  # ms, of ordinary pages


class Outcome(NamedTuple):
    """What became of one page."""

    kind: str
    read: bool
    wrong: bool
    misread: bool
    first: bool
    ms: float


def every(karekod: str) -> RegistryEntry:
    """A registry in which any ten digits are a sheet of their own."""
    place = f"k-{karekod}"
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", place, "1", 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


def read(task: tuple[str, int, int]) -> Outcome:
    """Draw one page and read it."""
    name, number, seed = task
    kind = next(kind for kind in damaged_pages.KINDS if kind.name == name)
    content, karekod = damaged_pages.page(kind, number, seed)
    begun = time.process_time()
    seen = read_file(content)
    ms = (time.process_time() - begun) * 1000
    found = identified(seen.readings, every, 2)
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
    return {reading.scan for reading in seen.readings} == {"whole"}


def outcomes(tasks: list[tuple[str, int, int]], jobs: int) -> Iterator[Outcome]:
    """Read pages on several cores, in any order."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for number, outcome in enumerate(pool.imap_unordered(read, tasks, 8), start=1):
            if sys.stderr.isatty() and number % 20 == 0:
                print(f"\r{number} of {len(tasks)} pages", end="", file=sys.stderr)
            yield outcome
    if sys.stderr.isatty():
        print(file=sys.stderr)


def table(found: list[Outcome]) -> bool:
    """Print it; say whether everything was reached."""
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
        reached &= statistics.median(times) <= MOST_MEDIAN and _p95(times) <= MOST_P95
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
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="scripts/bench reading", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pages", type=int, help="in all, instead of 100 of each kind")
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in damaged_pages.KINDS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--json", action="store_true", help="one object a page, no table")
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
