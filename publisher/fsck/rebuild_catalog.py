"""Rebuilds the catalog from the filing ledger, the operations ledger, the store and the trees.

The new catalog is written beside the old one and then put in its place
(publisher/fsck/rebuilt_file). No publisher may run.

    arrival, filing, tally, total       one row for each record of the filing ledger
    extract, pixels                     from the same records
    absence, ruling (reviews)           from the same ledger
    naming (identifications), rescan    from the requests in the operations ledger
    party, gap                          from the trees: a filing that a tree does not show is a gap
    left_behind                         sources that are still in the intake, with the same stamp

What no ledger holds differs from the lost catalog:

- `arrival.evidence` has no readings (the record has `evidence`), and `arrival.source` names the
  first intake folder. `naming.named_at` is the time of the request.
- `form` is empty: how far print reaches on a form is learned again from the next pages.
- Arrivals that had no record yet are not there. Their files are in the spool, and the publisher's
  next start files them as new arrivals.
- Of records of earlier versions, which lack `filed_at`, `decided_at`, `stamp`, `source_stamp`,
  `pixels`, `why` and `ruled_at`: the filing time is the mtime of the original, the other times are
  those of the record, the rest is empty, and left_behind has no such source.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from config import layout, times
from config.event import FilingEvent, Outcome
from config.fault import Fault, Faults
from config.party import Party
from config.settings import Settings
from config.site import (
    CATALOG,
    COVERAGE_CACHE,
    FILING,
    LEDGERS,
    OPERATIONS,
    QUARANTINE,
    TREES,
    original_file,
)
from keys.ledger.record import Record
from keys.operations.change_record import ASKED
from publisher.catalog import catalog
from publisher.catalog import tables as t
from publisher.catalog.catalog import Catalog, sheet_columns
from publisher.catalog.decisions import absences, rescans, review
from publisher.catalog.decisions.rescans import Rescan
from publisher.catalog.decisions.review import Identification, Review
from publisher.catalog.rows import as_arrival
from publisher.election import terms
from publisher.fsck import rebuilt_file
from publisher.intake import spool
from publisher.page import arrival_time
from publisher.source import Source, status
from publisher.store.quarantine import parse_note

ADVICE = "run `ssps audit verify`"
_RESCAN = "desk rescan"
# What may leave an identification; an account that rejects what another has identified does.
_IDENTIFY = frozenset(("desk identify", "desk reject", "desk rule"))
_NO_STAMP = "0:0:0"
_PERSON = ("identified_by", "identifies", "confirmations", "errand", "why", "ruled_at")
_ARRIVALS = frozenset(
    (FilingEvent.FILED, FilingEvent.DUPLICATE, FilingEvent.QUARANTINED, FilingEvent.SPLIT)
)

Progress = Callable[[int], None]


class Rebuilt(NamedTuple):
    """How many rows of each kind a rebuilt catalog has."""

    filings: int
    arrivals: int
    absences: int
    reviews: int
    identifications: int
    gaps: int

    def lines(self) -> list[str]:
        """Return one line for each number."""
        return [f"{name}: {number}" for name, number in self._asdict().items()]


def build(settings: Settings, progress: Progress = lambda done: None) -> Rebuilt:
    """Write a new catalog beside the old one; raise Faults if a record cannot be read.

    The caller holds the filing ledger, so that no publisher runs.
    """
    path = rebuilt_file.clear(settings.site / CATALOG)
    with Catalog(sa.URL.create("sqlite", database=str(path))) as new:
        _Rebuild(settings, new.connection).all(progress)
        new.commit()
        return summary(new.connection)


def fill_decisions(settings: Settings, connection: sa.Connection) -> set[str]:
    """Fill the tables of absences, reviews, identifications and rescans from the ledgers.

    Returns the files whose review is in a record of an earlier version, which does not say why and
    when. Raises Faults if a record makes no row.
    """
    rebuilding = _Rebuild(settings, connection)
    vague = set()
    for record in rebuilding.records():
        event, detail = record.event, record.event.detail
        if event.event not in _ARRIVALS:
            rebuilding.take(record)
        elif event.event == FilingEvent.FILED and "identifies" in detail:
            with _named(FILING, record):
                rebuilding.review(record)
            if "ruled_at" not in detail:
                vague.add(str(detail["identifies"]))
    rebuilding.identifications()
    return vague


def summary(connection: sa.Connection) -> Rebuilt:
    """Count the rows of a catalog."""
    tables = (t.filing, t.arrival, t.absence, t.review, t.identification, t.gap)
    counted = (connection.scalar(sa.select(sa.func.count()).select_from(one)) for one in tables)
    return Rebuilt(*(number or 0 for number in counted))


def put_in_place(site: Path, step: Callable[[str], None] = lambda step: None) -> None:
    """Replace the catalog by the one that `build` has written; `step` is called after each step."""
    (site / COVERAGE_CACHE).unlink(missing_ok=True)  # counts of the old one
    rebuilt_file.put_in_place(catalog.url(site), site / CATALOG, "catalog", t.METADATA, step)


class _Rebuild:
    """Fills an empty catalog."""

    def __init__(self, settings: Settings, connection: sa.Connection) -> None:
        self._settings = settings
        self._site = settings.site
        self._connection = connection
        self._split: dict[str, tuple[str, int]] = {}  # arrival and filing time, by digest

    def all(self, progress: Progress) -> None:
        for record in self.records():
            self.take(record)
            progress(record.seq)
        self.identifications()
        self._totals()
        for party in self._settings.parties:
            if party.mirrors:
                self._tree(party)
        self._left_behind()

    def records(self) -> Iterator[Record]:
        """Yield the records of the filing ledger; raise Faults if one is damaged."""
        yield from _records(self._site, FILING)

    def take(self, record: Record) -> None:
        """Make the rows of a record; raise Faults if it makes none."""
        with _named(FILING, record):
            self._take(record)

    def _take(self, record: Record) -> None:
        event = record.event
        if event.event in _ARRIVALS:
            self._arrival(record)
            if event.event == FilingEvent.FILED:
                self._filing(record)
        else:
            absences.apply_record(self._connection, record)
            review.apply_record(self._connection, record)

    def _arrival(self, record: Record) -> None:
        event, detail = record.event, record.event.detail
        identity = str(detail["page"])
        known = self._connection.scalar(sa.select(t.arrival.c.id).where(t.arrival.c.id == identity))
        if known is not None:  # another sheet of the same file
            update = sa.update(t.arrival).where(t.arrival.c.id == identity)
            self._connection.execute(update.values(seq=record.seq))
            return
        what = event.what
        if event.event == FilingEvent.QUARANTINED:
            what = what.removeprefix(f"{QUARANTINE}/")
        try:
            received_at = received_at_of(identity)
        except ValueError:
            received_at = _when(record.time)
        row = {
            "id": identity,
            "name": event.origin,
            "source": bytes(self._source(event.origin)),
            "source_stamp": detail.get("source_stamp", _NO_STAMP),
            "received_at": received_at,
            "state": event.event,
            "outcome": event.event,
            "stamp": detail.get("stamp", _NO_STAMP),
            "sha256": detail.get("sha256"),
            "reason": detail.get("reason"),
            "what": what,
            "evidence": json.dumps(self._evidence(record)),
            "decided_at": detail.get("decided_at") or _when(record.time),
            "seq": record.seq,
        }
        self._connection.execute(sa.insert(t.arrival), [row])
        if event.event == FilingEvent.SPLIT:
            digest = str(detail["sha256"])
            self._split[digest] = identity, self._filed_at(record)
        elif "original" in detail:
            whole, kept_at = self._split[str(detail["original"])]
            extract = {
                "arrival": identity,
                "whole": whole,
                "number": detail["original_page"],
                "original": detail["original"],
                "kept_at": kept_at,
            }
            self._connection.execute(sa.insert(t.extract), [extract])

    def _source(self, name: str) -> Source:
        """Return the place of a file in the intake: where it still is, or the first folder."""
        sources = [Source(str(folder), name) for folder in self._settings.intake.folders]
        for source in sources:
            with suppress(OSError):
                status(source)
                return source
        return sources[0] if sources else Source("", name)

    def _filing(self, record: Record) -> None:
        event, detail = record.event, record.event.detail
        row = {
            **sheet_columns(layout.parse(event.what).sheet),
            "arrival": detail["page"],
            "frame": detail.get("frame", 1),
            "version": detail.get("version", 1),
            "karekod": detail["karekod"],
            "sha256": detail["sha256"],
            "path": event.what,
            "filed_at": self._filed_at(record),
            "seq": record.seq,
        }
        self._connection.execute(sa.insert(t.filing), [row])
        if "pixels" in detail and detail.get("frame", 1) == self._first_frame(str(row["sha256"])):
            pixels = {"sha256": row["sha256"], "digest": detail["pixels"]}
            self._connection.execute(sa.insert(t.pixels), [pixels])
        if "identifies" in detail:
            self.review(record)

    def review(self, record: Record) -> None:
        """Make the review of a file that operators identified, from the record of its page."""
        detail = record.event.detail
        named = detail.get("identified_by")
        who = " ".join(map(str, named)) if isinstance(named, list) else ""
        why, at = str(detail.get("why", "")), str(detail.get("ruled_at", ""))
        at = at or record.time.isoformat(timespec="seconds")
        filed = Review(str(detail["errand"]), review.FILED, who, why, at)
        review.add_review(self._connection, str(detail["identifies"]), filed, str(detail["page"]))

    def _first_frame(self, sha256: str) -> int | None:
        query = sa.select(sa.func.min(t.filing.c.frame)).where(t.filing.c.sha256 == sha256)
        found: int | None = self._connection.scalar(query)
        return found

    def _filed_at(self, record: Record) -> int:
        stated = record.event.detail.get("filed_at")
        if isinstance(stated, int):
            return stated
        with suppress(OSError):
            return int(
                (self._site / original_file(str(record.event.detail["sha256"]))).stat().st_mtime
            )
        return int(record.time.timestamp())

    def _evidence(self, record: Record) -> dict[str, Any]:
        event, detail = record.event, record.event.detail
        found: dict[str, Any] = {
            "texts": [],
            "ms": detail.get("ms", 0),
            "format": None,
            "frames": detail.get("frames", 1),
            "readings": [],
        }
        match event.event:
            case FilingEvent.FILED:
                person = {name: detail[name] for name in _PERSON if name in detail}
                found |= {"witnesses": detail.get("witnesses_asked", 0), "person": person}
            case FilingEvent.DUPLICATE:
                found["texts"] = str(detail.get("karekod", "")).split()
            case FilingEvent.SPLIT:
                found["extracts"] = detail["extracts"]
            case FilingEvent.QUARANTINED:
                with suppress(OSError, ValueError):
                    note = parse_note((self._site / f"{event.what}.json").read_bytes())
                    found |= {"texts": list(note.texts), "frames": note.frames}
        if "pixels" in detail:
            found["pixels"] = detail["pixels"]
        return found

    def identifications(self) -> None:
        """Take up the identifications of files that are not filed yet, and whose request was ok."""
        asked: dict[object, Record] = {}
        for record in _records(self._site, OPERATIONS):
            event, detail = record.event, record.event.detail
            if event.event == ASKED and detail.get("command") in {*_IDENTIFY, _RESCAN}:
                asked[detail.get("errand")] = record
            elif event.event in {*_IDENTIFY, _RESCAN} and event.outcome is Outcome.OK:
                request = asked.pop(detail.get("errand"), None)
                if request is None:
                    continue
                with _named(OPERATIONS, request):
                    if event.event == _RESCAN:
                        self._rescan(request)
                    elif (
                        event.event == "desk identify" or detail.get("cause") == review.CONTRADICTED
                    ):
                        self._identification(request)

    def _identification(self, request: Record) -> None:
        event, detail = request.event, request.event.detail
        file = str(detail.get("file"))
        reviewed = review.review_of(self._connection, file)
        if reviewed is not None and (
            reviewed.outcome == review.FILED or _after(reviewed, request.time)
        ):
            return
        named = Identification(
            event.who,
            str(detail["errand"]),
            review.parse_sheets(str(detail["sheets"]).split()) if detail.get("sheets") else (),
            str(detail.get("why", "")),
            request.time.isoformat(timespec="seconds"),
        )
        review.add_identification(self._connection, file, named)

    def _rescan(self, request: Record) -> None:
        event, detail = request.event, request.event.detail
        asked = Rescan(
            file=str(detail.get("file")),
            id=str(detail["errand"]),
            who=event.who,
            why=str(detail.get("why", "")),
            cevre=str(detail.get("cevre", "")),
            kurul=str(detail.get("kurul", "")),
            karekod=str(detail.get("karekod", "")),
            asked_at=request.time.isoformat(timespec="seconds"),
        )
        rescans.add(self._connection, asked)

    def _totals(self) -> None:
        filing, arrival = t.filing.c, t.arrival.c
        kind = [filing[name] for name in ("cevre", "kurul", "secim", "belge")]
        counted = sa.select(*kind, sa.func.count()).where(filing.version == 1).group_by(*kind)
        names = [column.name for column in kind]
        self._connection.execute(sa.insert(t.tally).from_select([*names, "number"], counted))
        numbers = {
            catalog.FILED: sa.select(sa.func.count()).where(filing.version == 1),
            catalog.VERSIONS: sa.select(sa.func.count()).where(filing.version > 1),
        }
        for outcome in (catalog.DUPLICATE, catalog.QUARANTINED, catalog.SPLIT):
            numbers[outcome] = sa.select(sa.func.count()).where(arrival.outcome == outcome)
        for name, query in numbers.items():
            number = self._connection.scalar(query)
            update = sa.update(t.total).where(t.total.c.name == name).values(number=number)
            self._connection.execute(update)

    def _tree(self, party: Party) -> None:
        """Note the filings that a tree does not show, and that it is complete but for them."""
        tree = self._site / TREES / party.id
        if not tree.is_dir():
            return  # the publisher's next start fills it
        missing = []
        for filed in catalog.filings(self._connection):
            if party.scope.covers(layout.parse(filed.path).sheet):
                with suppress(OSError):
                    original = os.lstat(self._site / original_file(filed.sha256))
                    if os.path.samestat(os.lstat(tree / filed.path), original):
                        continue
                missing.append({"party": party.id, "filing": filed.id})
        if missing:
            self._connection.execute(sa.insert(t.gap), missing)
        self._connection.execute(sa.insert(t.party).values(id=party.id, scope=str(party.scope)))

    def _left_behind(self) -> None:
        stamped = t.arrival.c.source_stamp != _NO_STAMP
        left = [
            arrival
            for arrival in map(
                as_arrival, self._connection.execute(sa.select(t.arrival).where(stamped))
            )
            if spool.is_source_unchanged(arrival)
        ]
        rows = {bytes(one.source): str(one.stamp) for one in left}
        if rows:
            self._connection.execute(
                sa.insert(t.left_behind),
                [{"source": source, "stamp": stamp} for source, stamp in rows.items()],
            )


def _records(site: Path, ledger: str) -> Iterator[Record]:
    """Yield the records of a kind of ledger in order; raise Faults if one is damaged."""
    try:
        yield from terms.records(site, terms.scan(site, ledger))
    except ValueError as error:
        raise Faults([Fault(str(LEDGERS / ledger), "", f"{error}: {ADVICE}")]) from error


@contextmanager
def _named(ledger: str, record: Record) -> Iterator[None]:
    """Raise Faults that name the record if it makes no row."""
    try:
        yield
    except (KeyError, TypeError, ValueError, sa.exc.IntegrityError) as error:
        cause = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
        wrong = f"number {record.seq} makes no row ({cause}): {ADVICE}"
        raise Faults([Fault(str(LEDGERS / ledger), "", wrong)]) from error


def _after(reviewed: Review, when: datetime) -> bool:
    return datetime.fromisoformat(reviewed.ruled_at) >= when.replace(microsecond=0)


def received_at_of(identity: str) -> str:
    """Return the time in the id of an arrival; ValueError if there is none."""
    found = arrival_time(identity)
    if found is None:
        raise ValueError(f"{identity!r} is no id of an arrival")
    return _when(found)


def _when(moment: datetime) -> str:
    return times.format_stored(moment)
