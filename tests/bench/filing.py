"""Measure how fast pages become files in every tree.

Pages are drawn at 200 dpi by tests/damaged_pages.py and renamed into the intake of a new site. Its
publisher is the real `ssps publish` with workers, sandbox and fsync. Times start at the rename and
end when the page is visible in the tree of the last party.

    ordinary    clean scans, all dropped at once
    hard mix    every kind of damage in turn, all dropped at once
    latency     ordinary pages at 10 %, 50 % and 90 % of the rate of the first row
    workers     ordinary pages with other numbers of workers and cores
    growth      the cost of a page, and the memory of the publisher, for other numbers of pages
                filed before and of parties; its pages share their bytes and use the simulated
                reader of the rehearsal
    waiting     how long it takes until the first of many pages is filed that wait when the
                publisher starts; the order of their names is not that of their age

Workers, growth and waiting measure filing without feed and signer; feed.py and ledger.py measure
those.

For some minutes after a large tree was deleted, ext4 is up to twenty times slower to create
folders, because it skips the freed inodes one by one. A page creates forty folders. So each
measurement waits until creating a folder is fast again, at most six minutes, and prints that it
waits. To avoid this, set TMPDIR to a file system of its own.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import damaged_pages
import office

from config import layout, load, registry
from config.load import HOST_VARIABLE
from config.registry import COLUMNS, RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from config.site import CATALOG, REGISTRY_INDEX
from keys.server_keys import host
from publisher import publish
from publisher.catalog import catalog
from publisher.catalog.queries import counts as catalog_counts
from publisher.reading.worker_client import WorkerClient
from scripts.daemons.run import stop_on_signal
from scripts.filing.status import count_sheets
from scripts.rehearsal import simulated_reader
from scripts.rehearsal.synthetic.scanner import PlannedScan
from scripts.shared.json_log import configure_logging

_BOXES_PER_BOARD = 180
_PROBES, _FAST_MKDIR = 500, 70.0  # folders to create, microseconds for each
_ORDINARY = ("clean",)
_SHARES = (0.1, 0.5, 0.9)  # of the rate at which pages are filed that are dropped at once
_MAX_SECONDS = 40.0  # in which pages are dropped at each of these rates


class Drawn(NamedTuple):
    """A drawn page: its file and its karekod."""

    path: Path
    karekod: str


class Rate(NamedTuple):
    """The result of a run: pages dropped, seconds, pages filed, CPU seconds of the publisher."""

    pages: int
    seconds: float
    filed: int
    cpu: float

    @property
    def a_second(self) -> float:
        return self.pages / self.seconds


def entry(number: int, karekod: str) -> RegistryEntry:
    """Return the registry entry of page `number`, the result sheet of a box of its own."""
    board, box = f"kurul-{number // _BOXES_PER_BOARD + 1}", str(number + 1)
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", board, box, 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


def make_site(folder: Path, parties: int, entries: list[RegistryEntry]) -> Path:
    """Create a site with this number of parties and these sheets in its registry."""
    parties_toml = "".join(
        f'[[party]]\nid = "parti-{n}"\nname = "{n}"\nkind = "party"\nscope = "all"\n'
        'static_ips = ["127.0.0.1"]\ncontact = { name = "", email = "", phone = "" }\n'
        for n in range(1, parties + 1)
    )
    site = office.site(folder, parties_toml=parties_toml)
    for name in ("intake", "state", "ledgers"):
        (site / name).mkdir()
    host.create_site_keys(site)
    (site / "keys").chmod(0o700)
    rows = [",".join(COLUMNS)]
    for one in entries:
        sheet = one.sheet
        rows.append(
            f"{one.karekod},{sheet.secim},{sheet.belge},{sheet.cevre},{sheet.kurul},"
            f"{one.sandik_turu},{sheet.sandik},,{sheet.page}"
        )
    (site / "registry.csv").write_text("\n".join([*rows, ""]))
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    return site


def draw(folder: Path, kinds: tuple[str, ...], count: int, seed: int) -> list[Drawn]:
    """Draw pages of these kinds in turn, on all cores; use pages that exist in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {kind.name: kind for kind in damaged_pages.OWN_CODES}
    wanted = [
        (known[name], number, seed, folder) for number, name in zip(range(count), cycle(kinds))
    ]
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(_draw, *zip(*wanted, strict=True), chunksize=8))
    return list({page.karekod: page for page in drawn}.values())


def _draw(kind: damaged_pages.Damage, number: int, seed: int, folder: Path) -> Drawn:
    stem = f"{kind.name}-{seed}-{number:06}"
    for path in folder.glob(f"{stem}-*"):
        return Drawn(path, path.name.rpartition("-")[2])
    made = damaged_pages.page(kind, number, seed)
    assert made.karekod
    path = folder / f"{stem}-{made.karekod}"
    path.write_bytes(made.content)
    return Drawn(path, made.karekod)


class Alone(NamedTuple):
    """The options of a publisher without feed and signer."""

    workers: int = 2
    cores: int = 2
    simulated: int = 0  # 1 to use the simulated reader of the rehearsal


_SIMULATED = Alone(simulated=1)


@contextmanager
def publishing(
    site: Path, alone: Alone | None = None, host: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a publisher on a site until the end of the `with` block; `host` names its host."""
    command = [sys.executable, "-m", "scripts.ssps", "publish", "--site", str(site)]
    if alone is not None:
        command = [sys.executable, __file__, "--publish", str(site), *map(str, alone)]
    with (site / f"publisher{host}.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, HOST_VARIABLE: host})
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def publish_alone(site: Path, alone: Alone) -> None:
    """Run a publisher without feed and signer in this process, until SIGTERM."""
    configure_logging("publish")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: alone.cores])
    new_client = simulated_reader.SimulatedReader if alone.simulated else WorkerClient
    with stop_on_signal() as stop:
        publish.publish(load.load(site), stop=stop, workers=alone.workers, new_client=new_client)


def settled(site: Path) -> int:
    """Return how many pages are filed, duplicates or in quarantine."""
    counts = catalog_counts.counts(site)
    return counts.filed + counts.versions + counts.duplicates + counts.quarantined


def until(done: Callable[[], bool], process: subprocess.Popen[bytes], pause: float = 0.02) -> None:
    """Wait until the publisher has done something; fail if it has exited."""
    while not done():
        if process.poll() is not None:
            raise SystemExit("the publisher exited: see publisher.log")
        time.sleep(pause)


def _is_settled(site: Path, pages: int) -> bool:
    return settled(site) >= pages


def cpu_of(first: int) -> float:
    """Return the CPU seconds of a process and of its workers, running or ended."""
    ticks = 0
    for pid in process_tree(first):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15] if pid == first else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def process_tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in task.read_text().split():
                found += process_tree(int(child))
    return found


def memory_of(process: subprocess.Popen[bytes]) -> float:
    """Return the memory of a process and its workers in megabytes, counting shared pages once."""
    kib = 0
    for pid in process_tree(process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib / 1024


def warm_up(site: Path, process: subprocess.Popen[bytes], pages: list[Drawn]) -> None:
    """File some pages first, so that the workers are running."""
    for page in pages:
        drop(site, page)
    until(lambda: settled(site) >= len(pages), process)


def drop(site: Path, page: Drawn) -> float:
    """Rename a copy of a page into the intake; return the time of the rename."""
    copy = site / f".{page.path.name}"
    shutil.copyfile(page.path, copy)
    copy.rename(site / "intake" / page.path.name)
    return time.monotonic()


def wait_for_fast_mkdir(folder: Path) -> None:
    """Wait until creating folders is fast. The probes stay, because deleting them is slow again."""
    for attempt in range(19):
        probes = folder / f"probes-{time.monotonic_ns()}"
        probes.mkdir(parents=True)
        began = time.perf_counter()
        for number in range(_PROBES):
            (probes / str(number)).mkdir()
        cost = (time.perf_counter() - began) / _PROBES * 1e6
        if cost < _FAST_MKDIR:
            return
        print(f"creating a folder takes {cost:.0f} us: waiting until it is faster", flush=True)
        if attempt < 18:
            time.sleep(20)


def rate(pages: list[Drawn], parties: int, folder: Path, alone: Alone | None = None) -> Rate:
    """Measure how fast pages are filed that are dropped all at once."""
    site = make_site(folder, parties, [entry(n, page.karekod) for n, page in enumerate(pages)])
    first, rest = pages[:16], pages[16:]
    with publishing(site, alone) as process:
        until(lambda: (site / CATALOG).exists(), process)
        warm_up(site, process, first)
        (site / "outside").mkdir()
        for page in rest:
            shutil.copyfile(page.path, site / "outside" / page.path.name)
        os.sync()
        before, cpu = catalog_counts.counts(site), cpu_of(process.pid)
        began = time.monotonic()
        for page in rest:
            (site / "outside" / page.path.name).rename(site / "intake" / page.path.name)
        until(lambda: settled(site) >= len(pages), process)
        seconds = time.monotonic() - began
        counts = catalog_counts.counts(site)
        return Rate(len(rest), seconds, counts.filed - before.filed, cpu_of(process.pid) - cpu)


def latency(pages: list[Drawn], parties: int, speed: float, folder: Path) -> list[float]:
    """Return the sorted seconds from the rename of each page to the tree of the last party."""
    entries = {page.karekod: entry(n, page.karekod) for n, page in enumerate(pages)}
    site = make_site(folder, parties, list(entries.values()))
    tree = site / "trees" / f"parti-{parties}"
    waiting: dict[Path, float] = {}
    took: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set() or waiting:
            for path, since in list(waiting.items()):
                if path.exists():
                    took.append(time.monotonic() - since)
                    del waiting[path]
            time.sleep(0.005)

    with publishing(site) as process:
        until(lambda: (site / CATALOG).exists(), process)
        warm_up(site, process, pages[:16])
        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.monotonic()
        for number, page in enumerate(pages[16:]):
            time.sleep(max(0.0, began + number / speed - time.monotonic()))
            placed = layout.path("2023-05-14-cb-mv", entries[page.karekod].sheet, 1, "jpg")
            waiting[tree / placed] = drop(site, page)
        until(lambda: settled(site) >= len(pages), process)
        time.sleep(1)
        stop.set()
        waiting.clear()  # pages that could not be read never appear in a tree
        watcher.join()
    return sorted(took)


class PageCost(NamedTuple):
    """The cost of a page with `before` pages filed before and this number of parties."""

    before: int
    parties: int
    pages: int
    ms: float
    cpu_ms: float
    memory: list[float]


def page_cost(before: int, parties: int, pages: int, folder: Path, steps: int = 10) -> PageCost:
    """Measure the cost of pages when the catalog has `before` rows already.

    The memory is measured `steps` times on the way.
    """
    entries = [entry(n, f"{1_000_000_000 + n}") for n in range(before + pages)]
    site = make_site(folder, parties, entries)
    fill(site, entries[:before], parties)
    settings = load.load(site)
    shared = simulated_reader.shared_scan(entries[0], settings.election, 1)
    memory: list[float] = []
    with publishing(site, _SIMULATED) as process:
        until(lambda: "tree-complete" in (site / "publisher.log").read_text(), process)
        cpu, began = cpu_of(process.pid), time.monotonic()
        done = settled(site)
        for start in range(0, pages, step := max(pages // steps, 1)):
            for number, one in enumerate(islice(entries, before + start, before + start + step)):
                page = simulated_reader.mark_page(
                    shared, PlannedScan(start + number, one, one.karekod)
                )
                (site / "new").write_bytes(page)
                (site / "new").rename(site / "intake" / f"{one.karekod}.jpg")
            expected = done + min(start + step, pages)
            until(partial(_is_settled, site, expected), process)
            memory.append(memory_of(process))
        seconds = time.monotonic() - began
        return PageCost(
            before,
            parties,
            pages,
            seconds / pages * 1000,
            (cpu_of(process.pid) - cpu) / pages * 1000,
            memory,
        )


class Backlog(NamedTuple):
    """How a publisher works off pages that wait when it starts."""

    waiting: int
    counted: int  # waiting pages according to `ssps status`
    first: float  # seconds until the first page is filed
    filed: int
    seconds: float  # until `filed` pages are filed
    memory: float
    oldest: int  # of the first `filed` pages claimed, how many are among the `filed` oldest


def backlog(waiting: int, filed: int, folder: Path) -> Backlog:
    """Start a publisher with `waiting` pages in the intake; the oldest have the last names."""
    entries = [entry(n, f"{1_000_000_000 + n}") for n in range(waiting)]
    site = make_site(folder, 1, entries)
    settings = load.load(site)
    shared = simulated_reader.shared_scan(entries[0], settings.election, 1)
    for number, one in enumerate(reversed(entries)):
        path = site / "intake" / f"{one.karekod}.jpg"
        path.write_bytes(simulated_reader.mark_page(shared, PlannedScan(number, one, one.karekod)))
        os.utime(path, ns=(0, number * 1_000_000_000))
    began = time.monotonic()
    with publishing(site, _SIMULATED) as process:
        until(lambda: _is_settled(site, 1), process, 0.005)
        first = time.monotonic() - began
        counts = count_sheets(site)
        until(partial(_is_settled, site, filed), process)
        seconds, memory = time.monotonic() - began, memory_of(process)
    with sqlite3.connect(site / CATALOG) as database:
        rows = database.execute("SELECT name FROM arrival ORDER BY id LIMIT ?", (filed,))
        names = {name for (name,) in rows}
    database.close()
    oldest = len(names & {f"{one.karekod}.jpg" for one in entries[-filed:]})
    counted = counts["in_intake"] + counts["waiting"]
    return Backlog(waiting, counted, first, filed, seconds, memory, oldest)


def fill(site: Path, entries: list[RegistryEntry], parties: int) -> None:
    """Add rows to the catalog as if these sheets had been filed, without creating files."""
    with catalog.Catalog(catalog.url(site)) as opened:
        for n in range(1, parties + 1):
            opened.mark_tree_complete(f"parti-{n}", "all")
        opened.commit()
    database = sqlite3.connect(site / CATALOG)
    database.execute("PRAGMA foreign_keys = OFF")
    for one in range(0, len(entries), 50_000):
        part = list(enumerate(entries[one : one + 50_000], start=one))
        database.executemany(
            "INSERT INTO arrival (id, name, source, source_stamp, received_at, state, outcome, "
            "stamp, sha256, what, evidence, decided_at, seq) "
            "VALUES (?, ?, x'', '0:0:0', ?, 'filed', 'filed', '0:0:0', ?, '', '{}', ?, ?)",
            (
                (f"20230514T{n:012}-{n:08x}", f"{n}.jpg", _THEN, f"{n:064x}", _THEN, n)
                for n, _ in part
            ),
        )
        database.executemany(
            "INSERT INTO filing (arrival, frame, secim, belge, cevre, kurul, sandik, page, "
            "version, karekod, sha256, path, filed_at, seq) "
            "VALUES (?, 1, ?, ?, ?, ?, ?, 1, 1, ?, ?, ?, 0, ?)",
            (
                (
                    f"20230514T{n:012}-{n:08x}", e.sheet.secim, e.sheet.belge, e.sheet.cevre,
                    e.sheet.kurul, e.sheet.sandik, e.karekod, f"{n:064x}",
                    layout.path("2023-05-14-cb-mv", e.sheet, 1, "jpg"), n,
                )
                for n, e in part
            ),
        )  # fmt: skip
    database.execute("UPDATE total SET number = ? WHERE name = 'filed'", (len(entries),))
    database.commit()
    database.close()
    with (site / "publisher.log").open("a") as log:
        log.write("tree-complete\n" * bool(entries))
    # The filing ledger continues at this number, without the earlier records.
    folder = site / "ledgers" / "filing"
    folder.mkdir(mode=0o700)
    (folder / f"{len(entries):012}.jsonl").touch(mode=0o600)


_THEN = "2023-05-14T14:00:00.000000+00:00"


def main() -> None:
    """Measure and print one line after the other, and at the end one JSON object."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench filing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--pages", type=int, default=800, help="ordinary pages, and as many damaged ones (800)"
    )
    parser.add_argument("--parties", type=int, default=40, help="number of parties (40)")
    parser.add_argument(
        "--filed",
        type=int,
        nargs="*",
        default=[10_000, 1_000_000],
        help="growth: pages filed before (10000 1000000)",
    )
    parser.add_argument(
        "--among",
        type=int,
        nargs="*",
        default=[1, 10, 100],
        help="growth: other numbers of parties (1 10 100)",
    )
    parser.add_argument(
        "--waiting", type=int, default=50_000, help="pages in the intake at the start (50000)"
    )
    parser.add_argument(
        "--flat", type=int, default=2_000, help="growth: pages to file in a run (2000)"
    )
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["speed", "workers", "growth"], help="only this part")
    parser.add_argument("--drawn", type=Path, metavar="DIR", help="keep and reuse drawn pages here")
    options = parser.parse_args()
    if options.publish:
        site, *numbers = options.publish
        publish_alone(Path(site), Alone(*map(int, numbers)))
        return
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="ssps-filing-") as name:
        work = Path(name)
        if options.only in (None, "speed"):
            found |= _speed(options, work)
        if options.only in (None, "workers"):
            found |= _workers(options, work)
        if options.only in (None, "growth"):
            runs = [(n, options.parties) for n in options.filed]
            runs += [(options.filed[0], n) for n in options.among if n != options.parties]
            for before, parties in runs:
                wait_for_fast_mkdir(work)
                one = page_cost(before, parties, options.flat, work / f"growth-{before}-{parties}")
                print(
                    f"growth: {before:>9,} filed before, {parties:>3} parties: {one.ms:6.2f} ms "
                    f"per page, {one.cpu_ms:6.2f} ms of CPU, {one.memory[0]:.0f} MB at first, "
                    f"{one.memory[-1]:.0f} MB after {one.pages:,} pages",
                    flush=True,
                )
                found[f"growth-{before}-{parties}"] = one._asdict()
            late = backlog(options.waiting, min(2000, options.waiting), work / "backlog")
            print(
                f"waiting: {late.waiting:,} at the start, {late.counted:,} counted by status; "
                f"first filed after {late.first:.1f} s, {late.filed:,} filed after "
                f"{late.seconds:.1f} s, {late.oldest:,} of them the oldest; {late.memory:.0f} MB",
                flush=True,
            )
            found["waiting"] = late._asdict()
    print(json.dumps(found))


def _speed(options: argparse.Namespace, work: Path) -> dict[str, object]:
    drawn = options.drawn or work / "drawn"
    hard = tuple(kind.name for kind in damaged_pages.OWN_CODES)
    found: dict[str, object] = {}
    for what, kinds in (("ordinary", _ORDINARY), ("hard mix", hard)):
        pages = draw(drawn, kinds, options.pages, 1)
        wait_for_fast_mkdir(work)
        one = rate(pages, options.parties, work / what.replace(" ", "-"))
        print(
            f"{what}: {one.a_second:.1f} pages per second into {options.parties} trees "
            f"({one.pages} pages, {one.filed} filed, {one.cpu / one.pages * 1000:.1f} ms of "
            "CPU per page)",
            flush=True,
        )
        found[what] = {**one._asdict(), "a_second": one.a_second}
        if what == "ordinary":
            for share in _SHARES:
                found[f"latency-{share}"] = _latency(options, work, pages, one.a_second, share)
    return found


def _latency(
    options: argparse.Namespace, work: Path, pages: list[Drawn], max_rate: float, share: float
) -> dict[str, float]:
    speed = max_rate * share
    some = pages[: 16 + min(len(pages), round(speed * _MAX_SECONDS))]
    wait_for_fast_mkdir(work)
    took = latency(some, options.parties, speed, work / f"latency-{share}")
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(
        f"latency at {speed:.1f} pages per second, {share:.0%} of that: p50 {p50:.3f} s, "
        f"p99 {p99:.3f} s, longest {took[-1]:.3f} s ({len(took)} pages)",
        flush=True,
    )
    return {"p50": p50, "p99": p99, "longest": took[-1], "rate": speed}


def _workers(options: argparse.Namespace, work: Path) -> dict[str, object]:
    pages = draw(options.drawn or work / "drawn", _ORDINARY, options.pages, 1)
    found: dict[str, object] = {}
    for workers, cores in ((1, 1), (1, 2), (2, 2), (4, 2)):
        wait_for_fast_mkdir(work)
        alone = Alone(workers, cores)
        one = rate(pages, options.parties, work / f"workers-{workers}-{cores}", alone)
        print(
            f"workers: {workers} on {cores} cores, {one.a_second:.1f} pages per second "
            f"({one.cpu / one.pages * 1000:.1f} ms of CPU per page)",
            flush=True,
        )
        found[f"workers-{workers}-cores-{cores}"] = {**one._asdict(), "a_second": one.a_second}
    return found


if __name__ == "__main__":
    main()
