"""A ledger that was wound back together with its checkpoints is behind what others know of it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from unit.keys.ledger.signed_ledgers import KEY, NOON, make_signed, write

from config.event import Event
from keys.ledger import anchors, note, segments, unconfirmed
from keys.ledger.anchors import Accepted, Anchor, AnchorWriter
from keys.ledger.note import Checkpoint
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger


@pytest.fixture
def ledgers(tmp_path: Path) -> Path:
    """A transfer ledger of 20 records and a filing ledger of 10, both signed."""
    make_signed(tmp_path / "transfer", 20)
    make_signed(tmp_path / "filing", 10)
    return tmp_path


def sign(folder: Path) -> None:
    with Signer(folder, KEY, lambda: NOON + timedelta(hours=1)) as signer:
        signer.sign(last=True)


def anchor(ledgers: Path, own: str = "filing", of: str = "transfer") -> Anchor:
    """Write the newest checkpoint of one ledger into another, and read it back."""
    with Ledger(ledgers / own, lambda: NOON) as writer:
        detail = {anchors.CHECKPOINTS: anchors.newest_lines(ledgers, [of])}
        writer.append(Event(anchors.ANCHOR, own, "", anchors.ANCHOR, detail=detail))
    [found] = anchors.last_in(ledgers / own)
    return found


def behind(ledgers: Path, known: Anchor) -> str:
    return str(anchors.behind(ledgers, known))


def test_a_ledger_that_grew_extends_its_anchor(ledgers: Path) -> None:
    known = anchor(ledgers)
    write(ledgers / "transfer", 5, 20)
    sign(ledgers / "transfer")

    assert (known.ledger, known.checkpoint.size) == ("transfer", 20)
    assert anchors.behind(ledgers, known) is None


def test_an_older_copy_of_a_ledger_is_behind(ledgers: Path) -> None:
    shutil.copytree(ledgers / "transfer", ledgers / "copy")
    write(ledgers / "transfer", 5, 20)
    sign(ledgers / "transfer")
    known = anchor(ledgers)
    shutil.rmtree(ledgers / "transfer")
    (ledgers / "copy").rename(ledgers / "transfer")

    assert behind(ledgers, known) == ("has 20 records, but it had 25 (record 10 of filing)")


def test_an_older_copy_that_grew_past_the_anchor_is_behind(ledgers: Path) -> None:
    shutil.copytree(ledgers / "transfer", ledgers / "copy")
    write(ledgers / "transfer", 5, 20)
    sign(ledgers / "transfer")
    known = anchor(ledgers)
    shutil.rmtree(ledgers / "transfer")
    (ledgers / "copy").rename(ledgers / "transfer")
    write(ledgers / "transfer", 10, 100)
    sign(ledgers / "transfer")

    assert "has other records among its first 25" in behind(ledgers, known)
    for stored in (ledgers / "transfer").glob("*.hashes"):
        stored.unlink()
    assert "has other records among its first 25" in behind(ledgers, known)


@pytest.mark.parametrize("level", ["000000000000.hashes", "tree-8"])
def test_stored_hashes_that_a_power_loss_emptied_do_not_make_a_ledger_behind(
    tmp_path: Path, level: str
) -> None:
    make_signed(tmp_path / "transfer", 600, 300)
    make_signed(tmp_path / "filing", 10)
    known = anchor(tmp_path)
    stored = tmp_path / "transfer" / level
    stored.write_bytes(bytes(stored.stat().st_size))

    assert anchors.behind(tmp_path, known) is None


def test_the_lines_of_a_ledger_are_read_once_for_all_its_anchors(
    ledgers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = note.split_notes((ledgers / "transfer/checkpoints").read_bytes())
    older, newer = (Anchor("kept", note.unverified_checkpoint(each)) for each in history)
    (ledgers / "transfer/000000000000.hashes").unlink()
    read: list[str] = []
    lines = segments.read_lines

    def counted(folder: Path) -> Iterator[tuple[segments.Segment, int, bytes]]:
        read.append(folder.name)
        return lines(folder)

    monkeypatch.setattr(segments, "read_lines", counted)
    wrong = replace(older, checkpoint=replace(older.checkpoint, root=newer.checkpoint.root))

    assert [each.anchor for each in anchors.all_behind(ledgers, [older, wrong, newer])] == [wrong]
    assert read == ["transfer"]


def test_hashing_lines_again_is_reported_and_the_roots_are_kept_until_the_ledger_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = make_signed(tmp_path / "transfer", 600, 300)
    make_signed(tmp_path / "filing", 10)
    known = anchor(tmp_path)
    stored = transfer / "tree-8"
    stored.write_bytes(bytes(stored.stat().st_size))
    reports: list[tuple[str, int, int]] = []
    seconds = count(step=6.0)
    monkeypatch.setattr(anchors, "_LOOK", 200)
    roots = anchors.LineRoots(
        lambda folder, hashed, records: reports.append((folder.name, hashed, records)),
        lambda: next(seconds),
    )

    assert anchors.all_behind(tmp_path, [known], roots) == []
    assert reports == [("transfer", 0, 600), ("transfer", 400, 600)]
    assert anchors.all_behind(tmp_path, [known], roots) == []
    assert len(reports) == 2
    write(transfer, 1, 600)
    assert anchors.all_behind(tmp_path, [known], roots) == []
    assert len(reports) == 4


def test_of_a_segment_that_was_moved_away_the_stored_hashes_count(tmp_path: Path) -> None:
    make_signed(tmp_path / "transfer", 600, 300, size=20_000)
    make_signed(tmp_path / "filing", 10)
    known = anchor(tmp_path)
    for segment in segments.list_segments(tmp_path / "transfer")[1:4]:
        segment.path.unlink()
    (tmp_path / "transfer/tree-8").write_bytes(bytes(64))

    assert anchors.behind(tmp_path, known) is None
    [first, *_] = segments.list_segments(tmp_path / "transfer")
    first.path.write_bytes(first.path.read_bytes().replace(b"/7.jpg", b"/8.jpg"))
    assert "has other records among its first 600" in behind(tmp_path, known)


def test_hashes_that_a_restore_left_do_not_hide_that_the_ledger_is_behind(ledgers: Path) -> None:
    transfer = ledgers / "transfer"
    shutil.copytree(transfer, ledgers / "copy")
    write(transfer, 5, 20)
    sign(transfer)
    known = anchor(ledgers)
    for name in ("000000000000.jsonl", segments.CHECKPOINT, segments.CHECKPOINTS):
        shutil.copy2(ledgers / "copy" / name, transfer / name)
    write(transfer, 10, 100)

    assert "has other records among its first 25" in behind(ledgers, known)


def test_a_ledger_that_began_again_under_another_origin_is_behind(ledgers: Path) -> None:
    known = anchor(ledgers)
    for name in (segments.CHECKPOINT, segments.CHECKPOINTS):
        (ledgers / "transfer" / name).unlink()
    sign(ledgers / "transfer")

    assert f"but it was {known.checkpoint.origin}" in behind(ledgers, known)


def test_a_ledger_that_is_gone_is_behind(ledgers: Path) -> None:
    known = anchor(ledgers)
    shutil.rmtree(ledgers / "transfer")

    assert "is empty, but it was ssps/transfer/" in behind(ledgers, known)


def test_the_newest_anchor_of_a_ledger_counts(ledgers: Path) -> None:
    anchor(ledgers)
    write(ledgers / "transfer", 1, 20)
    sign(ledgers / "transfer")

    assert anchor(ledgers).checkpoint.size == 21
    assert [each.checkpoint.size for each in anchors.all_in(ledgers / "filing")] == [20, 21]


def test_other_records_cannot_pass_for_an_anchor(ledgers: Path) -> None:
    line = anchors.newest_lines(ledgers, ["transfer"])
    with Ledger(ledgers / "filing", lambda: NOON) as writer:
        writer.append(Event("open", "x", "", "x", detail={anchors.CHECKPOINTS: line}))
        writer.append(Event(anchors.ANCHOR, "x", "", "x", detail={anchors.CHECKPOINTS: ["a 1 b"]}))

    assert anchors.last_in(ledgers / "filing") == []


def test_an_anchor_is_due_once_a_minute_and_only_for_news(ledgers: Path) -> None:
    now = [0.0]
    writer = AnchorWriter(ledgers, "filing", lambda: now[0])

    found = []
    for now[0] in (0, 30, 60, 90, 120, 180):
        event = writer.next_event()
        found.append(None if event is None else event.detail[anchors.CHECKPOINTS])
        if now[0] == 120:
            write(ledgers / "transfer", 1, 20)
            sign(ledgers / "transfer")

    assert [lines is not None for lines in found] == [False, False, True, False, False, True]
    assert found[-1] == anchors.newest_lines(ledgers, ["transfer"])


def test_a_recover_record_that_was_added_by_hand_accepts_nothing(ledgers: Path) -> None:
    origin = note.unverified_checkpoint((ledgers / "filing/checkpoint").read_bytes()).origin
    operations = make_signed(ledgers / "operations", 10)
    with Ledger(operations, lambda: NOON) as writer:
        detail = {anchors.ACCEPTED: [f"{origin} 10 15"]}
        writer.append(Event(anchors.RECOVER, "ali", "h", "ledgers", detail=detail))
    assert anchors.accepted(operations) == []
    with Ledger(operations, lambda: NOON) as writer:
        assert unconfirmed.mark(writer, operations, 1.0) is not None
    sign(operations)

    assert anchors.accepted(operations) == []


def test_a_recover_record_accepts_only_what_was_lost_then(ledgers: Path) -> None:
    origin = note.unverified_checkpoint((ledgers / "filing/checkpoint").read_bytes()).origin
    with Ledger(ledgers / "operations", lambda: NOON) as writer:
        detail = {anchors.ACCEPTED: [f"{origin} 10 15"]}
        writer.append(Event(anchors.RECOVER, "ali", "h", "ledgers", detail=detail))
    assert anchors.accepted(ledgers / "operations") == []  # it can have been added by hand
    sign(ledgers / "operations")

    assert anchors.accepted(ledgers / "operations") == [Accepted(origin, 10, 15, 0, NOON)]
    [loss] = anchors.accepted(ledgers / "operations")
    covered = [loss.covers(Checkpoint(origin, size, b"")) for size in (10, 11, 15, 16)]
    assert covered == [False, True, True, False]
    assert not loss.covers(Checkpoint("ssps/filing/other", 12, b""))


def test_what_was_signed_after_a_loss_was_accepted_must_stay() -> None:
    root, named = bytes(32), Checkpoint("ssps/filing/0", 14, bytes(range(32)))
    loss = Accepted("ssps/filing/0", 10, 15, 0, NOON, frozenset([anchors.format_line(named)]))
    later = NOON + timedelta(seconds=1)

    assert loss.covers(Checkpoint("ssps/filing/0", 14, root, NOON))
    assert not loss.covers(Checkpoint("ssps/filing/0", 14, root, later))
    assert not loss.covers(Checkpoint("ssps/filing/0", 14, root), recorded=later)
    assert loss.covers(replace(named, time=later))  # the clock was ahead before the loss
