"""What persons decide on files in quarantine, apart from any screen.

Operators name the sheet that a file shows, `1093717526`, or in a file of several pages one for
each page that is a sheet, `1:1093717526 3:1093717527`. The file is filed once as many of them as
the site asks for ([desk] confirmations) have named the same; where they differ nothing is filed
and each may name anew. The rules for machines hold for persons too: the sheets of one file stand
under one board, and bytes that are filed already are not filed again. One operator may close a
file by rejecting it, with a reason; its bytes stay where they are, and it can still be identified.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from config.event import FilingEvent
from config.registry import RegistryEntry, is_karekod
from keys.ledger.record import Record
from publisher.catalog import tables as t
from publisher.outcome import Lookup

FILED, REJECTED = "filed", "rejected"
Sheets = tuple[tuple[int, str], ...]  # pages from 1, and the karekod of the sheet on each


class Review(NamedTuple):
    """What became of a file."""

    id: str
    outcome: str
    who: str
    why: str
    ruled_at: str


class Identification(NamedTuple):
    """What one operator says that a file shows."""

    who: str
    id: str
    sheets: Sheets
    why: str
    named_at: str


@dataclass(frozen=True, slots=True)
class Agreed:
    """So many operators named the same that it is filed, in the order in which they did."""

    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotYetAgreed:
    """It waits for more operators to name the same."""

    more: int
    differ: tuple[Identification, ...]  # who names something else


def parse_sheets(words: Sequence[str]) -> Sheets:
    """Read what an operator names; raise ValueError with what to write instead."""
    found: dict[int, str] = {}
    for word in words:
        page, colon, karekod = word.rpartition(":")
        if not is_karekod(karekod) or (colon and not (page.isascii() and page.isdecimal())):
            raise ValueError(f"{word!r}: write a karekod's ten digits, or PAGE:KAREKOD")
        number = int(page) if colon else 1
        if number < 1 or number in found:
            raise ValueError(f"{word!r}: pages are numbered from 1, and each is named once")
        found[number] = karekod
    if not found:
        raise ValueError("name the karekod of the sheet that it shows")
    return tuple(sorted(found.items()))


def format_sheets(sheets: Sheets) -> str:
    """Write it back."""
    return " ".join(f"{page}:{karekod}" for page, karekod in sheets)


def entries_of(sheets: Sheets, frames: int, lookup: Lookup) -> list[tuple[int, RegistryEntry]]:
    """Return the registry's entries; raise ValueError for what cannot be filed so."""
    found: list[tuple[int, RegistryEntry]] = []
    for page, karekod in sheets:
        entry = lookup(karekod)
        if page > frames:
            raise ValueError(f"page {page} of a file that has {frames}, name another page")
        if entry is None:
            raise ValueError(f"{karekod} is no karekod of the registry, look again")
        if any(entry.sheet == other.sheet for _, other in found):
            raise ValueError(f"{karekod} is named for two pages, name the sheet's first alone")
        found.append((page, entry))
    if len({(entry.sheet.cevre, entry.sheet.kurul) for _, entry in found}) > 1:
        raise ValueError("these are sheets of several boards, reject it")
    return found


def decide(
    identifications: Sequence[Identification], newest: Identification, needed: int
) -> Agreed | NotYetAgreed:
    """Say whether the newest naming settles the matter; `namings` has one for each operator."""
    same = [
        identification
        for identification in identifications
        if identification.sheets == newest.sheets
    ]
    if len(same) >= needed:
        return Agreed(tuple(identification.who for identification in same))
    differ = tuple(
        identification
        for identification in identifications
        if identification.sheets != newest.sheets
    )
    return NotYetAgreed(needed - len(same), differ)


# What the catalog holds of it.


def add_identification(
    connection: sa.Connection, file: str, identification: Identification
) -> None:
    """Note what an operator says, in place of what the same one said before."""
    remove_identification(connection, file, identification.who)
    row = {**identification._asdict(), "file": file, "sheets": format_sheets(identification.sheets)}
    connection.execute(sa.insert(t.identification).values(row))


def remove_identification(connection: sa.Connection, file: str, who: str) -> None:
    """Forget what an operator says."""
    chosen = (t.identification.c.file == file) & (t.identification.c.who == who)
    connection.execute(sa.delete(t.identification).where(chosen))


def identifications(
    connection: sa.Connection, file: str | None = None
) -> dict[str, list[Identification]]:
    """Return what was named, by file, in the order in which it was."""
    query = sa.select(t.identification).order_by(t.identification.c.named_at, t.identification.c.id)
    if file is not None:
        query = query.where(t.identification.c.file == file)
    found: dict[str, list[Identification]] = {}
    for row in connection.execute(query):
        sheets = parse_sheets(row.sheets.split())
        identification = Identification(row.who, row.id, sheets, row.why, row.named_at)
        found.setdefault(row.file, []).append(identification)
    return found


def add_review(
    connection: sa.Connection, file: str, review: Review, filed: str | None = None
) -> None:
    """Note what became of a file; `filed` is the arrival as which it is filed."""
    connection.execute(sa.delete(t.review).where(t.review.c.file == file))
    connection.execute(sa.insert(t.review).values(file=file, filed=filed, **review._asdict()))
    connection.execute(sa.delete(t.identification).where(t.identification.c.file == file))


def reviews(connection: sa.Connection) -> dict[str, Review]:
    """Return what became of each file that was ruled on."""
    r = t.review.c
    query = sa.select(r.file, r.id, r.outcome, r.who, r.why, r.ruled_at)
    return {row[0]: Review(*row[1:]) for row in connection.execute(query)}


def review_of(connection: sa.Connection, file: str) -> Review | None:
    """Return what became of one file, None if nobody has ruled on it."""
    r = t.review.c
    query = sa.select(r.id, r.outcome, r.who, r.why, r.ruled_at).where(r.file == file)
    row = connection.execute(query).one_or_none()
    return Review(*row) if row else None


def apply_record(connection: sa.Connection, record: Record) -> None:
    """Take up a rejection from the filing ledger, unless that was done before."""
    event, detail = record.event, record.event.detail
    if event.event != FilingEvent.REJECTED:
        return
    known = sa.select(t.review.c.file).where(t.review.c.id == detail["errand"])
    if connection.scalar(known) is None:
        at = record.time.isoformat(timespec="seconds")
        made = Review(str(detail["errand"]), REJECTED, event.who, str(detail["reason"]), at)
        add_review(connection, event.what.rpartition("/")[2], made)
