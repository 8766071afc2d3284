"""How each cost grows with what there is already: prints a table at 1, 10 and 100 times a size.

A cost is that of one unit of work (a row, a page, a record, an entry) where so many are there
before. It may not depend on how many those are: what at a hundred times the size costs more than
`LIMIT` times as much a unit is a defect, is marked so, and makes the exit code 1. The limit is
above one since a tree of pages in a database is deeper then, and a processor's caches are not.
What is measured is the processor's time (but for the listing, which is a client's and a server's),
in memory (/dev/shm), so that neither the disk nor whoever else is busy makes a difference.
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
from scripts.rehearsal import election, simulated_reader
from scripts.rehearsal.scanner import PlannedScan
from scripts.site.init import PARTIES_TEMPLATE, SITE_TEMPLATE, create_site

LIMIT = 2.0
_FACTORS = (1, 10, 100)
_BATCH = 32  # as the publisher has it
_SAMPLE = 320  # pages that are timed at each size
_LISTINGS = 20  # in one session, whose login is no part of what is asked
_SHEETS_A_BOX = 5  # there are more, so that no size lacks any

Costs = dict[int, float]  # size -> seconds a unit


def imported(folder: Path, sizes: list[int]) -> tuple[Costs, Costs]:
    """Import a registry of each size and look a thousand of its karekods up."""
    importing: Costs = {}
    open_read_only: Costs = {}
    for size in sizes:
        source = folder / f"{size}.csv"
        entries = islice(election.entries(size // _SHEETS_A_BOX + 4, 1), size)
        election.write_csv(entries, source)
        index = folder / f"{size}.sqlite"
        importing[size] = took(registry.import_csv, source, index) / size
        opened = Registry(index)
        karekods = [election.serial(1, number * size // 1000) for number in range(1000)]
        open_read_only[size] = took(_look_up, opened, karekods) / 1000
        opened.close()
    return importing, open_read_only


def filed(folder: Path, sizes: list[int]) -> dict[str, Costs]:
    """File pages until each size is reached, and time the last of them; then what counts them."""
    site = folder / "site"
    text = SITE_TEMPLATE.format(id="prova-cb-mv", title="Olcum", opens="2023-05-14T17:00:00+03:00",
                            listen="127.0.0.1:0")  # fmt: skip
    create_site(site, text, PARTIES_TEMPLATE + servers._PARTIES, "a measurement")
    entries = list(islice(election.entries(sizes[-1] // _SHEETS_A_BOX + 4, 1), sizes[-1]))
    election.write_csv(entries, site / "registry.csv")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    found: dict[str, Costs] = {"file a page": {}, "ssps status": {}, "open the catalog": {}}
    with _filer(site) as file_pages:
        done = 0
        for size in sizes:
            file_pages(entries[done : size - _SAMPLE])
            found["file a page"][size] = took(file_pages, entries[size - _SAMPLE : size]) / _SAMPLE
            done = size
            found["ssps status"][size] = took(status.count_sheets, site) / size
            found["open the catalog"][size] = took(lambda: Catalog(catalog.url(site)).close())
            found.setdefault("read the last record", {})[size] = took(_read_on, site, size - 1)
    return found


@contextmanager
def _filer(site: Path) -> Iterator[Callable[[list[registry.RegistryEntry]], None]]:
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
    """Append to a ledger of each size, and open one."""
    found: dict[str, Costs] = {"append a record": {}, "open the ledger": {}}
    event = Event("open", "parti-a", "192.0.2.7", "/x", detail={"session": 1, "handle": 2})
    done = 0
    for size in sizes:
        with Ledger(folder / "ledger") as opened:
            for _ in range(size - done - 1000):
                opened.append(event)
            found["append a record"][size] = (
                took(lambda o=opened: [o.append(event) for _ in range(1000)]) / 1000
            )
        found["open the ledger"][size] = took(lambda: Ledger(folder / "ledger").close())
        done = size
    return found


def listed(folder: Path, sizes: list[int]) -> Costs:
    """List a folder of so many entries with OpenSSH's client."""
    (folder / "served").mkdir()
    (folder / "served").chmod(0o755)
    tree = servers.lay_out(folder / "served")
    for size in sizes:
        (tree / str(size)).mkdir()
        for number in range(size):
            (tree / str(size) / f"cb-sandik-sonuc-s{number}.jpg").write_bytes(b"")
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
            raise SystemExit(f"{karekod} is not where it was put")


def _read_on(site: Path, first: int) -> None:
    if not list(read_records(site / LEDGERS / FILING, first)):
        raise SystemExit(f"record {first} is not where it was put")


def took(work: Callable[..., object], *given: object) -> float:
    """Return the seconds of a processor that something takes, whoever else wants it."""
    began = time.process_time()
    work(*given)
    return time.process_time() - began


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=__doc__)
    parser.add_argument("--base", type=int, default=400, help="what is 1 time the size (400)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    given = parser.parse_args()
    if given.base < _SAMPLE:
        parser.error(f"--base {given.base}, at least {_SAMPLE} are needed")
    sizes = [given.base * factor for factor in _FACTORS]
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="ssps-growth-", dir=shared) as name:
        folder = Path(name)
        folder.chmod(0o755)
        costs: dict[str, Costs] = {}
        costs["import a row"], costs["look a karekod up"] = imported(folder, sizes)
        costs |= filed(folder, sizes)
        costs |= recorded(folder, sizes)
        costs["list an entry"] = listed(folder, [size // 10 for size in sizes])
    print("\n".join(table(costs)))
    if given.json:
        given.json.write_text(json.dumps(costs, indent=1) + "\n")
    sys.exit(int(any(grows(cost) > LIMIT for cost in costs.values())))


def grows(cost: Costs) -> float:
    """Return how many times as much a unit costs at the largest size as at the smallest."""
    first, *_, last = cost.values()
    return last / first if first else 1.0


def table(costs: dict[str, Costs]) -> list[str]:
    """Write microseconds a unit at each size, and how that grows."""
    heads = "".join(f"{f'{factor}x':>12}" for factor in _FACTORS)
    lines = [f"{'microseconds':<24}{heads}{'growth':>9}"]
    for name, cost in costs.items():
        shown = "".join(f"{value * 1e6:12.2f}" for value in cost.values())
        mark = "  grows" if grows(cost) > LIMIT else ""
        lines.append(f"{name:<24}{shown}{grows(cost):9.2f}{mark}")
    return lines


if __name__ == "__main__":
    main()
