"""`ssps recover` records a loss of records; tests/flow/test_rollback.py restores real backups."""

from pathlib import Path

import click
import pytest
from office import Ssps

from config.event import Event
from config.site import LEDGERS
from keys.ledger import anchors, segments, writer
from keys.operations import freshness
from scripts.shared import change


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


def test_nothing_is_recorded_without_a_loss(site: Path, ssps: Ssps) -> None:
    done = ssps("recover", "--yes", "--why", "x", "--site", site)

    assert (done.exit_code, "no change: no ledger lacks records" in done.output) == (0, True)
    assert not list(segments.read_records(site / LEDGERS / "operations"))
