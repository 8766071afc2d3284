"""A record for the eye."""

from keys.record import Record


def line(record: Record) -> str:
    """Write time, number, outcome, event, who, from, what, detail on one line."""
    event = record.event
    detail = " ".join(f"{k}={v}" for k, v in sorted(event.detail.items()))
    stamp = record.time.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")
    text = (
        f"{stamp} #{record.seq} {event.outcome:7} {event.event:18} "
        f"{event.who or '-'} {event.origin or '-'} {event.what or '-'} {detail}"
    )
    # A name that a client made up must not move the reader's cursor.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
