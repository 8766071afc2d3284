"""Checks a change feed: finds segments that are missing, damaged, late or out of the chain.

A feed is a folder of segments (keys/feed_segment). Every tree has one in `akis/`, the site has all
of them in `feed/akis/<feed>/`. The publisher closes a segment every minute, even if nothing was
filed, and each segment names the SHA-256 of the one before it. So a missing number, a changed file
and a pause all show.

Only the files are read here; `gaps` adds what the ledgers say about the same time.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config import layout
from keys.feed_segment import NO_PREVIOUS, FeedSegment, parse_segment
from keys.server_keys import sshsig
from keys.server_keys.sshsig import BadSignature

_NAME = re.compile(r"(?!0{8})([0-9]{8})\.csv", re.ASCII)
_NEWEST = Path(layout.NEWEST_SEGMENT).name


class ProblemKind(StrEnum):
    """What is wrong with a feed; the values appear in `ssps audit gap --json`."""

    SILENCE = "silence"  # no segment was closed for longer than allowed
    MISSING = "missing"  # a number is missing
    DAMAGED = "damaged"  # unreadable, misnumbered or not signed by the key
    PARTED = "parted"  # does not continue the chain of the segment before it


@dataclass(frozen=True, slots=True)
class FeedProblem:
    """One problem of a feed, with the time span in which it lies.

    `start` is when the segment before it was closed, None if there is none. `end` is when the
    segment after it was closed, or the time up to which the feed was checked.
    """

    feed: Path
    kind: ProblemKind
    start: datetime | None
    end: datetime
    text: str


@dataclass(frozen=True, slots=True)
class _ReadSegment:
    """A segment file; `segment` is None if it cannot be parsed, `problem` is "" if it is good."""

    number: int
    segment: FeedSegment | None
    digest: str
    problem: str

    @property
    def closed(self) -> datetime | None:
        return datetime.fromtimestamp(self.segment.closed_at, UTC) if self.segment else None


def find_feeds(folder: Path) -> list[Path]:
    """Return the feeds in `folder`: the folder itself, a tree's `akis`, or all of a site's."""
    places = ([folder], *(folder.glob(below) for below in ("akis", "*", "akis/*", "feed/akis/*")))
    found = (
        sorted(each for each in some if each.is_dir() and segment_numbers(each)) for some in places
    )
    return next(filter(None, found), [])


def feed_problems(
    folder: Path, seconds: float, until: datetime, keys: Sequence[Ed25519PublicKey] = ()
) -> Iterator[FeedProblem]:
    """Yield the problems of one feed in its order.

    A pause is a problem if it is longer than `seconds`; segments closed after `until` are ignored.
    If `keys` are given, each segment must have a signature file made by one of them.
    """
    before: _ReadSegment | None = None
    for number in segment_numbers(folder):
        here = _read(folder, number, keys)
        if here.closed is not None and here.closed > until:
            break
        start, end = before.closed if before else None, here.closed or until
        expected = before.number + 1 if before else 1
        if number > expected:
            text = _format_missing(expected, number - 1)
            yield FeedProblem(folder, ProblemKind.MISSING, start, end, text)
        if here.problem:
            text = f"segment {number} {here.problem}"
            yield FeedProblem(folder, ProblemKind.DAMAGED, start, end, text)
        elif number == expected and (text := _chain_problem(before, here)):
            yield FeedProblem(folder, ProblemKind.PARTED, start, end, text)
        if start and here.closed and (here.closed - start).total_seconds() > seconds:
            text = f"no segment between {before.number if before else 0} and {number}"
            yield FeedProblem(folder, ProblemKind.SILENCE, start, end, text)
        before = here
    else:
        newest, last = _newest(folder), before.number if before else 0
        if newest > last:
            start = before.closed if before else None
            text = f"{_format_missing(last + 1, newest)}, but {_NEWEST} names {newest}"
            yield FeedProblem(folder, ProblemKind.MISSING, start, until, text)
    start = before.closed if before else None
    if before and start and (until - start).total_seconds() > seconds:
        text = f"no segment since {before.number}"
        yield FeedProblem(folder, ProblemKind.SILENCE, start, until, text)


def segment_numbers(folder: Path) -> list[int]:
    """Return the numbers of the segments in a feed's folder, in order."""
    return sorted(int(m[1]) for f in folder.iterdir() if (m := _NAME.fullmatch(f.name)))


def _read(folder: Path, number: int, keys: Sequence[Ed25519PublicKey]) -> _ReadSegment:
    path = segment_file(folder, number)
    content = path.read_bytes()
    digest = sha256(content).hexdigest()
    try:
        segment = parse_segment(content)
    except ValueError as error:
        return _ReadSegment(number, None, digest, f"is damaged ({error})")
    problem = "" if segment.number == number else f"has the number {segment.number} inside"
    if keys and not problem:
        problem = signature_problem(path, content, keys)
    return _ReadSegment(number, segment, digest, problem)


def segment_file(folder: Path, number: int) -> Path:
    """Return the file of a segment in a feed's folder."""
    return folder / Path(layout.segment(number)).name


def signature_problem(path: Path, content: bytes, keys: Sequence[Ed25519PublicKey]) -> str:
    """Say what is wrong with the signature beside a segment; "" if one of `keys` made it."""
    try:
        signature = Path(f"{path}{layout.SIGNATURE_SUFFIX}").read_bytes()
    except FileNotFoundError:
        return "has no signature file"
    try:
        sshsig.verify_any(keys, content, signature)
    except BadSignature as error:
        return f"has no valid signature ({error})"
    return ""


def _chain_problem(before: _ReadSegment | None, here: _ReadSegment) -> str:
    assert here.segment is not None  # noqa: S101 - an unreadable segment is reported as damaged
    if before is None:
        return "" if here.segment.previous == NO_PREVIOUS else "segment 1 names a segment before it"
    if before.segment is not None and before.segment.feed != here.segment.feed:
        return f"segment {here.number} belongs to another feed, {here.segment.feed}"
    if before.segment is not None and before.segment.election != here.segment.election:
        return f"segment {here.number} belongs to another election, {here.segment.election}"
    if here.segment.previous != before.digest:
        return f"segment {here.number} does not follow {before.number}: it names another SHA-256"
    return ""


def _format_missing(first: int, last: int) -> str:
    if first == last:
        return f"segment {first} is missing"
    return f"segments {first} to {last} are missing"


def _newest(folder: Path) -> int:
    """Return the number of the newest segment as son.txt names it; 0 if there is no son.txt."""
    try:
        named = _NAME.match((folder / _NEWEST).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
    return int(named[1]) if named else 0
