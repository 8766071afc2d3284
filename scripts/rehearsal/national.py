"""`ssps rehearse --national`: play a whole polling night, or a part of it, in minutes.

It is a double election of 201,000 boxes divided by a factor. The pages arrive as
scripts/rehearsal/synthetic/arrivals schedules them, some of them from scanners that write slowly
and in place. Meanwhile the parties mirror with several kinds of clients, and some use the web site
and the web service (scripts/rehearsal/web_parties). The pages are of one of
two kinds, which the report names:

    real      all pages are drawn and scanned before the night, because drawing is slow, and are
              then dropped into the intake and read
    shared    all pages of one sheet type share one small scan, and scripts/rehearsal/
              simulated_reader takes their karekod from a comment in the file, so that the full
              number of pages fits on a small disk

At the end everything is compared with what the scanners delivered: no sheet is missing except
those of the boxes that never came, each party's disk has the same bytes as its tree, and the
checks of the site pass.
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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.progress import track

from config import load
from config.election import Election
from config.registry import Registry
from config.site import REGISTRY_INDEX
from keys.operations import server_state
from publisher.status import pace
from scripts.filing.status import SETTLED, count_sheets
from scripts.rehearsal import reconcile, simulated_reader, web_parties
from scripts.rehearsal.demo import free_port, ssps, wait_until_served
from scripts.rehearsal.mirror_clients import MirrorClient, MirrorRunner
from scripts.rehearsal.reconcile import DeliveredPage
from scripts.rehearsal.synthetic import arrivals, scanner
from scripts.rehearsal.synthetic.arrivals import ScheduledScan
from scripts.rehearsal.synthetic.result_batches import RehearsalResults, ResultSender
from scripts.rehearsal.synthetic.scanner import ScanKind
from scripts.rehearsal.synthetic.sheets import SheetNumbers
from scripts.rehearsal.web_parties import WebParty
from scripts.shared import console

BOXES = 201_000
REAL, SHARED = "real", "shared"
_ABSENCE_OPTIONS = ("--reason", "not-opened", "--why", "rehearsal")
_IN_PLACE_EVERY = 12  # every 12th scan is written slowly and in place
_IN_PLACE_THREADS = 4
_KEYING_ERRORS = 0.05  # share of results that are keyed in wrongly
_WITHHELD_RESULTS = 0.005  # share of boxes whose result never arrives
_WEB_PORT, _PORTAL_SECONDS = 8443, 120.0
_STALL_SECONDS = 600.0  # without a single page filed, after which the rehearsal fails


@dataclass(frozen=True)
class NationalRehearsal:
    """The parameters of a rehearsal; the first `mirrors` parties mirror with `clients` in turn.

    The first `web_parties` have a user of the web site and a program that calls the web service. A
    user tries again for `patience` seconds if the portal does not answer.
    """

    factor: int
    pages: str
    parties: int
    mirrors: int
    clients: tuple[str, ...]
    minutes: float
    seed: int
    web_parties: int = 0
    patience: float = 0.0

    @property
    def boxes(self) -> int:
        """The number of ballot boxes."""
        return max(4, BOXES // self.factor)


# Runs the daemons of the site that it is given, from when they answer to the end of a `with`.
Daemons = Callable[[Path], AbstractContextManager[None]]


def run_rehearsal(
    rehearsal: NationalRehearsal,
    folder: Path,
    ports: tuple[int, int] | None = None,
    daemons: Daemons | None = None,
) -> dict[str, object]:
    """Run the rehearsal on a new site in `folder` and return its report; `ok` is the verdict.

    The parties connect to `ports`, of SFTP and of the web. By default all daemons run on one host.
    """
    site, (port, web_port) = folder / "site", ports or (free_port(), free_port(_WEB_PORT))
    daemons = daemons or partial(_running_daemons, rehearsal.pages, port, folder / "log.jsonl")
    options = ["--boxes", rehearsal.boxes, "--parties", rehearsal.parties, "--seed", rehearsal.seed]
    ssps("rehearse", "init", site, *options, "--port", port, "--web-port", web_port)
    settings = load.load(site)
    registry = Registry(site / REGISTRY_INDEX)
    schedule = arrivals.plan(registry.entries(), rehearsal.seed)
    results = RehearsalResults(
        registry.entries(), rehearsal.seed, _KEYING_ERRORS, _WITHHELD_RESULTS
    )
    sender = ResultSender(site, results)
    registry.close()
    if rehearsal.pages == REAL:
        draw = partial(_draw_pages, results=results, folder=folder / "drawn")
        make_page = draw(schedule, settings.election, rehearsal.seed)
    else:
        make_page = _mark_pages(schedule, settings.election, rehearsal.seed)
    names = rehearsal.clients
    runner = MirrorRunner(
        [
            MirrorClient(site, port, party.id, names[n % len(names)], folder / "mirrors" / party.id)
            for n, party in enumerate(settings.parties[: rehearsal.mirrors])
        ],
        rehearsal.minutes * 60 / 4,
    )
    visitors = [
        WebParty(site, party.id, folder / "web" / party.id, rehearsal.patience)
        for party in settings.parties[: rehearsal.web_parties]
    ]
    began = time.monotonic()
    with daemons(site):
        runner.start()
        for visitor in visitors:
            visitor.start()
        try:
            pace.write_expected(
                site,
                datetime.now(UTC),
                (arrivals.playback_time(s.at, rehearsal.minutes * 60) for s in schedule),
            )
            delivered = _deliver(
                schedule,
                make_page,
                settings.intake.folders[0],
                rehearsal,
                sender,
            )
            reconcile.wait_until_filed(site, len(delivered), _STALL_SECONDS)
            reconcile.wait_for_results(site, len(results.sent), _STALL_SECONDS)
            _record_absences(site, rehearsal.seed)
        finally:
            for visitor in visitors:
                visitor.finish()
            runner.finish()
        seconds = time.monotonic() - began
    report = _report(rehearsal, site, schedule, delivered, runner.clients, seconds)
    web = web_parties.report(visitors)
    lags = reconcile.lags_of_results(site, sender.delivered)
    ok = bool(report["ok"]) and not web["web_errors"]
    return report | web | lags | reconcile.reconcile_results(site, results, ok)


# Returns the file name and the content of a scan.
PageMaker = Callable[[ScheduledScan], tuple[str, bytes]]


def _draw_pages(
    schedule: list[ScheduledScan],
    election: Election,
    seed: int,
    results: RehearsalResults,
    folder: Path,
) -> PageMaker:
    """Draw and scan all pages in advance, on all cores."""
    folder.mkdir()
    draw = partial(_draw, election, seed, folder)
    names: dict[int, str] = {}
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        pages = ((s.scan, results.numbers(s.scan)) for s in schedule)
        drawn = workers.map(draw, pages, chunksize=8)
        for number, name in enumerate(track(drawn, "drawing", len(schedule), console=console.err)):
            names[number] = name

    def make_page(scheduled: ScheduledScan) -> tuple[str, bytes]:
        path = folder / names[scheduled.scan.number]
        content = path.read_bytes()
        path.unlink()
        return path.name, content

    return make_page


def _draw(
    election: Election, seed: int, folder: Path, page: tuple[scanner.PlannedScan, SheetNumbers]
) -> str:
    planned, numbers = page
    name, content = scanner.render(planned, election, seed, numbers)
    (folder / name).write_bytes(content)
    return name


def _mark_pages(schedule: list[ScheduledScan], election: Election, seed: int) -> PageMaker:
    """Draw one small scan for each sheet type in advance, and mark copies of it."""
    shared: dict[tuple[str, str], bytes] = {}

    def make_page(scheduled: ScheduledScan) -> tuple[str, bytes]:
        sheet = scheduled.scan.entry.sheet
        sheet_type = (sheet.secim.value, sheet.belge.value)
        if sheet_type not in shared:
            shared[sheet_type] = simulated_reader.shared_scan(scheduled.scan.entry, election, seed)
        name = f"tarayici_{scheduled.scan.number:08d}.jpg"
        return name, simulated_reader.mark_page(shared[sheet_type], scheduled.scan)

    for scheduled in schedule:
        make_page(scheduled)
    return make_page


def _deliver(
    schedule: list[ScheduledScan],
    make_page: PageMaker,
    intake: Path,
    rehearsal: NationalRehearsal,
    results: ResultSender,
) -> list[DeliveredPage]:
    """Drop every page into the intake at its time, and its result into results/ a little later."""
    delivered: list[DeliveredPage] = []
    in_place: queue.SimpleQueue[tuple[str, bytes, ScanKind] | None] = queue.SimpleQueue()

    def drop_in_place() -> None:
        while (page := in_place.get()) is not None:
            name, content, kind = page
            scanner.drop_in_place(intake, name, content, lambda: time.sleep(0.05))
            sha256 = scanner.digest(content)
            delivered.append(DeliveredPage(name, sha256, kind, datetime.now(UTC)))

    threads = [threading.Thread(target=drop_in_place) for _ in range(_IN_PLACE_THREADS)]
    for thread in threads:
        thread.start()
    began = reported = time.monotonic()
    try:
        for number, scheduled in enumerate(schedule):
            name, content = make_page(scheduled)
            due = began + arrivals.playback_time(scheduled.at, rehearsal.minutes * 60)
            time.sleep(max(0.0, due - time.monotonic()))
            kind = scheduled.scan.kind
            if number % _IN_PLACE_EVERY == _IN_PLACE_EVERY - 1:
                in_place.put((name, content, kind))
            else:
                sha256 = scanner.digest(content)
                scanner.drop(intake, name, content)
                delivered.append(DeliveredPage(name, sha256, kind, datetime.now(UTC)))
            results.scanned(scheduled.scan)
            if time.monotonic() - reported > 10:
                reported = time.monotonic()
                done = f"{number + 1} of {len(schedule)} scans"
                console.err.print(f"{_format_clock(scheduled.at)}: {done}")
    finally:
        for _ in threads:
            in_place.put(None)
        for thread in threads:
            thread.join()
    results.flush()
    return delivered


def _format_clock(at: float) -> str:
    """Return the time of day `at` seconds after 17.00 of the first day."""
    days, seconds = divmod(17 * arrivals.HOUR + at, arrivals.DAY)
    return f"day {days + 1:.0f}, {seconds // 3600:02.0f}.{seconds % 3600 // 60:02.0f}"


def _wait_for_portal(site: Path) -> None:
    deadline = time.monotonic() + _PORTAL_SECONDS
    while server_state.read(site, server_state.PORTAL) is None:
        if time.monotonic() > deadline:
            raise TimeoutError("the portal does not start: see log.jsonl")
        time.sleep(0.1)


def daemon_command(site: Path, daemon: str, pages: str) -> list[str]:
    """Return the command of a daemon; with shared pages the publisher uses the simulated reader."""
    if daemon == server_state.PUBLISH and pages == SHARED:
        return [sys.executable, "-m", "scripts.rehearsal.simulated_reader", str(site)]
    return [*reconcile.SSPS, daemon, "--site", str(site)]


@contextmanager
def _running_daemons(pages: str, port: int, log: Path, site: Path) -> Iterator[None]:
    """Run the daemons."""
    apart = (server_state.PUBLISH, server_state.SERVE, server_state.PORTAL)
    names = (server_state.RUN,) if pages == REAL else apart
    commands = [daemon_command(site, name, pages) for name in names]
    with log.open("wb") as out:
        processes = [subprocess.Popen(command, stdout=out, stderr=out) for command in commands]
    try:
        wait_until_served(port)
        _wait_for_portal(site)
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _record_absences(site: Path, seed: int) -> None:
    """Record the boxes that never came as absent, as an operator does after the night."""
    registry = Registry(site / REGISTRY_INDEX)
    boxes = arrivals.absent_boxes(registry.entries(), seed)
    registry.close()
    places = ["/".join(map(str, box)) for box in sorted(boxes, key=str)]
    ssps("absent", "add", *places, *_ABSENCE_OPTIONS, "--site", site)


def _report(
    rehearsal: NationalRehearsal,
    site: Path,
    schedule: list[ScheduledScan],
    delivered: list[DeliveredPage],
    clients: list[MirrorClient],
    seconds: float,
) -> dict[str, object]:
    counts = count_sheets(site)
    lags, unaccounted = reconcile.reconcile_pages(site, delivered)
    never_came = counts["expected"] - sum(s.scan.kind is ScanKind.PAGE for s in schedule)
    differing = [client.party for client in clients if not client.matches_tree()]
    checks = reconcile.run_checks(site)
    return {
        "factor": rehearsal.factor,
        "pages": rehearsal.pages,
        "note": _NOTES[rehearsal.pages],
        "boxes": rehearsal.boxes,
        "sheets": counts["expected"],
        "scans": dict(Counter(str(s.scan.kind) for s in schedule)),
        "written_in_place": len(schedule) // _IN_PLACE_EVERY,
        "minutes_played": rehearsal.minutes,
        "seconds": round(seconds, 1),
        **{key: counts[key] for key in SETTLED},
        "absent": counts["absent"],
        "missing": counts["missing"],
        "never_came": never_came,
        "unaccounted": unaccounted,
        "lag_p50": reconcile.percentile(lags, 50),
        "lag_p99": reconcile.percentile(lags, 99),
        "lag_max": reconcile.percentile(lags, 100),
        "parties": rehearsal.parties,
        "mirrors": dict(Counter(c.client for c in clients)),
        "rounds": sum(c.rounds for c in clients),
        "rounds_failed": [f"{c.party} ({c.client}): {f}" for c in clients for f in c.failures],
        "mirrors_that_differ": differing,
        **reconcile.transfer_totals(site),
        "ledgers": reconcile.ledger_sizes(site),
        "checks": checks,
        "ok": (
            (counts["missing"], counts["absent"]) == (0, never_came)
            and not unaccounted
            and not differing
            and "failed" not in checks.values()
        ),
    }


_NOTES = {
    REAL: "every page was drawn, scanned, dropped and read",
    SHARED: "the pages of a sheet type share one small scan; karekods were not read from images",
}
