"""Measure how the cost of each operation grows with the amount of existing data.

It prints a table of the cost of one unit (a row, a page, a record, an entry) with 1, 10 and 100
times a base size of existing data. The cost must not depend on the size: if a unit costs more than
`LIMIT` times as much at 100 times the size, the row is marked and the exit code is 1. The limit is
above 1 because the trees in a database are deeper then, and CPU caches are not larger.

It measures CPU time, and for the listing the time of client and server. All files are in memory
(/dev/shm), so that neither the disk nor other processes influence the result.
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import run
import servers

from config import load, registry
from config.event import Event
from config.registry import Registry
from config.site import FILING, LEDGERS, REGISTRY_INDEX, SPOOL
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger, utc_now
from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog
from publisher.filing.filer import Filer, FilingContext
from publisher.intake.watch import Candidate
from publisher.page import Stamp
from publisher.reading.pool import read_page
from publisher.store.quarantine import Quarantine
from publisher.store.store import Store
from scripts.filing import status
from scripts.rehearsal import simulated_reader
from scripts.rehearsal.synthetic import election
from scripts.rehearsal.synthetic.scanner import PlannedScan
from scripts.site.init import PARTIES_TEMPLATE, SITE_TEMPLATE, create_site

LIMIT = 2.0
_FACTORS = (1, 10, 100)
_BATCH = 32  # pages, as in the publisher
_SAMPLE = 320  # pages that are timed at each size
_LISTINGS = 20  # in one session, so that the login hardly counts
_SHEETS_PER_BOX = 5  # a lower bound, so that the election has enough sheets

Costs = dict[int, float]  # size -> seconds per unit


def imported(folder: Path, sizes: list[int]) -> tuple[Costs, Costs]:
    """Return the costs of importing a row and of looking up a karekod."""
    importing: Costs = {}
    lookups: Costs = {}
    for size in sizes:
        source = folder / f"{size}.csv"
        entries = islice(election.entries(size // _SHEETS_PER_BOX + 4, 1), size)
        election.write_csv(entries, source)
        index = folder / f"{size}.sqlite"
        importing[size] = cpu_seconds(registry.import_csv, source, index) / size
        opened = Registry(index)
        karekods = [election.serial(1, number * size // 1000) for number in range(1000)]
        lookups[size] = cpu_seconds(_look_up, opened, karekods) / 1000
        opened.close()
    return importing, lookups


def filed(folder: Path, sizes: list[int]) -> dict[str, Costs]:
    """Return the costs of filing a page, of `ssps status`, and of opening catalog and ledger."""
    site = folder / "site"
    text = SITE_TEMPLATE.format(id="prova-cb-mv", title="Olcum", opens="2023-05-14T17:00:00+03:00",
                            listen="127.0.0.1:0")  # fmt: skip
    create_site(site, text, PARTIES_TEMPLATE + servers._PARTIES, "a measurement")
    entries = list(islice(election.entries(sizes[-1] // _SHEETS_PER_BOX + 4, 1), sizes[-1]))
    election.write_csv(entries, site / "registry.csv")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    found: dict[str, Costs] = {"file a page": {}, "ssps status": {}, "open the catalog": {}}
    with _filer(site) as file_pages:
        done = 0
        for size in sizes:
            file_pages(entries[done : size - _SAMPLE])
            found["file a page"][size] = (
                cpu_seconds(file_pages, entries[size - _SAMPLE : size]) / _SAMPLE
            )
            done = size
            found["ssps status"][size] = cpu_seconds(status.count_sheets, site) / size
            found["open the catalog"][size] = cpu_seconds(
                lambda: Catalog(catalog.url(site)).close()
            )
            reading = cpu_seconds(_read_from, site, size - 1)
            found.setdefault("read the last record", {})[size] = reading
    return found


@contextmanager
def _filer(site: Path) -> Iterator[Callable[[list[registry.RegistryEntry]], None]]:
    """Yield a function that files one page for each entry, as the publisher does."""
    settings = load.load(site)
    store, sheets = Store(site), Registry(site / REGISTRY_INDEX)
    shared = simulated_reader.shared_scan(next(election.entries(4, 1)), settings.election, 1)
    with (
        Ledger(site / LEDGERS / FILING) as ledger,
        Catalog(catalog.url(site)) as opened,
    ):
        context = FilingContext(
            settings,
            opened,
            ledger,
            store,
            Quarantine(site),
            sheets.lookup,
            utc_now,
            lambda: secrets.token_hex(4),
        )
        filer, intake = Filer(context), settings.intake.folders[0]
        for party in context.mirroring_parties:
            store.make_root(party.id)

        def file(entries: list[registry.RegistryEntry]) -> None:
            for start in range(0, len(entries), _BATCH):
                found = []
                for entry in entries[start : start + _BATCH]:
                    path = intake / f"{entry.karekod}.jpg"
                    path.write_bytes(
                        simulated_reader.mark_page(shared, PlannedScan(0, entry, entry.karekod))
                    )
                    found.append(Candidate(intake, str(path), Stamp.of(path.lstat())))
                arrivals = filer.claim(found)
                pages = [
                    read_page(a, site / SPOOL / a.file, simulated_reader.read_mark, store.stage)
                    for a in arrivals
                ]
                filer.file(pages)

        yield file
    sheets.close()


def recorded(folder: Path, sizes: list[int]) -> dict[str, Costs]:
    """Return the costs of appending a record and of opening the ledger."""
    found: dict[str, Costs] = {"append a record": {}, "open the ledger": {}}
    event = Event("open", "parti-a", "192.0.2.7", "/x", detail={"session": 1, "handle": 2})
    done = 0
    for size in sizes:
        with Ledger(folder / "ledger") as opened:
            for _ in range(size - done - 1000):
                opened.append(event)
            found["append a record"][size] = (
                cpu_seconds(lambda o=opened: [o.append(event) for _ in range(1000)]) / 1000
            )
        found["open the ledger"][size] = cpu_seconds(lambda: Ledger(folder / "ledger").close())
        done = size
    return found


def listed(folder: Path, sizes: list[int]) -> Costs:
    """Return the cost of listing an entry of a folder with OpenSSH's client."""
    (folder / "served").mkdir()
    (folder / "served").chmod(0o755)
    tree = servers.lay_out(folder / "served")
    for size in sizes:
        (tree / str(size)).mkdir()
        for number in range(size):
            (tree / str(size) / f"cb-sandik-sonuc-s{number}.jpg").write_bytes(b"")
    run.publish(tree, sealed=False)
    found: Costs = {}
    with servers.ours(folder / "served") as server:
        for size in sizes:
            times = []
            for _ in range(3):
                began = time.perf_counter()
                run.sftp(get=f"ls -1 {size}\n" * _LISTINGS)(server, folder)
                times.append((time.perf_counter() - began) / _LISTINGS)
            found[size] = min(times) / size
    return found


def _look_up(index: Registry, karekods: list[str]) -> None:
    for karekod in karekods:
        if index.lookup(karekod) is None:
            raise SystemExit(f"{karekod} is not in the registry")


def _read_from(site: Path, first: int) -> None:
    if not list(read_records(site / LEDGERS / FILING, first)):
        raise SystemExit(f"record {first} is not in the ledger")


def cpu_seconds(work: Callable[..., object], *arguments: object) -> float:
    """Return the CPU seconds that a call takes in this process."""
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


def main() -> None:
    """Measure, print the table, and exit with 1 if a cost grows."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--base", type=int, default=400, help="the base size (400)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    if options.base < _SAMPLE:
        parser.error(f"--base: must be at least {_SAMPLE}")
    sizes = [options.base * factor for factor in _FACTORS]
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ssps-growth-", dir=shared) as name:
        folder = Path(name)
        folder.chmod(0o755)
        costs: dict[str, Costs] = {}
        costs["import a row"], costs["look up a karekod"] = imported(folder, sizes)
        costs |= filed(folder, sizes)
        costs |= recorded(folder, sizes)
        costs["list an entry"] = listed(folder, [size // 10 for size in sizes])
    print("\n".join(table(costs)))
    if options.json:
        options.json.write_text(json.dumps(costs, indent=1) + "\n")
    sys.exit(int(any(growth(cost) > LIMIT for cost in costs.values())))


def growth(cost: Costs) -> float:
    """Return the cost at the largest size divided by the cost at the smallest."""
    first, *_, last = cost.values()
    return last / first if first else 1.0


def table(costs: dict[str, Costs]) -> list[str]:
    """Format a table of microseconds per unit at each size, and the growth."""
    heads = "".join(f"{f'{factor}x':>12}" for factor in _FACTORS)
    lines = [f"{'microseconds':<24}{heads}{'growth':>9}"]
    for name, cost in costs.items():
        shown = "".join(f"{value * 1e6:12.2f}" for value in cost.values())
        mark = "  grows" if growth(cost) > LIMIT else ""
        lines.append(f"{name:<24}{shown}{growth(cost):9.2f}{mark}")
    return lines


if __name__ == "__main__":
    main()
