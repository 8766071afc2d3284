"""The rules and the tables for operators' decisions about files in quarantine.

An operator identifies a file by the karekod of the sheet that it shows, `1093717526`. For a file of
several pages he gives one for each page that is a sheet, `1:1093717526 3:1093717527`. The file is
filed when enough operators ([desk] confirmations) have named the same sheets. While they differ
nothing is filed, and each of them may change his identification.

The rules of automatic filing apply here too: all sheets of one file must belong to the same board,
and bytes that are already filed are not filed again.

One operator alone can close a file by rejecting it, with a reason. Its bytes stay in quarantine,
and it can still be identified later.

An operator works at the console (`ssps desk`, the login name) or at the staff site (`staff:ayse`,
the account). A login and an account may belong to the same person, so identifications of the two
are never added together: a file is filed by enough logins, or by enough accounts.

At the staff site an operator does not see another's choice before making one, and no choice can be
changed after the second one. If two accounts differ, the file is in dispute, and only a
supervisor who has not named it yet may decide (`rule`): his choice is one more identification. An
account that rejects a file which another account has identified contradicts it: its identification
has no sheets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from config.event import FilingEvent
from config.registry import RegistryEntry, is_karekod
from keys.ledger.record import Record
from keys.operations.change_record import ACCOUNT
from publisher.catalog import tables as t
from publisher.outcome import Lookup

FILED, REJECTED = "filed", "rejected"
CONTRADICTED = "contradicted"  # the cause of an answer (publisher/requests/queue)
Sheets = tuple[tuple[int, str], ...]  # pages from 1, and the karekod of the sheet on each


class Review(NamedTuple):
    """The decision about a file: its outcome, by whom, why and when."""

    id: str
    outcome: str
    who: str
    why: str
    ruled_at: str


class Identification(NamedTuple):
    """The sheets that a file shows, according to one operator; none if he says it shows none."""

    who: str
    id: str
    sheets: Sheets
    why: str
    named_at: str


@dataclass(frozen=True, slots=True)
class Agreed:
    """Enough operators named the same sheets; `by` has them in the order in which they did."""

    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotYetAgreed:
    """`more` operators must still name the same sheets; `differ` are identifications of others."""

    more: int
    differ: tuple[Identification, ...]


def parse_sheets(words: Sequence[str]) -> Sheets:
    """Parse an operator's words; raise ValueError with what to write instead."""
    found: dict[int, str] = {}
    for word in words:
        page, colon, karekod = word.rpartition(":")
        if not is_karekod(karekod) or (colon and not (page.isascii() and page.isdecimal())):
            raise ValueError(f"{word!r}: write the ten digits of a karekod, or PAGE:KAREKOD")
        number = int(page) if colon else 1
        if number < 1 or number in found:
            raise ValueError(f"{word!r}: page numbers start at 1, and each may be given once")
        found[number] = karekod
    if not found:
        raise ValueError("no karekod given: write the karekod of the sheet that the file shows")
    return tuple(sorted(found.items()))


def format_sheets(sheets: Sheets) -> str:
    """Format sheets so that `parse_sheets` can read them."""
    return " ".join(f"{page}:{karekod}" for page, karekod in sheets)


def is_account(who: str) -> bool:
    """Return whether an operator is an account of the staff site, not a login of this machine."""
    return who.startswith(ACCOUNT)


def in_dispute(identifications: Sequence[Identification]) -> bool:
    """Return whether accounts of the staff site have identified a file differently."""
    return len({each.sheets for each in identifications if is_account(each.who)}) > 1


def entries_of(sheets: Sheets, frames: int, lookup: Lookup) -> list[tuple[int, RegistryEntry]]:
    """Return the registry entries of the sheets; raise ValueError if they must not be filed."""
    found: list[tuple[int, RegistryEntry]] = []
    for page, karekod in sheets:
        entry = lookup(karekod)
        if page > frames:
            raise ValueError(f"page {page}: the file has only {frames}, correct the page number")
        if entry is None:
            raise ValueError(f"{karekod}: not in the registry, check the karekod")
        if any(entry.sheet == other.sheet for _, other in found):
            raise ValueError(f"{karekod}: given for two pages, give only the sheet's first page")
        found.append((page, entry))
    if len({(entry.sheet.cevre, entry.sheet.kurul) for _, entry in found}) > 1:
        raise ValueError("the sheets belong to several boards: a file must have one, reject it")
    return found


def step_of(identifications: Sequence[Identification], reviewed: Review | None) -> str:
    """Return what a page of the desk was shown for: a later action on it must find the same.

    It changes when an account identifies the file and when somebody decides about it.
    """
    accounts = sorted(each.who for each in identifications if is_account(each.who))
    return f"{len(accounts)} {reviewed.id if reviewed else '-'}"


def decide(
    identifications: Sequence[Identification], newest: Identification, needed: int
) -> Agreed | NotYetAgreed:
    """Return whether `newest` completes an agreement of `needed` operators.

    `identifications` has one for each operator, `newest` included. Only those count that were made
    where `newest` was: at the console, or at the staff site.
    """
    same = [
        each
        for each in identifications
        if each.sheets == newest.sheets and is_account(each.who) == is_account(newest.who)
    ]
    if len(same) >= needed:
        return Agreed(tuple(each.who for each in same))
    differ = tuple(each for each in identifications if each.sheets != newest.sheets)
    return NotYetAgreed(needed - len(same), differ)


# The tables of identifications and reviews.


def add_identification(
    connection: sa.Connection, file: str, identification: Identification
) -> None:
    """Store an operator's identification; it replaces an earlier one by the same operator."""
    remove_identification(connection, file, identification.who)
    row = {**identification._asdict(), "file": file, "sheets": format_sheets(identification.sheets)}
    connection.execute(sa.insert(t.identification).values(row))


def remove_identification(connection: sa.Connection, file: str, who: str) -> None:
    """Remove an operator's identification."""
    condition = (t.identification.c.file == file) & (t.identification.c.who == who)
    connection.execute(sa.delete(t.identification).where(condition))


def identifications(
    connection: sa.Connection, file: str | None = None
) -> dict[str, list[Identification]]:
    """Return the identifications of each file, or of one, in the order in which they were made."""
    query = sa.select(t.identification).order_by(t.identification.c.named_at, t.identification.c.id)
    if file is not None:
        query = query.where(t.identification.c.file == file)
    found: dict[str, list[Identification]] = {}
    for row in connection.execute(query):
        sheets = parse_sheets(row.sheets.split()) if row.sheets else ()
        identification = Identification(row.who, row.id, sheets, row.why, row.named_at)
        found.setdefault(row.file, []).append(identification)
    return found


def add_review(
    connection: sa.Connection, file: str, review: Review, filed: str | None = None
) -> None:
    """Store the decision about a file and remove its identifications.

    `filed` is the id of the new arrival that files it.
    """
    connection.execute(sa.delete(t.review).where(t.review.c.file == file))
    connection.execute(sa.insert(t.review).values(file=file, filed=filed, **review._asdict()))
    connection.execute(sa.delete(t.identification).where(t.identification.c.file == file))


def reviews(connection: sa.Connection) -> dict[str, Review]:
    """Return the decision about each file that has one."""
    r = t.review.c
    query = sa.select(r.file, r.id, r.outcome, r.who, r.why, r.ruled_at)
    return {row[0]: Review(*row[1:]) for row in connection.execute(query)}


def review_of(connection: sa.Connection, file: str) -> Review | None:
    """Return the decision about a file, None if there is none."""
    r = t.review.c
    query = sa.select(r.id, r.outcome, r.who, r.why, r.ruled_at).where(r.file == file)
    row = connection.execute(query).one_or_none()
    return Review(*row) if row else None


def apply_record(connection: sa.Connection, record: Record) -> None:
    """Add a rejection from the filing ledger, unless the catalog has it already."""
    event, detail = record.event, record.event.detail
    if event.event != FilingEvent.REJECTED:
        return
    known = sa.select(t.review.c.file).where(t.review.c.id == detail["errand"])
    if connection.scalar(known) is None:
        at = record.time.isoformat(timespec="seconds")
        review = Review(str(detail["errand"]), REJECTED, event.who, str(detail["reason"]), at)
        add_review(connection, event.what.rpartition("/")[2], review)
