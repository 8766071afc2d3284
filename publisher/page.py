"""The publisher's nouns: an arrival, what was seen on its pages, and why it may be set aside.

An arrival is one file; where it has several pages (TIFF, PDF) each is a frame, numbered from 1.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from publisher.source import Source

ID_LENGTH = len("20230514T140003000041-9f3c21ab")
_MAX_NAME_LENGTH = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


class Reason(StrEnum):
    """Why a page went to quarantine."""

    NO_KAREKOD = "no-karekod"
    UNKNOWN_KAREKOD = "unknown-karekod"
    CONFLICTING_KAREKODS = "conflicting-karekods"
    SEVERAL_SHEETS = "several-sheets"
    SEVERAL_BOARDS = "several-boards"
    TOO_FEW_READINGS = "one-witness"
    EMPTY = "empty"
    TOO_LARGE = "too-large"
    NOT_A_FILE = "not-a-file"
    NOT_PERMITTED = "not-permitted"
    NOT_AN_IMAGE = "not-an-image"
    INCOMPLETE = "incomplete"
    UNREADABLE_IMAGE = "unreadable-image"
    ODD_PIXELS = "odd-pixels"
    POLYGLOT = "polyglot"
    TOO_MANY_PAGES = "too-many-pages"
    READER_DIED = "reader-died"
    READER_TIMEOUT = "reader-timeout"


class Stamp(NamedTuple):
    """What changes when a file is replaced or written to; times are the file system's own."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take it from what the kernel says."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)

    def __str__(self) -> str:
        return f"{self.inode}:{self.size}:{self.mtime_ns}"

    @classmethod
    def parse(cls, text: str) -> "Stamp":
        """Read back what `str` wrote."""
        inode, size, mtime_ns = text.split(":")
        return cls(int(inode), int(size), int(mtime_ns))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file taken in. `file` is its name in the spool, and in quarantine if it ends there."""

    id: str
    name: str  # in the intake folder, escaped
    source: Source
    stamp: Stamp  # as it stood there
    received_at: datetime

    @property
    def file(self) -> str:
        """A name that any file system, terminal and shell can bear; it starts with the id."""
        return f"{self.id}-{safe_name(self.name)}"


def arrival_id(now: datetime, token: str) -> str:
    """Return `20230514T140003000041-9f3c21ab`: sorts by time, and `token` makes it unique."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}-{token}"


def safe_name(name: str) -> str:
    """Return the last part of `name`, in at most 80 harmless characters; its end is kept."""
    return _UNSAFE.sub("_", name.rpartition("/")[2])[-_MAX_NAME_LENGTH:].lstrip(".") or "_"


def escaped(name: str) -> str:
    r"""Return a name as text that any record can hold: a byte that is no UTF-8 as `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Reading:
    """One code that one pass of one engine read, and where: corners as x, y in page pixels."""

    text: str
    engine: str
    scan: str
    ms: int
    corners: tuple[tuple[int, int], ...] = ()
    frame: int = 1

    def __str__(self) -> str:
        return f"page {self.frame}: {self.text} by {self.engine}, {self.scan}, {self.ms} ms"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a reader saw in a file's bytes; `fault` says why not all of it could be read.

    Width and height are the first page's, in pixels; `frames` is how many pages there are.
    """

    format: str | None = None
    width: int = 0
    height: int = 0
    readings: tuple[Reading, ...] = ()
    ms: int = 0
    fault: Reason | None = None
    frames: int = 1

    @classmethod
    def of(cls, parts: Sequence["ReadResult"]) -> "ReadResult":
        """Put together what was seen on each page of a file, one after the other."""
        return replace(
            parts[0],
            readings=tuple(
                replace(reading, frame=frame)
                for frame, part in enumerate(parts, start=1)
                for reading in part.readings
            ),
            ms=sum(part.ms for part in parts),
            fault=next((part.fault for part in parts if part.fault), None),
        )

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text in the file, once, in the order found."""
        return tuple(dict.fromkeys(reading.text for reading in self.readings))

    def readings_on(self, frame: int) -> tuple[Reading, ...]:
        """Return what was read on one page."""
        return tuple(reading for reading in self.readings if reading.frame == frame)


@dataclass(frozen=True, slots=True)
class Page:
    """An arrival that was read once; no digest if its bytes were not to be had.

    `stamp` is the spool file's before it was read.
    """

    arrival: Arrival
    stamp: Stamp
    sha256: str | None
    result: ReadResult
