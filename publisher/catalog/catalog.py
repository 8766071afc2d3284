"""Keeps what arrived and what became of it: `state/catalog.sqlite`, or the schema of PostgreSQL.

An arrival is one file. It goes through these states, each committed before the next step begins:

    received     the row is written; the file is still in the intake
    claimed      the file is in the spool
    stored       decided: it will be filed; the original is in the store, the version is assigned
    read         decided: it is a duplicate, it will be quarantined, or it is split
    filed, duplicate, quarantined, split   done; the filing ledger has it under number `seq`

A file that shows several sheets is one arrival with one filing for each sheet, and each filing has
its own ledger record. When all of them are recorded, the arrival's state is `filed` and its `seq`
is the last of their numbers.

After a crash nothing has to be guessed. An arrival that is not yet `stored` or `read` is decided
again. From then on its row says what is left to do, and doing it twice is harmless. A filing counts
once it has its `seq`.

This module has everything that the publisher writes and asks; publisher/catalog/statements has the
SQL that each page needs. All statements work on both databases (publisher/database). Other
processes only read (publisher/catalog/queries/counts).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from config import layout, times
from config.event import Value
from config.registry import is_karekod
from config.sheet import Belge, Sheet
from config.site import CATALOG, QUARANTINE, original_file
from publisher.catalog import arrays, statements
from publisher.catalog import tables as t
from publisher.catalog.forms import Extents, UsualExtent
from publisher.catalog.print_maps import PrintMaps
from publisher.catalog.rows import (
    ArrivalState,
    Original,
    UnrecordedDecision,
    as_arrival,
    as_arrival_state,
    as_unrecorded_decision,
)
from publisher.catalog.tables import CLAIMED, READ, RECEIVED, STORED
from publisher.catalog.unwritten import Unwritten
from publisher.database import Database, location, writing_engine
from publisher.outcome import Duplicate, Filed, Lookup, Quarantined
from publisher.page import ID_LENGTH, Arrival, Page, Reason
from publisher.print_map import UsualPrint
from publisher.source import Source

FILED, DUPLICATE, QUARANTINED, SPLIT = "filed", "duplicate", "quarantined", "split"
VERSIONS = "versions"
_CHUNK = 1000


class Catalog(Database):
    """An open catalog."""

    def __init__(self, url: sa.URL) -> None:
        """Open the catalog at a database URL and create the tables that are missing."""
        super().__init__(writing_engine(url, t.METADATA))
        with self.closed_on_error():
            self._begin()

    def _begin(self) -> None:
        names = (FILED, VERSIONS, DUPLICATE, QUARANTINED, SPLIT)
        known = set(self._connection.scalars(sa.select(t.total.c.name)))
        if missing := [{"name": name, "number": 0} for name in names if name not in known]:
            self._connection.execute(sa.insert(t.total), missing)
        self.print_maps = PrintMaps(self._connection)
        self.extents = Extents(self._connection)
        self._unwritten = Unwritten(self._connection)
        # Of the pages that are decided now: digests of bytes and of pixels that nothing filed has.
        self._new_bytes: set[str] = set()
        self._new_pixels: set[str] = set()
        self._versions: dict[Sheet, int] = {}  # of sheets of these pages
        self.commit()

    @property
    def connection(self) -> sa.Connection:
        """The connection, for queries of other modules; they see everything that was added."""
        self._unwritten.write()
        return self._connection

    def commit(self, *, durable: bool = True) -> None:
        """Make all changes since the last commit durable, or only visible (Database.commit)."""
        self._unwritten.write()
        self.extents.write()
        super().commit(durable=durable)
        self._new_bytes, self._new_pixels, self._versions = set(), set(), {}

    # Arrivals.

    def add_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Add files that are about to be claimed."""
        rows = [
            {
                "id": arrival.id,
                "name": arrival.name,
                "source": bytes(arrival.source),
                "source_stamp": str(arrival.stamp),
                "received_at": _when(arrival.received_at),
                "state": RECEIVED,
            }
            for arrival in arrivals
        ]
        if rows:
            arrays.write_rows(self.connection, statements.ADD_ARRIVAL, rows)

    def mark_claimed(self, ids: Sequence[str]) -> None:
        """Set the state of arrivals that are in the spool now."""
        if ids:
            arrays.set_claimed(self.connection, ids)

    def remove_arrivals(self, ids: Sequence[str]) -> None:
        """Remove arrivals that could not be claimed; their files are still in the intake."""
        if not ids:
            return
        condition = t.arrival.c.id.in_(ids) & t.arrival.c.state.in_((RECEIVED, CLAIMED))
        self.connection.execute(sa.delete(t.arrival).where(condition))

    def undecided(self) -> list[tuple[Arrival, str]]:
        """Return the arrivals whose state is received or claimed, with that state, oldest first."""
        query = (
            sa.select(t.arrival)
            .where(t.arrival.c.seq.is_(None), t.arrival.c.state.in_((RECEIVED, CLAIMED)))
            .order_by(t.arrival.c.id)
        )
        return [(as_arrival(row), row.state) for row in self.connection.execute(query)]

    def note_left_behind(self, arrival: Arrival) -> None:
        """Note that a source was copied but could not be removed from the intake."""
        source = bytes(arrival.source)
        self.connection.execute(sa.delete(t.left_behind).where(t.left_behind.c.source == source))
        row = {"source": source, "stamp": str(arrival.stamp)}
        self.connection.execute(sa.insert(t.left_behind), [row])

    def left_behind(self) -> dict[bytes, str]:
        """Return the sources that could not be removed, with the stamps they were copied with."""
        rows = self.connection.execute(sa.select(t.left_behind))
        return {row.source: row.stamp for row in rows}

    def forget_left_behind(self, sources: Sequence[Source]) -> None:
        """Remove the note about sources that are not in the intake any more."""
        condition = t.left_behind.c.source == sa.bindparam("gone")
        rows = [{"gone": bytes(source)} for source in sources]
        if rows:
            self.connection.execute(sa.delete(t.left_behind).where(condition), rows)

    def arrival_state(self, arrival: str) -> ArrivalState | None:
        """Return an arrival and its progress, or None if there is no arrival with that id."""
        row = self.connection.execute(
            sa.select(t.arrival).where(t.arrival.c.id == arrival)
        ).one_or_none()
        return as_arrival_state(row) if row else None

    def arrival_states(self, arrivals: Sequence[str]) -> dict[str, ArrivalState]:
        """Return the same for many arrivals, by id; those that are not known are left out."""
        found: dict[str, ArrivalState] = {}
        for first in range(0, len(arrivals), _CHUNK):
            some = t.arrival.c.id.in_(arrivals[first : first + _CHUNK])
            rows = self.connection.execute(sa.select(t.arrival).where(some))
            found |= {row.id: as_arrival_state(row) for row in rows}
        return found

    # Facts that a decision needs (publisher/filing/decide).

    def look_up(self, pages: Sequence[Page], lookup: Lookup) -> None:
        """Ask at once about the bytes and pixels of pages that are decided before the next commit.

        Most are new, and then `path_of_bytes` and `path_of_pixels` need not ask again. In
        PostgreSQL, ask about the versions of their sheets as well.
        """
        found = []
        for query, digests in (
            (statements.FILED_DIGESTS, {page.sha256 for page in pages if page.sha256}),
            (statements.KNOWN_PIXELS, {page.result.pixels for page in pages if page.result.pixels}),
        ):
            found.append(digests - arrays.known(self.connection, query, digests))
        self._new_bytes, self._new_pixels = found
        if arrays.has_arrays(self._connection):
            texts = {text for page in pages for text in page.result.texts if is_karekod(text)}
            sheets = [entry.sheet for text in sorted(texts) if (entry := lookup(text))]
            numbers = arrays.versions(self._connection, [*map(sheet_columns, sheets)])
            self._versions = dict(zip(sheets, numbers, strict=True))

    def path_of_bytes(self, sha256: str) -> str | None:
        """Return the path at which these bytes are filed: the path of their first sheet."""
        if sha256 in self._new_bytes:
            return None
        if sha256 in self._unwritten.digests:
            self._unwritten.write()
        return self._connection.scalar(statements.PATH_OF_BYTES, {"sha256": sha256})

    def path_of_pixels(self, digest: str, sheet: Sheet) -> str | None:
        """Return the path at which a sheet is filed with the same pixels."""
        if digest in self._new_pixels:
            return None
        if digest in self._unwritten.pixels:
            self._unwritten.write()
        values = {"digest": digest, **sheet_columns(sheet)}
        return self._connection.scalar(statements.PATH_OF_PIXELS, values)

    def usual_extent(self, belge: Belge, copy: str) -> UsualExtent | None:
        """Return how far print reaches from one copy of the karekod on pages of a sheet type."""
        return self.extents.of(belge, copy)

    def usual_print(self, election: str, sheet: Sheet) -> UsualPrint | None:
        """Return where print usually is on pages like this sheet, None if that is not known."""
        return self.print_maps.of(election, sheet)

    def usual_prints(self, election: str) -> list[UsualPrint]:
        """Return where print usually is on the pages of every sheet type that is known."""
        return self.print_maps.every(election)

    def digest_at(self, path: str) -> str | None:
        """Return the digest of the original that is filed at a path."""
        return self.connection.scalar(sa.select(t.filing.c.sha256).where(t.filing.c.path == path))

    def quarantined_path(self, sha256: str, reason: Reason) -> str | None:
        """Return the path of the quarantined file with these bytes and this reason."""
        if sha256 in self._unwritten.digests:
            self._unwritten.write()
        values = {"sha256": sha256, "outcome": QUARANTINED, "reason": reason.value}
        found = self._connection.scalar(statements.QUARANTINED_FILE, values)
        return f"{QUARANTINE}/{found}" if found else None

    def latest_version(self, sheet: Sheet) -> int:
        """Return the number of the latest version of a sheet, 0 if none is filed."""
        if (known := self._versions.get(sheet)) is not None:
            return known
        if sheet in self._unwritten.sheets:
            self._unwritten.write()
        return self._connection.scalar(statements.LATEST_VERSION, sheet_columns(sheet)) or 0

    # Decisions.

    def add_filings(
        self,
        page: Page,
        filed: Filed,
        filed_at: int,
        now: datetime,
        person: Mapping[str, Value] = MappingProxyType({}),
    ) -> None:
        """Add one filing for each sheet of a file whose original is in the store.

        `filed_at` is the mtime of the original. `person` are fields for the ledger records if
        operators identified the file.
        """
        rows = [
            {
                **sheet_columns(one.entry.sheet),
                "arrival": page.arrival.id,
                "frame": one.frame,
                "version": one.version,
                "karekod": one.entry.karekod,
                "sha256": page.sha256,
                "path": one.path,
                "filed_at": filed_at,
            }
            for one in filed.sheets
        ]
        self._unwritten.add(statements.ADD_FILING, rows)
        for one in filed.sheets:
            self._unwritten.sheets.add(one.entry.sheet)
            self._versions.pop(one.entry.sheet, None)
        if page.result.pixels:
            row = {"sha256": page.sha256, "digest": page.result.pixels}
            self._unwritten.add(statements.ADD_PIXELS, [row])
            self._unwritten.pixels.add(page.result.pixels)
            self._new_pixels.discard(page.result.pixels)
        self._decide(
            page,
            now,
            state=STORED,
            outcome=FILED,
            what=filed.sheets[0].path,
            evidence={
                "witnesses": filed.needed_readings,
                "person": dict(person),
                **({"pixels": page.result.pixels} if page.result.pixels else {}),
            },
        )

    def add_unfiled(self, page: Page, decision: Duplicate | Quarantined, now: datetime) -> None:
        """Note the decision that a page is a duplicate or must be quarantined."""
        match decision:
            case Duplicate(of, pixels):
                evidence = {"pixels": pixels} if pixels else {}
                self._decide(page, now, state=READ, outcome=DUPLICATE, what=of, evidence=evidence)
            case Quarantined(reason):
                self._decide(
                    page,
                    now,
                    state=READ,
                    outcome=QUARANTINED,
                    what=page.arrival.file,
                    reason=reason.value,
                    evidence={},
                )

    def add_split(
        self, page: Page, pages: Sequence[Arrival], digests: Sequence[str], kept_at: int
    ) -> None:
        """Note that a file, whose original is in the store, is split into arrivals of a page each.

        `kept_at` is the mtime of the original, and `digests` are those of the pages.
        """
        assert page.sha256 is not None  # noqa: S101 - a file that was split has bytes
        self.add_arrivals(pages)
        self.mark_claimed([one.id for one in pages])
        rows = [
            {
                "arrival": one.id,
                "whole": page.arrival.id,
                "number": number,
                "original": page.sha256,
                "kept_at": kept_at,
            }
            for number, one in enumerate(pages, start=1)
        ]
        self.connection.execute(sa.insert(t.extract), rows)
        now = datetime.fromtimestamp(kept_at, UTC)
        what = str(original_file(page.sha256))
        evidence = {"extracts": list(digests)}
        self._decide(page, now, state=READ, outcome=SPLIT, what=what, evidence=evidence)

    def _decide(
        self,
        page: Page,
        now: datetime,
        evidence: dict[str, Any],
        *,
        state: str,
        outcome: str,
        what: str,
        reason: str | None = None,
    ) -> None:
        result = page.result
        evidence |= {
            "texts": result.texts,
            "ms": result.ms,
            "format": result.format,
            "frames": result.frames,
            "size": [result.width, result.height],
            "readings": [
                [r.text, r.engine, r.scan, r.ms, r.corners, r.frame] for r in result.readings
            ],
        }
        values = {
            "arrival_id": page.arrival.id,
            "sha256": page.sha256,
            "stamp": str(page.stamp),
            "decided_at": _when(now),
            "evidence": json.dumps(evidence),
            "state": state,
            "outcome": outcome,
            "what": what,
            "reason": reason,
        }
        self._unwritten.add(statements.SET_DECISION, [values])
        if page.sha256 is not None:
            self._unwritten.digests.add(page.sha256)
            self._new_bytes.discard(page.sha256)

    def unrecorded_decisions(self) -> list[UnrecordedDecision]:
        """Return the decisions that have no ledger record yet, oldest first.

        There is one for each filing, and one for each arrival that is not filed.
        """
        rows = self.connection.execute(statements.UNRECORDED_DECISIONS)
        return [as_unrecorded_decision(row) for row in rows]

    def mark_recorded(self, arrival: str, seq: int, frame: int = 1) -> bool:
        """Note that a decision was carried out and is in the ledger under `seq`.

        `frame` is the page that the record is about; it is 1 for a file that was not filed.
        Returns False if this was noted before, or if nothing was decided.
        """
        values: dict[str, str | int] = {"arrival_id": arrival, "number": seq}
        outcome = self.connection.scalar(statements.OUTCOME_OF_ARRIVAL, values)
        if outcome is None:
            return False
        total_name, unrecorded = outcome, 0
        if outcome == FILED:
            rows = {
                row.frame: row
                for row in self.connection.execute(statements.UNRECORDED_FILINGS, values)
            }
            if frame not in rows:
                return False
            self.connection.execute(statements.SET_FILING_SEQ, {**values, "of_frame": frame})
            if rows[frame].version == 1:
                kind = {name: getattr(rows[frame], name) for name in statements.TALLY_COLUMNS}
                self.connection.execute(statements.ADD_TO_TALLY, {**kind, "number": 1})
            else:
                total_name = VERSIONS
            unrecorded = len(rows) - 1
        if not unrecorded:
            self.connection.execute(statements.SET_ARRIVAL_DONE, {**values, "new_state": outcome})
        self.connection.execute(statements.ADD_TO_TOTAL, {"total_name": total_name, "more": 1})
        return True

    def mark_all_recorded(self, recorded: Iterable[tuple[UnrecordedDecision, int]]) -> None:
        """Note that all unrecorded decisions are in the ledger, each under its number.

        The same as `mark_recorded` for each of them, in a few statements for all.
        """
        filings, arrivals = [], {}
        totals: Counter[str] = Counter()
        tally: Counter[tuple[str | int, ...]] = Counter()
        for row, seq in recorded:
            done: dict[str, str | int] = {"arrival_id": row.arrival.id, "number": seq}
            total_name = row.outcome
            if row.filing is not None:
                filings.append({**done, "of_frame": row.filing.frame})
                columns = sheet_columns(layout.parse(row.filing.original.path).sheet)
                if row.filing.version == 1:
                    tally[tuple(columns[name] for name in statements.TALLY_COLUMNS)] += 1
                else:
                    total_name = VERSIONS
            arrivals[row.arrival.id] = {**done, "new_state": row.outcome}
            totals[total_name] += 1
        kinds = [
            {**dict(zip(statements.TALLY_COLUMNS, kind, strict=True)), "number": number}
            for kind, number in tally.items()
        ]
        counted = [{"total_name": name, "more": number} for name, number in totals.items()]
        for statement, values in (
            (statements.SET_FILING_SEQ, filings),
            (statements.SET_ARRIVAL_DONE, list(arrivals.values())),
            (statements.ADD_TO_TALLY, kinds),
            (statements.ADD_TO_TOTAL, counted),
        ):
            if values:
                arrays.write_rows(self.connection, statement, values)

    def next_seq(self) -> int:
        """Return the number after the highest one in the filing ledger that the catalog knows."""
        queries = (sa.select(sa.func.max(table.c.seq)) for table in (t.arrival, t.filing))
        highest = [self.connection.scalar(query) for query in queries]
        return max((seq + 1 for seq in highest if seq is not None), default=0)

    # Parties and their trees.

    def completed_trees(self) -> dict[str, str]:
        """Return the parties whose trees are complete, each with the scope, as text, it is for."""
        rows = self.connection.execute(sa.select(t.party.c.id, t.party.c.scope))
        return {row.id: row.scope for row in rows}

    def mark_tree_incomplete(self, party: str) -> None:
        """Note that a party's tree is not complete for any scope, and remove its gaps."""
        self.connection.execute(sa.delete(t.gap).where(t.gap.c.party == party))
        self.connection.execute(sa.delete(t.party).where(t.party.c.id == party))

    def mark_tree_complete(self, party: str, scope: str) -> None:
        """Note that a party's tree shows every filing in its scope."""
        self.connection.execute(sa.insert(t.party).values(id=party, scope=scope))

    def all_filings(self) -> Iterator[Original]:
        """Yield every filing, oldest first."""
        return filings(self.connection)

    def filings_after(self, last: int) -> Iterator[Original]:
        """Yield every filing whose id is higher than `last`, oldest first."""
        return filings(self.connection, last)

    def filing_at(self, path: str) -> Original | None:
        """Return the filing at a path, if it is recorded."""
        return self._filing(t.filing.c.path == path)

    def filing_of_bytes(self, sha256: str) -> Original | None:
        """Return a recorded filing of these bytes."""
        return self._filing(t.filing.c.sha256 == sha256)

    def _filing(self, condition: sa.ColumnElement[bool]) -> Original | None:
        query = sa.select(t.filing.c.id, t.filing.c.sha256, t.filing.c.path)
        recorded = query.where(condition, t.filing.c.seq.is_not(None)).limit(1)
        row = self.connection.execute(recorded).one_or_none()
        return Original(*row) if row else None

    def filing_time(self, sha256: str) -> int | None:
        """Return the filing time of these bytes: the mtime that clients see."""
        query = sa.select(sa.func.min(t.filing.c.filed_at)).where(t.filing.c.sha256 == sha256)
        found: int | None = self.connection.scalar(query)
        return found

    def keeps(self, sha256: str) -> bool:
        """Return whether the store has an original with this digest: filed, or split."""
        split = sa.select(t.extract.c.number).where(t.extract.c.original == sha256).limit(1)
        return self.filing_time(sha256) is not None or self.connection.scalar(split) is not None

    def quarantine_decision(self, file: str) -> UnrecordedDecision | None:
        """Return the decision that put a file into quarantine."""
        condition = (t.arrival.c.id == file[:ID_LENGTH]) & (t.arrival.c.what == file)
        row = self.connection.execute(sa.select(t.arrival).where(condition)).one_or_none()
        return as_unrecorded_decision(row) if row and row.outcome == QUARANTINED else None

    def add_gap(self, party: str, filing: int) -> None:
        """Note that a party's tree could not take the link to a filing."""
        self.close_gap(party, filing)
        self.connection.execute(sa.insert(t.gap).values(party=party, filing=filing))

    def close_gap(self, party: str, filing: int) -> None:
        """Remove a gap: the link into that tree exists now."""
        condition = (t.gap.c.party == party) & (t.gap.c.filing == filing)
        self.connection.execute(sa.delete(t.gap).where(condition))

    def gaps(self) -> list[tuple[str, Original]]:
        """Return the links that are missing, each with the party whose tree lacks it."""
        query = sa.select(t.gap.c.party, t.filing.c.id, t.filing.c.sha256, t.filing.c.path).join(
            t.filing, t.gap.c.filing == t.filing.c.id
        )
        rows = self.connection.execute(query)
        return [(row.party, Original(row.id, row.sha256, row.path)) for row in rows]


def url(site: Path) -> sa.URL:
    """Return the database URL of a site's catalog."""
    return location(site, CATALOG, "catalog")


def last_recorded_filing(connection: sa.Connection) -> int:
    """Return the highest filing id such that it and every lower one are recorded."""
    first = connection.scalar(sa.select(sa.func.min(t.filing.c.id)).where(t.filing.c.seq.is_(None)))
    if first is not None:
        return int(first) - 1
    return connection.scalar(sa.select(sa.func.max(t.filing.c.id))) or 0


def filings(
    connection: sa.Connection, after: int = 0, until: int | None = None
) -> Iterator[Original]:
    """Yield every filing with an id above `after` and up to `until`, oldest first."""
    while True:
        query = (
            sa.select(t.filing.c.id, t.filing.c.sha256, t.filing.c.path)
            .where(t.filing.c.id > after)
            .order_by(t.filing.c.id)
            .limit(_CHUNK)
        )
        if until is not None:
            query = query.where(t.filing.c.id <= until)
        rows = connection.execute(query).all()
        for row in rows:
            yield Original(*row)
        if len(rows) < _CHUNK:
            return
        after = rows[-1].id


def sheet_columns(sheet: Sheet) -> dict[str, str | int]:
    """Return the columns of a filing that name its sheet."""
    return {
        "secim": sheet.secim.value,
        "belge": sheet.belge.value,
        "cevre": sheet.cevre or "",
        "kurul": sheet.kurul or "",
        "sandik": sheet.sandik or "",
        "page": sheet.page,
    }


def _when(moment: datetime) -> str:
    return times.format_stored(moment)
