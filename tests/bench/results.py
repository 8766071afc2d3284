"""What results cost: intake, checks, snapshots and exports, at several sizes.

    scripts/bench results                     1 %, 10 % and all of 201,000 boxes, two contests
    scripts/bench results --boxes 2010        one size only

For each size it prints

    intake      rows a second of one batch with every box, and of batches of 200 rows, with fsync
    checks      microseconds a row, of that
    snapshot    seconds to close one with every row new, and one with a single changed row, with
                the checks of the changed boards and all sums
    exports     seconds for all files of a snapshot, in two processes if they are large
    bytes       of one result in database, ledger and store; of a snapshot; of its exports
    memory      of this process after each step, and the most of the process that writes the tables;
                a page that several processes share counts for each with its part (PSS).
                scripts/bench results_process shows the memory of the real process
    duckdb      seconds in which DuckDB reads the same rows as CSV: the limit

Seconds in brackets are of the processor: they say more if the machine is shared.
"""

import argparse
import json
import logging
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from config import ballot, cevre, registry  # noqa: E402 - from the folders above
from config.ballot import Ballot  # noqa: E402
from config.registry import Registry  # noqa: E402
from config.settings import ShareLevel  # noqa: E402
from config.site import (  # noqa: E402
    BALLOT_CSV,
    LEDGERS,
    REGISTRY_INDEX,
    RESULTS,
    RESULTS_LEDGER,
    STORE,
)
from config.snapshot import EXPORTS, MANIFEST  # noqa: E402
from keys.ledger.writer import Ledger, utc_now  # noqa: E402
from keys.server_keys import sshsig  # noqa: E402
from publisher.intake.watch import Candidate  # noqa: E402
from publisher.page import Stamp  # noqa: E402
from publisher.results import store as result_store  # noqa: E402
from publisher.results.checker import Checker  # noqa: E402
from publisher.results.intake.take_in import ResultContext, ResultIntake  # noqa: E402
from publisher.results.snapshots.exports import write_exports  # noqa: E402
from publisher.results.snapshots.snapshot import SnapshotWriter  # noqa: E402
from publisher.results.snapshots.summary import summary_lines  # noqa: E402
from publisher.results.store import ResultStore  # noqa: E402
from scripts.daemons.results import tune_garbage_collection  # noqa: E402

ALL_BOXES = 201_000
ELECTION = "bench-cb-mv"
_BOXES_A_BOARD = 184
_PARTIES = 26
_SMALL_BATCH = 200
_SMALL_BATCHES = 25


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--boxes", type=int, action="append")
    parser.add_argument("--no-exports", action="store_true")
    asked = parser.parse_args()
    tune_garbage_collection()  # as the process does
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for boxes in asked.boxes or (ALL_BOXES // 100, ALL_BOXES // 10, ALL_BOXES):
        folder = Path(tempfile.mkdtemp(prefix="ssps-bench-results-"))
        try:
            measure(folder, boxes, exports=not asked.no_exports)
        finally:
            shutil.rmtree(folder)


def measure(site: Path, boxes: int, *, exports: bool) -> None:
    """Measure one size and print what was measured."""
    print(f"\n{boxes:,} boxes, two contests: {2 * boxes:,} rows")
    ballots = prepare(site, boxes)
    key = Ed25519PrivateKey.generate()
    folder = site / LEDGERS / RESULTS_LEDGER
    with (
        Ledger(folder) as ledger,
        ResultStore(result_store.url(site)) as store,
    ):
        index = Registry(site / REGISTRY_INDEX)
        context = ResultContext(site, ELECTION, store, ledger, index, lambda: ballots, utc_now)
        intake = ResultIntake(context)
        checker = Checker(store, index, lambda: ballots, lambda keys: {})
        snapshots = SnapshotWriter(
            site,
            ELECTION,
            store,
            ledger,
            lambda text: sshsig.sign(key, text),
            utc_now,
        )
        snapshots.recover()
        batch = deliver(site, "all.ndjson", rows(boxes, version=1))
        used = time.process_time()
        whole, checks, columns = take_in(intake, checker, store, snapshots, batch)
        used = time.process_time() - used
        rate = f"{2 * boxes / whole:,.0f} rows/s"
        say("intake of one batch", rate, f"{whole:.1f} s ({used:.1f})")
        say("  of that, checks", f"{1e6 * checks / (2 * boxes):.0f} us a row")
        say("  of that, rows to files", f"{1e6 * columns / (2 * boxes):.0f} us a row")
        say_memory()

        def close() -> None:
            store.replace_findings(checker.check_changed_places())
            store.commit()
            snapshots.close_snapshot(
                lambda secim: summary_lines(secim, checker.sums, ballots, ShareLevel.CEVRE)
            )

        say_timed("snapshot, every row new", close)
        say_memory()
        one = deliver(site, "one.ndjson", rows(1, version=2))
        take_in(intake, checker, store, snapshots, one)
        say_timed("snapshot, one row changed", close)
        say_memory()
        of_tables = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        say("  of the tables' process", f"{of_tables:,.0f} MB", "at most, shared pages included")
        taken = 0.0
        some = min(boxes, _SMALL_BATCH * _SMALL_BATCHES // 2)
        lines = list(rows(some, version=3))
        for first in range(0, len(lines), _SMALL_BATCH):
            part = deliver(site, f"{first}.ndjson", iter(lines[first : first + _SMALL_BATCH]))
            taken += sum(take_in(intake, checker, store, snapshots, part)[:1])
        say("intake, batches of 200", f"{len(lines) / taken:,.0f} rows/s")
        say_memory()
        if exports:
            number = snapshots.last.number if snapshots.last else 0
            began = time.perf_counter()
            write_exports(site, number, ELECTION, ballots, lambda text: sshsig.sign(key, text))
            say("all exports of a snapshot", f"{time.perf_counter() - began:.1f} s")
            folder_of = site / "snapshots" / f"{number:08}"
            listed = [json.loads((folder_of / n).read_bytes()) for n in (MANIFEST, EXPORTS)]
            snapshot, exported = (sum(f["bytes"] for f in n["files"].values()) for n in listed)
            of_exports = f"exports {exported / 1e6:.0f} MB"
            say("bytes of a snapshot", f"{snapshot / 1e6:.1f} MB", of_exports)
            say("DuckDB reads mv.csv", f"{read_csv(site, number):.2f} s")
        kept = sum(size_of(site / part) for part in ("state", "ledgers", "store")) / (2 * boxes)
        say("bytes of a result", f"{kept:,.0f}", "in database, ledger and store")
        snapshots.close()
        index.close()


def prepare(site: Path, boxes: int) -> Ballot:
    """Make a site with a registry and a ballot."""
    for made in (RESULTS, STORE, Path("state")):
        (site / made).mkdir(parents=True, exist_ok=True)
    serial = iter(range(1_000_000_000, 10_000_000_000))
    with (site / "kayit.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(registry.COLUMNS) + "\n")
        for secim in ("cb", "mv"):
            for district, board, box in places(boxes):
                place = f"sandik-sonuc,{district},{board},normal,{box},,1"
                file.write(f"{next(serial)},{secim},{place}\n")
    registry.import_csv(site / "kayit.csv", site / REGISTRY_INDEX)
    text = ",".join(ballot.COLUMNS) + "\n"
    text += "".join(f"cb,,{n},aday-{n},aday,Aday {n},\n" for n in range(1, 5))
    for n in range(1, _PARTIES + 1):
        alliance = "ortak-1" if n <= 4 else "ortak-2" if n <= 8 else ""
        text += f"mv,,{n},parti-{n},parti,Parti {n},{alliance}\n"
    for n in (1, 2):
        text += f"mv,,{_PARTIES + n},ortak-{n},ittifak,İttifak {n},\n"
    (site / BALLOT_CSV).write_text(text, encoding="utf-8")
    return ballot.read("ballot.csv", text.splitlines(keepends=True), text.encode())


def places(boxes: int) -> Iterator[tuple[str, str, str]]:
    """Yield district, board and box of each box."""
    districts = cevre.names()
    for number in range(boxes):
        board = number // _BOXES_A_BOARD
        yield districts[board % len(districts)], f"kurul-{board}", str(1001 + number % 1000)


def rows(boxes: int, version: int) -> Iterator[str]:
    """Yield the rows of the first boxes, both contests, as lines of NDJSON."""
    rng = random.Random(version)  # noqa: S311 - no secret in it
    options = {
        "cb": [f"aday-{n}" for n in range(1, 5)],
        "mv": [f"parti-{n}" for n in range(1, _PARTIES + 1)] + ["ortak-1", "ortak-2"],
    }
    for district, board, box in places(boxes):
        for secim, names in options.items():
            votes = {name: rng.randrange(40) for name in names}
            valid = sum(votes.values())
            row = {
                "secim": secim,
                "cevre": district,
                "kurul": board,
                "sandik": box,
                "sandik_turu": "normal",
                "surum": version,
                "neden": "" if version == 1 else "itiraz kabul",
                "zaman": "2023-05-14T18:30:00+03:00",
                "secmen": valid + 50,
                "oy_kullanan": valid + 7,
                "itirazsiz_gecerli": valid,
                "itirazli_gecerli": 0,
                "gecerli": valid,
                "gecersiz": 7,
                "oylar": votes,
            }
            yield json.dumps(row) + "\n"


def deliver(site: Path, name: str, lines: Iterator[str]) -> Candidate:
    """Write a batch into results/."""
    path = site / RESULTS / name
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    return Candidate(site / RESULTS, str(path), Stamp.of(path.stat()))


def take_in(
    intake: ResultIntake,
    checker: Checker,
    store: ResultStore,
    snapshots: SnapshotWriter,
    batch: Candidate,
) -> tuple[float, float, float]:
    """Take in one batch; return the seconds of all, of the checks, and of the columns."""
    began, checks, columns = time.perf_counter(), 0.0, 0.0
    for claimed in intake.claim([batch]):
        for chunk in intake.take_in(claimed):
            now = time.perf_counter()
            snapshots.add(chunk.results, chunk.known)
            columns += time.perf_counter() - now
            now = time.perf_counter()
            store.replace_findings(
                checker.add(chunk.results, chunk.known, chunk.sheets, chunk.kinds)
            )
            checks += time.perf_counter() - now
    return time.perf_counter() - began, checks, columns


def say_timed(what: str, work: Callable[[], None]) -> None:
    """Do some work and print how long it took."""
    began, used = time.perf_counter(), os.times()
    work()
    took, now = time.perf_counter() - began, os.times()
    own = now.user + now.system - used.user - used.system
    started = now.children_user + now.children_system - used.children_user - used.children_system
    say(what, f"{took:.2f} s", f"({own:.2f} and {started:.2f} of the process for tables)")


def say_memory() -> None:
    """Print the memory of this process."""
    say("  memory", f"{memory_of(os.getpid()):,.0f} MB")


def memory_of(pid: int) -> float:
    """Return the memory of a process in MB, a shared page divided by those who share it."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0.0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_csv(site: Path, number: int) -> float:
    """Return the seconds in which DuckDB reads the exported CSV."""
    name = site / "snapshots" / f"{number:08}" / "mv.csv"
    began = time.perf_counter()
    with duckdb.connect() as database:
        database.execute(f"SELECT sum(\"Geçerli\") FROM read_csv('{name}', delim=';')").fetchall()
    return time.perf_counter() - began


def say(what: str, figure: str, more: str = "") -> None:
    """Print one line of the table."""
    print(f"  {what:<28} {figure:>16}  {more}", flush=True)


if __name__ == "__main__":
    main()
