"""Compares the rows of the catalog with the filing ledger, field by field.

The ledger is the record, and the catalog is what the publisher derived from it or wrote beside it.
Each record of a filed page, a duplicate, a quarantined page or a split file has one row, and each
field that both have must be the same:

    record                  filing                                    arrival
    event, from             -                                         outcome, name
    what                    path, and the sheet that it names         what (except of a filed page)
    page, frame             arrival, frame                            id
    sha256                  sha256                                    sha256
    karekod, version        karekod, version                          -
    reason                  -                                         reason
    its number              seq                                       seq (of the last record)

Records of newer versions also have `filed_at` of a filing, and `decided_at`, `source_stamp` and
`stamp` of an arrival; the time in an arrival's id is when it was received. The page of a file that
was split has its number and its file in `extract`, and `pixels` of a record are in that table.

The totals, which `ssps status` shows without counting, must be the same as a count of the rows.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from config import layout
from config.event import FilingEvent
from config.site import CATALOG, QUARANTINE
from keys.ledger.record import Record
from publisher.database import Reader
from publisher.fsck.finding import Finding
from publisher.fsck.rebuild_catalog import received_at_of

_ADVICE = "the ledger is the record: restore the catalog from a backup"
_FILING = """
SELECT f.arrival, f.frame, f.secim, f.belge, f.cevre, f.kurul, f.sandik, f.page, f.version,
    f.karekod, f.sha256, f.path, f.filed_at, a.id, a.name, a.sha256, a.outcome, a.state, a.reason,
    a.source_stamp, a.stamp, a.decided_at, a.received_at,
    (SELECT path FROM filing WHERE arrival = f.arrival AND path = a.what),
    a.what, a.seq, (SELECT max(seq) FROM filing WHERE arrival = f.arrival),
    (SELECT count(*) FROM filing WHERE arrival = f.arrival AND seq IS NULL)
FROM filing f LEFT JOIN arrival a ON a.id = f.arrival WHERE f.seq = ?
"""
_FILING_FIELDS = (
    "arrival", "frame", "secim", "belge", "cevre", "kurul", "sandik", "page", "version",
    "karekod", "sha256", "path", "filed_at", "arrival.id", "arrival.name", "arrival.sha256",
    "arrival.outcome", "arrival.state", "arrival.reason", "arrival.source_stamp", "arrival.stamp",
    "arrival.decided_at", "arrival.received_at", "a path of the arrival", "arrival.what",
)  # fmt: skip
_ARRIVAL_FIELDS = (
    "id", "name", "sha256", "outcome", "state", "what", "reason", "source_stamp", "stamp",
    "decided_at", "received_at",
)  # fmt: skip
_ARRIVAL = f"SELECT {', '.join(_ARRIVAL_FIELDS)} FROM arrival WHERE seq = ?"
_EXTRACT = """
SELECT e.number, e.original, a.sha256, a.outcome
FROM extract e LEFT JOIN arrival a ON a.id = e.whole WHERE e.arrival = ?
"""
_EXTRACT_FIELDS = ("number", "original", "whole", "outcome of the whole")
_KEPT = "SELECT DISTINCT kept_at FROM extract WHERE whole = ? AND kept_at <> ?"
_PIXELS = """
SELECT digest, (SELECT min(frame) FROM filing WHERE sha256 = pixels.sha256)
FROM pixels WHERE sha256 = ?
"""
_TOTALS = """
SELECT 'total of ' || name, number, counted FROM (SELECT t.name, t.number, CASE t.name
    WHEN 'filed' THEN (SELECT count(*) FROM filing WHERE seq IS NOT NULL AND version = 1)
    WHEN 'versions' THEN (SELECT count(*) FROM filing WHERE seq IS NOT NULL AND version > 1)
    ELSE (SELECT count(*) FROM arrival WHERE seq IS NOT NULL AND outcome = t.name) END AS counted
FROM total t) AS counts WHERE number IS DISTINCT FROM counted
"""
_NAMES_OF_TOTALS = ("filed", "versions", "duplicate", "quarantined")
_COUNTED_TALLY = """
SELECT cevre, kurul, secim, belge, count(*) AS number FROM filing
WHERE seq IS NOT NULL AND version = 1 GROUP BY cevre, kurul, secim, belge
"""
_TALLY = f"""
SELECT 'tally of ' || c.cevre || ' ' || c.kurul || ' ' || c.secim || ' ' || c.belge,
    t.number, c.number
FROM ({_COUNTED_TALLY}) c LEFT JOIN tally t USING (cevre, kurul, secim, belge)
WHERE t.number IS DISTINCT FROM c.number
UNION ALL
SELECT 'tally of ' || t.cevre || ' ' || t.kurul || ' ' || t.secim || ' ' || t.belge, t.number, 0
FROM tally t LEFT JOIN ({_COUNTED_TALLY}) c USING (cevre, kurul, secim, belge)
WHERE c.number IS NULL AND t.number <> 0
"""


def compare_record(live: Reader, record: Record) -> Iterator[Finding]:
    """Yield the differences between a record and its row."""
    event = record.event
    if event.event == FilingEvent.FILED:
        yield from _compare_filing(live, record)
    elif event.event in (FilingEvent.DUPLICATE, FilingEvent.QUARANTINED, FilingEvent.SPLIT):
        what = event.what.removeprefix(f"{QUARANTINE}/")
        wanted: dict[str, object] = {
            "id": event.detail.get("page"),
            "name": event.origin,
            "sha256": event.detail.get("sha256"),
            "outcome": event.event,
            "what": what if event.event == FilingEvent.QUARANTINED else event.what,
            "reason": event.detail.get("reason"),
            **_written_since(event.detail, ""),
        }
        wanted["state"] = event.event
        row = live.execute(_ARRIVAL, (record.seq,)).fetchone()
        if row is None:
            yield _lost(record.seq, "arrival")
        else:
            found = dict(zip(_ARRIVAL_FIELDS, row, strict=True))
            yield from _differences(record.seq, wanted, found)
    yield from _compare_parts(live, record)


def _compare_parts(live: Reader, record: Record) -> Iterator[Finding]:
    """Yield the differences of the rows in `extract` and `pixels` that come from a record."""
    event, detail = record.event, record.event.detail
    if "original" in detail:
        row = live.execute(_EXTRACT, (detail.get("page"),)).fetchone()
        if row is None:
            yield _lost(record.seq, "extract")
        else:
            original = detail["original"]
            values = (detail.get("original_page"), original, original, "split")
            names = [f"extract.{name}" for name in _EXTRACT_FIELDS]
            wanted: dict[str, object] = dict(zip(names, values, strict=True))
            yield from _differences(record.seq, wanted, dict(zip(names, row, strict=True)))
    if event.event == FilingEvent.SPLIT and "filed_at" in detail:
        for (kept_at,) in live.execute(_KEPT, (detail.get("page"), detail["filed_at"])):
            text = f"number {record.seq} has extract.kept_at {kept_at}, but the filing ledger"
            yield Finding(str(CATALOG), f"{text} {detail['filed_at']}", _ADVICE)
    if event.event == FilingEvent.FILED and "pixels" in detail:
        row = live.execute(_PIXELS, (detail.get("sha256"),)).fetchone()
        if row is None:
            yield _lost(record.seq, "pixels")
        elif row[1] == detail.get("frame", 1):
            found = {"pixels": row[0]}
            yield from _differences(record.seq, {"pixels": detail["pixels"]}, found)


def has_same(live: Reader, record: Record) -> bool:
    """Return whether the catalog has what a late record of a former leader says of a page."""
    event, detail = record.event, record.event.detail
    values: tuple[object, ...]
    if event.event == FilingEvent.FILED:
        query = "SELECT 1 FROM filing WHERE arrival = ? AND frame = ? AND path = ? AND sha256 = ?"
        values = (detail.get("page"), detail.get("frame", 1), event.what, detail.get("sha256"))
    else:
        query = "SELECT 1 FROM arrival WHERE id = ? AND outcome = ? AND what = ?"
        what = event.what.removeprefix(f"{QUARANTINE}/")
        held = event.event == FilingEvent.QUARANTINED
        values = (detail.get("page"), event.event, what if held else event.what)
    return live.execute(query, values).fetchone() is not None


def is_unfinished(live: Reader, record: Record) -> bool:
    """Return whether the publisher was killed after this record; its next start updates the row."""
    query = "SELECT 1 FROM arrival WHERE id = ? AND seq IS NULL"
    return live.execute(query, (record.event.detail.get("page"),)).fetchone() is not None


def _compare_filing(live: Reader, record: Record) -> Iterator[Finding]:
    row = live.execute(_FILING, (record.seq,)).fetchone()
    if row is None:
        yield _lost(record.seq, "filing")
        return
    *fields, arrival_seq, last_seq, unrecorded = row
    found = dict(zip(_FILING_FIELDS, fields, strict=True))
    detail = record.event.detail
    wanted: dict[str, object] = {
        "arrival": detail.get("page"),
        "frame": detail.get("frame", 1),
        "karekod": detail.get("karekod"),
        "version": detail.get("version", 1),
        "sha256": detail.get("sha256"),
        "path": record.event.what,
        "arrival.id": detail.get("page"),
        "arrival.name": record.event.origin,
        "arrival.sha256": detail.get("sha256"),
        "arrival.outcome": "filed",
        "arrival.state": "filed",
        "arrival.reason": None,
        "a path of the arrival": found["arrival.what"],
        **_written_since(detail, "arrival."),
    }
    if "filed_at" in detail:
        wanted["filed_at"] = detail["filed_at"]
    # A malformed path names no sheet; it differs from the path in the row, which is compared
    # anyway.
    with suppress(ValueError):
        sheet = layout.parse(record.event.what).sheet
        wanted |= {
            "secim": str(sheet.secim),
            "belge": str(sheet.belge),
            "cevre": sheet.cevre or "",
            "kurul": sheet.kurul or "",
            "sandik": sheet.sandik or "",
            "page": sheet.page,
        }
    yield from _differences(record.seq, wanted, found)
    if found["arrival.id"] is not None and not unrecorded and arrival_seq != last_seq:
        text = f"has number {arrival_seq} for arrival {found['arrival.id']}"
        yield Finding(str(CATALOG), f"{text}, its last record is {last_seq}", _ADVICE)


def _written_since(detail: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Return the fields of an arrival that only the records of newer versions have."""
    found = {
        prefix + name: detail[name]
        for name in ("source_stamp", "stamp", "decided_at")
        if name in detail
    }
    if found:
        with suppress(ValueError):
            found[f"{prefix}received_at"] = received_at_of(str(detail.get("page")))
    return found


def compare_totals(live: Reader) -> Iterator[Finding]:
    """Yield the totals that differ from a count of the rows."""
    known = {name for (name,) in live.execute("SELECT name FROM total")}
    for name in sorted({*_NAMES_OF_TOTALS} - known):
        yield Finding(str(CATALOG), f"lacks the total of {name}", _ADVICE)
    for query in (_TOTALS, _TALLY):
        for name, stated, counted in live.execute(query):
            problem = f"{name} is {stated}, but the rows add up to {counted}"
            yield Finding(str(CATALOG), problem, _ADVICE)


def _differences(
    seq: int, wanted: dict[str, object], found: dict[str, object]
) -> Iterator[Finding]:
    for name, value in wanted.items():
        if found[name] != value:
            problem = f"number {seq} has {name} {found[name]}, but the filing ledger {value}"
            yield Finding(str(CATALOG), problem, _ADVICE)


def _lost(seq: int, table: str) -> Finding:
    return Finding(str(CATALOG), f"lacks the {table} of number {seq}", _ADVICE)
