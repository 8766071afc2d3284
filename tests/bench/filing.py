"""How fast pages become files in every tree: scripts/bench filing --help.

Pages are drawn at 200 dpi by tests/damaged_pages.py and renamed into the intake of a site of its
own, whose publisher is `ssps publish` as anybody runs it: workers, cage, fsync and all. A rename
counts from the moment it was made to the moment the page can be seen in the tree of the last party.

    ordinary      clean scans, all there at once
    hard mix      every kind of damage in turn, all there at once
    latency       ordinary pages at a tenth, a half and nine tenths of the speed of the first row
    workers       ordinary pages again, by so many workers on so many cores
    growth        cost of a page with so many filed before, and with so many parties; its pages
                  share their bytes and are read by the stand-in of the rehearsal
    memory        of that publisher, over so many pages
    waiting       how soon the first is filed where so many were there at the start, and what that
                  takes; their names are in no order

Workers, growth and waiting are of the filing alone: what feed and notary cost beside it, and how
that grows, feed.py and ledger.py print.

For some minutes after a large tree was removed, ext4 passes over the inodes that this gave up one
by one, and a folder, of which a page makes forty, costs up to twenty times as much. So each
measurement first waits until folders are cheap, six minutes at most, and says so; in TMPDIR a file
system of its own need not be waited for.
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
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import damaged_pages
import office

from config import layout, load, registry
from config.registry import COLUMNS, RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from config.site import CATALOG, REGISTRY_INDEX
from keys.server_keys import host
from publisher import publish
from publisher.catalog import catalog
from publisher.catalog import counts as catalog_counts
from publisher.reading.worker_client import WorkerClient
from scripts.daemons.run import stop_on_signal
from scripts.filing.status import count_sheets
from scripts.rehearsal import simulated_reader
from scripts.rehearsal.scanner import PlannedScan
from scripts.shared.json_log import configure_logging

_BOXES_A_BOARD = 180
_PROBES, _CHEAP = 500, 70.0  # folders, microseconds for each
_ORDINARY = ("clean",)
_SHARES = (0.1, 0.5, 0.9)  # of the speed at which pages are filed that are all there
_LONGEST = 40.0  # seconds in which pages come, at each of these


class Drawn(NamedTuple):
    """A page that was drawn: its file, and what is printed on it."""

    path: Path
    karekod: str


class Rate(NamedTuple):
    """A run: pages, seconds, how many were filed, and the publisher's processor seconds."""

    pages: int
    seconds: float
    filed: int
    cpu: float

    @property
    def a_second(self) -> float:
        return self.pages / self.seconds


def entry(number: int, karekod: str) -> RegistryEntry:
    """Return the sheet that the karekod of page `number` stands for: a box of its own."""
    board, box = f"kurul-{number // _BOXES_A_BOARD + 1}", str(number + 1)
    sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", board, box, 1)
    return RegistryEntry(karekod, sheet, SandikTuru.NORMAL, "")


def make_site(folder: Path, parties: int, entries: list[RegistryEntry]) -> Path:
    """Lay out a site whose registry has these sheets."""
    listed = "".join(
        f'[[party]]\nid = "parti-{n}"\nname = "{n}"\nkind = "party"\nscope = "all"\n'
        'static_ips = ["127.0.0.1"]\ncontact = { name = "", email = "", phone = "" }\n'
        for n in range(1, parties + 1)
    )
    site = office.site(folder, parties_toml=listed)
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
    """Draw pages of these kinds in turn, on all cores, unless they are there from before."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {kind.name: kind for kind in damaged_pages.KINDS}
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
    path = folder / f"{stem}-{made.karekod}"
    path.write_bytes(made.content)
    return Drawn(path, made.karekod)


class Alone(NamedTuple):
    """How a publisher runs without feed and notary."""

    workers: int = 2
    cores: int = 2
    stand_in: int = 0  # 1 if the rehearsal's reads in place of the engines


_STAND_IN = Alone(stand_in=1)


@contextmanager
def publishing(site: Path, alone: Alone | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a publisher on a site until the end of the `with`."""
    command = [sys.executable, "-m", "scripts.ssps", "publish", "--site", str(site)]
    if alone is not None:
        command = [sys.executable, __file__, "--publish", str(site), *map(str, alone)]
    with (site / "publisher.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def publish_alone(site: Path, how: Alone) -> None:
    """Be a publisher without feed and notary, until SIGTERM."""
    configure_logging("publish")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: how.cores])
    new_client = simulated_reader.SimulatedReader if how.stand_in else WorkerClient
    with stop_on_signal() as stop:
        publish.publish(load.load(site), stop=stop, workers=how.workers, new_client=new_client)


def settled(site: Path) -> int:
    """Return how many pages came to their end."""
    counts = catalog_counts.counts(site)
    return counts.filed + counts.versions + counts.duplicates + counts.quarantined


def until(done: Callable[[], bool], process: subprocess.Popen[bytes], pause: float = 0.02) -> None:
    """Wait for something that the publisher does."""
    while not done():
        if process.poll() is not None:
            raise SystemExit("the publisher ended, see publisher.log")
        time.sleep(pause)


def _is_settled(site: Path, due: int) -> bool:
    return settled(site) >= due


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    """Return the processor seconds of a process and its workers, alive or gone."""
    ticks = 0
    for pid in family(process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15] if pid == process.pid else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def memory_of(process: subprocess.Popen[bytes]) -> float:
    """Return the megabytes that a process and its workers hold, what they share counted once."""
    kib = 0
    for pid in family(process.pid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024


def warm_up(site: Path, process: subprocess.Popen[bytes], pages: list[Drawn]) -> None:
    """Have some pages filed first, so that workers are up."""
    for page in pages:
        drop(site, page)
    until(lambda: settled(site) >= len(pages), process)


def drop(site: Path, page: Drawn) -> float:
    """Rename a copy of a page into the intake; return when that was done."""
    fresh = site / f".{page.path.name}"
    shutil.copyfile(page.path, fresh)
    fresh.rename(site / "intake" / page.path.name)
    return time.monotonic()


def rest(folder: Path) -> None:
    """Wait until a folder is cheap to make; those made to see that stay, to be no new cause."""
    for attempt in range(19):
        place = folder / f"rested-{time.monotonic_ns()}"
        place.mkdir(parents=True)
        begun = time.perf_counter()
        for number in range(_PROBES):
            (place / str(number)).mkdir()
        cost = (time.perf_counter() - begun) / _PROBES * 1e6
        if cost < _CHEAP:
            return
        print(f"a folder costs {cost:.0f} us, much was removed here: waiting", flush=True)
        if attempt < 18:
            time.sleep(20)


def rate(pages: list[Drawn], parties: int, folder: Path, alone: Alone | None = None) -> Rate:
    """Measure how fast pages are filed that are all there at once."""
    site = make_site(folder, parties, [entry(n, page.karekod) for n, page in enumerate(pages)])
    first, rest = pages[:16], pages[16:]
    with publishing(site, alone) as process:
        until(lambda: (site / CATALOG).exists(), process)
        warm_up(site, process, first)
        (site / "outside").mkdir()
        for page in rest:
            shutil.copyfile(page.path, site / "outside" / page.path.name)
        os.sync()
        before, cpu = catalog_counts.counts(site), cpu_of(process)
        begun = time.monotonic()
        for page in rest:
            (site / "outside" / page.path.name).rename(site / "intake" / page.path.name)
        until(lambda: settled(site) >= len(pages), process)
        seconds = time.monotonic() - begun
        counts = catalog_counts.counts(site)
        return Rate(len(rest), seconds, counts.filed - before.filed, cpu_of(process) - cpu)


def latency(pages: list[Drawn], parties: int, speed: float, folder: Path) -> list[float]:
    """Return how long each page took from its rename to the last party's tree, in seconds."""
    entries = {page.karekod: entry(n, page.karekod) for n, page in enumerate(pages)}
    site = make_site(folder, parties, list(entries.values()))
    tree = site / "trees" / f"parti-{parties}"
    waiting: dict[Path, float] = {}
    took: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() or waiting:
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
        begun = time.monotonic()
        for number, page in enumerate(pages[16:]):
            time.sleep(max(0.0, begun + number / speed - time.monotonic()))
            placed = layout.path("2023-05-14-cb-mv", entries[page.karekod].sheet, 1, "jpg")
            waiting[tree / placed] = drop(site, page)
        until(lambda: settled(site) >= len(pages), process)
        time.sleep(1)
        over.set()
        waiting.clear()  # what was not read is in no tree
        watcher.join()
    return sorted(took)


class Grown(NamedTuple):
    """What a page costs: with so many filed before, for so many parties."""

    before: int
    parties: int
    pages: int
    ms: float
    cpu_ms: float
    memory: list[float]


def grown(before: int, parties: int, pages: int, folder: Path, looks: int = 10) -> Grown:
    """Measure the cost of pages where `before` were filed already, by rows alone."""
    entries = [entry(n, f"{1_000_000_000 + n}") for n in range(before + pages)]
    site = make_site(folder, parties, entries)
    fill(site, entries[:before], parties)
    settings = load.load(site)
    shared = simulated_reader.shared_scan(entries[0], settings.election, 1)
    memory: list[float] = []
    with publishing(site, _STAND_IN) as process:
        until(lambda: "tree-complete" in (site / "publisher.log").read_text(), process)
        cpu, begun = cpu_of(process), time.monotonic()
        done = settled(site)
        for start in range(0, pages, step := max(pages // looks, 1)):
            for number, one in enumerate(islice(entries, before + start, before + start + step)):
                page = simulated_reader.mark_page(
                    shared, PlannedScan(start + number, one, one.karekod)
                )
                (site / "fresh").write_bytes(page)
                (site / "fresh").rename(site / "intake" / f"{one.karekod}.jpg")
            due = done + min(start + step, pages)
            until(partial(_is_settled, site, due), process)
            memory.append(memory_of(process))
        seconds = time.monotonic() - begun
        return Grown(
            before,
            parties,
            pages,
            seconds / pages * 1000,
            (cpu_of(process) - cpu) / pages * 1000,
            memory,
        )


class Waited(NamedTuple):
    """What pages that were there at the start did: seconds until the first and until `filed`."""

    waiting: int
    told: int
    first: float
    filed: int
    seconds: float
    memory: float
    oldest: int  # of those claimed first, how many are among as many oldest


def waited(waiting: int, filed: int, folder: Path) -> Waited:
    """Start a publisher where so many pages wait, the oldest with the last of the names."""
    entries = [entry(n, f"{1_000_000_000 + n}") for n in range(waiting)]
    site = make_site(folder, 1, entries)
    settings = load.load(site)
    shared = simulated_reader.shared_scan(entries[0], settings.election, 1)
    for number, one in enumerate(reversed(entries)):
        path = site / "intake" / f"{one.karekod}.jpg"
        path.write_bytes(simulated_reader.mark_page(shared, PlannedScan(number, one, one.karekod)))
        os.utime(path, ns=(0, number * 1_000_000_000))
    begun = time.monotonic()
    with publishing(site, _STAND_IN) as process:
        until(lambda: _is_settled(site, 1), process, 0.005)
        first = time.monotonic() - begun
        told = count_sheets(site)
        until(partial(_is_settled, site, filed), process)
        seconds, memory = time.monotonic() - begun, memory_of(process)
    with sqlite3.connect(site / CATALOG) as database:
        rows = database.execute("SELECT name FROM arrival ORDER BY id LIMIT ?", (filed,))
        names = {name for (name,) in rows}
    database.close()
    oldest = len(names & {f"{one.karekod}.jpg" for one in entries[-filed:]})
    waits = told["in_intake"] + told["waiting"]
    return Waited(waiting, waits, first, filed, seconds, memory, oldest)


def fill(site: Path, entries: list[RegistryEntry], parties: int) -> None:
    """Put rows into the catalog, as if those sheets had been filed; no file is made."""
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
    # The record goes on from there; what came before is taken as read.
    folder = site / "ledgers" / "filing"
    folder.mkdir(mode=0o700)
    (folder / f"{len(entries):012}.jsonl").touch(mode=0o600)


_THEN = "2023-05-14T14:00:00.000000+00:00"


def main() -> None:
    """Measure, and print one row after the other; at the end one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--pages", type=int, default=800, help="ordinary pages, and hard ones")
    parser.add_argument("--parties", type=int, default=40)
    parser.add_argument("--filed", type=int, nargs="*", default=[10_000, 1_000_000])
    parser.add_argument("--among", type=int, nargs="*", default=[1, 10, 100], help="parties, too")
    parser.add_argument("--waiting", type=int, default=50_000, help="pages there at the start")
    parser.add_argument("--flat", type=int, default=2_000, help="pages a growth run files")
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["speed", "workers", "growth"])
    parser.add_argument("--drawn", type=Path, help="keep drawn pages here, and use those there")
    chosen = parser.parse_args()
    if chosen.publish:
        site, *how = chosen.publish
        publish_alone(Path(site), Alone(*map(int, how)))
        return
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="ssps-filing-") as name:
        work = Path(name)
        if chosen.only in (None, "speed"):
            found |= _speed(chosen, work)
        if chosen.only in (None, "workers"):
            found |= _workers(chosen, work)
        if chosen.only in (None, "growth"):
            runs = [(n, chosen.parties) for n in chosen.filed]
            runs += [(chosen.filed[0], n) for n in chosen.among if n != chosen.parties]
            for before, parties in runs:
                rest(work)
                one = grown(before, parties, chosen.flat, work / f"grown-{before}-{parties}")
                print(
                    f"growth: {before:>9,} filed before, {parties:>3} parties: {one.ms:6.2f} ms "
                    f"a page, {one.cpu_ms:6.2f} ms of processor, {one.memory[0]:.0f} MB at first, "
                    f"{one.memory[-1]:.0f} MB after {one.pages:,} pages",
                    flush=True,
                )
                found[f"growth-{before}-{parties}"] = one._asdict()
            late = waited(chosen.waiting, min(2000, chosen.waiting), work / "waited")
            print(
                f"waiting: {late.waiting:,} there at the start, {late.told:,} told of; the first "
                f"filed after {late.first:.1f} s, {late.filed:,} after {late.seconds:.1f} s, of "
                f"which {late.oldest:,} are the oldest, {late.memory:.0f} MB",
                flush=True,
            )
            found["waiting"] = late._asdict()
    print(json.dumps(found))


def _speed(chosen: argparse.Namespace, work: Path) -> dict[str, object]:
    drawn = chosen.drawn or work / "drawn"
    hard = tuple(kind.name for kind in damaged_pages.KINDS)
    found: dict[str, object] = {}
    for what, kinds in (("ordinary", _ORDINARY), ("hard mix", hard)):
        pages = draw(drawn, kinds, chosen.pages, 1)
        rest(work)
        one = rate(pages, chosen.parties, work / what.replace(" ", "-"))
        print(
            f"{what}: {one.a_second:.1f} pages a second into {chosen.parties} trees "
            f"({one.pages} pages, {one.filed} filed, {one.cpu / one.pages * 1000:.1f} ms of "
            "processor a page)",
            flush=True,
        )
        found[what] = {**one._asdict(), "a_second": one.a_second}
        if what == "ordinary":
            for share in _SHARES:
                found[f"latency-{share}"] = _late(chosen, work, pages, one.a_second, share)
    return found


def _late(
    chosen: argparse.Namespace, work: Path, pages: list[Drawn], most: float, share: float
) -> dict[str, float]:
    speed = most * share
    some = pages[: 16 + min(len(pages), round(speed * _LONGEST))]
    rest(work)
    took = latency(some, chosen.parties, speed, work / f"latency-{share}")
    half, late = statistics.median(took), took[int(len(took) * 0.99)]
    print(
        f"latency at {speed:.1f} pages a second, {share:.0%} of that: p50 {half:.3f} s, "
        f"p99 {late:.3f} s, longest {took[-1]:.3f} s ({len(took)} pages)",
        flush=True,
    )
    return {"p50": half, "p99": late, "longest": took[-1], "rate": speed}


def _workers(chosen: argparse.Namespace, work: Path) -> dict[str, object]:
    pages = draw(chosen.drawn or work / "drawn", _ORDINARY, chosen.pages, 1)
    found: dict[str, object] = {}
    for workers, cores in ((1, 1), (1, 2), (2, 2), (4, 2)):
        rest(work)
        how = Alone(workers, cores)
        one = rate(pages, chosen.parties, work / f"workers-{workers}-{cores}", how)
        print(
            f"workers: {workers} on {cores} cores, {one.a_second:.1f} pages a second "
            f"({one.cpu / one.pages * 1000:.1f} ms of processor a page)",
            flush=True,
        )
        found[f"workers-{workers}-cores-{cores}"] = {**one._asdict(), "a_second": one.a_second}
    return found


if __name__ == "__main__":
    main()
