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
    """As sudden as kill -9."""


def segment(number: int, previous: str = NO_PREVIOUS) -> FeedSegment:
    return FeedSegment("2023-05-14-cb-mv", "f00d", number, NOON + number, previous, ())


@pytest.fixture
def files(tmp_path: Path) -> PublishedFiles:
    return PublishedFiles(tmp_path)


def chain(
    files: PublishedFiles, name: str = "f00d", step: Callable[[str], None] = lambda _: None
) -> FeedChain:
    return FeedChain(files, name, step)


def closed(made: FeedChain, number: int, seq: int, left_out: tuple[int, ...] = ()) -> None:
    made.close(segment(number, made.position.digest), seq, left_out, lambda content: b"signed")


def test_a_feed_that_never_closed_a_segment_begins_at_the_first(files: PublishedFiles) -> None:
    position = chain(files).position

    assert (position.feed, position.number, position.digest, position.seq) == (
        "f00d",
        0,
        NO_PREVIOUS,
        -1,
    )
    assert chain(files).expected_inodes() == {}


def test_a_feed_goes_on_from_the_last_segment_that_was_closed(files: PublishedFiles) -> None:
    made = chain(files)
    closed(made, 1, seq=4)
    closed(made, 2, seq=9, left_out=(7,))

    found = chain(files).position

    assert found == made.position
    assert (found.number, found.seq, found.left_out, found.closed_at) == (2, 9, (7,), NOON + 2)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        "00000001.csv", "00000001.csv.sig", "00000002.csv", "00000002.csv.sig", "00000002.state",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_feed_that_cannot_be_listed_is_not_begun_anew(
    files: PublishedFiles, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    closed(chain(files), 1, seq=4)

    def refused(folder: Path) -> None:
        raise OSError(error, os.strerror(error), str(folder))

    monkeypatch.setattr(os, "scandir", refused)

    with pytest.raises(OSError, match="f00d"):
        chain(files)


@pytest.mark.parametrize("last", ["signed", "position kept"])
def test_a_segment_that_was_begun_and_not_closed_counts_for_nothing(
    files: PublishedFiles, last: str
) -> None:
    def crash(step: str) -> None:
        if step == last:
            raise Crash

    closed(chain(files), 1, seq=4)
    with pytest.raises(Crash):
        closed(chain(files, step=crash), 2, seq=9)

    left = chain(files)
    assert (left.position.number, left.position.seq) == (1, 4)
    assert left.expected_inodes().keys() == {"00000001.csv", "00000001.csv.sig"}
    closed(left, 2, seq=10)
    assert chain(files).position.seq == 10


def test_what_trees_are_to_show_is_known_by_inode_and_a_lost_file_by_none(
    files: PublishedFiles,
) -> None:
    made = chain(files)
    closed(made, 1, seq=4)
    closed(made, 2, seq=5)
    made.segment_file(1).unlink()

    there = inodes(made.folder)
    assert made.expected_inodes() == {
        "00000001.csv": 0,
        "00000001.csv.sig": there["00000001.csv.sig"],
        "00000002.csv": there["00000002.csv"],
        "00000002.csv.sig": there["00000002.csv.sig"],
    }


def test_who_parts_takes_the_whole_past_along_and_goes_on_alone(
    files: PublishedFiles, settings: Settings
) -> None:
    shared = chain(files)
    closed(shared, 1, seq=4)
    shared.position = replace(shared.position, seq=6)

    own = shared.part(settings.parties[0])

    assert (own.name, own.parties) == ("f00d-parti-a", [settings.parties[0]])
    assert (own.position, own.expected_inodes()) == (shared.position, shared.expected_inodes())
    closed(own, 2, seq=8)
    assert chain(files).position.number == 1
    assert chain(files, "f00d-parti-a").position.number == 2
