"""Puts the records that several leaders have written, each in its own ledger, into one order.

A ledger has one writer, also if that is frozen and wakes up after another was elected. So each host
has a ledger of its own: `filing@pub1`, `filing@pub2`. A leader whose ledger is not the one that was
written last begins with a record `elected`, which says where its records belong:

    filing@pub1   0 elected position 0     1 filed  2 filed  3 filed                        (late) 4
    filing@pub2   0 elected position 4 previous filing@pub1 until 4      1 filed  2 filed
    position      0 1 2 3                  4 5 6

A term begins with such a record and ends where the next one begins. What its writer appended later
is late: the next leader has recorded the same again, because its catalog had no number for it.
The catalog and the results database know a record by its position, as they know it by its number if
there is only one ledger; then both are the same. A site that worked on one host, with a ledger
`filing`, goes on from its last number.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from config.event import ELECTED, Event, Value
from config.site import CATALOG, LEDGERS, ledger_kind, ledgers_of_kind
from keys.files import sync
from keys.ledger import segments
from keys.ledger.record import Record, parse_record
from keys.ledger.writer import DEFAULT_POLICY, Clock, Ledger, WritePolicy
from publisher.database import SQLITE, location, open_reader

_MARK = f'"event":"{ELECTED}"'.encode()
_KNOWN = sa.text(
    "SELECT number, ledger, first, position FROM publishers.term WHERE kind = :kind ORDER BY number"
)
_ADD = sa.text("INSERT INTO publishers.term VALUES (:kind, :number, :ledger, :first, :position)")


class Term(NamedTuple):
    """Where the records of a term are: from number `first` of a ledger on."""

    number: int
    ledger: str
    first: int
    position: int  # of its first record among those of all terms


class LedgerTooShort(OSError):
    """The ledger of the last leader lacks records that the database knows."""


def scan(site: Path, kind: str) -> tuple[Term, ...]:
    """Find the terms in the ledgers of a kind; that of the ledger without a host comes first."""
    found = []
    for name in ledgers_of_kind(site / LEDGERS, kind):
        for _, _, line in segments.read_lines(site / LEDGERS / name):
            if _MARK in line:
                record = parse_record(line)
                number, position = int(record.event.what), record.event.detail["position"]
                found.append(Term(number, name, record.seq, int(str(position))))
    return (Term(0, kind, 0, 0), *sorted(found))


def known(site: Path, kind: str, connection: sa.Connection) -> tuple[Term, ...]:
    """Return the same from PostgreSQL, or from the ledgers if it does not know them."""
    if connection.dialect.name != SQLITE:
        rows = connection.execute(_KNOWN, {"kind": kind}).all()
        if rows:
            return (Term(0, kind, 0, 0), *(Term(*row) for row in rows))
    if ledgers_of_kind(site / LEDGERS, kind) == (kind,):
        return (Term(0, kind, 0, 0),)
    return scan(site, kind)


def place_of(terms: Sequence[Term], position: int) -> tuple[str, int]:
    """Return the ledger that has the record at a position, and its number there."""
    term = next(one for one in reversed(terms) if one.position <= position)
    return term.ledger, term.first + position - term.position


def find(site: Path, kind: str, position: int) -> tuple[str, int]:
    """Return the same for a site whose terms the caller does not know."""
    if ledgers_of_kind(site / LEDGERS, kind) == (kind,):
        return kind, position
    with open_reader(location(site, CATALOG, "publishers")) as reader:
        query = "SELECT number, ledger, first, position FROM term WHERE kind = ? ORDER BY number"
        is_known = reader is not None and "term" in reader.tables()
        rows = reader.execute(query, (kind,)).fetchall() if reader and is_known else ()
    known = (Term(0, kind, 0, 0), *(Term(*row) for row in rows)) if rows else scan(site, kind)
    return place_of(known, position)


def records(site: Path, terms: Sequence[Term], first: int = 0) -> Iterator[Record]:
    """Yield the records of all terms in order, from position `first` on.

    The number (`seq`) of each is its position. Late records are left out.
    """
    for term, following in pairwise((*terms, None)):
        assert term is not None  # noqa: S101 - only the last of a pair can be
        end = None if following is None else following.position
        folder = site / LEDGERS / term.ledger
        if (end is not None and end <= max(first, term.position)) or not folder.exists():
            continue
        offset = term.position - term.first
        for record in segments.read_records(folder, max(first - offset, term.first)):
            if end is not None and record.seq + offset >= end:
                break
            yield replace(record, seq=record.seq + offset) if offset else record


def late_records(site: Path, terms: Sequence[Term]) -> Iterator[tuple[str, Record]]:
    """Yield the records that are in no term, each with its ledger; their numbers are its own."""
    kind = ledger_kind(terms[0].ledger)
    ends = [following.position for following in terms[1:]]
    for name in ledgers_of_kind(site / LEDGERS, kind):
        folder = site / LEDGERS / name
        mine = [
            (term.first, None if end is None else term.first + end - term.position)
            for term, end in zip(terms, [*ends, None], strict=True)
            if term.ledger == name
        ]
        if (len(mine) == 1 and mine[0] == (0, None)) or not folder.exists():
            continue
        start = mine[0][1] or 0 if mine and mine[0][0] == 0 else 0
        for record in segments.read_records(folder, start):
            if not any(
                first <= record.seq and (end is None or record.seq < end) for first, end in mine
            ):
                yield name, record


class OrderedLedger(Ledger):
    """A leader's ledger. The numbers that it takes and returns are positions."""

    def __init__(
        self,
        site: Path,
        name: str,
        clock: Clock,
        wait_seconds: float = 0,
        policy: WritePolicy = DEFAULT_POLICY,
    ) -> None:
        """Open the ledger with that name; raises what Ledger raises. Then call `continue_after`."""
        self._offset = 0
        self._site = site
        self._name = name
        self._terms: tuple[Term, ...] = (Term(0, ledger_kind(name), 0, 0),)
        super().__init__(site / LEDGERS / name, clock, wait_seconds, policy)

    def continue_after(
        self,
        connection: sa.Connection,
        noted: int,
        number: int | None,
        commit: Callable[[], object],
    ) -> None:
        """Go on after the records of all terms.

        `noted` is the position after the last one that the database of `connection` knows, and
        `number` that of this leader's term, None without an election. Raises LedgerTooShort if the
        ledger of another leader does not reach so far.
        """
        kind = ledger_kind(self._name)
        self._terms = terms = known(self._site, kind, connection)
        last = terms[-1]
        if last.ledger == self._name:
            self._offset = last.position - last.first
            if last.number and self._next == last.first:  # a crash came before its record
                self._begin(last, terms[-2].ledger)
            return
        former = self._site / LEDGERS / last.ledger
        until = max(segments.next_seq(former), last.first)
        if written := segments.list_files(former, segments.PLAIN):
            sync(written[-1][1])  # its writer may have been killed before it did
        position = last.position + until - last.first
        if position < noted:
            wrong = f"ends before number {until}, but {noted - position} more were written"
            advice = "if they do not appear within a minute, restore it from a backup"
            raise LedgerTooShort(f"{LEDGERS / last.ledger}: {wrong}: {advice}")
        new = Term(last.number + 1 if number is None else number, self._name, self._next, position)
        if connection.dialect.name != SQLITE:
            # A database that was copied or restored knows none of the earlier ones.
            there = {row.number for row in connection.execute(_KNOWN, {"kind": kind})}
            for term in (*terms[1:], new):
                if term.number not in there:
                    connection.execute(_ADD, {"kind": kind, **term._asdict()})
            commit()
        self._terms = (*terms, new)
        self._offset = position - new.first
        self._begin(new, last.ledger, until)

    def _begin(self, term: Term, previous: str, until: int | None = None) -> None:
        detail: dict[str, Value] = {"position": term.position, "previous": previous}
        if until is not None:
            detail["until"] = until
        super().append(Event(ELECTED, self._name, "", str(term.number), detail=detail))
        self.sync()

    def append(self, *events: Event) -> int:
        """Write a record for each event, and return the position of the last."""
        return super().append(*events) + self._offset

    @property
    def next_seq(self) -> int:
        """The position that the next event will have."""
        return self._next + self._offset

    def records(self, first: int) -> Iterator[Record]:
        """Yield the records of all terms from position `first` on."""
        return records(self._site, self._terms, first)
