from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.keys.ledger.signed_ledgers import KEY

from keys.feed_segment import NO_PREVIOUS, FeedSegment, format_segment
from keys.server_keys import sshsig
from scripts.audit.feeds import FeedProblem, ProblemKind, feed_problems, find_feeds

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
MINUTES = (0, 1, 2, 7, 8)


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """Segments 1 to 5, one minute apart, with a pause of five minutes between 3 and 4."""
    folder = tmp_path / "akis"
    folder.mkdir()
    previous = NO_PREVIOUS
    for number, minute in enumerate(MINUTES, start=1):
        at = int(NOON.timestamp()) + 60 * minute
        content = format_segment(FeedSegment("2023-05-14-cb-mv", "5f0c", number, at, previous, ()))
        previous = sha256(content).hexdigest()
        (folder / f"{number:08}.csv").write_bytes(content)
        (folder / f"{number:08}.csv.sig").write_bytes(sshsig.sign(KEY, content))
    (folder / "son.txt").write_text("00000005.csv\n")
    return folder


def problems(feed: Path, minute: float = 8.5, seconds: float = 600) -> list[tuple[str, str]]:
    until = NOON + timedelta(minutes=minute)
    return [(b.kind, b.text) for b in feed_problems(feed, seconds, until, [KEY.public_key()])]


def test_a_complete_feed_has_no_problems(feed: Path) -> None:
    assert problems(feed) == []


def test_a_pause_between_two_segments_and_after_the_last_is_reported(feed: Path) -> None:
    found = list(feed_problems(feed, 60, NOON + timedelta(minutes=20)))

    at = [NOON + timedelta(minutes=minute) for minute in MINUTES]
    assert found == [
        FeedProblem(feed, ProblemKind.SILENCE, at[2], at[3], "no segment between 3 and 4"),
        FeedProblem(
            feed, ProblemKind.SILENCE, at[4], NOON + timedelta(minutes=20), "no segment since 5"
        ),
    ]


def test_segments_closed_after_the_given_time_are_ignored(feed: Path) -> None:
    assert problems(feed, 4, 60) == [("silence", "no segment since 3")]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / "00000003.csv").unlink(), [("missing", "segment 3 is missing")]),
        (
            lambda f: [(f / f"0000000{n}.csv").unlink() for n in (1, 2)],
            [("missing", "segments 1 to 2 are missing")],
        ),
        (
            lambda f: (f / "son.txt").write_text("00000007.csv\n"),
            [("missing", "segments 6 to 7 are missing, but son.txt names 7")],
        ),
        (
            lambda f: (f / "00000002.csv").write_text("x"),
            [
                ("damaged", "segment 2 is damaged (not a complete segment of the change feed)"),
                ("parted", "segment 3 does not follow 2: it names another SHA-256"),
            ],
        ),
        (
            lambda f: (f / "00000005.csv.sig").unlink(),
            [("damaged", "segment 5 has no signature file")],
        ),
        (
            lambda f: (f / "00000005.csv").write_bytes((f / "00000004.csv").read_bytes()),
            [("damaged", "segment 5 has the number 4 inside")],
        ),
    ],
)
def test_a_missing_or_damaged_segment_is_reported(
    feed: Path, damage: Callable[[Path], object], expected: list[tuple[str, str]]
) -> None:
    damage(feed)

    assert problems(feed) == expected


def test_a_segment_signed_by_another_key_is_reported(feed: Path) -> None:
    content = (feed / "00000005.csv").read_bytes()
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    (feed / "00000005.csv.sig").write_bytes(sshsig.sign(other, content))

    assert problems(feed) == [("damaged", "segment 5 has no valid signature (by another key)")]


def test_a_rewritten_segment_breaks_the_chain(feed: Path) -> None:
    changed = (feed / "00000002.csv").read_bytes().replace(b"14:01:00", b"14:01:01")
    (feed / "00000002.csv").write_bytes(changed)
    (feed / "00000002.csv.sig").write_bytes(sshsig.sign(KEY, changed))

    assert problems(feed) == [("parted", "segment 3 does not follow 2: it names another SHA-256")]


def test_a_segment_of_another_election_is_reported(feed: Path) -> None:
    number = max(int(path.stem) for path in feed.glob("0*.csv"))
    last = feed / f"{number:08}.csv"
    head, _, rest = last.read_bytes().partition(b"# secim: ")
    changed = head + b"# secim: 2018-06-24-cb-mv\n" + rest.partition(b"\n")[2]
    last.write_bytes(changed)
    Path(f"{last}.sig").write_bytes(sshsig.sign(KEY, changed))

    said = f"segment {number} belongs to another election, 2018-06-24-cb-mv"
    assert problems(feed) == [("parted", said)]


def test_feeds_are_found_in_a_tree_and_in_a_site(feed: Path, tmp_path: Path) -> None:
    assert find_feeds(feed) == [feed]
    assert find_feeds(tmp_path) == [feed]
    other = tmp_path / "site/feed/akis/5f0c-parti-a"
    other.mkdir(parents=True)
    (other / "00000001.csv").touch()
    assert find_feeds(tmp_path / "site") == find_feeds(tmp_path / "site/feed") == [other]
    assert find_feeds(other.parent) == [other]
