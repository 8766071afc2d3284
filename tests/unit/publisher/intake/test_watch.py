import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from publisher.intake.watch import Intake, Settling, is_temporary
from publisher.page import Stamp

SMALL, GROWN = Stamp(1, 100, 1), Stamp(1, 200, 2)
NEVER = 1e9


@pytest.mark.parametrize(
    ("sightings", "taken"),
    [
        ([("a.jpg", SMALL, 0.0)], []),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", SMALL, 1.9)], []),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", SMALL, 2.0)], [2.0]),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", GROWN, 2.0)], []),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", GROWN, 2.0), ("a.jpg", GROWN, 3.9)], []),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", GROWN, 2.0), ("a.jpg", GROWN, 4.0)], [4.0]),
        ([("a.jpg", SMALL, 0.0), ("a.jpg", Stamp(2, 100, 1), 2.0)], []),  # replaced
        ([("a.jpg.tmp", SMALL, 0.0), ("a.jpg.tmp", SMALL, 599.0)], []),
        ([("a.jpg.tmp", SMALL, 0.0), ("a.jpg.tmp", SMALL, 600.0)], [600.0]),
        ([(".a.jpg", SMALL, 0.0), (".a.jpg", SMALL, 2.0)], []),
        ([(".a.jpg", SMALL, 0.0), (".a.jpg", GROWN, 500.0), (".a.jpg", GROWN, 600.0)], []),
    ],
)
def test_a_file_is_taken_after_two_seconds_without_change_and_a_temporary_one_after_600(
    sightings: list[tuple[str, Stamp, float]], taken: list[float]
) -> None:
    settling = Settling(2.0, temporary_seconds=600.0)

    found = [now for path, stamp, now in sightings if settling.seen(path, stamp, now)]

    assert found == taken


def test_a_file_renamed_into_place_is_taken_at_once_unless_its_new_name_is_temporary() -> None:
    settling = Settling(2.0)

    assert settling.renamed("in/a.jpg", SMALL, 0.0)
    assert not settling.renamed("in/.a.jpg", SMALL, 0.0)
    assert not settling.renamed("in/a.jpg.part", SMALL, 0.0)


def test_only_due_files_are_returned_and_removed_files_are_forgotten() -> None:
    settling = Settling(2.0)
    settling.seen("a", SMALL, 0.0)
    settling.seen("b", SMALL, 1.0)
    settling.seen("c", SMALL, 1.5)
    settling.removed("b")

    assert settling.next_due() == 2.0
    assert settling.due(1.9, 10) == []
    assert settling.due(3.5, 1) == ["a"]
    assert settling.due(3.5, 10) == ["c"]


def test_due_files_come_in_the_order_of_their_mtime() -> None:
    settling = Settling(2.0)
    for number in range(50_000):
        settling.seen(f"{number:05}", Stamp(number, 100, 1_000_000 - number), number / 100_000)
    settling.removed("49998")
    settling.seen("49997", GROWN, 1.0)

    assert settling.due(1.9, 10) == []
    assert settling.due(2.5, 3) == ["49999", "49996", "49995"]
    due = settling.next_due()
    assert due is not None
    assert due <= 2.5, "the others are still due"
    assert len(settling.due(2.5, 50_000)) == 50_000 - 5
    assert settling.due(3.0, 10) == ["49997"]
    assert settling.next_due() is None


@pytest.mark.parametrize("name", [".x.jpg", "x.tmp", "x.PART", "x.jpg.partial", "d/x.filepart"])
def test_temporary_names_of_scanners_are_recognised(name: str) -> None:
    assert is_temporary(name)
    assert not is_temporary("d.tmp/x.jpg")


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def intake(
    tmp_path: Path, woken: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Intake]:
    # So long watchdog would delay events after a file was moved out of the folder.
    monkeypatch.setattr(InotifyMoveEventGrouper, "delay", 20.0)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "early.jpg").write_bytes(b"arrived before the start")
    opened = Intake((tmp_path / "in",), 2.0, 30.0, 0.0, woken.set)
    yield opened
    opened.close()


def names(intake: Intake, now: float, limit: int = 10) -> list[str]:
    return [os.path.relpath(c.path, c.folder) for c in intake.ready(now, limit)]


def test_a_file_that_was_there_before_the_start_is_found_by_the_scan_and_taken_when_settled(
    intake: Intake,
) -> None:
    assert names(intake, 0.0) == []
    assert names(intake, 1.9) == []
    assert names(intake, 2.0) == ["early.jpg"]


@pytest.mark.slow
def test_after_an_outage_the_oldest_file_is_taken_first_whatever_its_name(
    tmp_path: Path,
) -> None:
    for number in range(5000):
        path = tmp_path / f"{number:04}.jpg"
        path.touch()
        os.utime(path, ns=(0, 10_000 - number))
    opened = Intake((tmp_path,), 2.0, 30.0, 0.0, lambda: None)
    try:
        for tenth in range(4):  # one scan takes several calls
            assert names(opened, tenth / 10) == []

        taken = [name for _ in range(50) for name in names(opened, 3.0, 100)]
    finally:
        opened.close()

    assert taken == [f"{number:04}.jpg" for number in reversed(range(5000))]


# watchdog warns when a folder is created while it reads the parent folder.
@pytest.mark.filterwarnings("ignore:Callback with id:RuntimeWarning")
def test_subfolders_are_scanned_and_links_to_folders_are_not_followed(
    intake: Intake, tmp_path: Path
) -> None:
    (tmp_path / "in" / "2023-05-14" / "1").mkdir(parents=True)
    (tmp_path / "in" / "2023-05-14" / "1" / "a.jpg").write_bytes(b"a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret.jpg").write_bytes(b"s")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "in" / "pipe")

    intake.ready(30.0, 10)

    assert sorted(names(intake, 62.0)) == ["2023-05-14/1/a.jpg", "early.jpg", "link", "pipe"]


def test_no_more_files_than_the_limit_are_returned(intake: Intake, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(b"x")
    intake.ready(30.0, 10)

    first, second = names(intake, 62.0, 4), names(intake, 62.0, 4)

    assert (len(first), len(second)) == (4, 2)
    assert len(set(first + second)) == 6


def test_a_file_moved_in_from_outside_wakes_the_publisher_and_is_ready_at_once(
    intake: Intake, woken: threading.Event, tmp_path: Path
) -> None:
    intake.ready(0.0, 10)
    (tmp_path / "outside.jpg").write_bytes(b"whole")

    (tmp_path / "outside.jpg").rename(tmp_path / "in" / "b.jpg")

    assert woken.wait(5)
    until = time.monotonic() + 5
    while not (found := names(intake, 0.1)) and time.monotonic() < until:
        woken.wait(0.05)
    assert found == ["b.jpg"]


def test_a_file_that_arrives_is_reported_at_once_even_after_another_was_moved_out(
    intake: Intake, woken: threading.Event, tmp_path: Path
) -> None:
    """Each claim moves a file out; watchdog would wait for the file to appear elsewhere."""
    (tmp_path / "in" / "claimed.jpg").write_bytes(b"whole")
    (tmp_path / "outside.jpg").write_bytes(b"whole")
    intake.ready(0.0, 10)

    (tmp_path / "in" / "claimed.jpg").rename(tmp_path / "claimed.jpg")
    (tmp_path / "outside.jpg").rename(tmp_path / "in" / "b.jpg")

    until = time.monotonic() + 5
    while not (found := names(intake, 0.1)) and time.monotonic() < until:
        woken.wait(0.05)
    assert found == ["b.jpg"]


def test_a_temporary_file_that_is_renamed_inside_the_intake_is_ready_at_once(
    intake: Intake, woken: threading.Event, tmp_path: Path
) -> None:
    (tmp_path / "in" / ".c.tmp").write_bytes(b"whole")
    intake.ready(0.0, 10)

    (tmp_path / "in" / ".c.tmp").rename(tmp_path / "in" / "c.jpg")

    until = time.monotonic() + 5
    while not (found := names(intake, 0.1)) and time.monotonic() < until:
        woken.wait(0.05)
    assert found == ["c.jpg"]


def test_a_file_whose_folder_was_swapped_for_a_link_is_not_taken(
    intake: Intake, tmp_path: Path
) -> None:
    sub = tmp_path / "in" / "sub.part"
    sub.mkdir()
    (sub / "key").write_bytes(b"bait")
    (tmp_path / "elsewhere").mkdir()
    os.link(sub / "key", tmp_path / "elsewhere" / "key")  # with the same stamp
    intake.ready(30.0, 10)

    sub.rename(tmp_path / "away")
    sub.symlink_to(tmp_path / "elsewhere")

    assert "sub.part/key" not in names(intake, 62.0)


def test_a_file_that_became_a_folder_is_not_taken(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "in" / "batch").touch()
    intake.ready(30.0, 10)
    (tmp_path / "in" / "batch").unlink()
    (tmp_path / "in" / "batch").mkdir()

    assert "batch" not in names(intake, 62.0) + names(intake, 65.0)


def test_a_scan_that_takes_longer_than_the_rescan_period_still_completes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4500):
        (tmp_path / "in" / f"{number}.jpg").touch()
    intake = Intake((tmp_path / "in",), 1e6, 0.5, 0.0, lambda: None)
    try:
        for now in (1.0, 2.0, 3.0):
            intake.ready(now, 10)

        paths = [str(tmp_path / "in" / f"{number}.jpg") for number in range(4500)]
        assert [path for path in paths if path not in intake._settling] == []
    finally:
        intake.close()
