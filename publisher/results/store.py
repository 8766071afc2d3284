"""Keeps every version of every result, and what was set aside (publisher/results/tables).

Rows are decided in chunks, of one batch or of several. A chunk goes through two commits:

    decided    its results and set-aside rows are stored, without a record (`seq` is empty)
    recorded   the ledger has a record of each, and `seq` and the batch's counts say so

After a crash, a chunk that is decided and not recorded is recorded first (`unrecorded`), and each
batch goes on after its last decided line. Results count once they are recorded.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from config import times
from config.result import BOX_SHEET, Result, ResultKey
from config.sheet import Belge, SandikTuru, Secim
from config.site import RESULTS_DATABASE
from publisher.database import (
    Database,
    exists,
    location,
    read_only_engine,
    reading,
    table_names,
    writing_engine,
)
from publisher.page import Stamp
from publisher.results import tables as t
from publisher.results.checks.finding import Check, Finding
from publisher.source import Source

DUPLICATE = "duplicate"
_COUNTS = ("accepted", "duplicates", "rejected")
_ROWS_A_FETCH = 5000
_IDS_A_QUERY = 500


_WANT_NOTHING = sa.delete(t.wanted)
_WANTED_VERSIONS = sa.select(t.result).select_from(
    t.wanted.join(
        t.result, sa.and_(*(t.result.c[name] == t.wanted.c[name] for name in t.KEY_COLUMNS))
    )
)


class _ForManyRows:
    """A statement for very many rows: compiled once, the rows go to the driver as they are."""

    def __init__(self, statement: sa.Insert | sa.Delete | sa.Update, dialect: sa.Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        names: Sequence[str] = getattr(compiled, "positiontup", None) or ()
        self._values: Callable[[dict[str, Any]], Any] | None = itemgetter(*names) if names else None
        self._is_one = len(names) == 1

    def run(self, connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Execute it once for each row."""
        if not rows:
            return
        if self._values is None:
            connection.exec_driver_sql(self._text, list(rows))
        else:
            values = map(self._values, rows)
            connection.exec_driver_sql(self._text, list(zip(values) if self._is_one else values))


def _insert(table: sa.Table, *without: str) -> sa.Insert:
    """Return a statement that inserts rows with all columns but some."""
    names = [column.name for column in table.columns if column.name not in without]
    return sa.insert(table).values({name: sa.bindparam(name) for name in names})


class SheetBinding(NamedTuple):
    """The newest signed sheet in the trees when a result was accepted."""

    path: str
    sha256: str


NO_SHEET = SheetBinding("", "")


@dataclass(frozen=True, slots=True)
class StoredResult:
    """An accepted version, and where it came from."""

    id: int
    result: Result
    digest: str
    batch: str
    line: int
    accepted_at: datetime
    sheet: SheetBinding
    newest: bool
    seq: int | None


@dataclass(frozen=True, slots=True)
class SetAsideRow:
    """A row that was not accepted: a duplicate, or one in the results quarantine."""

    id: int
    batch: str
    line: int
    fault: str
    message: str
    place: str
    text: str
    set_aside_at: str
    seq: int | None


@dataclass(frozen=True, slots=True)
class NewResult:
    """A row that was accepted just now."""

    batch: str
    line: int
    result: Result
    sheet: SheetBinding = NO_SHEET


@dataclass(frozen=True, slots=True)
class NewSetAside:
    """A row that was set aside just now."""

    batch: str
    line: int
    fault: str
    message: str
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One file from results/, and how far it got."""

    id: str
    name: str
    received_at: datetime
    sha256: str | None
    done_lines: int
    accepted: int
    duplicates: int
    rejected: int
    finished: bool


class Progress(NamedTuple):
    """How far a batch got with a chunk, and what became of the chunk's rows of that batch."""

    batch: str
    done_lines: int
    accepted: int
    duplicates: int
    rejected: int


class ResultStore(Database):
    """An open database of results."""

    def __init__(self, url: sa.URL, *, read_only: bool = False) -> None:
        """Open it and create missing tables; with `read_only` they must exist already."""
        super().__init__(read_only_engine(url) if read_only else writing_engine(url, t.METADATA))
        if not read_only:
            with self.closed_on_error():
                t.wanted.create(self._connection)
                self._connection.commit()
        self._next_ids: dict[str, int] = {}
        dialect = self._engine.dialect
        self._want = _ForManyRows(_insert(t.wanted), dialect)
        self._add_results = _ForManyRows(_insert(t.result, "seq"), dialect)
        self._add_findings = _ForManyRows(_insert(t.finding, "id"), dialect)
        of_subject = t.finding.c.subject == sa.bindparam("of")
        self._remove_findings = _ForManyRows(sa.delete(t.finding).where(of_subject), dialect)
        this_batch = t.batch.c.id == sa.bindparam("this")
        self._add_batches = _ForManyRows(_insert(t.batch), dialect)
        self._begin = _ForManyRows(
            sa.update(t.batch).where(this_batch).values(sha256=sa.bindparam("digest")), dialect
        )
        self._finish = _ForManyRows(
            sa.update(t.batch).where(this_batch).values(finished_at=sa.bindparam("now")), dialect
        )
        self._progress = _ForManyRows(
            sa.update(t.batch)
            .where(this_batch)
            .values(
                {
                    "done_lines": sa.bindparam("lines"),
                    **{name: t.batch.c[name] + sa.bindparam(f"more_{name}") for name in _COUNTS},
                }
            ),
            dialect,
        )
        self._leave = _ForManyRows(_insert(t.left_behind), dialect)
        self._forget = _ForManyRows(
            sa.delete(t.left_behind).where(t.left_behind.c.source == sa.bindparam("gone")), dialect
        )
        self._number = {
            table: _ForManyRows(
                sa.update(table)
                .where(table.c.id == sa.bindparam("this"))
                .values(seq=sa.bindparam("number")),
                dialect,
            )
            for table in (t.result, t.set_aside)
        }

    # Batches.

    def receive(self, names: Mapping[str, str], now: datetime) -> None:
        """Note files that are about to be claimed: the name of each by its batch's id."""
        begun: dict[str, Any] = dict.fromkeys(("done_lines", *_COUNTS), 0)
        begun |= {"received_at": _text(now), "sha256": None, "finished_at": None}
        rows = [{"id": batch, "name": name, **begun} for batch, name in names.items()]
        self._add_batches.run(self._connection, rows)

    def withdraw(self, batch: str) -> None:
        """Forget a file that was not claimed: it is still in results/."""
        self._connection.execute(sa.delete(t.batch).where(t.batch.c.id == batch))

    def begin(self, digests: Mapping[str, str]) -> None:
        """Note the digests of claimed batches, before their first rows."""
        rows = [{"this": batch, "digest": sha256} for batch, sha256 in digests.items()]
        self._begin.run(self._connection, rows)

    def finish(self, batches: Collection[str], now: datetime) -> None:
        """Note that every row of these batches is decided and recorded."""
        rows = [{"this": batch, "now": _text(now)} for batch in batches]
        self._finish.run(self._connection, rows)

    def batch(self, batch: str) -> Batch | None:
        """Return one batch by its id, None if it is not known."""
        return self.batches_of([batch]).get(batch)

    def batches_of(self, batches: Collection[str]) -> dict[str, Batch]:
        """Return batches by their ids; one that is not known is left out."""
        found: dict[str, Batch] = {}
        waiting = iter(batches)
        while some := list(islice(waiting, _IDS_A_QUERY)):
            query = sa.select(t.batch).where(t.batch.c.id.in_(some))
            found |= {row.id: _batch(row) for row in self._connection.execute(query)}
        return found

    def batches(self, unfinished: bool = False) -> list[Batch]:
        """Return the batches, oldest first."""
        query = sa.select(t.batch).order_by(t.batch.c.id)
        if unfinished:
            query = query.where(t.batch.c.finished_at.is_(None))
        return [_batch(row) for row in self._connection.execute(query)]

    # Files that were claimed and are still in results/.

    def note_left_behind(self, files: Iterable[tuple[Source, Stamp, str]]) -> None:
        """Note that files with these stamps are, or are about to be, the batches with these ids."""
        rows = [
            {"source": bytes(source), "stamp": str(stamp), "batch": batch}
            for source, stamp, batch in files
        ]
        self._forget.run(self._connection, [{"gone": row["source"]} for row in rows])
        self._leave.run(self._connection, rows)

    def forget_left_behind(self, sources: Iterable[Source]) -> None:
        """Forget files that are not in results/ any more."""
        self._forget.run(self._connection, [{"gone": bytes(source)} for source in sources])

    def left_behind(self) -> list[tuple[Source, Stamp, str]]:
        """Return these files, with their stamps and the ids of their batches."""
        rows = self._connection.execute(sa.select(t.left_behind)).all()
        return [(Source.parse(row.source), Stamp.parse(row.stamp), row.batch) for row in rows]

    # Rows.

    def versions(self, keys: Iterable[ResultKey]) -> dict[ResultKey, dict[int, StoredResult]]:
        """Return the known versions of each key, by version; a key without any is left out."""
        found: dict[ResultKey, dict[int, StoredResult]] = {}
        rows = [dict(zip(t.KEY_COLUMNS, _key_values(key), strict=True)) for key in set(keys)]
        if not rows:
            return found
        self._want.run(self._connection, rows)
        for row in self._connection.execute(_WANTED_VERSIONS):
            stored = as_stored(row)
            found.setdefault(stored.result.key, {})[stored.result.version] = stored
        self._connection.execute(_WANT_NOTHING)
        return found

    def decide(
        self,
        accepted: Sequence[NewResult],
        set_aside: Sequence[NewSetAside],
        known: Mapping[ResultKey, Mapping[int, StoredResult]],
        now: datetime,
    ) -> tuple[list[StoredResult], list[SetAsideRow]]:
        """Store a chunk's decisions and return them; `known` are the versions from before it."""
        when = _text(now)
        highest: dict[ResultKey, int] = {
            key: max(versions) for key, versions in known.items() if versions
        }
        superseded = []
        for new in accepted:
            key, version = new.result.key, new.result.version
            before = highest.get(key, 0)
            if version > before:
                highest[key] = version
                if before and before in known.get(key, {}):
                    superseded.append({"this": known[key][before].id})
        if superseded:
            statement = sa.update(t.result).where(t.result.c.id == sa.bindparam("this"))
            self._connection.execute(statement.values(newest=False), superseded)
        first = self._take_ids(t.result, len(accepted))
        votes = [new.result.votes_json() for new in accepted]
        results = [
            StoredResult(
                number,
                new.result,
                new.result.digest(votes[number - first]),
                new.batch,
                new.line,
                now,
                new.sheet,
                highest[new.result.key] == new.result.version,
                None,
            )
            for number, new in enumerate(accepted, first)
        ]
        rows = [columns_of(row, given) for row, given in zip(results, votes, strict=True)]
        self._add_results.run(self._connection, rows)
        first = self._take_ids(t.set_aside, len(set_aside))
        others = [
            SetAsideRow(
                number,
                row.batch,
                row.line,
                row.fault,
                row.message,
                row.place,
                row.text,
                when,
                None,
            )
            for number, row in enumerate(set_aside, first)
        ]
        if others:
            self._connection.execute(sa.insert(t.set_aside), [asdict(row) for row in others])
        return results, others

    def _take_ids(self, table: sa.Table, count: int) -> int:
        """Return the first of `count` new ids; this process is the only writer."""
        if table.name not in self._next_ids:
            highest = self._connection.scalar(sa.select(sa.func.max(table.c.id))) or 0
            self._next_ids[table.name] = highest + 1
        first = self._next_ids[table.name]
        self._next_ids[table.name] += count
        return first

    def unrecorded(self) -> tuple[list[StoredResult], list[SetAsideRow]]:
        """Return what is decided and has no record yet, each in the order of its decision."""
        results = sa.select(t.result).where(t.result.c.seq.is_(None)).order_by(t.result.c.id)
        others = (
            sa.select(t.set_aside).where(t.set_aside.c.seq.is_(None)).order_by(t.set_aside.c.id)
        )
        return (
            [as_stored(row) for row in self._connection.execute(results)],
            [SetAsideRow(*row) for row in self._connection.execute(others)],
        )

    def record(
        self,
        results: Mapping[int, int],
        others: Mapping[int, int],
        progress: Iterable[Progress],
    ) -> None:
        """Note the record numbers of a chunk, by the ids of its results and of its other rows."""
        for table, numbers in ((t.result, results), (t.set_aside, others)):
            rows = [{"this": this, "number": seq} for this, seq in numbers.items()]
            self._number[table].run(self._connection, rows)
        self._progress.run(
            self._connection,
            [
                {"this": each.batch, "lines": each.done_lines}
                | {f"more_{name}": getattr(each, name) for name in _COUNTS}
                for each in progress
            ],
        )

    def next_seq(self) -> int:
        """Return the number after the highest record that is noted here."""
        tables = (t.result, t.set_aside, t.snapshot)
        highest = [self._connection.scalar(sa.select(sa.func.max(of.c.seq))) for of in tables]
        return max((seq + 1 for seq in highest if seq is not None), default=0)

    # Reading.

    def newest(
        self, secim: Secim, cevre: str | None = None, kurul: str | None = None
    ) -> Iterator[StoredResult]:
        """Yield the newest recorded result of each place of a contest, in the order of places."""
        c = t.result.c
        query = sa.select(t.result).where(c.newest, c.seq.is_not(None), c.secim == secim.value)
        if cevre is not None:
            query = query.where(c.cevre == cevre)
        if kurul is not None:
            query = query.where(c.kurul == kurul)
        query = query.order_by(c.cevre, c.kurul, c.sandik, c.belge)
        yield from map(as_stored, self._stream(query))

    def newest_votes(
        self, secim: Secim, cevre: str, kurul: str
    ) -> list[tuple[str, dict[str, int]]]:
        """Return box and votes of the newest recorded results of a board's boxes."""
        c = t.result.c
        query = sa.select(c.sandik, c.votes).where(
            c.newest, c.seq.is_not(None), c.secim == secim.value, c.cevre == cevre,
            c.kurul == kurul, c.sandik != "", c.belge == BOX_SHEET.value,
        )  # fmt: skip
        rows = self._connection.execute(query.order_by(c.sandik))
        return [(sandik, json.loads(votes)) for sandik, votes in rows]

    def since(self, last: int, until: int) -> Iterator[StoredResult]:
        """Yield the results after one id and up to another, oldest first."""
        query = (
            sa.select(t.result)
            .where(t.result.c.id > last, t.result.c.id <= until)
            .order_by(t.result.c.id)
        )
        yield from map(as_stored, self._stream(query))

    def _stream(self, query: sa.Select[Any]) -> Iterator[Any]:
        """Yield the rows of a query that may have very many, some thousands at a time."""
        options = {"yield_per": _ROWS_A_FETCH}
        yield from self._connection.execute(query, execution_options=options)

    def last_recorded(self) -> int:
        """Return the highest id up to which every result is recorded."""
        c = t.result.c
        first = self._connection.scalar(sa.select(sa.func.min(c.id)).where(c.seq.is_(None)))
        if first is not None:
            return int(first) - 1
        return self._connection.scalar(sa.select(sa.func.max(c.id))) or 0

    def quarantined(self) -> list[SetAsideRow]:
        """Return the rows of the results quarantine, oldest first."""
        query = (
            sa.select(t.set_aside)
            .where(t.set_aside.c.fault != DUPLICATE)
            .order_by(t.set_aside.c.id)
        )
        return [SetAsideRow(*row) for row in self._connection.execute(query)]

    # Findings.

    def replace_findings(self, findings: Mapping[str, Sequence[Finding]]) -> None:
        """Replace the findings of each subject."""
        if not findings:
            return
        self._remove_findings.run(self._connection, [{"of": subject} for subject in findings])
        rows = [
            {
                "subject": subject,
                "check_name": finding.check.value,
                "kind": finding.check.kind.value,
                "secim": finding.secim.value,
                "places": json.dumps(finding.places),
                "numbers": json.dumps(dict(finding.numbers)) if finding.numbers else "{}",
                "sheets": json.dumps(finding.sheets) if finding.sheets else "[]",
                "last_result": finding.last_result,
            }
            for subject, several in findings.items()
            for finding in several
        ]
        self._add_findings.run(self._connection, rows)

    def findings(self) -> Iterator[Finding]:
        """Yield every finding, by check and place."""
        c = t.finding.c
        query = sa.select(c.check_name, c.secim, c.places, c.numbers, c.sheets)
        query = query.order_by(c.check_name, c.places, c.secim)
        for row in self._connection.execute(query):
            yield Finding(
                Check(row.check_name),
                Secim(row.secim),
                tuple(json.loads(row.places)),
                json.loads(row.numbers),
                tuple(json.loads(row.sheets)),
            )


def url(site: Path) -> sa.URL:
    """Return the URL of a site's own database of results."""
    return location(site, RESULTS_DATABASE, "results")


def is_complete(url: sa.URL) -> bool:
    """Return True if the database has all its tables; another process may be creating them."""
    if not exists(url):
        return False
    with reading(url) as connection:
        return table_names(connection) >= set(t.METADATA.tables) - t.ADDED_LATER


def _key_values(key: ResultKey) -> tuple[str, ...]:
    return tuple(str(part) if part is not None else "" for part in key)


def columns_of(stored: StoredResult, votes: str | None = None) -> dict[str, Any]:
    """Return a value as a row of the table `result`, without the number of its record.

    `votes` is the `votes_json` of the result, if the caller has it.
    """
    result, key = stored.result, stored.result.key
    return {
        "id": stored.id,
        "secim": key.secim.value,
        "belge": key.belge.value,
        "cevre": key.cevre or "",
        "kurul": key.kurul or "",
        "sandik": key.sandik or "",
        "version": result.version,
        "sandik_turu": result.sandik_turu.value if result.sandik_turu else "",
        "reason": result.reason,
        "time": _text(result.time),
        **result.numbers(),
        "votes": result.votes_json() if votes is None else votes,
        "digest": stored.digest,
        "batch": stored.batch,
        "line": stored.line,
        "accepted_at": _text(stored.accepted_at),
        "sheet": stored.sheet.path,
        "sheet_sha256": stored.sheet.sha256,
        "newest": stored.newest,
    }


def as_stored(row: Any) -> StoredResult:
    """Return a row of the table `result` as a value."""
    key = ResultKey(
        Secim(row.secim),
        Belge(row.belge),
        row.cevre or None,
        row.kurul or None,
        row.sandik or None,
    )
    result = Result(
        key,
        SandikTuru(row.sandik_turu) if row.sandik_turu else None,
        row.version,
        row.reason,
        datetime.fromisoformat(row.time),
        row.secmen,
        row.oy_kullanan,
        row.liste_ici_oy_kullanan,
        row.liste_disi_oy_kullanan,
        row.zarf,
        row.itirazsiz_gecerli,
        row.itirazli_gecerli,
        row.gecerli,
        row.gecersiz,
        json.loads(row.votes),
    )
    return StoredResult(
        row.id,
        result,
        row.digest,
        row.batch,
        row.line,
        datetime.fromisoformat(row.accepted_at),
        SheetBinding(row.sheet, row.sheet_sha256),
        row.newest,
        row.seq,
    )


def _batch(row: Any) -> Batch:
    return Batch(
        row.id,
        row.name,
        datetime.fromisoformat(row.received_at),
        row.sha256,
        row.done_lines,
        row.accepted,
        row.duplicates,
        row.rejected,
        row.finished_at is not None,
    )


@lru_cache(maxsize=16)  # all rows of a chunk were accepted at one time
def _text(moment: datetime) -> str:
    return times.format_stored(moment)
