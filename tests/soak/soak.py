"""`scripts/soak --minutes N`: everything at once, and everything going wrong meanwhile.

A rehearsal election is scanned, filed, served and mirrored while, one after the other and over
again, in an order that --seed decides, all of tests/soak/fault_injection befalls them.

Then all grows calm, and it must come out that nothing was lost and nothing happened twice: every
page that left a scanner has its one record and its bytes, `ssps verify` and `ssps audit verify`
find nothing, each party's disk agrees with its tree to the byte, and no daemon met an error that
it did not expect. Exit code 1 if not. For the full disk the site stands on a small tmpfs of its
own, which only root can mount; elsewhere that fault is left out, and the report says so.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from soak import fault_injection
from soak.fault_injection import InjectedFault, SoakRun

from config import load
from config.registry import Registry
from config.site import REGISTRY_INDEX
from scripts.rehearsal import arrivals, reconcile, scanner
from scripts.rehearsal.demo import free_port, ssps, wait_until_served
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS, MirrorClient, MirrorRunner
from scripts.rehearsal.reconcile import DeliveredPage
from scripts.rehearsal.rehearsal_site import ADDRESS

_QUIET_SHARE = 0.25  # of the time, at the end of it, in which nothing more goes wrong
_MEGABYTES = 256  # of the site's disk, and as many more for each ten minutes


@contextmanager
def _small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Make `folder`, on a small disk of its own if we may; say whether it is."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ssps-soak", str(folder)]
    own = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield own
    finally:
        if own:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _lay_out(soak_run: SoakRun, boxes: int, parties: int, seed: int) -> None:
    made = ["--boxes", boxes, "--parties", parties, "--seed", seed, "--port", soak_run.port]
    ssps("rehearse", "init", soak_run.site, *made)
    text = (soak_run.site / "site.toml").read_text(encoding="utf-8")
    intake = soak_run.folder / "intake"  # a scanner's disk is not the site's
    text = text.replace('folders = ["intake"]', f'folders = ["{intake}"]')
    text = text.replace("rescan_seconds = 30.0", "rescan_seconds = 5.0")
    text = text.replace("# drain_seconds = 30", "drain_seconds = 3")
    fault_injection.replace_file(soak_run.site / "site.toml", text)
    stated = (soak_run.site / "parties.toml").read_text(encoding="utf-8")
    stated = stated.replace(f'"{ADDRESS}",', f'"{ADDRESS}", "{fault_injection.ATTACK_ADDRESS}",')
    fault_injection.replace_file(soak_run.site / "parties.toml", stated)
    soak_run.clock.write_text("0")


def _scan(soak_run: SoakRun, seed: int, over: threading.Event) -> list[DeliveredPage]:
    """Draw and drop pages until it is over, some written slowly in place."""
    settings = load.load(soak_run.site)
    index = Registry(soak_run.site / REGISTRY_INDEX)
    coming = arrivals.plan(index.entries(), seed)
    index.close()
    pause = soak_run.seconds * (1 - _QUIET_SHARE) / len(coming)
    began = time.monotonic()
    done: list[DeliveredPage] = []
    for number, one in enumerate(coming):
        name, content = scanner.render(one.scan, settings.election, seed)
        if over.wait(max(0.0, began + number * pause - time.monotonic())):
            break
        if number % 10 == 9:
            scanner.drop_in_place(
                settings.intake.folders[0], name, content, lambda: time.sleep(0.02)
            )
        else:
            scanner.drop(settings.intake.folders[0], name, content)
        at = datetime.now(UTC)
        done.append(DeliveredPage(name, scanner.digest(content), one.scan.kind, at))
    return done


def soak(soak_run: SoakRun, parties: int, seed: int) -> dict[str, object]:
    """Run it all, and return the report; `ok` is its verdict."""
    _lay_out(soak_run, max(12, round(soak_run.seconds / 10)), parties, seed)
    names, mirrors = list(MIRROR_CLIENTS), soak_run.folder / "mirrors"
    clients = [
        MirrorClient(
            soak_run.site, soak_run.port, party.id, names[n % len(names)], mirrors / party.id
        )
        for n, party in enumerate(load.load(soak_run.site).parties)
    ]
    crowd = MirrorRunner(clients, pause=10)
    over = threading.Event()
    delivered: list[DeliveredPage] = []
    scanning = threading.Thread(target=lambda: delivered.extend(_scan(soak_run, seed, over)))
    soak_run.start()
    began = time.monotonic()
    try:
        wait_until_served(soak_run.port)
        scanning.start()
        crowd.start()
        _inject_faults(soak_run, began + soak_run.seconds * (1 - _QUIET_SHARE))
        over.set()
        scanning.join()
        fault_injection.replace_file(soak_run.clock, "0")
        wait_until_served(soak_run.port)
        reconcile.wait_until_filed(soak_run.site, len(delivered), stall_seconds=120)
        crowd.finish()
    finally:
        over.set()
        crowd.finish()
        stopped = _stop(soak_run)
    return _report(soak_run, delivered, clients, stopped, time.monotonic() - began)


def _inject_faults(soak_run: SoakRun, until: float) -> None:
    waiting: list[InjectedFault] = []
    while time.monotonic() < until:
        if not waiting:
            waiting = soak_run.rng.sample(
                fault_injection.ALL_FAULTS, len(fault_injection.ALL_FAULTS)
            )
        did = waiting.pop()(soak_run)
        soak_run.done[did] += 1
        print(f"{time.monotonic() - until + soak_run.seconds * (1 - _QUIET_SHARE):6.1f} s  {did}")
        time.sleep(min(soak_run.rng.uniform(2, 8), max(0.0, until - time.monotonic())))


def _stop(soak_run: SoakRun) -> int:
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
    stopped: int,
    seconds: float,
) -> dict[str, object]:
    _, unaccounted = reconcile.reconcile_pages(soak_run.site, delivered)
    differ = [f"{v.party} ({v.client})" for v in clients if not v.matches_tree()]
    checks = reconcile.run_checks(soak_run.site)
    said, tracebacks = _logged_errors(soak_run.log)
    return {
        "seconds": round(seconds, 1),
        "faults": dict(soak_run.done),
        "left_out": sorted(set(soak_run.skipped)),
        "pages": len(delivered),
        "unaccounted": unaccounted,
        "rounds": sum(v.rounds for v in clients),
        "rounds_cut_short": sum(len(v.failures) for v in clients),
        "last_said": [f"{v.party} ({v.client}): {v.failures[-1]}" for v in clients if v.failures],
        "mirrors_that_differ": differ,
        **reconcile.transfer_totals(soak_run.site),
        "ledgers": reconcile.ledger_sizes(soak_run.site),
        "checks": checks,
        "stopped_with": stopped,
        "errors_logged": said,
        "tracebacks": tracebacks,
        "ok": not (unaccounted or differ or stopped or tracebacks)
        and "failed" not in checks.values(),
    }


def _logged_errors(log: Path) -> tuple[dict[str, int], int]:
    """Count the errors in a log by what they say, and what is no line of ours."""
    said: Counter[str] = Counter()
    tracebacks = 0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            tracebacks += line.startswith("Traceback")
            continue
        tracebacks += "Traceback" in entry.get("exception", "")
        if entry.get("level") in ("error", "critical"):
            said[str(entry.get("event"))] += 1
    return dict(said), tracebacks


@click.command()
@click.option("--minutes", type=click.FloatRange(0.5), default=2.0, show_default=True)
@click.option("--parties", type=click.IntRange(1, 40), default=6, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the report there.")
@click.option("--keep", is_flag=True, help="Leave log and mirrors where they are.")
def main(minutes: float, parties: int, seed: int, file: Path | None, keep: bool) -> None:
    """Run everything at once with faults, and hold what comes of it against what went in."""
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
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(reconcile.format_report(report))
    if file:
        file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(int(not report["ok"]))


if __name__ == "__main__":
    main()
