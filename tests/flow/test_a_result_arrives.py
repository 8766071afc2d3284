"""A batch of results, from results/ to a signed snapshot, with the real processes killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from running_site import ADDRESS, SSPS, free_port, running, until

from config import load
from config.registry import Registry
from config.site import LEDGERS, REGISTRY_INDEX, RESULTS, RESULTS_LEDGER, SNAPSHOTS
from keys.ledger.segments import read_records
from publisher.results.reading import open_results
from scripts.rehearsal.synthetic.result_batches import RehearsalResults, deliver_batch
from scripts.rehearsal.synthetic.scanner import PlannedScan
from scripts.shared.console import utc_now


@pytest.fixture(scope="module")
def new_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("new") / "site"
    command = [*SSPS, "rehearse", "init", str(site), "--boxes", "100", "--parties", "1"]
    subprocess.run(command, check=True, capture_output=True)
    return site


@pytest.fixture
def site(new_site: Path, tmp_path: Path) -> Path:
    """A copy of the new site for each test."""
    site = tmp_path / "site"
    subprocess.run(["cp", "-a", str(new_site), str(site)], check=True)
    load.catalog(site)  # states the database in site.toml if the suite runs on PostgreSQL
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


def kill_results_process(publisher: int) -> None:
    until(lambda: results_process(publisher) is not None, "the results process")
    victim = results_process(publisher)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)


def accepted(site: Path) -> int:
    with open_results(site) as reader:
        return reader.number_of_results()


def published(site: Path) -> bool:
    with open_results(site) as reader:  # snapshots/latest follows a moment later
        return reader.is_published() and (site / SNAPSHOTS / "latest").exists()


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
    assert (counted["expected"], counted["here"], counted["rejected"]) == (200, 200, 0)
    assert ssps(site, "verify").returncode == 0
    assert ssps(site, "audit", "verify").returncode == 0


def test_the_results_process_is_killed_again_and_again(site: Path) -> None:
    sent = rows(site)
    with publishing(site) as publisher:
        for number in range(0, len(sent), 10):
            deliver_batch(site, f"{number:06}.ndjson", sent[number : number + 10])
            if number % 80 == 40:
                before = accepted(site)
                until(lambda: accepted(site) > before, "it takes results in")  # noqa: B023
                kill_results_process(publisher.pid)
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


def test_batches_that_wait_at_the_start_are_taken_in_from_the_oldest_also_after_a_kill(
    site: Path,
) -> None:
    sent = rows(site)
    parts = [[part] for part in sent]
    names = [f"{len(parts) - number:06}.ndjson" for number in range(len(parts))]  # newest first
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        deliver_batch(site, name, part)
        os.utime(site / RESULTS / name, (1_700_000_000 + number,) * 2)
    with publishing(site) as publisher:
        until(lambda: accepted(site) >= 20, "the first batches")
        assert accepted(site) < len(sent)
        kill_results_process(publisher.pid)
        until(lambda: accepted(site) == len(sent) and published(site), "all results published")

    assert len(recorded(site)) == len(set(recorded(site))) == len(sent)
    events = (record.event for record in read_records(site / LEDGERS / RESULTS_LEDGER))
    came = list(dict.fromkeys(event.origin for event in events if event.event == "result"))
    assert came == names


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


def test_results_in_the_trees_are_mirrored_and_proved(tmp_path: Path) -> None:
    site, port = tmp_path / "site", free_port()
    init = ["rehearse", "init", str(site), "--boxes", "60", "--parties", "2", "--port", str(port)]
    subprocess.run([*SSPS, *init], check=True, capture_output=True)
    with (site / "site.toml").open("a", encoding="utf-8") as settings:
        settings.write("\n[results]\nsnapshot_seconds = 0.5\nin_trees = true\n")
    sent = rows(site)
    with running(site, port, tmp_path / "run.log"):
        deliver_batch(site, "hepsi.ndjson", sent)
        until(lambda: accepted(site) == len(sent) and published(site), "all results published")
        number = (site / SNAPSHOTS / "latest").read_text().strip()
        mirrors = {party: tmp_path / party for party in ("parti-a", "parti-b")}
        for party, folder in mirrors.items():
            results = Path("prova-cb-mv", "sonuclar", number)
            mirror = partial(mirrored, site, port, party, folder, results)
            until((site / "trees" / party / results / "SHA256SUMS").exists, f"the tree of {party}")
            until(mirror, f"the mirror of {party}")

    all_, some = (folder / "prova-cb-mv" / "sonuclar" / number for folder in mirrors.values())
    whole = (site / SNAPSHOTS / number / "manifest.json").read_bytes()
    assert (all_ / "manifest.json").read_bytes() == whole
    view = json.loads((some / "manifest.json").read_bytes())
    assert view["snapshot"] == hashlib.sha256(whole).hexdigest()
    (scope,) = view["scope"]
    text = (some / "mv.csv").read_text("utf-8-sig")
    places = {line.split(";")[1] for line in text.splitlines()[1:]}
    assert places == {scope}
    assert ssps(site, "verify").returncode == 0

    box = next(row for row in sent if row.get("cevre") == scope and "sandik" in row)
    name = "/".join(str(box[part]) for part in ("cevre", "kurul", "sandik"))
    proof = json.loads(ssps(site, "audit", "result", name, "--json").stdout.splitlines()[0])
    assert (proof["batch"], proof["problems"]) == ("hepsi.ndjson", [])
    file = site / SNAPSHOTS / number / "mv.parquet"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = ssps(site, "audit", "verify")
    assert found.returncode == 1
    assert f"snapshots/{number}/mv.parquet: was changed" in found.stdout
    assert ssps(site, "audit", "result", name).returncode == 1


def mirrored(site: Path, port: int, party: str, folder: Path, results: Path) -> bool:
    """Mirror once; return whether the copy has the snapshot and sums that name all of it."""
    keys = site / "clients" / party
    command = [
        *(sys.executable, "scripts/mirror", "--host", ADDRESS, "--port", str(port)),
        *("--user", party, "--key", str(keys / "id_ed25519"), "--to", str(folder)),
        *("--known-hosts", str(site / "clients" / "known_hosts")),
        *("--signers", str(keys / "allowed_signers")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    names = ("manifest.json", "manifest.json.sig", "mv.csv", "mv.xlsx", "SHA256SUMS")
    return "unsummed 0," in done.stdout and all((folder / results / n).exists() for n in names)
