"""A batch of results, from results/ to a signed snapshot, with the real processes killed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running_site import SSPS, until

from config import load
from config.registry import Registry
from config.site import LEDGERS, REGISTRY_INDEX, RESULTS, RESULTS_LEDGER, SNAPSHOTS
from keys.ledger.segments import read_records
from publisher.results.reading import open_results
from scripts.rehearsal.synthetic.result_batches import RehearsalResults, deliver_batch
from scripts.rehearsal.synthetic.scanner import PlannedScan
from scripts.shared.console import utc_now


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    command = [*SSPS, "rehearse", "init", str(site), "--boxes", "200", "--parties", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return site


def rows(site: Path) -> list[dict[str, object]]:
    """Return one row for each result sheet of the site's registry."""
    registry = Registry(site / REGISTRY_INDEX)
    entries = list(registry.entries())
    registry.close()
    results = RehearsalResults(entries, seed=1)
    scans = (PlannedScan(0, entry, entry.karekod) for entry in entries)
    return [row for scan in scans if (row := results.row(scan, utc_now())) is not None]


@contextmanager
def publishing(site: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (site / "publish.log").open("ab") as log:
        process = subprocess.Popen([*SSPS, "publish", "--site", str(site)], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def results_process(publisher: int) -> int | None:
    """Return the process id of the publisher's results process."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == publisher and b"scripts.daemons.results" in command:
            return int(status.parent.name)
    return None


def accepted(site: Path) -> int:
    with open_results(site) as reader:
        return reader.number_of_results()


def published(site: Path) -> bool:
    with open_results(site) as reader:
        return reader.is_published()


def recorded(site: Path) -> list[tuple[object, ...]]:
    """Return place, contest, sheet and version of each result on record."""
    events = (record.event for record in read_records(site / LEDGERS / RESULTS_LEDGER))
    return [
        (e.what, e.detail["secim"], e.detail["belge"], e.detail["version"])
        for e in events
        if e.event == "result"
    ]


def ssps(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*SSPS, *words, "--site", str(site)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_batch_becomes_a_signed_snapshot_that_verifies(site: Path) -> None:
    sent = rows(site)
    with publishing(site):
        deliver_batch(site, "hepsi.ndjson", sent)
        until(lambda: accepted(site) == len(sent) and published(site), "all results published")
        until(lambda: list((site / SNAPSHOTS).glob("*/exports.json")) != [], "exports")

    folder = site / SNAPSHOTS / (site / SNAPSHOTS / "latest").read_text().strip()
    allowed = site / "clients" / "parti-a" / "allowed_signers"
    with (folder / "manifest.json").open("rb") as manifest:
        verified = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "ysk", "-n", "ssps", "-s",
             folder / "manifest.json.sig"],
            stdin=manifest, capture_output=True, text=True,
        )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    counted = json.loads(ssps(site, "status", "--json").stdout)["results"]
    assert (counted["expected"], counted["here"], counted["rejected"]) == (400, 400, 0)
    assert ssps(site, "verify").returncode == 0
    assert ssps(site, "audit", "verify").returncode == 0


def test_the_results_process_is_killed_again_and_again(site: Path) -> None:
    sent = rows(site)
    with publishing(site) as publisher:
        for number in range(0, len(sent), 50):
            deliver_batch(site, f"{number:06}.ndjson", sent[number : number + 50])
            until(lambda: results_process(publisher.pid) is not None, "the results process")
            if number % 100 == 0 and (victim := results_process(publisher.pid)):
                os.kill(victim, signal.SIGKILL)
        until(lambda: accepted(site) == len(sent) and published(site), "all results published")

    assert len(recorded(site)) == len(set(recorded(site))) == len(sent)
    assert list((site / RESULTS).iterdir()) == []
    assert ssps(site, "verify").returncode == 0


def test_the_publisher_is_killed_and_the_next_one_finishes(site: Path) -> None:
    sent = rows(site)
    deliver_batch(site, "hepsi.ndjson", sent)
    with publishing(site) as publisher:
        until(lambda: results_process(publisher.pid) is not None, "the results process")
        publisher.kill()
        publisher.wait()
    with publishing(site):
        until(lambda: accepted(site) == len(sent) and published(site), "all results published")

    assert len(recorded(site)) == len(set(recorded(site))) == len(sent)
    assert ssps(site, "audit", "verify").returncode == 0


def test_a_ballot_that_is_replaced_counts_for_the_next_row(site: Path) -> None:
    box = next(row for row in rows(site) if row["secim"] == "mv" and "sandik" in row)
    new = box | {"surum": 2, "neden": "itiraz kabul", "oylar": {"yeni-parti": box["gecerli"]}}
    ballot = site / "ballot.csv"
    with publishing(site):
        deliver_batch(site, "1.ndjson", [box, new])
        until(lambda: accepted(site) == 1, "the first version")
        content = ballot.read_text(encoding="utf-8")
        more = site / "yeni.csv"
        more.write_text(content + "mv,,99,yeni-parti,parti,Yeni Parti,\n", encoding="utf-8")
        assert ssps(site, "ballot", "import", str(more), "--why", "list 2").returncode == 0
        deliver_batch(site, "2.ndjson", [new])
        until(lambda: _versions(site, box) == 2, "the second version")

    (rejected,) = json.loads(ssps(site, "results", "quarantine", "--json").stdout)
    assert (rejected["batch"], rejected["reason"]) == ("1.ndjson", "unknown-option")


def _versions(site: Path, box: dict[str, object]) -> int:
    with open_results(site) as reader:
        place = (str(box[name]) for name in ("cevre", "kurul", "sandik"))
        return len([s for s in reader.history(*place) if s.result.key.secim == "mv"])


def test_the_settings_name_the_pace_and_the_level_of_shares(site: Path) -> None:
    text = (site / "site.toml").read_text(encoding="utf-8")
    extra = '\n[results]\nsnapshot_seconds = 0.5\nshare_level = "ilce"\n'
    (site / "site.toml").write_text(text + extra, encoding="utf-8")

    found = load.load(site).results

    assert (found.snapshot_seconds, found.share_level) == (0.5, "ilce")
