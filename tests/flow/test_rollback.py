"""A site whose ledgers were wound back does not start until an operator accepts that."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow.test_old_site import pytestmark as pytestmark
from flow.test_old_site import ssps, unpack
from running_site import RunningSite, running, until

from keys.feed_segment import parse_segment
from keys.ledger import note, segments

LEDGERS = ("transfer", "filing", "operations")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningSite, Path]]:
    """A site with a backup of its ledgers, and records that were written after it."""
    old = unpack(tmp_path_factory.mktemp("used"))
    with running(old.site, old.port, old.log):
        until(lambda: old.status()["waiting"] == 0, "the two waiting pages are filed")
    backup = old.site.parent / "backup"
    shutil.copytree(old.site / "ledgers", backup)
    with running(old.site, old.port, old.log):
        assert old.sftp("parti-a", "ls /").returncode == 0
        until(
            lambda: all(
                signed_records(old.site, name) > _records(backup / name / "checkpoint")
                for name in ("transfer", "operations")
            ),
            "the feed names the newer records",
        )
    yield old, backup


def signed_records(site: Path, ledger: str) -> int:
    """Return how many records of a ledger the site's feed names at most."""
    found = [0]
    for file in (site / "feed/akis").rglob("*.csv"):
        checkpoints = dict(parse_segment(file.read_bytes()).checkpoints)
        if ledger in checkpoints:
            found.append(note.unverified_checkpoint(checkpoints[ledger]).size)
    return max(found)


def _records(checkpoint: Path) -> int:
    return note.unverified_checkpoint(checkpoint.read_bytes()).size


@pytest.fixture
def site(used: tuple[RunningSite, Path], tmp_path: Path) -> RunningSite:
    """A copy of the site for each test."""
    old, _ = used
    copy = tmp_path / "site"
    subprocess.run(["cp", "-a", str(old.site), str(copy)], check=True)
    return RunningSite(copy, old.port, tmp_path / "log.jsonl")


def restore(site: Path, backup: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(site / "ledgers" / name)
        shutil.copytree(backup / name, site / "ledgers" / name)


@pytest.mark.parametrize(
    "names",
    [("transfer",), ("operations",), LEDGERS],
    ids=["one ledger", "the operations ledger", "all ledgers"],
)
def test_no_daemon_starts_after_a_rollback_until_it_is_accepted(
    used: tuple[RunningSite, Path], site: RunningSite, names: tuple[str, ...]
) -> None:
    restore(site.site, used[1], *names)
    lost = [name for name in names if name != "filing"]  # nothing was filed after the backup

    for part in ("run", "serve", "publish"):
        refused = ssps(site.site, part)
        assert refused.returncode == 1
        assert f"ledgers/{names[0]}: " in refused.stderr
        assert "lacks its newest records, so no daemon starts" in refused.stderr
        assert "accept the loss with `ssps recover`" in refused.stderr
    audited = ssps(site.site, "audit", "verify")
    assert audited.returncode == 1
    for name in lost:
        assert f"ledgers/{name}: rewritten: does not extend" in audited.stdout

    silent = ssps(site.site, "recover", "--yes")
    assert "--why" in silent.stderr
    accepted = ssps(site.site, "recover", "--yes", "--why", "the disk was replaced")
    assert accepted.returncode == 0, accepted.stderr

    with running(site.site, site.port, site.log):
        assert site.sftp("parti-a", "ls /").returncode == 0
    audited = ssps(site.site, "audit", "verify")
    assert audited.returncode == 0, audited.stdout
    assert audited.stdout.count("`ssps recover` accepted that") >= len(lost)
    [record] = [
        r.event
        for r in segments.read_records(site.site / "ledgers/operations")
        if r.event.event == "recover"
    ]
    assert record.detail["why"] == "the disk was replaced"


def test_a_ledger_that_was_signed_again_from_the_start_is_refused(site: RunningSite) -> None:
    for name in ("checkpoint", "checkpoints"):
        (site.site / "ledgers/filing" / name).unlink()

    assert ssps(site.site, "serve").returncode == 1
    assert ssps(site.site, "audit", "verify").returncode == 1


def test_an_untouched_site_has_nothing_to_accept(site: RunningSite) -> None:
    done = ssps(site.site, "recover", "--yes", "--why", "x")

    assert (done.returncode, done.stderr) == (0, "no change: no ledger lacks records\n")
    assert ssps(site.site, "audit", "verify").returncode == 0
