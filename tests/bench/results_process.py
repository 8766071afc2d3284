"""What the real results process costs while results come in: memory, time, and 50,000 batches.

    scripts/bench results_process                    201,000 boxes, two contests, in five steps
    scripts/bench results_process --waiting 50000    so many batches wait when it starts
    scripts/bench results_process --waiting 50000 --seconds 300    the same, ended after that time

Without `--waiting`, the rows come in one batch for each step: until 1, 10, 30, 50 and 100 % of the
boxes have a result. For each step it prints

    seconds       from the delivery until a snapshot has every row
    process       megabytes of the results process (PSS): afterwards, and at most
    with others   the same with all processes that it starts: signer, tables, exports

With `--waiting` there are batches of eight rows in results/ before the process starts. It is
killed (`kill -9`) when half of the batches are taken in, or after half of `--seconds`, and started
again. It prints when the first batch was taken in, the rate, and the memory; and fails unless the
batches were taken in from the oldest to the newest, each row exactly once, and those that were not
taken in still wait.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import results  # noqa: E402 - from the folders above
from filing import process_tree  # noqa: E402

from config.site import LEDGERS, RESULTS, RESULTS_LEDGER, RESULTS_SPOOL  # noqa: E402
from keys.ledger.segments import read_records  # noqa: E402
from publisher.results.reading import open_results  # noqa: E402
from scripts.site.init import PARTIES_TEMPLATE, SITE_TEMPLATE, create_site  # noqa: E402

STEPS = (0.01, 0.1, 0.3, 0.5, 1.0)
ROWS_A_BATCH = 8
_COMMAND = (sys.executable, "-P", "-m", "scripts.daemons.results")
_SAMPLE_SECONDS = 0.2
_STALL_SECONDS = 3600.0


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=results.ALL_BOXES)
    parser.add_argument("--waiting", type=int, metavar="BATCHES")
    parser.add_argument("--seconds", type=float, default=_STALL_SECONDS)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ssps-bench-results-"))
    try:
        if asked.waiting:
            measure_waiting(folder / "site", asked.waiting, asked.seconds)
        else:
            measure_steps(folder / "site", asked.boxes)
    finally:
        shutil.rmtree(folder)


class Memory:
    """Samples the memory of a process, and of it together with all that it started, in MB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.alone = self.together = self.most_alone = self.most_together = 0.0

    def begin(self) -> None:
        """Forget what was the most so far."""
        self.most_alone = self.most_together = 0.0

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        sizes = [results.memory_of(pid) for pid in process_tree(self._pid)]
        self.alone, self.together = sizes[0], sum(sizes)
        self.most_alone = max(self.most_alone, self.alone)
        self.most_together = max(self.most_together, self.together)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def running(site: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the results process of a site."""
    with (site / "log.jsonl").open("ab") as log:
        process = subprocess.Popen(
            [*_COMMAND, str(site)], stdin=subprocess.PIPE, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def make_site(site: Path, boxes: int) -> None:
    """Create a site with a registry and a ballot."""
    toml = SITE_TEMPLATE.format(
        id=results.ELECTION, title="Bench", opens="2023-05-14T17:00:00+03:00", listen="[::1]:2222"
    )
    create_site(site, toml, PARTIES_TEMPLATE, "bench")
    results.prepare(site, boxes)


def measure_steps(site: Path, boxes: int) -> None:
    """Deliver the rows in steps, and print the memory at each."""
    make_site(site, boxes)
    print(f"{boxes:,} boxes, two contests: {2 * boxes:,} rows")
    heads = f"{'process':>10}{'most':>8}{'with others':>13}{'most':>8}"
    print(f"{'':>8}{'rows':>10}{'seconds':>10}{heads}")
    lines = results.rows(boxes, version=1)
    with running(site) as process, Memory(process.pid) as memory:
        done = 0
        for share in STEPS:
            memory.begin()
            began = time.perf_counter()
            upto = max(1, round(boxes * share)) * 2
            deliver(site, f"{upto}.ndjson", islice(lines, upto - done))
            done = upto
            wait_until(partial(lambda rows: rows_published(site) == rows, done), process)
            took = time.perf_counter() - began
            time.sleep(3 * _SAMPLE_SECONDS)
            print(
                f"{share:>8.0%}{done:>10,}{took:>10.1f}{memory.alone:>10.0f}"
                f"{memory.most_alone:>8.0f}{memory.together:>13.0f}{memory.most_together:>8.0f}",
                flush=True,
            )


def measure_waiting(site: Path, batches: int, seconds: float) -> None:
    """Start the process when so many batches wait already; kill it once; print the figures."""
    boxes = batches * ROWS_A_BATCH // 2
    make_site(site, boxes)
    lines = results.rows(boxes, version=1)
    for number in range(batches):
        path = site / RESULTS / name_of(batches - number)  # the names are in the other order
        path.write_text("".join(islice(lines, ROWS_A_BATCH)), encoding="utf-8")
        os.utime(path, (1_700_000_000 + number,) * 2)
    rows = batches * ROWS_A_BATCH
    print(f"{batches:,} batches of {ROWS_A_BATCH} rows wait")
    began = time.perf_counter()
    half = began + seconds / 2
    with running(site) as process, Memory(process.pid) as memory:
        wait_until(lambda: rows_here(site) > 0, process, pause=0.05)
        say("first batch taken in", f"{time.perf_counter() - began:.1f} s after the start")
        say_memory("memory then", memory)
        wait_until(lambda: rows_here(site) >= rows / 2 or time.perf_counter() > half, process)
        say_memory("memory before the kill", memory)
        process.kill()
        process.wait()
    before, took = rows_here(site), time.perf_counter() - began
    say(f"{before / ROWS_A_BATCH:,.0f} batches", f"{before / ROWS_A_BATCH / took:.0f} a second")
    again = time.perf_counter()
    with running(site) as process, Memory(process.pid) as memory:
        wait_until(lambda: rows_here(site) > min(before, rows - 1), process, pause=0.05)
        say("killed; goes on", f"{time.perf_counter() - again:.1f} s after the start")
        end = began + seconds
        wait_until(
            lambda: rows_published(site) == rows or time.perf_counter() > end, process, pause=1.0
        )
        say_memory("memory at the end", memory)
        done = rows_here(site) - before
        rate = done / ROWS_A_BATCH / (time.perf_counter() - again)
        say(f"{done / ROWS_A_BATCH:,.0f} batches", f"{rate:.0f} a second")
    say("order, nothing lost", check_order(site, batches))


def name_of(number: int) -> str:
    """Return the name of a waiting batch."""
    return f"{number:08}.ndjson"


def check_order(site: Path, batches: int) -> str:
    """Return what is on record; SystemExit unless each row is there once, oldest batch first."""
    found = [
        (record.event.origin, record.event.detail["line"])
        for record in read_records(site / LEDGERS / RESULTS_LEDGER)
        if record.event.event == "result"
    ]
    wanted = [
        (name_of(batches - number), line)
        for number in range(batches)
        for line in range(1, ROWS_A_BATCH + 1)
    ]
    if found != wanted[: len(found)]:
        raise SystemExit(f"{len(found)} records of {len(set(found))} rows, not the oldest first")
    spooled = len(list((site / RESULTS_SPOOL).iterdir()))
    waiting = len(list((site / RESULTS).glob("*.ndjson"))) + spooled
    taken = len(found) / ROWS_A_BATCH
    if not batches <= taken + waiting <= batches + 1:  # one may be taken in and not removed yet
        raise SystemExit(f"{taken} batches are taken in and {waiting} wait, of {batches}")
    return f"yes: {taken:,.0f} on record, {waiting:,} still wait"


def deliver(site: Path, name: str, lines: Iterator[str]) -> None:
    """Put a batch into results/, complete."""
    fresh = site / RESULTS / f".{name}.part"
    with fresh.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    fresh.replace(site / RESULTS / name)


def rows_here(site: Path) -> int:
    """Return how many rows are accepted."""
    with open_results(site) as reader:
        return reader.number_of_results()


def rows_published(site: Path) -> int:
    """Return how many rows are accepted if the latest snapshot has all of them, else -1."""
    with open_results(site) as reader:
        return reader.number_of_results() if reader.is_published() else -1


def wait_until(
    done: Callable[[], bool], process: subprocess.Popen[bytes], pause: float = 0.5
) -> None:
    """Wait for a state; SystemExit if the process ends, or if it takes very long."""
    deadline = time.monotonic() + _STALL_SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the results process ended, or stalls")
        time.sleep(pause)


def say_memory(what: str, memory: Memory) -> None:
    """Print the memory of now and the most."""
    figures = f"{memory.alone:.0f} MB, at most {memory.most_alone:.0f}"
    say(what, f"{figures}; with others {memory.together:.0f}, at most {memory.most_together:.0f}")


def say(what: str, figure: str) -> None:
    """Print one figure."""
    print(f"  {what:<24}{figure}", flush=True)


if __name__ == "__main__":
    main()
