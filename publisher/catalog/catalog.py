"""What came in, and what became of it: `state/catalog.sqlite`, made for this one site.

An arrival goes through these states, and the step to each is made durable before the next:

    received     its row is written; the file is still in the intake
    claimed      the file is in the spool
    stored       decided, to be filed: the original is in the store, the version is its own
    read         decided, a duplicate or to be quarantined
    filed, duplicate, quarantined       done, and recorded in the filing ledger as number `seq`

A file of several pages is one arrival and a filing a sheet, each with a record of its own; its
state is `filed`, and `seq` the last of their numbers, once all of them are recorded.

A crash leaves nothing to guess: before `stored` or `read` a page is decided anew, after it the
rest is done again from the row. A filing is visible to nobody until it is `stored`, and counts
once it has its `seq`. What the publisher writes and asks stands in this one module, long as it is,
and what each page asks for in publisher/catalog/statements. It keeps to what PostgreSQL takes as
well; who looks from outside reads the SQLite file (publisher/catalog/counts).
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

import sqlalchemy as sa

from config.event import Value
from config.sheet import Sheet
from config.site import CATALOG, QUARANTINE
from publisher.catalog import statements
from publisher.catalog import tables as t
from publisher.catalog.rows import (
    ArrivalState,
    Original,
    UnrecordedDecision,
    as_arrival,
    as_arrival_state,
    as_unrecorded_decision,
)
from publisher.catalog.tables import CLAIMED, READ, RECEIVED, STORED
from publisher.outcome import Duplicate, Filed, Quarantined
from publisher.page import ID_LENGTH, Arrival, Page, Reason

FILED, DUPLICATE, QUARANTINED = "filed", "duplicate", "quarantined"
VERSIONS = "versions"
_CHUNK = 1000


class Catalog:
    """An open catalog, of one thread; nothing lasts until `commit`. Close it, or use `with`."""

    def __init__(self, url: sa.URL) -> None:
        """Open the catalog at a database URL and make what is missing."""
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _set_pragmas)
        t.METADATA.create_all(self._engine)
        self._connection = self._engine.connect()
        names = (FILED, VERSIONS, DUPLICATE, QUARANTINED)
        known = set(self._connection.scalars(sa.select(t.total.c.name)))
        if missing := [{"name": name, "number": 0} for name in names if name not in known]:
            self._connection.execute(sa.insert(t.total), missing)
        self.commit()

    def close(self) -> None:
        """Drop what was not committed."""
        self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> "Catalog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def connection(self) -> sa.Connection:
        """What the modules beside this one use that have tables of their own."""
        return self._connection

    def commit(self) -> None:
        """Make everything since the last commit last."""
        self._connection.commit()

    # Arrivals.

    def receive(self, arrivals: Sequence[Arrival]) -> None:
        """Note files that are about to be claimed."""
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
            self._connection.execute(sa.insert(t.arrival), rows)

    def mark_claimed(self, ids: Sequence[str]) -> None:
        """Note that these are in the spool now."""
        chosen = t.arrival.c.id.in_(ids) & (t.arrival.c.state == RECEIVED)
        self._connection.execute(sa.update(t.arrival).where(chosen).values(state=CLAIMED))

    def withdraw(self, ids: Sequence[str]) -> None:
        """Forget files that were received and then not claimed: they are still in the intake."""
        chosen = t.arrival.c.id.in_(ids) & t.arrival.c.state.in_((RECEIVED, CLAIMED))
        self._connection.execute(sa.delete(t.arrival).where(chosen))

    def undecided(self) -> list[tuple[Arrival, str]]:
        """Return the arrivals that were received or claimed, and which, the oldest first."""
        query = (
            sa.select(t.arrival)
            .where(t.arrival.c.seq.is_(None), t.arrival.c.state.in_((RECEIVED, CLAIMED)))
            .order_by(t.arrival.c.id)
        )
        return [(as_arrival(row), row.state) for row in self._connection.execute(query)]

    def note_left_behind(self, arrival: Arrival) -> None:
        """Note that a source was copied and stays where it is."""
        source = bytes(arrival.source)
        self._connection.execute(sa.delete(t.left_behind).where(t.left_behind.c.source == source))
        row = {"source": source, "stamp": str(arrival.stamp)}
        self._connection.execute(sa.insert(t.left_behind), [row])

    def left_behind(self) -> dict[bytes, str]:
        """Return the sources that stayed, and the stamps with which they were taken."""
        rows = self._connection.execute(sa.select(t.left_behind))
        return {row.source: row.stamp for row in rows}

    def arrival_state(self, arrival: str) -> ArrivalState | None:
        """Return an arrival and how far it got, or None if there is no such arrival."""
        row = self._connection.execute(
            sa.select(t.arrival).where(t.arrival.c.id == arrival)
        ).one_or_none()
        return as_arrival_state(row) if row else None

    # Facts for the desk.

    def path_of_bytes(self, sha256: str) -> str | None:
        """Return the path at which these bytes are filed, that of their first sheet."""
        return self._connection.scalar(statements.PATH_OF_BYTES, {"sha256": sha256})

    def digest_at(self, path: str) -> str | None:
        """Return the digest of what is filed at a path."""
        return self._connection.scalar(sa.select(t.filing.c.sha256).where(t.filing.c.path == path))

    def quarantined_path(self, sha256: str, reason: Reason) -> str | None:
        """Return the file in quarantine that holds these bytes for that reason."""
        this = {"sha256": sha256, "outcome": QUARANTINED, "reason": reason.value}
        found = self._connection.scalar(statements.QUARANTINED_FILE, this)
        return f"{QUARANTINE}/{found}" if found else None

    def latest_version(self, sheet: Sheet) -> int:
        """Return the number of the latest version filed, 0 if there is none."""
        return self._connection.scalar(statements.LATEST_VERSION, _sheet(sheet)) or 0

    # Decisions.

    def file(
        self,
        page: Page,
        filed: Filed,
        filed_at: int,
        now: datetime,
        person: Mapping[str, Value] = MappingProxyType({}),
    ) -> None:
        """Note that a file is to be filed, each sheet of it; its original stands in the store.

        `person` is what its records say of those who identified it.
        """
        rows = [
            {
                **_sheet(place.entry.sheet),
                "arrival": page.arrival.id,
                "frame": place.frame,
                "version": place.version,
                "karekod": place.entry.karekod,
                "sha256": page.sha256,
                "path": place.path,
                "filed_at": filed_at,
            }
            for place in filed.sheets
        ]
        self._connection.execute(sa.insert(t.filing), rows)
        self._decide(
            page,
            now,
            state=STORED,
            outcome=FILED,
            what=filed.sheets[0].path,
            evidence={"witnesses": filed.needed_readings, "person": dict(person)},
        )

    def set_aside(self, page: Page, decision: Duplicate | Quarantined, now: datetime) -> None:
        """Note that a page is to be quarantined, or that it was here before."""
        match decision:
            case Duplicate(of):
                self._decide(page, now, state=READ, outcome=DUPLICATE, what=of, evidence={})
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
        look = page.result
        evidence |= {
            "texts": look.texts,
            "ms": look.ms,
            "format": look.format,
            "frames": look.frames,
            "readings": [
                [r.text, r.engine, r.scan, r.ms, r.corners, r.frame] for r in look.readings
            ],
        }
        values = {
            "this": page.arrival.id,
            "sha256": page.sha256,
            "stamp": str(page.stamp),
            "decided_at": _when(now),
            "evidence": json.dumps(evidence),
            "state": state,
            "outcome": outcome,
            "what": what,
            "reason": reason,
        }
        self._connection.execute(statements.SET_DECISION, values)

    def unrecorded_decisions(self) -> list[UnrecordedDecision]:
        """Return what is still to be carried out, a filing each or an arrival, the oldest first."""
        found = self._connection.execute(statements.UNRECORDED_DECISIONS)
        return [as_unrecorded_decision(row) for row in found]

    def finish(self, arrival: str, seq: int, frame: int = 1) -> bool:
        """Note that all is done and recorded under `seq`; False if it was noted before.

        `frame` is the page that the record is about; of a file that is not filed there is one.
        """
        done: dict[str, str | int] = {"this": arrival, "number": seq}
        outcome = self._connection.scalar(statements.OUTCOME_OF_ARRIVAL, done)
        if outcome is None:
            return False
        counted, left = outcome, 0
        if outcome == FILED:
            rows = {
                row.frame: row
                for row in self._connection.execute(statements.UNRECORDED_FILINGS, done)
            }
            if frame not in rows:
                return False
            self._connection.execute(statements.SET_FILING_SEQ, {**done, "of": frame})
            if rows[frame].version == 1:
                self._count(rows[frame])
            else:
                counted = VERSIONS
            left = len(rows) - 1
        if not left:
            self._connection.execute(statements.SET_ARRIVAL_DONE, {**done, "became": outcome})
        self._connection.execute(statements.INCREMENT_TOTAL, {"counted": counted})
        return True

    def _count(self, filing: Any) -> None:
        kind = {name: getattr(filing, name) for name in statements.TALLY_COLUMNS}
        this = {f"of_{name}": value for name, value in kind.items()}
        if not self._connection.execute(statements.INCREMENT_TALLY, this).rowcount:
            self._connection.execute(sa.insert(t.tally).values(**kind, number=1))

    def next_seq(self) -> int:
        """Return the number after the highest that the filing ledger is known to have."""
        queries = (sa.select(sa.func.max(table.c.seq)) for table in (t.arrival, t.filing))
        highest = [self._connection.scalar(query) for query in queries]
        return max((seq + 1 for seq in highest if seq is not None), default=0)

    # Parties.

    def parties(self) -> dict[str, str]:
        """Return the scope, as text, for which each party's tree was completed."""
        rows = self._connection.execute(sa.select(t.party.c.id, t.party.c.scope))
        return {row.id: row.scope for row in rows}

    def mark_tree_incomplete(self, party: str) -> None:
        """Note that a party's tree is complete for no scope: it is made anew, or left alone."""
        self._connection.execute(sa.delete(t.gap).where(t.gap.c.party == party))
        self._connection.execute(sa.delete(t.party).where(t.party.c.id == party))

    def mark_tree_complete(self, party: str, scope: str) -> None:
        """Note that a party's tree shows every filing in its scope."""
        self._connection.execute(sa.insert(t.party).values(id=party, scope=scope))

    def originals(self) -> Iterator[Original]:
        """Yield every filing, the oldest first."""
        return filings(self._connection)

    def since(self, last: int) -> Iterator[Original]:
        """Yield every filing after that of number `last`."""
        return filings(self._connection, last)

    def filing_at(self, path: str) -> Original | None:
        """Return what is filed at a path, and recorded."""
        return self._filing(t.filing.c.path == path)

    def filing_of_bytes(self, sha256: str) -> Original | None:
        """Return a filing of these bytes that is recorded."""
        return self._filing(t.filing.c.sha256 == sha256)

    def _filing(self, chosen: sa.ColumnElement[bool]) -> Original | None:
        query = sa.select(t.filing.c.id, t.filing.c.sha256, t.filing.c.path)
        done = query.where(chosen, t.filing.c.seq.is_not(None)).limit(1)
        row = self._connection.execute(done).one_or_none()
        return Original(*row) if row else None

    def filing_time(self, sha256: str) -> int | None:
        """Return when these bytes were filed, as clients see it."""
        query = sa.select(sa.func.min(t.filing.c.filed_at)).where(t.filing.c.sha256 == sha256)
        found: int | None = self._connection.scalar(query)
        return found

    def quarantined(self, file: str) -> UnrecordedDecision | None:
        """Return what was decided on a file in quarantine."""
        chosen = (t.arrival.c.id == file[:ID_LENGTH]) & (t.arrival.c.what == file)
        row = self._connection.execute(sa.select(t.arrival).where(chosen)).one_or_none()
        return as_unrecorded_decision(row) if row and row.outcome == QUARANTINED else None

    def add_gap(self, party: str, filing: int) -> None:
        """Note a link that a party's tree would not take."""
        self.close_gap(party, filing)
        self._connection.execute(sa.insert(t.gap).values(party=party, filing=filing))

    def close_gap(self, party: str, filing: int) -> None:
        """Note that a link is there now."""
        chosen = (t.gap.c.party == party) & (t.gap.c.filing == filing)
        self._connection.execute(sa.delete(t.gap).where(chosen))

    def gaps(self) -> list[tuple[str, Original]]:
        """Return the links that are owed."""
        query = sa.select(t.gap.c.party, t.filing.c.id, t.filing.c.sha256, t.filing.c.path).join(
            t.filing, t.gap.c.filing == t.filing.c.id
        )
        rows = self._connection.execute(query)
        return [(row.party, Original(row.id, row.sha256, row.path)) for row in rows]


def url(site: Path) -> sa.URL:
    """Return the URL of a site's own catalog."""
    return sa.URL.create("sqlite", database=str(site / CATALOG))


def last_recorded_filing(connection: sa.Connection) -> int:
    """Return the highest number up to which every filing is recorded."""
    first = connection.scalar(sa.select(sa.func.min(t.filing.c.id)).where(t.filing.c.seq.is_(None)))
    if first is not None:
        return int(first) - 1
    return connection.scalar(sa.select(sa.func.max(t.filing.c.id))) or 0


def filings(
    connection: sa.Connection, after: int = 0, until: int | None = None
) -> Iterator[Original]:
    """Yield every filing after one number and until another, the oldest first."""
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


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _sheet(sheet: Sheet) -> dict[str, str | int]:
    return {
        "secim": sheet.secim.value,
        "belge": sheet.belge.value,
        "cevre": sheet.cevre or "",
        "kurul": sheet.kurul or "",
        "sandik": sheet.sandik or "",
        "page": sheet.page,
    }


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
