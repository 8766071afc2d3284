"""Formats and parses one line of a ledger: an event with its number and times, in canonical JSON.

A line is canonical JSON (RFC 8785: keys sorted, no white space, UTF-8) and a line feed. Numbers are
integers below 2**53, and the names in `detail` are ASCII. For example

    {"detail":{"bytes":6,"complete":true,"handle":4,"ms":3,"session":9},"event":"close",
     "from":"192.0.2.7","mono":81000123,"outcome":"ok","seq":17,
     "time":"2023-05-14T14:00:03.000041Z","what":"/BENIOKU.txt","who":"parti-a"}

(on one line). `seq` counts from 0 without gaps. `time` is UTC to the microsecond. `mono` is the
writer's monotonic clock in microseconds; with it, a reader can see that the wall clock was changed.
config/event explains the other names.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from json.encoder import encode_basestring

from config.event import Event, Outcome, Value

_FIELDS = {"seq", "time", "mono", "event", "who", "from", "what", "outcome", "detail"}
_CONSTANTS = {None: "null", False: "false", True: "true"}
_json_string = encode_basestring  # from the json module, in C
_MAX_INTEGER = 1 << 53  # JSON readers disagree about larger ones (RFC 8785 3.2.2.3)


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its number and times."""

    seq: int
    time: datetime
    mono: int
    event: Event


def format_record(record: Record) -> bytes:
    """Write one line with its line feed; ValueError for a detail that does not fit the format."""
    return format_records([record.event], record.seq, record.time, record.mono)


def format_records(events: Iterable[Event], first: int, time: datetime, mono: int) -> bytes:
    """Write a line for each of several events that are recorded at the same time."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    when = time.isoformat(timespec="microseconds")[:-6]
    # Written without json.dumps, in the order of the keys: this runs for every file served.
    lines = [
        f'{{"detail":{_json_detail(event.detail)},"event":{_json_string(event.event)},'
        f'"from":{_json_string(_valid_unicode(event.origin))},"mono":{mono},'
        f'"outcome":{_json_string(event.outcome)},"seq":{seq},"time":"{when}Z",'
        f'"what":{_json_string(_valid_unicode(event.what))},"who":{_json_string(_valid_unicode(event.who))}}}\n'
        for seq, event in enumerate(events, first)
    ]
    return "".join(lines).encode()


def _json_detail(detail: Mapping[str, Value]) -> str:
    # If a name is not ASCII, the canonical order is not that of `sorted` (RFC 8785 3.2.3).
    if not "".join(detail).isascii():
        raise ValueError(f"{list(detail)!r}: the names in a record must be ASCII")
    written = [f"{_json_string(key)}:{_json_value(detail[key])}" for key in sorted(detail)]
    return f"{{{','.join(written)}}}"


def _json_value(value: Value) -> str:
    if isinstance(value, str):
        return _json_string(_valid_unicode(value))
    if not _is_value(value):
        raise ValueError(f"{value!r} cannot be written to a record")
    if isinstance(value, list):
        return f"[{','.join([_json_string(_valid_unicode(item)) for item in value])}]"
    return _CONSTANTS[value] if value is None or isinstance(value, bool) else str(value)


def _valid_unicode(value: str) -> str:
    # Bytes that are not UTF-8 arrive as lone surrogates, which canonical JSON does not allow.
    return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()


def parse_record(line: bytes) -> Record:
    """Read one line; ValueError for anything that `format_record` would not have written."""
    try:
        data = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(data, dict) or set(data) != _FIELDS:
        raise ValueError("not a record of a ledger")
    counts = (data["seq"], data["mono"])
    if not all(type(value) is int and 0 <= value < _MAX_INTEGER for value in counts):
        raise ValueError("seq and mono must be integers from 0 to 2**53")
    if not all(isinstance(data[key], str) for key in _FIELDS - {"seq", "mono", "detail"}):
        raise ValueError("time, event, who, from, what and outcome must be strings")
    if not isinstance(data["detail"], dict) or not all(map(_is_value, data["detail"].values())):
        raise ValueError("detail must hold strings, integers, booleans, null or lists of strings")
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
    """Return a line's number without parsing the rest; -1 for a line that has none.

    In canonical form `seq` comes after `detail`, and no string after it contains a bare quote, so
    the last `"seq":` in the line is the right one.
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
