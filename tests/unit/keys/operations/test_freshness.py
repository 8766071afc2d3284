"""Which losses a record of `ssps recover` accepts, by the dates of what still names them."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from unit.keys.ledger.signed_ledgers import KEY, NOON, make_signed

from config.event import Event
from config.site import LEDGERS
from keys.ledger import anchors, note
from keys.ledger.note import Checkpoint
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger
from keys.operations import freshness
from scripts.audit import verify

LATER = NOON + timedelta(days=1)


def lost(site: Path, size: int) -> Checkpoint:
    """Return a checkpoint of records that the filing ledger does not have."""
    found = note.unverified_checkpoint((site / LEDGERS / "filing/checkpoint").read_bytes())
    return Checkpoint(found.origin, size, bytes(32))


def anchor(site: Path, size: int, recorded: datetime) -> None:
    """Let the transfer ledger name such a checkpoint in a record of that time."""
    detail = {anchors.CHECKPOINTS: [anchors.format_line(lost(site, size))]}
    with Ledger(site / LEDGERS / "transfer", lambda: recorded) as ledger:
        ledger.append(Event(anchors.ANCHOR, "transfer", "", anchors.ANCHOR, detail=detail))


def accept(site: Path, *named: Checkpoint) -> None:
    """Record at noon that records 10 to 14 of the filing ledger are lost."""
    detail = {
        anchors.ACCEPTED: [f"{lost(site, 15).origin} 10 15"],
        "before": list(map(anchors.format_line, named)),
    }
    operations = site / LEDGERS / "operations"
    with Ledger(operations, lambda: NOON) as ledger:
        ledger.append(Event(anchors.RECOVER, "ali", "h", "ledgers", detail=detail))
    with Signer(operations, KEY, lambda: NOON) as signer:
        signer.sign(last=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_signed(tmp_path / LEDGERS / "filing", 10)
    return tmp_path


def test_an_anchor_that_was_recorded_before_the_acceptance_is_accepted(site: Path) -> None:
    anchor(site, 15, NOON)
    accept(site)

    assert freshness.ledgers_behind(site) == []


def test_an_anchor_that_was_recorded_later_is_refused_and_both_dates_are_given(site: Path) -> None:
    anchor(site, 15, LATER)
    accept(site)

    [lack] = map(str, freshness.ledgers_behind(site))

    assert "has 10 records, but it had 15 (record 0 of transfer)" in lack
    assert "record 0 of operations does not accept this, because it is older than" in lack
    assert "2023-05-15T17:00:00+03:00: the clock was ahead before the loss" in lack


def test_an_anchor_that_the_acceptance_names_may_be_dated_later(site: Path) -> None:
    anchor(site, 15, LATER)
    accept(site, lost(site, 15))

    assert freshness.ledgers_behind(site) == []


@pytest.mark.parametrize(("recorded", "counts"), [(NOON, False), (LATER, True)])
def test_for_an_auditor_too_an_anchor_counts_if_it_was_recorded_after_the_acceptance(
    site: Path, recorded: datetime, counts: bool
) -> None:
    anchor(site, 15, recorded)
    accept(site)
    folders = [site / LEDGERS / name for name in ("filing", "transfer", "operations")]
    losses = anchors.accepted(site / LEDGERS / "operations")

    assigned = verify._assign_anchors(folders, losses)

    assert [each.checkpoint.size for each in assigned.get(folders[0], ())] == [15] * counts


def test_older_anchors_of_the_same_loss_are_found_if_they_are_dated_later(site: Path) -> None:
    for size, recorded in ((9, LATER), (12, LATER), (13, NOON), (15, NOON)):
        anchor(site, size, recorded)
    [lack] = freshness.ledgers_behind(site)

    found = freshness.dated_after(site, [lack], NOON)

    assert [each.checkpoint.size for each in found] == [12]
