"""Formats a record as one line of text for a terminal."""

from collections.abc import Mapping

from config import times
from config.event import Value
from keys.ledger.record import Record

CHANGE_KEYS = ("why", "before", "after", "reason")


def format_record_line(record: Record) -> str:
    """Return time, number, outcome, event, who, from, what and detail on one line.

    In the record of a change (keys/operations/change_record) the detail starts with why, before
    and after, and the reason if the change was refused.
    """
    event = record.event
    detail = " ".join(f"{key}={format_value(value)}" for key, value in ordered_detail(event.detail))
    stamp = times.format_time(record.time, microseconds=True)
    text = (
        f"{stamp} #{record.seq} {event.outcome:7} {event.event:18} "
        f"{event.who or '-'} {event.origin or '-'} {event.what or '-'} {detail}"
    )
    # A client chooses its user name: control characters in it must not reach the terminal.
    return printable(text)


def printable(text: str) -> str:
    r"""Return `text` with every character that is not printable escaped, such as \x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def ordered_detail(detail: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return the detail of a record in the order in which it is shown."""
    first = CHANGE_KEYS if "why" in detail else ()
    rest = sorted(key for key in detail if key not in first)
    return [(key, detail[key]) for key in (*first, *rest) if key in detail]


def format_value(value: Value) -> str:
    """Format one value of a detail; a text that contains spaces is put in quotes."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)
