import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import Settings
from keys.feed_segment import NO_PREVIOUS, FeedSegment
from publisher.feed.chain import FeedChain
from publisher.feed.published_files import PublishedFiles, inodes

NOON = 1684072800


class Crash(Exception):
    """Stands for a kill -9."""


def segment(number: int, previous: str = NO_PREVIOUS) -> FeedSegment:
    return FeedSegment("2023-05-14-cb-mv", "f00d", number, NOON + number, previous, ())


@pytest.fixture
def files(tmp_path: Path) -> PublishedFiles:
    return PublishedFiles(tmp_path)


def chain(
    files: PublishedFiles, name: str = "f00d", step: Callable[[str], None] = lambda _: None
) -> FeedChain:
    return FeedChain(files, name, step)


def close(made: FeedChain, number: int, seq: int, left_out: tuple[int, ...] = ()) -> None:
    made.close(segment(number, made.position.digest), seq, left_out, lambda content: b"signed")


def test_a_new_feed_starts_before_its_first_segment(files: PublishedFiles) -> None:
    position = chain(files).position

    assert (position.feed, position.number, position.digest, position.seq) == (
        "f00d",
        0,
        NO_PREVIOUS,
        -1,
    )
    assert chain(files).expected_inodes() == {}


def test_a_feed_continues_from_its_last_closed_segment(files: PublishedFiles) -> None:
    made = chain(files)
    close(made, 1, seq=4)
    close(made, 2, seq=9, left_out=(7,))

    found = chain(files).position

    assert found == made.position
    assert (found.number, found.seq, found.left_out, found.closed_at) == (2, 9, (7,), NOON + 2)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "00000001.csv", "00000001.csv.sig", "00000002.csv", "00000002.csv.sig", "00000002.state",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_feed_whose_folder_cannot_be_listed_is_an_error_not_a_new_feed(
    files: PublishedFiles, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    close(chain(files), 1, seq=4)

    def refused(folder: Path) -> None:
        raise OSError(error, os.strerror(error), str(folder))

    monkeypatch.setattr(os, "scandir", refused)

    with pytest.raises(OSError, match="f00d"):
        chain(files)


@pytest.mark.parametrize("last", ["signed", "position kept"])
def test_a_segment_that_was_not_closed_is_ignored_and_closed_again(
    files: PublishedFiles, last: str
) -> None:
    def crash(step: str) -> None:
        if step == last:
            raise Crash

    close(chain(files), 1, seq=4)
    with pytest.raises(Crash):
        close(chain(files, step=crash), 2, seq=9)

    left = chain(files)
    assert (left.position.number, left.position.seq) == (1, 4)
    assert left.expected_inodes().keys() == {"00000001.csv", "00000001.csv.sig"}
    close(left, 2, seq=10)
    assert chain(files).position.seq == 10


def test_expected_inodes_has_zero_for_a_lost_file(
    files: PublishedFiles,
) -> None:
    made = chain(files)
    close(made, 1, seq=4)
    close(made, 2, seq=5)
    made.segment_file(1).unlink()

    there = inodes(made.folder)
    assert made.expected_inodes() == {
        "00000001.csv": 0,
        "00000001.csv.sig": there["00000001.csv.sig"],
        "00000002.csv": there["00000002.csv"],
        "00000002.csv.sig": there["00000002.csv.sig"],
    }


def test_a_split_off_feed_keeps_the_past_segments_and_continues_alone(
    files: PublishedFiles, settings: Settings
) -> None:
    shared = chain(files)
    close(shared, 1, seq=4)
    shared.position = replace(shared.position, seq=6)

    own = shared.split_off(settings.parties[0])

    assert (own.name, own.parties) == ("f00d-parti-a", [settings.parties[0]])
    assert (own.position, own.expected_inodes()) == (shared.position, shared.expected_inodes())
    close(own, 2, seq=8)
    assert chain(files).position.number == 1
    assert chain(files, "f00d-parti-a").position.number == 2
