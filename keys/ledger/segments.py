"""Reads the files of a ledger: lists its segments, and yields lines and records from them.

    <first seq, 12 digits>.jsonl      the lines of a segment; the last segment is being written
    <first seq, 12 digits>.jsonl.gz   the lines of a sealed segment, compressed
    <first seq, 12 digits>.hashes     the RFC 6962 leaf hash of each line, 32 bytes per line
    <first seq, 12 digits>-N.torn     what was at the end from byte N on, and is no record
    tree-8, tree-16, tree-24          32 bytes for each full subtree of 256, 65,536, ... lines
    checkpoint                        the newest signed checkpoint (keys/ledger/note)
    checkpoints                       the history: one checkpoint per minute, one after the other

The hashes and tree files can be computed again from the lines. An operator may move a sealed
segment to another disk, and leave a symbolic link in its place or only its `.hashes` file. With a
link, every command still reads the lines. Without a link, only `ssps audit verify` reads them, if
the other folder is given as well.
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
    """A file of lines, and the number of its first line."""

    first: int
    path: Path

    @property
    def compressed(self) -> bool:
        """Whether it is compressed."""
        return self.path.name.endswith(COMPRESSED)

    def open(self) -> IO[bytes]:
        """Open it for reading, even if it was compressed after it was listed."""
        if not self.compressed:
            try:
                return self.path.open("rb")
            except FileNotFoundError:
                pass
        packed = self.path.with_name(file_name(self.first, COMPRESSED))
        return cast(IO[bytes], gzip.GzipFile(packed, "rb"))


def file_name(first: int, suffix: str) -> str:
    """Return the name of the file with that suffix whose first line has that number."""
    return f"{first:0{_DIGITS}}{suffix}"


def list_segments(folder: Path) -> list[Segment]:
    """Return the segments in `folder`, in order."""
    found: dict[int, Segment] = {}
    for suffix in (COMPRESSED, PLAIN):  # prefer the plain file while it is being compressed
        for first, path in list_files(folder, suffix):
            found[first] = Segment(first, path)
    return [found[first] for first in sorted(found)]


def list_files(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """Return the files with that suffix and the number of their first line, in order."""
    found = []
    for path in folder.glob(f"*{suffix}"):
        digits = path.name.removesuffix(suffix)
        if len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            found.append((int(digits), path))
    return sorted(found)


def read_checkpoint(folder: Path) -> bytes | None:
    """Return the newest signed checkpoint of a ledger (keys/ledger/note), or None before the first.

    The file is replaced atomically, at most once per second, and covers only records that would
    survive a loss of power.
    """
    try:
        return (folder / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None


def read_lines(folder: Path, first: int = 0) -> Iterator[tuple[Segment, int, bytes]]:
    """Yield segment, byte offset and line, from record `first` or a few records before it.

    Skips an incomplete last line. Raises OSError if a file cannot be read or decompressed.
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
                raise OSError(f"{segment.path}: cannot be decompressed ({error})") from error


def read_records(folder: Path, first: int = 0) -> Iterator[Record]:
    """Yield the records of a ledger from number `first` on; skip an incomplete last line.

    Finding the first is fast in a ledger of any length. Raises ValueError, with the segment and
    the byte offset, for a line that is not a record.
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
    """Return the number that the ledger's next record will have; 0 if the ledger is empty."""
    segments = list_files(folder, PLAIN)
    if not segments:
        return 0
    first, path = segments[-1]
    with path.open("rb") as file:
        last = last_line(file.fileno())
    return seq_of(last) + 1 if last else first


def last_line(file: int) -> bytes:
    """Return the last complete line of a segment; empty if it has none."""
    end = end_of_last_complete_line(file, os.fstat(file).st_size)
    if end == 0:
        return b""
    begin = end_of_last_complete_line(file, end - 1)
    return os.pread(file, end - begin, begin)


def end_of_last_complete_line(file: int, size: int) -> int:
    """Return the offset after the last line feed within the first `size` bytes; 0 if none."""
    start = size
    while start > 0:
        begin = max(0, start - _TAIL)
        at = os.pread(file, start - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        start = begin
    return 0


def find_offset(file: int, seq: int) -> int:
    """Return the offset of the record with that number in a segment, or of an earlier record.

    This is a binary search over the numbers in the lines. The result can be up to 64 KiB early.
    """
    # The line at `low` is the first line, or a line before `seq`.
    low, high = 0, os.fstat(file).st_size
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
