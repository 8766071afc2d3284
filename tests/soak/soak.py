"""`scripts/soak --minutes N`: run everything at once while faults are injected.

A rehearsal election is scanned, filed, served and mirrored. Meanwhile the faults of
tests/soak/fault_injection are injected one after the other, again and again, in an order that
depends on --seed.

In the last quarter of the time no more faults are injected. Then nothing may be lost or done twice:
each page that a scanner delivered has exactly one record with its SHA-256, `ssps verify` and
`ssps audit verify` find nothing, each party's disk has the same bytes as its tree, and no daemon
logged a traceback. Otherwise the exit code is 1.

To fill the disk, the site is on a small tmpfs, which only root can mount. Without root this fault
is skipped, and the report says so.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import click
from soak import fault_injection
from soak.fault_injection import InjectedFault, SoakRun

from config import load
from config.registry import Registry
from config.site import REGISTRY_INDEX
from scripts.rehearsal import options, reconcile
from scripts.rehearsal.demo import free_port, ssps, wait_until_served
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS, MirrorClient, MirrorRunner
from scripts.rehearsal.reconcile import DeliveredPage
from scripts.rehearsal.rehearsal_site import own_address
from scripts.rehearsal.synthetic import arrivals, scanner

_QUIET_SHARE = 0.25  # of the time, at its end, without faults
_MEGABYTES = 256  # size of the site's disk, plus as many for every ten minutes


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Create `folder`, on a small disk of its own if we are root; yield whether it is."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ssps-soak", str(folder)]
    own = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield own
    finally:
        if own:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _lay_out(soak_run: SoakRun, boxes: int, parties: int, seed: int) -> None:
    """Create the rehearsal's site, with its intake on another disk and short intervals."""
    options = ["--boxes", boxes, "--parties", parties + 1, "--seed", seed, "--port", soak_run.port]
    ssps("rehearse", "init", soak_run.site, *options)
    text = (soak_run.site / "site.toml").read_text(encoding="utf-8")
    intake = soak_run.folder / "intake"
    text = text.replace('folders = ["intake"]', f'folders = ["{intake}"]')
    text = text.replace("rescan_seconds = 30.0", "rescan_seconds = 5.0")
    text = text.replace("# drain_seconds = 30", "drain_seconds = 3")
    fault_injection.replace_file(soak_run.site / "site.toml", text)
    soak_run.attacker = own_address(parties)  # that of the last party
    soak_run.clock.write_text("0")


def _scan(soak_run: SoakRun, seed: int, stop: threading.Event) -> list[DeliveredPage]:
    """Draw pages and drop them into the intake until `stop` is set, every tenth in place."""
    settings = load.load(soak_run.site)
    registry = Registry(soak_run.site / REGISTRY_INDEX)
    schedule = arrivals.plan(registry.entries(), seed)
    registry.close()
    interval = soak_run.seconds * (1 - _QUIET_SHARE) / len(schedule)
    began = time.monotonic()
    delivered: list[DeliveredPage] = []
    for number, scheduled in enumerate(schedule):
        name, content = scanner.render(scheduled.scan, settings.election, seed)
        if stop.wait(max(0.0, began + number * interval - time.monotonic())):
            break
        if number % 10 == 9:
            scanner.drop_in_place(
                settings.intake.folders[0], name, content, lambda: time.sleep(0.02)
            )
        else:
            scanner.drop(settings.intake.folders[0], name, content)
        sha256 = scanner.digest(content)
        delivered.append(DeliveredPage(name, sha256, scheduled.scan.kind, datetime.now(UTC)))
    return delivered


def soak(soak_run: SoakRun, parties: int, seed: int) -> dict[str, object]:
    """Run the soak test and return its report; `ok` is the verdict."""
    _lay_out(soak_run, max(12, round(soak_run.seconds / 10)), parties, seed)
    names, mirrors = list(MIRROR_CLIENTS), soak_run.folder / "mirrors"
    clients = [
        MirrorClient(
            soak_run.site, soak_run.port, party.id, names[n % len(names)], mirrors / party.id
        )
        for n, party in enumerate(load.load(soak_run.site).parties[:parties])
    ]
    runner = MirrorRunner(clients, pause=10)
    stop = threading.Event()
    delivered: list[DeliveredPage] = []
    scanning = threading.Thread(target=lambda: delivered.extend(_scan(soak_run, seed, stop)))
    soak_run.start()
    began = time.monotonic()
    try:
        wait_until_served(soak_run.port)
        scanning.start()
        runner.start()
        _inject_faults(soak_run, began + soak_run.seconds * (1 - _QUIET_SHARE))
        stop.set()
        scanning.join()
        fault_injection.replace_file(soak_run.clock, "0")
        wait_until_served(soak_run.port)
        reconcile.wait_until_filed(soak_run.site, len(delivered), stall_seconds=120)
        runner.finish()
    finally:
        stop.set()
        runner.finish()
        exit_code = _stop_daemons(soak_run)
    return _report(soak_run, delivered, clients, exit_code, time.monotonic() - began)


def _inject_faults(soak_run: SoakRun, until: float) -> None:
    began = time.monotonic()
    faults: list[InjectedFault] = []
    while time.monotonic() < until:
        if not faults:
            faults = list(fault_injection.ALL_FAULTS)
            soak_run.rng.shuffle(faults)
        description = faults.pop()(soak_run)
        soak_run.done[description] += 1
        print(f"{time.monotonic() - began:6.1f} s  {description}")
        time.sleep(min(soak_run.rng.uniform(2, 8), max(0.0, until - time.monotonic())))


def _stop_daemons(soak_run: SoakRun) -> int:
    """Stop the supervisor and return its exit code."""
    assert soak_run.supervisor is not None
    soak_run.supervisor.terminate()
    try:
        return soak_run.supervisor.wait(60)
    except subprocess.TimeoutExpired:
        soak_run.supervisor.kill()
        return soak_run.supervisor.wait()


def _report(
    soak_run: SoakRun,
    delivered: list[DeliveredPage],
    clients: list[MirrorClient],
    exit_code: int,
    seconds: float,
) -> dict[str, object]:
    _, unaccounted = reconcile.reconcile_pages(soak_run.site, delivered)
    differing = [f"{c.party} ({c.client})" for c in clients if not c.matches_tree()]
    checks = reconcile.run_checks(soak_run.site)
    errors, tracebacks = logged_errors(soak_run.log)
    return {
        "seconds": round(seconds, 1),
        "faults": dict(soak_run.done),
        "skipped": sorted(set(soak_run.skipped)),
        "pages": len(delivered),
        "unaccounted": unaccounted,
        "rounds": sum(c.rounds for c in clients),
        "rounds_failed": sum(len(c.failures) for c in clients),
        "last_failure": [
            f"{c.party} ({c.client}): {c.failures[-1]}" for c in clients if c.failures
        ],
        "mirrors_that_differ": differing,
        **reconcile.transfer_totals(soak_run.site),
        "ledgers": reconcile.ledger_sizes(soak_run.site),
        "checks": checks,
        "exit_code": exit_code,
        "errors_logged": errors,
        "tracebacks": tracebacks,
        "ok": not (unaccounted or differing or exit_code or tracebacks)
        and "failed" not in checks.values(),
    }


def logged_errors(log: Path) -> tuple[dict[str, int], int]:
    """Count the logged errors by event, and the tracebacks."""
    errors: Counter[str] = Counter()
    tracebacks = 0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            tracebacks += line.startswith("Traceback")
            continue
        tracebacks += "Traceback" in entry.get("exception", "")
        if entry.get("level") in ("error", "critical"):
            errors[str(entry.get("event"))] += 1
    return dict(errors), tracebacks


@click.command()
@options.minutes_option(0.5, 2.0, "the test")
@options.count_option("--parties", 40, 6, "Number of parties that mirror.")
@options.seed_option("faults")
@options.report_option
@click.option("--keep", is_flag=True, help="Keep the log and the mirrors, and print their folder.")
def main(minutes: float, parties: int, seed: int, file: Path | None, keep: bool) -> None:
    """Scan, file, serve and mirror a rehearsal election while faults are injected."""
    folder = Path(tempfile.mkdtemp(prefix="ssps-soak-"))
    try:
        with _small_disk(folder / "disk", _MEGABYTES + int(minutes * _MEGABYTES / 10)) as own:
            rng = random.Random(seed)  # noqa: S311 - the same faults every time
            soak_run = SoakRun(folder, free_port(), rng, own, minutes * 60)
            report = soak(soak_run, parties, seed)
    finally:
        if keep:
            print(folder)
        else:
            with suppress(OSError):  # the report matters more
                shutil.rmtree(folder)
    options.finish(report, file)


if __name__ == "__main__":
    main()
