"""`ssps recover` records a loss of records; tests/flow/test_rollback.py restores real backups."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from office import Ssps

from config.event import Event
from config.site import LEDGERS, SIGNED, SIGNING_KEYS
from keys.ledger import anchors, note, segments, writer
from keys.ledger.anchors import LineRoots
from keys.ledger.signer import Signer
from keys.operations import freshness, site_keys
from keys.server_keys import host
from scripts.shared import change, signing


@pytest.fixture
def behind(site: Path, ssps: Ssps) -> Path:
    """A site whose operations ledger has fewer records than its filing ledger knows of."""
    added = ssps("key", "add", "parti-a", "--password", "--why", "x", "--site", site)
    assert added.exit_code == 0, added.output
    [line] = anchors.newest_lines(site / LEDGERS, ["operations"])
    origin, _, root = line.split()
    with writer.Ledger(site / LEDGERS / "filing") as filing:
        lost = {anchors.CHECKPOINTS: [f"{origin} 50 {root}"]}
        filing.append(Event(anchors.ANCHOR, "filing", "", anchors.ANCHOR, detail=lost))
    return site


def test_a_loss_is_shown_and_recorded_if_the_operator_agrees(
    behind: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change, "_on_a_terminal", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    done = ssps("recover", "--why", "the disk was replaced", "--site", behind)

    assert done.exit_code == 0, done.output
    assert "ledgers/operations: has 1 records, but it had 50" in done.output
    assert freshness.ledgers_behind(behind) == []
    *_, last = segments.read_records(behind / LEDGERS / "operations")
    assert (last.event.event, last.event.outcome) == ("recover", "ok")


def test_older_anchors_are_accepted_too_if_the_clock_was_ahead_before_the_loss(
    behind: Path, ssps: Ssps
) -> None:
    [line] = anchors.newest_lines(behind / LEDGERS, ["operations"])
    origin, _, root = line.split()
    ahead = datetime.now(UTC) + timedelta(days=1)
    for size, clock in ((40, lambda: ahead), (50, writer.utc_now)):
        lost = {anchors.CHECKPOINTS: [f"{origin} {size} {root}"]}
        with writer.Ledger(behind / LEDGERS / "filing", clock) as filing:
            filing.append(Event(anchors.ANCHOR, "filing", "", anchors.ANCHOR, detail=lost))

    done = ssps("recover", "--yes", "--why", "the disk was replaced", "--site", behind)

    assert done.exit_code == 0, done.output
    [loss] = anchors.accepted(behind / LEDGERS / "operations")
    assert loss.named == {f"{origin} {size} {root}" for size in (40, 50)}
    known = list(anchors.all_in(behind / LEDGERS / "filing"))
    assert [loss.covers(each.checkpoint, each.recorded) for each in known] == [True] * 3


def test_what_must_be_hashed_again_is_hashed_before_the_operations_ledger_is_locked(
    behind: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.sign_if_free(behind, "filing")
    [line] = anchors.newest_lines(behind / LEDGERS, ["filing"])
    with writer.Ledger(behind / LEDGERS / "transfer") as transfer:
        detail = {anchors.CHECKPOINTS: [line]}
        transfer.append(Event(anchors.ANCHOR, "transfer", "", anchors.ANCHOR, detail=detail))
    for stored in (behind / LEDGERS / "filing").glob("*.hashes"):
        stored.write_bytes(bytes(stored.stat().st_size))
    hashed: list[str] = []
    compute = LineRoots._hash

    def compute_unlocked(self: LineRoots, folder: Path, sizes: Collection[int]) -> dict[int, bytes]:
        writer.Ledger(behind / LEDGERS / "operations", wait_seconds=0).close()
        hashed.append(folder.name)
        return compute(self, folder, sizes)

    monkeypatch.setattr(LineRoots, "_hash", compute_unlocked)

    done = ssps("recover", "--yes", "--why", "the disk was replaced", "--site", behind)

    assert done.exit_code == 0, done.output
    assert "ledgers/filing: its stored hashes are damaged: hashing its lines again" in done.output
    assert hashed == ["filing"]


class Killed(BaseException):
    """The process ends here, as if it was killed."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_before_or_after_its_record_is_signed_a_loss_is_accepted_or_shown_again(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    added = ssps("key", "add", "parti-a", "--password", "--why", "x", "--site", site)
    assert added.exit_code == 0, added.output
    folder, copy = site / LEDGERS / "operations", site / SIGNED / "operations"
    newest = note.unverified_checkpoint((folder / segments.CHECKPOINT).read_bytes())
    lost = replace(newest, size=50)
    copy.write_bytes(note.sign_checkpoint(lost, site_keys.signing_key(site)))
    sign = Signer.sign

    def killed(self: Signer, last: bool = False) -> None:
        if when == "after":
            sign(self, last)
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Signer, "sign", killed)
        ssps("recover", "--yes", "--why", "x", "--site", site, catch_exceptions=False)

    *_, record = segments.read_records(folder)
    assert (record.event.event, record.event.outcome) == ("recover", "ok")
    left = [str(each) for each in freshness.ledgers_behind(site)]
    if when == "before":
        assert left == ["has 2 records, but it had 50 (state/signed/operations)"]
        again = ssps("recover", "--yes", "--why", "x", "--site", site)
        assert again.exit_code == 0, again.output
    assert freshness.ledgers_behind(site) == []
    with signing.open_signer(site, "operations") as signer:
        signer.sign(last=True)
    assert copy.read_bytes() == segments.read_checkpoint(folder)


def test_nothing_is_recorded_without_a_loss(site: Path, ssps: Ssps) -> None:
    done = ssps("recover", "--yes", "--why", "x", "--site", site)

    assert (done.exit_code, "no change: no ledger lacks records" in done.output) == (0, True)
    assert not list(segments.read_records(site / LEDGERS / "operations"))


def test_without_a_usable_key_the_loss_is_not_accepted(behind: Path, ssps: Ssps) -> None:
    (behind / SIGNING_KEYS / host.SIGNING_KEY).unlink()

    done = ssps("recover", "--yes", "--why", "x", "--site", behind)

    assert done.exit_code == 1
    assert "the loss is NOT accepted: without a usable signing key" in done.output
    assert "the daemons start again" not in done.output
    *_, record = segments.read_records(behind / LEDGERS / "operations")
    assert (record.event.event, record.event.outcome) == ("recover", "refused")
