from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.scripts.audit.conftest import KEY

from keys.feed_segment import FIRST, Segment, format_segment
from keys.server_keys import sshsig
from scripts.audit.feeds import FeedProblem, feed_problems, find_feeds

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
MINUTES = (0, 1, 2, 7, 8)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Segments 1 to 5, a minute apart but for five minutes between 3 and 4."""
    folder = tmp_path / "akis"
    folder.mkdir()
    previous = FIRST
    for number, minute in enumerate(MINUTES, start=1):
        at = int(NOON.timestamp()) + 60 * minute
        content = format_segment(Segment("2023-05-14-cb-mv", "5f0c", number, at, previous, ()))
        previous = sha256(content).hexdigest()
        (folder / f"{number:08}.csv").write_bytes(content)
        (folder / f"{number:08}.csv.sig").write_bytes(sshsig.sign(KEY, content))
    (folder / "son.txt").write_text("00000005.csv\n")
    return folder


def told(feed: Path, minute: float = 8.5, seconds: float = 600) -> list[tuple[str, str]]:
    until = NOON + timedelta(minutes=minute)
    return [(b.kind, b.said) for b in feed_problems(feed, seconds, until, [KEY.public_key()])]


def test_a_feed_that_keeps_its_promise_has_nothing_to_be_said(feed: Path) -> None:
    assert told(feed) == []


def test_a_silence_between_two_segments_and_after_the_last_is_named(feed: Path) -> None:
    found = list(feed_problems(feed, 60, NOON + timedelta(minutes=20)))

    at = [NOON + timedelta(minutes=minute) for minute in MINUTES]
    assert found == [
        FeedProblem(feed, "silence", at[2], at[3], "no segment between 3 and 4"),
        FeedProblem(feed, "silence", at[4], NOON + timedelta(minutes=20), "no segment since 5"),
    ]


def test_what_was_closed_later_than_asked_about_is_left_out(feed: Path) -> None:
    assert told(feed, 4, 60) == [("silence", "no segment since 3")]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "00000003.csv").unlink(), [("missing", "segment 3 is missing")]),
        (
            lambda f: [(f / f"0000000{n}.csv").unlink() for n in (1, 2)],
            [("missing", "segments 1 to 2 missing")],
        ),
        (
            lambda f: (f / "son.txt").write_text("00000007.csv\n"),
            [("missing", "segments 6 to 7 missing, though son.txt names 7")],
        ),
        (
            lambda f: (f / "00000002.csv").write_text("x"),
            [
                ("damaged", "segment 2 is damaged (not a segment, or not the whole of one)"),
                ("parted", "segment 3 does not follow 2: it names another's hash"),
            ],
        ),
        (
            lambda f: (f / "00000005.csv.sig").unlink(),
            [("damaged", "segment 5 has no signature beside it")],
        ),
        (
            lambda f: (f / "00000005.csv").write_bytes((f / "00000004.csv").read_bytes()),
            [("damaged", "segment 5 says that it is 4")],
        ),
    ],
)
def test_what_is_missing_or_not_as_it_was_is_named(
    feed: Path, spoil: Callable[[Path], object], said: list[tuple[str, str]]
) -> None:
    spoil(feed)

    assert told(feed) == said


def test_a_segment_that_somebody_else_made_is_named(feed: Path) -> None:
    content = (feed / "00000005.csv").read_bytes()
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    (feed / "00000005.csv.sig").write_bytes(sshsig.sign(other, content))

    assert told(feed) == [("damaged", "segment 5 is not signed by the key (by another key)")]


def test_a_chain_that_was_written_anew_does_not_follow(feed: Path) -> None:
    changed = (feed / "00000002.csv").read_bytes().replace(b"14:01:00", b"14:01:01")
    (feed / "00000002.csv").write_bytes(changed)
    (feed / "00000002.csv.sig").write_bytes(sshsig.sign(KEY, changed))

    assert told(feed) == [("parted", "segment 3 does not follow 2: it names another's hash")]


def test_a_feed_is_found_in_a_tree_and_all_of_them_in_a_site(feed: Path, tmp_path: Path) -> None:
    assert find_feeds(feed) == [feed]
    assert find_feeds(tmp_path) == [feed]
    other = tmp_path / "site/feed/akis/5f0c-parti-a"
    other.mkdir(parents=True)
    (other / "00000001.csv").touch()
    assert find_feeds(tmp_path / "site") == find_feeds(tmp_path / "site/feed") == [other]
    assert find_feeds(other.parent) == [other]
