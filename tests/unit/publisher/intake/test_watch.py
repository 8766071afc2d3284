import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from watchdog.observers.inotify_c import InotifyFD
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from config.litter import Litter
from publisher.intake import watch
from publisher.intake.spool import Postponed
from publisher.intake.watch import Intake, Settling, is_temporary
from publisher.page import Stamp
from publisher.source import Source, status

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


def opened(*folders: Path, **more: Any) -> Intake:
    return Intake(folders, 2.0, 30.0, 0.0, lambda: None, **more)


def test_litter_is_never_returned(tmp_path: Path) -> None:
    (tmp_path / "@eaDir" / "a.jpg").mkdir(parents=True)
    (tmp_path / "@eaDir" / "a.jpg" / "SYNOPHOTO_THUMB_XL.jpg").write_bytes(b"a")
    for name in ("a.jpg", "._a.jpg", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"a")
    intake = opened(tmp_path, litter=Litter())
    try:
        intake.ready(0.0, 10)
        (tmp_path / "outside").write_bytes(b"b")
        (tmp_path / "outside").rename(tmp_path / ".b.jpg")

        assert names(intake, 62.0) == ["a.jpg"]
    finally:
        intake.close()


def test_a_missing_folder_is_named_and_watched_once_it_is_there(tmp_path: Path) -> None:
    share, other = tmp_path / "share", tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(b"a")
    with capture_logs() as logs:
        intake = opened(share, other)
        try:
            assert not share.exists(), "it is not created"
            assert [(one.path, one.cause) for one in intake.troubles] == [
                (str(share), "No such file or directory")
            ]
            intake.ready(0.0, 10)
            assert names(intake, 2.0) == ["a.jpg"]

            share.mkdir()
            (share / "b.jpg").write_bytes(b"b")
            intake.ready(3.1, 10)

            assert intake.troubles == ()
            assert names(intake, 5.2) == ["a.jpg", "b.jpg"]
        finally:
            intake.close()
    assert [entry["event"] for entry in logs] == ["intake-folder-unreadable", "intake-trouble-over"]


def test_a_folder_that_is_made_again_is_watched_again_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    intake = opened(folder)
    try:
        intake.ready(0.0, 10)
        folder.rename(tmp_path / "old")
        folder.mkdir()
        with capture_logs() as logs:
            intake.ready(1.5, 10)
        assert [entry["event"] for entry in logs] == ["intake-folder-replaced"]

        (tmp_path / "outside").write_bytes(b"b")
        (tmp_path / "outside").rename(folder / "b.jpg")

        until = time.monotonic() + 5
        while not (found := names(intake, 1.6)) and time.monotonic() < until:
            time.sleep(0.02)
        assert found == ["b.jpg"]
    finally:
        intake.close()


def test_with_mounts_a_folder_must_be_a_mount_point(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"what was there before the mount")
    intake = opened(tmp_path, mounts=True)
    try:
        intake.ready(0.0, 10)

        assert names(intake, 62.0) == []
        (trouble,) = intake.troubles
        assert "is not a mount point" in trouble.cause
    finally:
        intake.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_file_whose_share_does_not_answer_waits_and_the_others_are_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    for name in ("a.jpg", "stale.jpg"):
        (tmp_path / name).write_bytes(b"a")
    intake = opened(tmp_path)
    entry_stat = intake._entries

    def entries(*args: Any) -> Iterator[Any]:
        for root, path, found in entry_stat(*args):
            stale = path.endswith("stale.jpg")
            yield root, path, OSError(number, os.strerror(number)) if stale else found

    def asked(source: Source) -> os.stat_result:
        if source.path == "stale.jpg":
            raise OSError(number, os.strerror(number))
        return status(source)

    try:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(watch, "status", asked)
            patch.setattr(intake, "_entries", entries)
            intake.ready(0.0, 10)
            assert [names(intake, now) for now in (2.0, 4.0, 8.0)] == [["a.jpg"], [], []]
            (trouble,) = intake.troubles
            assert (trouble.path, trouble.cause) == (
                str(tmp_path / "stale.jpg"),
                os.strerror(number),
            )
            assert trouble.tries > 1
        assert [entry["event"] for entry in logs] == ["not-claimed"], "it is logged once"

        found = [name for now in range(9, 62) for name in names(intake, float(now))]
        assert "stale.jpg" in found
    finally:
        intake.close()


def test_a_folder_that_may_not_be_entered_is_named_and_the_others_are_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gun-1").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"a")
    scandir = os.scandir

    def refused(path: str) -> Any:
        if path.endswith("gun-1"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    intake = opened(tmp_path)
    try:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(os, "scandir", refused)
            intake.ready(0.0, 10)
            intake.ready(31.0, 10)
        assert [(entry["event"], entry["folder"]) for entry in logs] == [
            ("intake-folder-unreadable", str(tmp_path / "gun-1"))
        ]
        assert [one.path for one in intake.troubles] == [str(tmp_path / "gun-1")]

        intake.ready(62.0, 10)
        assert intake.troubles == ()
    finally:
        intake.close()


def test_a_file_that_could_not_be_claimed_is_offered_again_with_growing_delays(
    tmp_path: Path,
) -> None:
    (tmp_path / "busy.jpg").write_bytes(b"a")
    intake = opened(tmp_path)
    offered: list[float] = []
    try:
        for tenth in range(700):
            now = tenth / 10
            for candidate in intake.ready(now, 10):
                offered.append(now)
                intake.postpone(candidate, Postponed("busy", trouble=True), now)
    finally:
        intake.close()

    assert offered == [2.0, 4.0, 8.0, 16.0, 32.0, 62.0]


def test_a_file_that_waits_for_its_end_says_for_how_long_it_has_not_changed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    intake = opened(tmp_path)
    unchanged: list[float] = []
    try:
        for second in range(40):
            for candidate in intake.ready(float(second), 10):
                unchanged.append(candidate.unchanged)
                intake.postpone(candidate, Postponed("no end", 10.0), float(second))
    finally:
        intake.close()

    assert unchanged == [2.0, 12.0, 22.0, 32.0]
    assert intake.troubles == ()


def test_a_claimed_file_that_stays_is_not_returned_until_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"a")
    claimed = {Source(str(tmp_path), "a.jpg"): Stamp.of(path.stat())}
    intake = opened(tmp_path, left_behind=lambda source, stamp: claimed.get(source) == stamp)
    try:
        assert [names(intake, now) for now in (0.0, 2.0, 31.0, 62.0)] == [[], [], [], []]
        path.write_bytes(b"a and b")
        names(intake, 93.0)
        assert names(intake, 96.0) == ["a.jpg"]
    finally:
        intake.close()


def test_folders_beyond_the_kernels_limit_are_found_by_rescan_only_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gun-1").mkdir()
    add = InotifyFD.add_callback

    def limited(fd: InotifyFD, path: bytes, *rest: Any) -> Any:
        if path.endswith(b"gun-1"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return add(fd, path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(InotifyFD, "add_callback", limited)
        intake = opened(tmp_path)
        with capture_logs() as logs:
            intake.ready(0.0, 10)
            intake.ready(1.0, 10)
    try:
        (found,) = intake.by_rescan_only
        assert found == (
            str(tmp_path),
            "1 folders are beyond the limit fs.inotify.max_user_watches",
        )
        assert [entry["event"] for entry in logs] == ["intake-not-watched"]

        intake.ready(31.0, 10)
        assert intake.by_rescan_only == (), "there is room for it now"
    finally:
        intake.close()
