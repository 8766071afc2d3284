"""A record for the eye."""

from collections.abc import Mapping

from config.event import Value
from keys.ledger.record import Record


def format_record_line(record: Record) -> str:
    """Write time, number, outcome, event, who, from, what, detail on one line.

    Of a change (keys/operations/change_record) why comes first, then before and after, and why it
    was not made.
    """
    event = record.event
    detail = " ".join(f"{key}={format_value(value)}" for key, value in ordered_detail(event.detail))
    stamp = record.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
    text = (
        f"{stamp} #{record.seq} {event.outcome:7} {event.event:18} "
        f"{event.who or '-'} {event.origin or '-'} {event.what or '-'} {detail}"
    )
    # A name that a client made up must not move the reader's cursor.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


CHANGE_KEYS = ("why", "before", "after", "reason")


def ordered_detail(detail: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return what a record says, in the order it is read in."""
    first = CHANGE_KEYS if "why" in detail else ()
    rest = sorted(key for key in detail if key not in first)
    return [(key, detail[key]) for key in (*first, *rest) if key in detail]


def format_value(value: Value) -> str:
    """Write one value of a detail; what has spaces in it stands in quotes."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)
