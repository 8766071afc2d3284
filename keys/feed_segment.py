"""Formats and parses a segment of the change feed: a CSV file with a head of comment lines.

    # ssps akis 1
    # secim: 2023-05-14-cb-mv
    # akis: 5f0c2b7e90a1c3d4
    # no: 42
    # kapanis: 2023-05-14T14:41:00Z
    # onceki: 9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de
    # defter filing: c3Nwcy9maWxpbmcKMTIzNAo...
    path,size,sha256,filed_at,sheet,version,supersedes
    2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v2.jpg,312004,
      e3b0...,2023-05-14T14:40:12Z,sandik-sonuc,2,2023-05-14-cb-mv/.../cb-sandik-sonuc-s1.jpg

(an entry is one line). The head has these lines:

    akis          the feed's name; its segments are numbered from 1
    no            the number of this segment
    kapanis       when it was closed, never earlier than the previous segment
    onceki        the sha256 of the whole previous file, 64 zeros in the first segment
    defter        a ledger's newest checkpoint (keys/ledger/note), in base64

Because of `onceki`, the signature of the newest segment also proves all earlier segments. An entry
is one file, which is in the party's tree before the segment is: `filed_at` is its mtime, `sheet`
the form's code, `supersedes` the path of the previous version, empty for the first version. Every
line ends with a line feed; no value has a comma or a quote. The signature of a segment is in a file
of the same name with `.sig` added (keys/server_keys/sshsig).

A segment without entries proves that nothing more was filed up to `kapanis`.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from config import times

NO_PREVIOUS = "0" * 64  # `onceki` in the first segment
_TITLE = "# ssps akis 1"
_COLUMNS = "path,size,sha256,filed_at,sheet,version,supersedes"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)
_LEDGER = re.compile("# defter ([a-z]+(?:@[a-z0-9-]+)?): ([A-Za-z0-9+/]+=*)", re.ASCII)
_NUMBER = re.compile("[1-9][0-9]{0,15}|0", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One file; `filed_at` is in seconds since 1970."""

    path: str
    size: int
    sha256: str
    filed_at: int
    sheet: str
    version: int
    supersedes: str = ""


@dataclass(frozen=True, slots=True)
class FeedSegment:
    """The content of one segment; a checkpoint is (the ledger's name, its bytes)."""

    election: str
    feed: str
    number: int
    closed_at: int
    previous: str
    entries: tuple[FeedEntry, ...]
    checkpoints: tuple[tuple[str, bytes], ...] = ()


def format_segment(segment: FeedSegment) -> bytes:
    """Write a segment's file."""
    lines = [
        _TITLE,
        f"# secim: {segment.election}",
        f"# akis: {segment.feed}",
        f"# no: {segment.number}",
        f"# kapanis: {_time(segment.closed_at)}",
        f"# onceki: {segment.previous}",
        *(
            f"# defter {ledger}: {base64.b64encode(note).decode()}"
            for ledger, note in segment.checkpoints
        ),
        _COLUMNS,
        *(
            f"{e.path},{e.size},{e.sha256},{_time(e.filed_at)},{e.sheet},{e.version},{e.supersedes}"
            for e in segment.entries
        ),
        "",
    ]
    return "\n".join(lines).encode()


def parse_segment(content: bytes) -> FeedSegment:
    """Read a segment's file; ValueError for what `format_segment` would not have written."""
    head, body = _split_head(content.decode("ascii").split("\n"))
    lines = iter(head)
    if next(lines, "") != _TITLE:
        raise ValueError("not a segment of the change feed")
    election, feed = _header_value(lines, "secim"), _header_value(lines, "akis")
    number = _number(_header_value(lines, "no"))
    closed_at = _seconds(_header_value(lines, "kapanis"))
    previous = _header_value(lines, "onceki")
    checkpoints = tuple(map(_checkpoint, lines))
    found = FeedSegment(
        election, feed, number, closed_at, previous, tuple(map(_entry, body)), checkpoints
    )
    if not _SHA256.fullmatch(previous) or format_segment(found) != content:
        raise ValueError("not a segment in the form that the publisher writes")
    return found


def _split_head(lines: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    if _COLUMNS not in lines or lines[-1]:
        raise ValueError("not a complete segment of the change feed")
    at = lines.index(_COLUMNS)
    return lines[:at], lines[at + 1 : -1]


def _header_value(lines: Iterator[str], key: str) -> str:
    line = next(lines, "")
    if not line.startswith(f"# {key}: "):
        raise ValueError(f"the segment has no line {key!r} where it belongs")
    return line.removeprefix(f"# {key}: ")


def _checkpoint(line: str) -> tuple[str, bytes]:
    match = _LEDGER.fullmatch(line)
    if match is None:
        raise ValueError(f"an unknown line in a segment's head: {line[:80]!r}")
    try:
        return match[1], base64.b64decode(match[2], validate=True)
    except binascii.Error:
        raise ValueError("a checkpoint is not base64") from None


def _entry(line: str) -> FeedEntry:
    values = line.split(",")
    if len(values) != 7 or not _SHA256.fullmatch(values[2]):
        raise ValueError(f"not an entry of a segment: {line[:80]!r}")
    path, size, sha256, filed_at, sheet, version, supersedes = values
    return FeedEntry(
        path, _number(size), sha256, _seconds(filed_at), sheet, _number(version), supersedes
    )


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"not a number: {text[:20]!r}")
    return int(text)


def _time(seconds: int) -> str:
    return times.format_utc(datetime.fromtimestamp(seconds, UTC))


def _seconds(text: str) -> int:
    return int(datetime.strptime(text, _TIME).replace(tzinfo=UTC).timestamp())
