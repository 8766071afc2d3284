"""The record: one line an event, appended by one writer, never changed.

A ledger is a folder of segments, `ledgers/<name>/<first seq, 12 digits>.jsonl`; the form of a
line stands in keys/ledger/record, the other files in keys/ledger/segments. A segment that has
grown to its
size is sealed and the next one begun; where the site keeps records for so many days only, older
sealed segments are removed, each removal a record of its own that names what went. Their hashes
stay, so that what remains can still be proved.

The writer holds a lock on the folder, so a second one is refused. `append` returns when the
line is with the kernel; `sync` makes it survive a loss of power. Hashing and signing are not
the writer's affair but those of keys/ledger/signer, which reads what stands here.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from config.event import Event, Value
from config.settings import LedgerSettings, Sync
from keys.ledger import segments
from keys.ledger.record import format_records, parse_record
from keys.ledger.segments import Segment

Clock = Callable[[], datetime]


class LedgerBusy(Exception):
    """Another process writes this ledger."""


class Unwritable(Exception):
    """The ledger takes no more; whatever needed the record must not happen."""


class Unsynced(Unwritable):
    """What was to be appended is written, and the disk did not confirm that it holds it."""


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How large a segment grows, and how long a sealed one is kept; None for ever.

    With `always` a record survives a loss of power before `append` returns.
    """

    segment_bytes: int = 64 << 20
    keep: timedelta | None = None
    sync_always: bool = False


DEFAULT_POLICY = WritePolicy()


def write_policy(keeping: LedgerSettings) -> WritePolicy:
    """Return what the settings ask for."""
    keep = timedelta(days=keeping.keep_days) if keeping.keep_days is not None else None
    return WritePolicy(keeping.segment_mb << 20, keep, keeping.sync is Sync.ALWAYS)


def utc_now() -> datetime:
    """Return the wall clock's time, aware."""
    return datetime.now(UTC)


class Ledger:
    """A ledger that is open for writing; close it, or use it in a `with`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock = utc_now,
        patience: float = 0,
        terms: WritePolicy = DEFAULT_POLICY,
    ) -> None:
        """Open `folder`, waiting up to `patience` seconds for another writer to finish.

        Raises Busy if it does not, and OSError where the disk will not have it. A last line
        that a crash left torn is set aside in a file of its own, and that is recorded.
        """
        self._clock = clock
        self._terms = terms
        self._removing = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _lock_folder(folder, patience)
        try:
            plain = segments.list_files(folder, segments.PLAIN)
            first, segment = (
                plain[-1] if plain else (0, folder / segments.file_name(0, segments.PLAIN))
            )
            self._file = os.open(
                segment, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            os.fsync(self._lock)
            torn = self._move_torn_line_aside(segment)
            self._size = os.fstat(self._file).st_size
            last = segments.last_line(self._file)
            self._next = parse_record(last).seq + 1 if last else first
            if torn:
                detail = {"bytes": torn}
                self.append(Event("recovered", folder.name, "", segment.name, detail=detail))
            self._remove_old()
        except BaseException:
            self.close()
            raise

    def append(self, *events: Event) -> int:
        """Write events in one piece, each a record, and return the number of the last.

        Raises Unwritable, leaving no part of a line, where the disk will not have them all;
        Unsynced where it has them and only did not confirm it; and ValueError for a detail that
        no reader would take.
        """
        written = 0
        try:
            self._roll_if_full()
            mono = time.monotonic_ns() // 1000
            now, first = self._clock(), self._next
            lines = format_records(events, first, now, mono)
            taken = os.write(self._file, lines)
            if taken != len(lines):
                os.ftruncate(self._file, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = taken
            self._size += written
            self._next += len(events)
            if self._terms.sync_always:
                os.fdatasync(self._file)
        except OSError as error:
            failure = Unsynced if written else Unwritable
            raise failure(f"{self._folder}: {error.strerror}: make room, then retry") from error
        return self._next - 1

    @property
    def sync_always(self) -> bool:
        """Whether `append` returns only when a record survives a loss of power."""
        return self._terms.sync_always

    @property
    def next_seq(self) -> int:
        """The number that the next event will have."""
        return self._next

    def sync(self) -> None:
        """Make all that was appended survive a loss of power."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Sync, and let another writer in."""
        for name in ("_file", "_lock"):
            descriptor = self.__dict__.pop(name, None)
            if descriptor is not None:
                with suppress(OSError):
                    os.fsync(descriptor)
                os.close(descriptor)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _roll_if_full(self) -> None:
        if self._size < self._terms.segment_bytes:
            return
        self._start_segment()
        try:
            self._remove_old()
        except Unsynced as error:  # that was of a removal, and not of what is to be appended
            raise Unwritable(str(error)) from error

    def _start_segment(self) -> None:
        os.fdatasync(self._file)
        path = self._folder / segments.file_name(self._next, segments.PLAIN)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fresh = os.open(path, flags, 0o600)
        os.fsync(self._lock)
        os.close(self._file)
        self._file, self._size = fresh, os.fstat(fresh).st_size

    def _remove_old(self) -> None:
        keep = self._terms.keep
        if keep is None or self._removing:
            return
        self._removing = True  # what is recorded of that may itself begin a segment
        try:
            until = (self._clock() - keep).timestamp()
            for segment, following in pairwise(segments.list_segments(self._folder)):
                young = segment.path.stat().st_mtime >= until
                if young or not self._hashed(segment, following.first):
                    break  # what follows is younger, or needs it
                records = following.first - segment.first
                self._remove(segment, records, f"older than {keep.days} days")
        finally:
            self._removing = False

    def _hashed(self, segment: Segment, end: int) -> bool:
        hashes = self._folder / segments.file_name(segment.first, segments.HASHES)
        size = hashes.stat().st_size if hashes.exists() else 0
        return size == (end - segment.first) * segments.HASH_SIZE

    def _remove(self, segment: Segment, records: int, reason: str) -> None:
        detail: dict[str, Value] = {
            "first": segment.first,
            "records": records,
            "bytes": segment.path.stat().st_size,
            "reason": reason,
        }
        self.append(Event("removed", self._folder.name, "", segment.path.name, detail=detail))
        self.sync()
        for suffix in (segments.PLAIN, segments.COMPRESSED):  # it may just be being compressed
            (self._folder / segments.file_name(segment.first, suffix)).unlink(missing_ok=True)
        os.fsync(self._lock)

    def _move_torn_line_aside(self, segment: Path) -> int:
        size = os.fstat(self._file).st_size
        keep = segments.end_of_last_complete_line(self._file, size)
        if keep == size:
            return 0
        aside = segment.with_name(f"{segment.stem}-{keep}.torn")
        with aside.open("wb") as file:
            file.write(os.pread(self._file, size - keep, keep))
            file.flush()
            os.fsync(file.fileno())
        os.fsync(self._lock)
        os.ftruncate(self._file, keep)
        return size - keep


def _lock_folder(folder: Path, patience: float) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise LedgerBusy(
                    f"{folder}: another process writes it, stop that one first"
                ) from None
            time.sleep(0.02)
