"""The record: one line an event, appended by one writer, never changed.

A ledger is a folder of segments, `ledgers/<name>/<first seq, 12 digits>.jsonl`. A line is
canonical JSON (RFC 8785: keys sorted, no white space, UTF-8; integers only, below 2**53) with
a line feed. For example

    {"detail":{"bytes":6,"complete":true,"handle":4,"ms":3,"session":9},"event":"close",
     "from":"192.0.2.7","mono":81000123,"outcome":"ok","seq":17,
     "time":"2023-05-14T14:00:03.000041Z","what":"/BENIOKU.txt","who":"parti-a"}

(on one line). `seq` counts from 0 without a gap; `time` is UTC to the microsecond; `mono` is
the writer's monotonic clock in microseconds, so that a step of the wall clock shows. What the
names mean stands in config/event.

The writer holds a lock on the folder, so a second one is refused. `append` returns when the
line is with the kernel; `sync` makes it survive a loss of power.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.event import Event, Outcome, Value

FOLDER = Path("ledgers")
TRANSFER, FILING, OPERATIONS = "transfer", "filing", "operations"
_FIELDS = {"seq", "time", "mono", "event", "who", "from", "what", "outcome", "detail"}
_TAIL = 1 << 16
_canonical = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode
_LARGEST = 1 << 53  # beyond it JSON's readers disagree (RFC 8785 3.2.2.3)

Clock = Callable[[], datetime]


class Busy(Exception):
    """Another process writes this ledger."""


class Unwritable(Exception):
    """The ledger takes no more; whatever needed the record must not happen."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its number and times."""

    seq: int
    time: datetime
    mono: int
    event: Event


def utc_now() -> datetime:
    """Return the wall clock's time, aware."""
    return datetime.now(UTC)


def format_record(record: Record) -> bytes:
    """Write one line, with its line feed."""
    event = record.event
    data = {
        "seq": record.seq,
        "time": record.time.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z",
        "mono": record.mono,
        "event": event.event,
        "who": _text(event.who),
        "from": _text(event.origin),
        "what": _text(event.what),
        "outcome": event.outcome,
        "detail": {_text(key): _written(value) for key, value in event.detail.items()},
    }
    return _canonical(data).encode() + b"\n"


def _written(value: Value) -> Value:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_text(item) for item in value]
    if not _is_value(value):
        raise ValueError(f"{value!r} does not belong in a record")
    return value


def _text(value: str) -> str:
    # Bytes that were no UTF-8 arrive as lone surrogates, which canonical JSON cannot hold.
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def parse_record(line: bytes) -> Record:
    """Read one line back; ValueError for anything that `format_record` would not have written."""
    try:
        data = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict) or set(data) != _FIELDS:
        raise ValueError("not a record of a ledger")
    counts = (data["seq"], data["mono"])
    if not all(type(value) is int and 0 <= value < _LARGEST for value in counts):
        raise ValueError("its numbers are no counts")
    if not all(isinstance(data[key], str) for key in _FIELDS - {"seq", "mono", "detail"}):
        raise ValueError("its five answers are no text")
    if not isinstance(data["detail"], dict) or not all(map(_is_value, data["detail"].values())):
        raise ValueError("its detail is none")
    record = Record(
        data["seq"],
        datetime.strptime(data["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC),
        data["mono"],
        Event(
            data["event"],
            data["who"],
            data["from"],
            data["what"],
            Outcome(data["outcome"]),
            data["detail"],
        ),
    )
    if format_record(record) != line:
        raise ValueError("not in canonical form")
    return record


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if isinstance(value, int):
        return abs(value) < _LARGEST
    return value is None or isinstance(value, str)


class Ledger:
    """A ledger that is open for writing; close it, or use it in a `with`."""

    def __init__(self, folder: Path, clock: Clock = utc_now, patience: float = 0) -> None:
        """Open `folder`, waiting up to `patience` seconds for another writer to finish.

        Raises Busy if it does not, and OSError where the disk will not have it. A last line
        that a crash left torn is set aside in a file of its own, and that is recorded.
        """
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _locked(folder, patience)
        try:
            segment = max(folder.glob("*.jsonl"), default=folder / f"{0:012}.jsonl")
            self._file = os.open(
                segment, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            os.fsync(self._lock)
            torn = self._set_torn_aside(segment)
            last = _last_line(self._file)
            first = int(segment.stem)
            self._next = parse_record(last).seq + 1 if last else first
            if torn:
                detail = {"bytes": torn}
                self.append(Event("recovered", folder.name, "", segment.name, detail=detail))
        except BaseException:
            self.close()
            raise

    def append(self, *events: Event) -> int:
        """Write events in one piece, each a record, and return the number of the last.

        Raises Unwritable, leaving no part of a line, where the disk will not have them all, and
        ValueError for a detail that no reader would take.
        """
        mono = time.monotonic_ns() // 1000
        now, first = self._clock(), self._next
        lines = b"".join(
            format_record(Record(first + number, now, mono, event))
            for number, event in enumerate(events)
        )
        try:
            written = os.write(self._file, lines)
            if written != len(lines):
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise Unwritable(f"{self._folder}: {error.strerror}: make room, then retry") from error
        self._next += len(events)
        return self._next - 1

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

    def _set_torn_aside(self, segment: Path) -> int:
        size = os.fstat(self._file).st_size
        keep = _end_of_last_whole_line(self._file, size)
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


def _locked(folder: Path, patience: float) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Busy(f"{folder}: another process writes it, stop that one first") from None
            time.sleep(0.02)


def _end_of_last_whole_line(file: int, size: int) -> int:
    start = size
    while start > 0:
        begin = max(0, start - _TAIL)
        at = os.pread(file, start - begin, begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        start = begin
    return 0


def _last_line(file: int) -> bytes:
    size = os.fstat(file).st_size
    begin = _end_of_last_whole_line(file, max(0, size - 1))
    return os.pread(file, size - begin, begin)


def read(folder: Path, first: int = 0) -> Iterator[Record]:
    """Yield the records of a ledger from number `first` on; a torn last line is no record yet.

    Finding the first costs little however long the ledger is. Raises ValueError, naming segment
    and place, for a line that is none.
    """
    segments = sorted(folder.glob("*.jsonl"))
    starts = [int(segment.stem) for segment in segments]
    for index, segment in enumerate(segments):
        if index + 1 < len(starts) and starts[index + 1] <= first:
            continue
        with segment.open("rb") as file:
            at = _place_of(file.fileno(), first)
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    record = parse_record(line)
                except ValueError as error:
                    raise ValueError(f"{segment}: at byte {at}: {error}") from error
                at += len(line)
                if record.seq >= first:
                    yield record


def next_seq(folder: Path) -> int:
    """Return the number that the ledger's next record will have; 0 if there is none yet."""
    segment = max(folder.glob("*.jsonl"), default=None)
    if segment is None:
        return 0
    with segment.open("rb") as file:
        whole = _end_of_last_whole_line(file.fileno(), os.fstat(file.fileno()).st_size)
        if whole == 0:
            return int(segment.stem)
        begin = _end_of_last_whole_line(file.fileno(), whole - 1)
        return _seq_of(os.pread(file.fileno(), whole - begin, begin)) + 1


def _place_of(file: int, seq: int) -> int:
    """Return where in a segment the record of that number begins, or a place before it."""
    low, high = 0, os.fstat(file).st_size  # what begins at `low` comes before `seq`, or is first
    while high - low > _TAIL:
        middle = (low + high) // 2
        head = os.pread(file, _TAIL, middle)
        begin = head.find(b"\n") + 1
        end = head.find(b"\n", begin) + 1
        if not 0 < begin < end or _seq_of(head[begin:end]) >= seq:
            high = middle
        else:
            low = middle + begin
    return low


def _seq_of(line: bytes) -> int:
    """Return a line's number without reading the rest; -1 for a line that has none.

    In canonical form it comes after `detail`, and no text after it can hold a bare quote.
    """
    _, found, rest = line.rpartition(b'"seq":')
    digits = rest.partition(b",")[0]
    return int(digits) if found and digits.isdigit() else -1
