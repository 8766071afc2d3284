"""The files of a ledger, to whoever reads them: which there are, and what stands in them.

    <first seq, 12 digits>.jsonl      the lines of a segment; the last one is being written
    <first seq, 12 digits>.jsonl.gz   of a sealed one, compressed
    <first seq, 12 digits>.hashes     32 bytes a line, RFC 6962's hash of it; stays when that goes
    tree-8, tree-16, tree-24          32 bytes for each 256, 65,536, ... lines that are full
    checkpoint                        the newest signed checkpoint (keys/ledger/note)
    checkpoints                       one a minute of them, one after the other

All but the lines and the checkpoints can be made anew from the lines. A sealed segment may be
moved elsewhere with a symbolic link left in its place.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from keys.ledger.record import Record, parse_record, seq_of

PLAIN, COMPRESSED, HASHES = ".jsonl", ".jsonl.gz", ".hashes"
HASH_SIZE = 32
CHECKPOINT, CHECKPOINTS = "checkpoint", "checkpoints"
DecompressionError = zlib.error
_DIGITS = 12
_TAIL = 1 << 16


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of lines, and the number of its first."""

    first: int
    path: Path

    @property
    def compressed(self) -> bool:
        """Whether it is compressed."""
        return self.path.name.endswith(COMPRESSED)

    def open(self) -> IO[bytes]:
        """Open it for reading, whether it was compressed meanwhile or not."""
        if not self.compressed:
            try:
                return self.path.open("rb")
            except FileNotFoundError:
                pass
        packed = self.path.with_name(file_name(self.first, COMPRESSED))
        return cast(IO[bytes], gzip.GzipFile(packed, "rb"))


def file_name(first: int, suffix: str) -> str:
    """Return the name of the file of that kind whose first line has that number."""
    return f"{first:0{_DIGITS}}{suffix}"


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments that are there, in order."""
    found: dict[int, Segment] = {}
    for suffix in (COMPRESSED, PLAIN):  # of one that is just being compressed, the plain one
        for first, path in list_files(folder, suffix):
            found[first] = Segment(first, path)
    return [found[first] for first in sorted(found)]


def list_files(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """Return the files of one kind with the number of their first line, in order."""
    found = []
    for path in folder.glob(f"*{suffix}"):
        digits = path.name.removesuffix(suffix)
        if len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            found.append((int(digits), path))
    return sorted(found)


def read_checkpoint(folder: Path) -> bytes | None:
    """Return the newest signed checkpoint of a ledger (keys/ledger/note), or None before the first.

    It is replaced whole, once a second at most, and covers nothing that a loss of power could
    still take.
    """
    try:
        return (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None


def read_lines(folder: Path, first: int = 0) -> Iterator[tuple[Segment, int, bytes]]:
    """Yield segment, place and line, from number `first` on or some lines before.

    A torn last line is left out. Raises OSError where a file cannot be read or unpacked.
    """
    segments = list_segments(folder)
    for index, segment in enumerate(segments):
        if index + 1 < len(segments) and segments[index + 1].first <= first:
            continue
        with segment.open() as file:
            at = 0
            if not isinstance(file, gzip.GzipFile):
                at = find_offset(file.fileno(), first)
                file.seek(at)
            try:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    yield segment, at, line
                    at += len(line)
            except (EOFError, zlib.error) as error:
                raise OSError(f"{segment.path}: cannot be unpacked ({error})") from error


def read_records(folder: Path, first: int = 0) -> Iterator[Record]:
    """Yield the records of a ledger from number `first` on; a torn last line is no record yet.

    Finding the first costs little however long the ledger is. Raises ValueError, naming segment
    and place, for a line that is none.
    """
    for segment, at, line in read_lines(folder, first):
        if first and -1 < seq_of(line) < first:
            continue
        try:
            record = parse_record(line)
        except ValueError as error:
            raise ValueError(f"{segment.path}: at byte {at}: {error}") from error
        if record.seq >= first:
            yield record


def next_seq(folder: Path) -> int:
    """Return the number that the ledger's next record will have; 0 if there is none yet."""
    segments = list_files(folder, PLAIN)
    if not segments:
        return 0
    first, path = segments[-1]
    with path.open("rb") as file:
        last = last_line(file.fileno())
    return seq_of(last) + 1 if last else first


def last_line(file: int) -> bytes:
    """Return the last whole line of a segment; nothing if it has none."""
    whole = end_of_last_complete_line(file, os.fstat(file).st_size)
    if whole == 0:
        return b""
    begin = end_of_last_complete_line(file, whole - 1)
    return os.pread(file, whole - begin, begin)


def end_of_last_complete_line(file: int, size: int) -> int:
    """Return where the last line feed within `size` bytes ends."""
    start = size
    while start > 0:
        begin = max(0, start - _TAIL)
        at = os.pread(file, start - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        start = begin
    return 0


def find_offset(file: int, seq: int) -> int:
    """Return where in a segment the record of that number begins, or a place before it."""
    low, high = 0, os.fstat(file).st_size  # what begins at `low` comes before `seq`, or is first
    while high - low > _TAIL:
        middle = (low + high) // 2
        head = os.pread(file, _TAIL, middle)
        begin = head.find(b"\n") + 1
        end = head.find(b"\n", begin) + 1
        if not 0 < begin < end or seq_of(head[begin:end]) >= seq:
            high = middle
        else:
            low = middle + begin
    return low
