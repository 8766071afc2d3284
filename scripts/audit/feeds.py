"""A change feed held against itself: segments that are missing, do not follow, or came late.

A feed is a folder of segments (keys/feed_segment), as every tree has it in `akis/` and the site in
`feed/akis/<feed>/`. It promises a segment a minute, whether anything was filed or not; each names
the hash of the one before, so that a number which is missing, or a file that is another, shows.
Nothing but the files is looked at here; what the ledgers have of the same time, `gaps` sets beside.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config import layout
from keys.feed_segment import FIRST, Segment, parse_segment
from keys.server_keys import sshsig
from keys.server_keys.sshsig import BadSignature

_NAME = re.compile(r"(?!0{8})([0-9]{8})\.csv", re.ASCII)
_NEWEST = Path(layout.NEWEST).name


@dataclass(frozen=True, slots=True)
class FeedProblem:
    """What is not as the feed promises: `kind` is silence, missing, damaged or parted.

    `start` is when the segment before was closed, None if there is none; `end` likewise of the one
    after, or until when there was none.
    """

    feed: Path
    kind: str
    start: datetime | None
    end: datetime
    said: str


@dataclass(frozen=True, slots=True)
class _ReadSegment:
    number: int
    segment: Segment | None
    digest: str
    wrong: str

    @property
    def closed(self) -> datetime | None:
        return datetime.fromtimestamp(self.segment.closed_at, UTC) if self.segment else None


def find_feeds(folder: Path) -> list[Path]:
    """Return the feeds in `folder`: itself, a tree's `akis`, or all of a site's."""
    places = ([folder], *(folder.glob(below) for below in ("akis", "*", "akis/*", "feed/akis/*")))
    found = (sorted(each for each in some if each.is_dir() and _numbers(each)) for some in places)
    return next(filter(None, found), [])


def feed_problems(
    folder: Path, seconds: float, until: datetime, keys: Sequence[Ed25519PublicKey] = ()
) -> Iterator[FeedProblem]:
    """Yield what is wrong with one feed, in its order; silences are those of more than `seconds`.

    With `keys`, each segment must have a signature by one of them beside it.
    """
    before: _ReadSegment | None = None
    for number in _numbers(folder):
        here = _read(folder, number, keys)
        if here.closed is not None and here.closed > until:
            break
        start, end = before.closed if before else None, here.closed or until
        expected = before.number + 1 if before else 1
        if number > expected:
            yield FeedProblem(folder, "missing", start, end, _missing(expected, number - 1))
        if here.wrong:
            yield FeedProblem(folder, "damaged", start, end, f"segment {number} {here.wrong}")
        elif number == expected and (said := _chain_problem(before, here)):
            yield FeedProblem(folder, "parted", start, end, said)
        if start and here.closed and (here.closed - start).total_seconds() > seconds:
            said = f"no segment between {before.number if before else 0} and {number}"
            yield FeedProblem(folder, "silence", start, end, said)
        before = here
    else:
        newest, last = _newest(folder), before.number if before else 0
        if newest > last:
            start = before.closed if before else None
            said = f"{_missing(last + 1, newest)}, though {_NEWEST} names {newest}"
            yield FeedProblem(folder, "missing", start, until, said)
    start = before.closed if before else None
    if before and start and (until - start).total_seconds() > seconds:
        yield FeedProblem(folder, "silence", start, until, f"no segment since {before.number}")


def _numbers(folder: Path) -> list[int]:
    return sorted(int(m[1]) for f in folder.iterdir() if (m := _NAME.fullmatch(f.name)))


def _read(folder: Path, number: int, keys: Sequence[Ed25519PublicKey]) -> _ReadSegment:
    path = folder / Path(layout.segment(number)).name
    content = path.read_bytes()
    digest = sha256(content).hexdigest()
    try:
        segment = parse_segment(content)
    except ValueError as error:
        return _ReadSegment(number, None, digest, f"is damaged ({error})")
    wrong = "" if segment.number == number else f"says that it is {segment.number}"
    if keys and not wrong:
        wrong = _signature_problem(path, content, keys)
    return _ReadSegment(number, segment, digest, wrong)


def _signature_problem(path: Path, content: bytes, keys: Sequence[Ed25519PublicKey]) -> str:
    try:
        signature = Path(f"{path}{layout.SIGNED}").read_bytes()
    except FileNotFoundError:
        return "has no signature beside it"
    said = ""
    for key in keys:
        try:
            sshsig.verify(key, content, signature)
        except BadSignature as error:
            said = str(error)
        else:
            return ""
    return f"is not signed by the key ({said})"


def _chain_problem(before: _ReadSegment | None, here: _ReadSegment) -> str:
    assert here.segment is not None  # noqa: S101 - what cannot be read is damaged
    if before is None:
        return "" if here.segment.previous == FIRST else "segment 1 is not the first of its feed"
    if before.segment is not None and before.segment.feed != here.segment.feed:
        return f"segment {here.number} is of another feed, {here.segment.feed}"
    if here.segment.previous != before.digest:
        return f"segment {here.number} does not follow {before.number}: it names another's hash"
    return ""


def _missing(first: int, last: int) -> str:
    return f"segment {first} is missing" if first == last else f"segments {first} to {last} missing"


def _newest(folder: Path) -> int:
    """Return what the tree says is newest; 0 where nothing says so."""
    try:
        named = _NAME.match((folder / _NEWEST).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return int(named[1]) if named else 0
