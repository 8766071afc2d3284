"""One line of a ledger: an event with its number and its times, in canonical JSON.

A line is canonical JSON (RFC 8785: keys sorted, no white space, UTF-8; integers only, below
2**53; the names in `detail` are ASCII) with a line feed. For example

    {"detail":{"bytes":6,"complete":true,"handle":4,"ms":3,"session":9},"event":"close",
     "from":"192.0.2.7","mono":81000123,"outcome":"ok","seq":17,
     "time":"2023-05-14T14:00:03.000041Z","what":"/BENIOKU.txt","who":"parti-a"}

(on one line). `seq` counts from 0 without a gap; `time` is UTC to the microsecond; `mono` is
the writer's monotonic clock in microseconds, so that a step of the wall clock shows. What the
names mean stands in config/event.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring

from config.event import Event, Outcome, Value

_FIELDS = {"seq", "time", "mono", "event", "who", "from", "what", "outcome", "detail"}
_CONSTANTS = {None: "null", False: "false", True: "true"}
_json_string = encode_basestring  # JSON's own, in C
_MAX_INTEGER = 1 << 53  # beyond it JSON's readers disagree (RFC 8785 3.2.2.3)


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its number and times."""

    seq: int
    time: datetime
    mono: int
    event: Event


def format_record(record: Record) -> bytes:
    """Write one line, with its line feed; ValueError for a detail that no reader would take."""
    return format_records([record.event], record.seq, record.time, record.mono)


def format_records(events: Iterable[Event], first: int, time: datetime, mono: int) -> bytes:
    """Write a line for each of some events that were written down at one time."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    when = time.isoformat(timespec="microseconds")[:-6]
    # Put together by hand, in the order of the keys: this is done for every file that is served.
    lines = [
        f'{{"detail":{_json_detail(event.detail)},"event":{_json_string(event.event)},'
        f'"from":{_json_string(_valid_unicode(event.origin))},"mono":{mono},'
        f'"outcome":{_json_string(event.outcome)},"seq":{seq},"time":"{when}Z",'
        f'"what":{_json_string(_valid_unicode(event.what))},"who":{_json_string(_valid_unicode(event.who))}}}\n'
        for seq, event in enumerate(events, first)
    ]
    return "".join(lines).encode()


def _json_detail(detail: Mapping[str, Value]) -> str:
    # Of others the canonical order is not that of their characters (RFC 8785 3.2.3).
    if not "".join(detail).isascii():
        raise ValueError(f"{list(detail)!r}: a name that is not ASCII does not belong in a record")
    written = [f"{_json_string(key)}:{_json_value(detail[key])}" for key in sorted(detail)]
    return f"{{{','.join(written)}}}"


def _json_value(value: Value) -> str:
    if isinstance(value, str):
        return _json_string(_valid_unicode(value))
    if not _is_value(value):
        raise ValueError(f"{value!r} does not belong in a record")
    if isinstance(value, list):
        return f"[{','.join([_json_string(_valid_unicode(item)) for item in value])}]"
    return _CONSTANTS[value] if value is None or isinstance(value, bool) else str(value)


def _valid_unicode(value: str) -> str:
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
    if not all(type(value) is int and 0 <= value < _MAX_INTEGER for value in counts):
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


def seq_of(line: bytes) -> int:
    """Return a line's number without reading the rest; -1 for a line that has none.

    In canonical form it comes after `detail`, and no text after it can hold a bare quote.
    """
    _, found, rest = line.rpartition(b'"seq":')
    digits = rest.partition(b",")[0]
    return int(digits) if found and digits.isdigit() and len(digits) < 17 else -1


def _is_value(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    if isinstance(value, int):
        return abs(value) < _MAX_INTEGER
    return value is None or isinstance(value, str)
