"""Appends records to a ledger: one line per event, one writer per ledger, nothing ever changed.

A ledger is a folder of segments, `ledgers/<name>/<first seq, 12 digits>.jsonl`. keys/ledger/record
has the format of a line, keys/ledger/segments the other files. When a segment reaches its size
limit it is sealed and the next one begins. A sealed segment is never changed or deleted.

The writer holds a lock (flock) on the folder, so a second writer is refused. `append` returns when
the kernel has the line; `sync` makes it survive a loss of power. The writer does not hash or sign:
keys/ledger/signer reads the files and does both.

Ledgers of earlier versions can lack old segments. Those versions could delete segments after a
number of days (`ledger.keep_days`); they wrote a `removed` record for each, and kept its hashes.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from config.event import Event
from config.settings import LedgerSettings, Sync
from keys.folder_lock import FolderLock
from keys.ledger import note, segments
from keys.ledger.record import Record, format_records, parse_record, seq_of

Clock = Callable[[], datetime]


class LedgerBusy(Exception):
    """Another process is writing this ledger."""


class Unwritable(Exception):
    """The record could not be written, so the action that it records must not happen."""


class Unsynced(Unwritable):
    """The record is written, but the disk did not confirm that it will survive a loss of power."""


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """The size at which a segment is sealed, and when records are synced.

    With `sync_always` a record survives a loss of power before `append` returns.
    """

    segment_bytes: int = 64 << 20
    sync_always: bool = False


DEFAULT_POLICY = WritePolicy()


def write_policy(settings: LedgerSettings) -> WritePolicy:
    """Return the policy that the settings ask for."""
    return WritePolicy(settings.segment_mb << 20, settings.sync is Sync.ALWAYS)


def utc_now() -> datetime:
    """Return the wall clock's time, aware."""
    return datetime.now(UTC)


class Ledger:
    """A ledger that is open for writing; close it, or use it in a `with`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock = utc_now,
        wait_seconds: float = 0,
        policy: WritePolicy = DEFAULT_POLICY,
    ) -> None:
        """Open `folder`, and wait up to `wait_seconds` for another writer to finish.

        Raises LedgerBusy if it does not finish in time, and OSError if the disk fails. A crash can
        leave the last line incomplete, and others behind the newest checkpoint damaged: they are
        moved to a file of their own, and a `recovered` record says so. The other records that are
        there survive a loss of power from now on.
        """
        self._clock = clock
        self._policy = policy
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _lock_folder(folder, wait_seconds)
        try:
            plain = segments.list_files(folder, segments.PLAIN)
            first, segment = (0, folder / segments.file_name(0, segments.PLAIN))
            if plain:
                first, segment = plain[-1]
            self._file = _open_segment(segment)
            os.fsync(self._lock.descriptor)
            moved = self._move_damaged_end(segment, first)
            # A killed writer may not have synced its last records. A database soon notes that they
            # are written.
            os.fdatasync(self._file)
            self._size = os.fstat(self._file).st_size
            self._torn = False  # a part of a record may be behind `_size`
            last = segments.last_line(self._file)
            self._next = parse_record(last).seq + 1 if last else first
            self.first_own = self._next  # the number of the first record of this writer
            if moved:
                detail = {"bytes": moved}
                self.append(Event("recovered", folder.name, "", segment.name, detail=detail))
        except BaseException:
            self.close()
            raise

    def append(self, *events: Event) -> int:
        """Write a record for each event in one write(2), and return the number of the last.

        Raises Unwritable if the disk does not take all of them; then no part of a line remains.
        Raises Unsynced if they are written but the disk did not confirm it, and ValueError for a
        detail that does not fit the format.
        """
        written = 0
        try:
            if self._torn:
                self._remove_part()
            if self._size >= self._policy.segment_bytes:
                self._start_segment()
            mono = time.monotonic_ns() // 1000
            now, first = self._clock(), self._next
            lines = format_records(events, first, now, mono)
            count = os.write(self._file, lines)
            if count != len(lines):
                self._torn = True
                self._remove_part()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = count
            self._size += written
            self._next += len(events)
            if self._policy.sync_always:
                os.fdatasync(self._file)
        except OSError as error:
            failure = Unsynced if written else Unwritable
            raise failure(f"{self._folder}: {error.strerror}: make room, then retry") from error
        return self._next - 1

    @property
    def sync_always(self) -> bool:
        """Whether `append` returns only when a record survives a loss of power."""
        return self._policy.sync_always

    @property
    def next_seq(self) -> int:
        """The number that the next event will have."""
        return self._next

    def records(self, first: int) -> Iterator[Record]:
        """Yield the records from number `first` on."""
        return segments.read_records(self._folder, first)

    def sync(self) -> None:
        """Make everything appended so far survive a loss of power."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Sync, and release the lock."""
        file, lock = self.__dict__.pop("_file", None), self.__dict__.pop("_lock", None)
        for descriptor in (file, lock.descriptor if lock else None):
            if descriptor is not None:
                with suppress(OSError):
                    os.fsync(descriptor)
        if file is not None:
            os.close(file)
        if lock is not None:
            lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _remove_part(self) -> None:
        os.ftruncate(self._file, self._size)
        self._torn = False

    def _start_segment(self) -> None:
        os.fdatasync(self._file)
        path = self._folder / segments.file_name(self._next, segments.PLAIN)
        fresh = _open_segment(path)
        try:
            os.fsync(self._lock.descriptor)
        except OSError:
            os.close(fresh)
            raise
        os.close(self._file)
        self._file, self._size = fresh, os.fstat(fresh).st_size

    def _move_damaged_end(self, segment: Path, first: int) -> int:
        """Move what is no record at the end to a `.torn` file; return its bytes, 0 if none.

        Complete lines are moved only if no checkpoint covers them.
        """
        size = os.fstat(self._file).st_size
        end = segments.end_of_last_complete_line(self._file, size)
        with suppress(FileNotFoundError, ValueError):
            signed = note.unverified_checkpoint((self._folder / segments.CHECKPOINT).read_bytes())
            end = _end_of_records(self._file, first, max(signed.size, first), end)
        if end == size:
            return 0
        torn = segment.with_name(f"{segment.stem}-{end}.torn")
        with torn.open("wb") as file:
            file.write(os.pread(self._file, size - end, end))
            file.flush()
            os.fsync(file.fileno())
        os.fsync(self._lock.descriptor)
        os.ftruncate(self._file, end)
        return size - end


def _end_of_records(file: int, begin: int, first: int, end: int) -> int:
    """Return where the records from number `first` on end: at the first line that is not the next.

    `begin` is the segment's first number. Without the record before `first`, which is signed, it is
    not known where the unsigned lines begin; then nothing is wrong before `end`.
    """
    at, expected = segments.find_offset(file, first), first if begin == first else None
    with os.fdopen(os.dup(file), "rb") as lines:
        lines.seek(at)
        for line in lines:
            if at >= end:
                break
            if expected is not None:
                try:
                    right = parse_record(line).seq == expected
                except ValueError:
                    right = False
                if not right:
                    return at
                expected += 1
            elif seq_of(line) == first - 1:
                expected = first
            at += len(line)
    return end


def _open_segment(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock_folder(folder: Path, wait_seconds: float) -> FolderLock:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            return FolderLock(folder)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LedgerBusy(f"{folder}: another process writes it, stop that one") from None
            time.sleep(0.02)
