"""`ssps rehearse --national`: a whole polling night, or a part of one, played in minutes.

A double election of 201,000 boxes divided by a factor; its pages come in as
scripts/rehearsal/arrivals
says, some from scanners that write slowly in place, while up to all parties mirror with mixed
clients. Pages are of one of two kinds, and the report says which:

    real      each is drawn, scanned, dropped and read, before the night so that drawing costs it
              nothing
    shared    all of one form share one small scan and are taken at their word (standin), so that
              the full count of rows fits a small disk

At the end everything is held against what left the scanners: nothing missing but the boxes that
never came, each party's disk like its tree to the byte, and the site by its own reckoning.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.progress import track

from config import load
from config.election import Election
from config.registry import Registry
from config.site import REGISTRY_INDEX
from scripts.filing.status import count_sheets
from scripts.rehearsal import arrivals, reconcile, scanner, simulated_reader
from scripts.rehearsal.arrivals import ScheduledScan
from scripts.rehearsal.demo import free_port, ssps, wait_until_served
from scripts.rehearsal.mirror_clients import MirrorClient, MirrorRunner
from scripts.rehearsal.reconcile import DeliveredPage
from scripts.rehearsal.scanner import ScanKind
from scripts.shared import console

BOXES = 201_000
REAL, SHARED = "real", "shared"
_ABSENCE_OPTIONS = ("--reason", "not-opened", "--why", "rehearsal")
_IN_PLACE_EVERY = 12  # one scan in so many is written slowly in place
_STALL_SECONDS = 600.0  # seconds without a single page filed


@dataclass(frozen=True)
class NationalRehearsal:
    """What is to be rehearsed; `mirrors` of the parties mirror, with `clients` in turn."""

    factor: int
    pages: str
    parties: int
    mirrors: int
    clients: tuple[str, ...]
    minutes: float
    seed: int

    @property
    def boxes(self) -> int:
        """How many ballot boxes there are."""
        return max(4, BOXES // self.factor)


def run_rehearsal(rehearsal: NationalRehearsal, folder: Path) -> dict[str, object]:
    """Hold the rehearsal on a new site in `folder` and return its report; `ok` is its verdict."""
    site, port = folder / "site", free_port()
    made = ["--boxes", rehearsal.boxes, "--parties", rehearsal.parties, "--seed", rehearsal.seed]
    ssps("rehearse", "init", site, *made, "--port", port)
    settings = load.load(site)
    index = Registry(site / REGISTRY_INDEX)
    coming = arrivals.plan(index.entries(), rehearsal.seed)
    index.close()
    if rehearsal.pages == REAL:
        make = _draw_pages(coming, settings.election, rehearsal.seed, folder / "drawn")
    else:
        make = _mark_pages(coming, settings.election, rehearsal.seed)
    names = rehearsal.clients
    crowd = MirrorRunner(
        [
            MirrorClient(site, port, party.id, names[n % len(names)], folder / "mirrors" / party.id)
            for n, party in enumerate(settings.parties[: rehearsal.mirrors])
        ],
        rehearsal.minutes * 60 / 4,
    )
    began = time.monotonic()
    with _running_daemons(site, rehearsal.pages, folder / "log.jsonl"):
        wait_until_served(port)
        crowd.start()
        try:
            delivered = _deliver(coming, make, settings.intake.folders[0], rehearsal)
            reconcile.wait_until_filed(site, len(delivered), _STALL_SECONDS)
            _record_absences(site, rehearsal.seed)
        finally:
            crowd.finish()
        seconds = time.monotonic() - began
    return _report(rehearsal, site, coming, delivered, crowd.clients, seconds)


PageMaker = Callable[[ScheduledScan], tuple[str, bytes]]


def _draw_pages(
    coming: list[ScheduledScan], election: Election, seed: int, folder: Path
) -> PageMaker:
    """Draw and scan all pages beforehand, on all cores."""
    folder.mkdir()
    draw = partial(_draw, election, seed, folder)
    names: dict[int, str] = {}
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        drawn = workers.map(draw, (c.scan for c in coming), chunksize=8)
        for number, name in enumerate(track(drawn, "drawing", len(coming), console=console.err)):
            names[number] = name

    def make(coming: ScheduledScan) -> tuple[str, bytes]:
        path = folder / names[coming.scan.number]
        content = path.read_bytes()
        path.unlink()
        return path.name, content

    return make


def _draw(election: Election, seed: int, folder: Path, planned: scanner.PlannedScan) -> str:
    name, content = scanner.render(planned, election, seed)
    (folder / name).write_bytes(content)
    return name


def _mark_pages(coming: list[ScheduledScan], election: Election, seed: int) -> PageMaker:
    shared: dict[tuple[str, str], bytes] = {}

    def make(coming: ScheduledScan) -> tuple[str, bytes]:
        sheet = coming.scan.entry.sheet
        form = (sheet.secim.value, sheet.belge.value)
        if form not in shared:
            shared[form] = simulated_reader.shared_scan(coming.scan.entry, election, seed)
        name = f"tarayici_{coming.scan.number:08d}.jpg"
        return name, simulated_reader.mark_page(shared[form], coming.scan)

    for one in coming:  # every form is drawn before the night, not during it
        make(one)
    return make


def _deliver(
    coming: list[ScheduledScan], make: PageMaker, intake: Path, rehearsal: NationalRehearsal
) -> list[DeliveredPage]:
    """Drop every page into the intake at its time."""
    done: list[DeliveredPage] = []
    slowly: queue.SimpleQueue[tuple[str, bytes, ScanKind] | None] = queue.SimpleQueue()

    def drop_in_place() -> None:
        while (found := slowly.get()) is not None:
            name, content, kind = found
            scanner.drop_in_place(intake, name, content, lambda: time.sleep(0.05))
            done.append(DeliveredPage(name, scanner.digest(content), kind, datetime.now(UTC)))

    rude = [threading.Thread(target=drop_in_place) for _ in range(4)]
    for thread in rude:
        thread.start()
    began, told = time.monotonic(), time.monotonic()
    try:
        for number, one in enumerate(coming):
            name, content = make(one)
            due = began + arrivals.playback_time(one.at, rehearsal.minutes * 60)
            time.sleep(max(0.0, due - time.monotonic()))
            if number % _IN_PLACE_EVERY == _IN_PLACE_EVERY - 1:
                slowly.put((name, content, one.scan.kind))
            else:
                sha256 = scanner.digest(content)
                scanner.drop(intake, name, content)
                done.append(DeliveredPage(name, sha256, one.scan.kind, datetime.now(UTC)))
            if time.monotonic() - told > 10:
                told = time.monotonic()
                console.err.print(f"{_clock(one.at)}: {number + 1} of {len(coming)} scans")
    finally:
        for _ in rude:
            slowly.put(None)
        for thread in rude:
            thread.join()
    return done


def _clock(at: float) -> str:
    days, seconds = divmod(17 * arrivals.HOUR + at, arrivals.DAY)
    return f"day {days + 1:.0f}, {seconds // 3600:02.0f}.{seconds % 3600 // 60:02.0f}"


@contextmanager
def _running_daemons(site: Path, pages: str, log: Path) -> Iterator[None]:
    """Run both daemons; with shared pages the publisher is the one with the stand-in."""
    standing = [[sys.executable, "-m", "scripts.rehearsal.simulated_reader", str(site)]]
    commands = (
        [[*reconcile.SSPS, "run", "--site", str(site)]]
        if pages == REAL
        else [*standing, [*reconcile.SSPS, "serve", "--site", str(site)]]
    )
    with log.open("wb") as out:
        running_daemons = [subprocess.Popen(c, stdout=out, stderr=out) for c in commands]
    try:
        yield
    finally:
        for process in running_daemons:
            process.terminate()
        for process in running_daemons:
            process.wait()


def _record_absences(site: Path, seed: int) -> None:
    """Record the boxes that never came, as an operator does when the night is over."""
    index = Registry(site / REGISTRY_INDEX)
    missing = arrivals.absent_boxes(index.entries(), seed)
    index.close()
    places = ["/".join(map(str, box)) for box in sorted(missing, key=str)]
    ssps("absent", "add", *places, *_ABSENCE_OPTIONS, "--site", site)


def _report(
    rehearsal: NationalRehearsal,
    site: Path,
    coming: list[ScheduledScan],
    delivered: list[DeliveredPage],
    clients: list[MirrorClient],
    seconds: float,
) -> dict[str, object]:
    counts = count_sheets(site)
    lags, unaccounted = reconcile.reconcile_pages(site, delivered)
    never_came = counts["expected"] - sum(c.scan.kind is ScanKind.PAGE for c in coming)
    disagree = [v.party for v in clients if not v.matches_tree()]
    checks = reconcile.run_checks(site)
    return {
        "factor": rehearsal.factor,
        "pages": rehearsal.pages,
        "note": _NOTES[rehearsal.pages],
        "boxes": rehearsal.boxes,
        "sheets": counts["expected"],
        "scans": dict(Counter(str(c.scan.kind) for c in coming)),
        "written_in_place": len(coming) // _IN_PLACE_EVERY,
        "minutes_played": rehearsal.minutes,
        "seconds": round(seconds, 1),
        **{key: counts[key] for key in ("filed", "versions", "duplicates", "quarantined")},
        "absent": counts["absent"],
        "missing": counts["missing"],
        "never_came": never_came,
        "unaccounted": unaccounted,
        "lag_p50": reconcile.percentile(lags, 50),
        "lag_p99": reconcile.percentile(lags, 99),
        "lag_max": reconcile.percentile(lags, 100),
        "parties": rehearsal.parties,
        "mirrors": dict(Counter(v.client for v in clients)),
        "rounds": sum(v.rounds for v in clients),
        "rounds_failed": [f"{v.party} ({v.client}): {f}" for v in clients for f in v.failures],
        "mirrors_that_differ": disagree,
        **reconcile.transfer_totals(site),
        "ledgers": reconcile.ledger_sizes(site),
        "checks": checks,
        "ok": (
            (counts["missing"], counts["absent"]) == (0, never_came)
            and not unaccounted
            and not disagree
            and "failed" not in checks.values()
        ),
    }


_NOTES = {
    REAL: "every page was drawn, scanned, dropped and read",
    SHARED: "pages share one small scan a form; karekods were handed over, not read",
}
