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

from config.event import Filing
from config.registry import Entry, is_karekod
from keys.ledger.writer import Record
from publisher.catalog import tables as t
from publisher.outcome import Lookup

FILED, REJECTED = "filed", "rejected"
Sheets = tuple[tuple[int, str], ...]  # pages from 1, and the karekod of the sheet on each

_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "PDF": (b"%PDF-",),
}


class Ruling(NamedTuple):
    """What became of a file."""

    id: str
    outcome: str
    who: str
    why: str
    ruled_at: str


class Naming(NamedTuple):
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
class Awaited:
    """It waits for more operators to name the same."""

    more: int
    differ: tuple[Naming, ...]  # who names something else


def parse(words: Sequence[str]) -> Sheets:
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


def written(sheets: Sheets) -> str:
    """Write it back."""
    return " ".join(f"{page}:{karekod}" for page, karekod in sheets)


def identified(sheets: Sheets, frames: int, lookup: Lookup) -> list[tuple[int, Entry]]:
    """Return the registry's entries; raise ValueError for what cannot be filed so."""
    found: list[tuple[int, Entry]] = []
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


def decide(namings: Sequence[Naming], newest: Naming, needed: int) -> Agreed | Awaited:
    """Say whether the newest naming settles the matter; `namings` has one for each operator."""
    same = [naming for naming in namings if naming.sheets == newest.sheets]
    if len(same) >= needed:
        return Agreed(tuple(naming.who for naming in same))
    differ = tuple(naming for naming in namings if naming.sheets != newest.sheets)
    return Awaited(needed - len(same), differ)


def format_of(content: bytes) -> str | None:
    """Return the format that the first bytes tell of, None for what is filed in no case."""
    return next((name for name, heads in _MAGIC.items() if content.startswith(heads)), None)


# What the catalog holds of it.


def name(connection: sa.Connection, file: str, naming: Naming) -> None:
    """Note what an operator says, in place of what the same one said before."""
    withdraw(connection, file, naming.who)
    row = {**naming._asdict(), "file": file, "sheets": written(naming.sheets)}
    connection.execute(sa.insert(t.naming).values(row))


def withdraw(connection: sa.Connection, file: str, who: str) -> None:
    """Forget what an operator says."""
    chosen = (t.naming.c.file == file) & (t.naming.c.who == who)
    connection.execute(sa.delete(t.naming).where(chosen))


def namings(connection: sa.Connection, file: str | None = None) -> dict[str, list[Naming]]:
    """Return what was named, by file, in the order in which it was."""
    query = sa.select(t.naming).order_by(t.naming.c.named_at, t.naming.c.id)
    if file is not None:
        query = query.where(t.naming.c.file == file)
    found: dict[str, list[Naming]] = {}
    for row in connection.execute(query):
        sheets = parse(row.sheets.split())
        naming = Naming(row.who, row.id, sheets, row.why, row.named_at)
        found.setdefault(row.file, []).append(naming)
    return found


def rule(connection: sa.Connection, file: str, ruling: Ruling, filed: str | None = None) -> None:
    """Note what became of a file; `filed` is the arrival as which it is filed."""
    connection.execute(sa.delete(t.ruling).where(t.ruling.c.file == file))
    connection.execute(sa.insert(t.ruling).values(file=file, filed=filed, **ruling._asdict()))
    connection.execute(sa.delete(t.naming).where(t.naming.c.file == file))


def rulings(connection: sa.Connection) -> dict[str, Ruling]:
    """Return what became of each file that was ruled on."""
    r = t.ruling.c
    query = sa.select(r.file, r.id, r.outcome, r.who, r.why, r.ruled_at)
    return {row[0]: Ruling(*row[1:]) for row in connection.execute(query)}


def ruling_of(connection: sa.Connection, file: str) -> Ruling | None:
    """Return what became of one file, None if nobody has ruled on it."""
    r = t.ruling.c
    query = sa.select(r.id, r.outcome, r.who, r.why, r.ruled_at).where(r.file == file)
    row = connection.execute(query).one_or_none()
    return Ruling(*row) if row else None


def learn(connection: sa.Connection, record: Record) -> None:
    """Take up a rejection from the filing ledger, unless that was done before."""
    event, detail = record.event, record.event.detail
    if event.event != Filing.REJECTED:
        return
    known = sa.select(t.ruling.c.file).where(t.ruling.c.id == detail["errand"])
    if connection.scalar(known) is None:
        at = record.time.isoformat(timespec="seconds")
        made = Ruling(str(detail["errand"]), REJECTED, event.who, str(detail["reason"]), at)
        rule(connection, event.what.rpartition("/")[2], made)
