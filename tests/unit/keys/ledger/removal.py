from pathlib import Path

from config.event import Event, Value
from keys.ledger import segments
from keys.ledger.writer import Ledger


def remove_oldest_segment(folder: Path) -> int:
    """Remove a segment as versions with `ledger.keep_days` did; return how many records it had.

    They wrote a `removed` record, then deleted the lines and left their hashes.
    """
    oldest, following, *_ = segments.list_segments(folder)
    records = following.first - oldest.first
    detail: dict[str, Value] = {
        "first": oldest.first,
        "records": records,
        "bytes": oldest.path.stat().st_size,
        "reason": "older than 30 days",
    }
    with Ledger(folder) as ledger:
        ledger.append(Event("removed", folder.name, "", oldest.path.name, detail=detail))
    oldest.path.unlink()
    return records
