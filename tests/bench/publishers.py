"""Measure how fast pages are filed with the catalog in SQLite, in PostgreSQL, and by several hosts.

The same pages are filed into a new site for each row, one row after the other. This is repeated,
each time in the other order. A publisher is the real `ssps publish` with workers, sandbox, feed and
fsync. PostgreSQL is a server of its own on the same machine, with the defaults of Debian: it syncs
every commit. The clock starts when every publisher has read some pages, so that all workers run.
Medians.

    pages a second    from the rename into the intake until the record of the last page
    CPU               of the publishers and their workers, for each page
    server            CPU of PostgreSQL, for each page
    overhead          how much longer a page takes than in SQLite: the median of the pairs

`read` are drawn pages. `simulated` are pages for the simulated reader of the rehearsal, which takes
no time to read one: what is left is the work of the filer alone. Several publishers share the cores
of this one machine, so their rows show what it costs to share the work, not what they gain by it.

    claims            pages a second that readers claim and answer without reading them
    failover          seconds until another publisher has filed a page, after the one that files was
                      killed or frozen (SIGSTOP), while pages come in. tests/flow/test_publishers.py
                      prints the same for a reader, sessions, a pause and a replica of PostgreSQL

filing.py says why a run may wait until creating folders is fast.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import filing  # noqa: E402 - from the folders above
import postgres  # noqa: E402
import sqlalchemy as sa  # noqa: E402

from config import load  # noqa: E402
from config.site import FILING, SITE_TOML  # noqa: E402
from publisher.election import terms  # noqa: E402
from publisher.election.leader import NOW, SCHEMA  # noqa: E402
from publisher.page import Arrival, Stamp  # noqa: E402
from publisher.reading.tasks import Answer, Tasks  # noqa: E402
from publisher.source import Source  # noqa: E402
from scripts.rehearsal import simulated_reader  # noqa: E402
from scripts.rehearsal.synthetic.scanner import PlannedScan  # noqa: E402

_MOST_OVERHEAD = 0.15
_WARM_UP = 16  # pages for each publisher that are filed before the clock starts
_CLAIMED_AT_ONCE, _TAKEN_AT_ONCE = 8, 128  # as a reader with two workers, and as the filer
_FED, _FEED_SECONDS = 4000, 0.05  # pages that come in while publishers are killed, and how often
_STALL_SECONDS = 180.0
_SEEN_MS = 4000
_ASK_SECONDS = 0.25
_SIMULATED = filing.Alone(simulated=1)


class Setup(NamedTuple):
    """A row of the table: where the catalog is, and how many publishers there are."""

    name: str
    postgresql: bool
    publishers: int = 1


SQLITE = Setup("SQLite", postgresql=False)


class Run(NamedTuple):
    """One run: seconds, CPU seconds of publishers and server, each for one page."""

    seconds: float
    cpu: float
    server_cpu: float


def main() -> None:
    """Print the parts that are asked for, and one JSON object."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench publishers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pages", type=int, default=400, help="pages of each run (400)")
    parser.add_argument("--simulated", type=int, default=2000, help="simulated pages (2000)")
    parser.add_argument("--repeats", type=int, default=5, help="how often each row is run (5)")
    parser.add_argument("--parties", type=int, default=10, help="number of parties (10)")
    parser.add_argument(
        "--publishers", type=int, nargs="*", default=[1, 2, 4], help="with PostgreSQL (1 2 4)"
    )
    parser.add_argument("--claimed", type=int, default=5000, help="pages that are claimed (5000)")
    parser.add_argument("--failovers", type=int, default=3, help="kills, and as many stops (3)")
    parser.add_argument("--only", choices=list(_PARTS), help="only this part")
    parser.add_argument("--drawn", type=Path, metavar="DIR", help="keep and reuse drawn pages here")
    options = parser.parse_args()
    binaries = postgres.programs()
    if binaries is None:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="ssps-publishers-") as name,
        postgres.running(binaries, durable=True) as server,
    ):
        for part in [options.only] if options.only else _PARTS:
            found[part] = _PARTS[part](options, server, Path(name) / part)
    print(json.dumps(found))


# Rates.


def read(options: argparse.Namespace, server: postgres.Server, work: Path) -> dict[str, float]:
    """Compare the rates at which drawn pages are filed."""
    count = options.pages + _WARM_UP * max(options.publishers)
    pages = filing.draw(options.drawn or work / "drawn", ("clean",), count, 1)
    return compare("read", pages, options, server, work)


def simulated(options: argparse.Namespace, server: postgres.Server, work: Path) -> dict[str, float]:
    """Compare the rates at which pages are filed that take no time to read."""
    count = options.simulated + _WARM_UP * max(options.publishers)
    pages = simulated_pages(count, work / "pages")
    return compare("simulated", pages, options, server, work, _SIMULATED)


def simulated_pages(count: int, folder: Path) -> list[filing.Drawn]:
    """Make pages for the simulated reader; all have the bytes of one page and a mark."""
    folder.mkdir(parents=True)
    pages = []
    entries = [filing.entry(n, f"{1_000_000_000 + n}") for n in range(count)]
    election = load.load(filing.make_site(folder / "site", 1, entries[:1])).election
    shared = simulated_reader.shared_scan(entries[0], election, 1)
    for number, one in enumerate(entries):
        path = folder / f"{one.karekod}.jpg"
        plan = PlannedScan(number, one, one.karekod)
        path.write_bytes(simulated_reader.mark_page(shared, plan))
        pages.append(filing.Drawn(path, one.karekod))
    return pages


def compare(
    what: str,
    pages: list[filing.Drawn],
    options: argparse.Namespace,
    server: postgres.Server,
    work: Path,
    alone: filing.Alone | None = None,
) -> dict[str, float]:
    """Run each row in turn, and print the medians."""
    setups = [SQLITE] + [Setup(_name(n), True, n) for n in options.publishers]
    runs: dict[Setup, list[Run]] = {setup: [] for setup in setups}
    for number in range(options.repeats):
        for setup in setups if number % 2 == 0 else reversed(setups):
            filing.wait_for_fast_mkdir(work)
            place = work / f"{len(runs[setup])}-{setup.name}"
            first, rest = warm_up_pages(pages, setup, options.publishers)
            runs[setup].append(run(setup, first, rest, options.parties, place, server, alone))
            done = f"{what}, {setup.name}: {1 / runs[setup][-1].seconds:.1f} pages a second"
            print(done, file=sys.stderr, flush=True)
    measured = len(pages) - _WARM_UP * max(options.publishers)
    print(f"{what}: {measured} pages, {options.repeats} times, medians")
    found: dict[str, float] = {}
    for setup, of_setup in runs.items():
        seconds, cpu, server_cpu = map(statistics.median, zip(*of_setup, strict=True))
        pairs = zip(runs[SQLITE], of_setup, strict=True)
        each = [there.seconds / here.seconds - 1 for here, there in pairs]
        line = f"  {setup.name:<28}{1 / seconds:6.1f} pages a second, {cpu * 1000:5.1f} ms of CPU"
        found[setup.name] = 1 / seconds
        if setup.postgresql:
            overhead = found[f"overhead, {setup.name}"] = statistics.median(each)
            line += f", {server_cpu * 1000:4.1f} of the server, overhead {overhead:+.1%}"
            line += f" ({', '.join(f'{one:+.1%}' for one in each)})"
            if setup.publishers == 1 and overhead > _MOST_OVERHEAD:
                line += f": MORE THAN {_MOST_OVERHEAD:.0%}"
        print(line, flush=True)
    return found


def warm_up_pages(
    pages: list[filing.Drawn], setup: Setup, publishers: list[int]
) -> tuple[list[filing.Drawn], list[filing.Drawn]]:
    """Return the pages that are filed before the clock starts, and those that are measured."""
    return pages[: _WARM_UP * setup.publishers], pages[_WARM_UP * max(publishers) :]


def _name(publishers: int) -> str:
    return f"PostgreSQL, {publishers} publisher{'s' * (publishers > 1)}"


def run(
    setup: Setup,
    first: list[filing.Drawn],
    rest: list[filing.Drawn],
    parties: int,
    place: Path,
    server: postgres.Server,
    alone: filing.Alone | None,
) -> Run:
    """File the first pages, then the rest, once; the rest is measured."""
    site = make_site([*first, *rest], parties, place, server if setup.postgresql else None)
    hosts = names(setup.publishers) if setup.publishers > 1 else [""]
    with ExitStack() as stack:
        running = [stack.enter_context(filing.publishing(site, alone, host)) for host in hosts]
        if setup.publishers > 1:
            filing.until(lambda: len(readers(site)) == setup.publishers, running[0])
        filing.warm_up(site, running[0], first)
        (site / "outside").mkdir()
        for page in rest:
            (site / "outside" / page.path.name).write_bytes(page.path.read_bytes())
        os.sync()
        pids = [process.pid for process in running]
        cpu, server_cpu = sum(map(filing.cpu_of, pids)), filing.cpu_of(server.pid)
        began = datetime.now(UTC)
        for page in rest:
            (site / "outside" / page.path.name).rename(site / "intake" / page.path.name)
        # To ask often would be work for the server, which is measured.
        pages = len(first) + len(rest)
        filing.until(lambda: filing.settled(site) >= pages, running[0], _ASK_SECONDS)
        seconds = (last_record(site) - began).total_seconds()
        used = sum(map(filing.cpu_of, pids)) - cpu, filing.cpu_of(server.pid) - server_cpu
    return Run(*(one / len(rest) for one in (seconds, *used)))


def make_site(
    pages: list[filing.Drawn], parties: int, place: Path, server: postgres.Server | None
) -> Path:
    """Make a site for pages; its catalog is in a new database if there is a server."""
    entries = [filing.entry(n, page.karekod) for n, page in enumerate(pages)]
    site = filing.make_site(place, parties, entries)
    if server is not None:
        with (site / SITE_TOML).open("a", encoding="utf-8") as file:
            file.write(f'\n[catalog]\nurl = "{server.new_database().render_as_string()}"\n')
    return site


def last_record(site: Path) -> datetime:
    """Return when the last page was recorded."""
    found = terms.records(site, terms.scan(site, FILING))
    return max(record.time for record in found if "page" in record.event.detail)


def names(publishers: int) -> list[str]:
    """Return the names of the hosts."""
    return [f"pub{number}" for number in range(1, publishers + 1)]


def readers(site: Path) -> list[str]:
    """Return the hosts that read pages now; the one that files is one of them."""
    query = f"SELECT host FROM publishers.reader WHERE seen_at > {NOW} - {_SEEN_MS}"
    with postgres.changing(sa.make_url(load.catalog(site).url)) as connection:
        return list(connection.scalars(sa.text(query)))


# Claims and failover.


def claims(options: argparse.Namespace, server: postgres.Server, _: Path) -> dict[str, float]:
    """Measure how fast readers claim pages and answer them."""
    found: dict[str, float] = {}
    now = datetime.now(UTC)
    arrivals = [
        Arrival(f"{n:024}", f"{n}.jpg", Source("in", f"{n}.jpg"), Stamp(n, 1, 1), now)
        for n in range(options.claimed)
    ]
    for number in options.publishers:
        url = postgres.in_schema(server.new_database(), SCHEMA)
        with closing(Tasks(url)) as tasks, ProcessPoolExecutor(number) as pool:
            tasks.add(arrivals, 0)
            began, taken = time.monotonic(), 0
            reading = [
                pool.submit(claim_all, url.render_as_string(), f"reader{n}") for n in range(number)
            ]
            while taken < options.claimed:
                taken += len(tasks.answers(0, _TAKEN_AT_ONCE))
            found[str(number)] = options.claimed / (time.monotonic() - began)
            for one in reading:
                one.result()
        print(f"claims: {number} readers, {found[str(number)]:,.0f} pages a second", flush=True)
    return found


def claim_all(url: str, claim: str) -> None:
    """Claim pages and answer them, as a reader does, until there is none."""
    with closing(Tasks(sa.make_url(url))) as tasks:
        while arrivals := tasks.claim(claim, _CLAIMED_AT_ONCE):
            for arrival in arrivals:
                tasks.answer(Answer(arrival, claim))


def failover(options: argparse.Namespace, server: postgres.Server, work: Path) -> dict[str, float]:
    """Measure how long no page is filed after the publisher that files is killed or frozen."""
    pages = simulated_pages(_FED, work / "pages")
    site = make_site(pages, options.parties, work / "site", server)
    found: dict[str, float] = {}
    done = threading.Event()
    with ExitStack() as stack:

        def start(host: str) -> subprocess.Popen[bytes]:
            return stack.enter_context(filing.publishing(site, _SIMULATED, host))

        running = {host: start(host) for host in names(2)}
        feeding = threading.Thread(target=feed, args=(site, pages, done))
        feeding.start()
        stack.callback(feeding.join)
        stack.callback(done.set)
        for what, number in (("killed", signal.SIGKILL), ("frozen", signal.SIGSTOP)):
            took = []
            for _ in range(options.failovers):
                _until(lambda: len(readers(site)) == 2 and filing.settled(site) > 0)
                host = filer(site)
                running[host].send_signal(number)
                began, before = time.monotonic(), filing.settled(site)
                _until(partial(_more_than, site, before))
                took.append(time.monotonic() - began)
                if number == signal.SIGKILL:
                    running[host].wait()
                    running[host] = start(host)
                else:
                    running[host].send_signal(signal.SIGCONT)
            found[what] = statistics.median(took)
            listed = ", ".join(f"{one:.1f}" for one in took)
            print(f"failover: {what}, {found[what]:.1f} s ({listed})", flush=True)
    return found


def feed(site: Path, pages: list[filing.Drawn], done: threading.Event) -> None:
    """Put pages into the intake, one after the other."""
    for page in pages:
        if done.wait(_FEED_SECONDS):
            return
        filing.drop(site, page)
    raise SystemExit("failover: there were too few pages")


def filer(site: Path) -> str:
    """Return the host whose publisher files."""
    query = "SELECT host FROM publishers.leader WHERE task = 'filing'"
    with postgres.changing(sa.make_url(load.catalog(site).url)) as connection:
        return str(connection.scalar(sa.text(query)))


def _more_than(site: Path, number: int) -> bool:
    return filing.settled(site) > number


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _STALL_SECONDS
    while not met():
        if time.monotonic() > deadline:
            raise SystemExit("failover: no page is filed")
        time.sleep(0.02)


_PARTS: dict[str, Callable[[argparse.Namespace, postgres.Server, Path], dict[str, float]]] = {
    "read": read,
    "simulated": simulated,
    "claims": claims,
    "failover": failover,
}

if __name__ == "__main__":
    main()
