"""The tables that are saved: headings in Turkish, and typed rows, of exactly what a page shows.

Every row ends with the snapshot's number and the note that the result is provisional (md. 3), or of
a rehearsal (`as_rehearsed`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from config.result import NUMBER_COLUMNS
from portal.data import titles
from portal.data.answers.boxes import PLACE_ORDER, BoxRow
from portal.data.answers.changes import ChangedResult
from portal.data.criteria import Criteria
from portal.data.scoped import ScopedData
from portal.exports.file_name import REHEARSED
from publisher.results.checks.finding import Check
from publisher.results.snapshots.headings import HEADINGS, PROVISIONAL, SNAPSHOT_HEADING

Cell = str | int | float | datetime | None
_ALL = 1 << 62
_PAGE = 1000


@dataclass(frozen=True)
class ExportTable:
    """A table to be saved; `rows` can be iterated again."""

    title: str
    headings: tuple[str, ...]
    rows: Callable[[], Iterator[Sequence[Cell]]]
    snapshot: int


def boxes(
    data: ScopedData, criteria: Criteria, sort: str = PLACE_ORDER, descending: bool = False
) -> ExportTable:
    """Return the boxes of a search, in the order in which they are shown, and their total."""
    options = data.shown_options(criteria)
    named = data.option_titles(criteria)
    headings = (
        HEADINGS["cevre"],
        HEADINGS["kurul"],
        "Mahalle/Köy",
        HEADINGS["sandik"],
        HEADINGS["sandik_turu"],
        "Tutanak Sayfası",
        HEADINGS["surum"],
        HEADINGS["neden"],
        HEADINGS["zaman"],
        *(HEADINGS[name] for name in NUMBER_COLUMNS),
        *(named[option] for option in options),
    )

    def rows() -> Iterator[Sequence[Cell]]:
        for row in data.rows(criteria, sort, descending):
            yield (*_place(row), *_numbers(row, options))
        total = data.summary(criteria).total
        yield (
            "TOPLAM",
            *[None] * 8,
            *(total.numbers[name] for name in NUMBER_COLUMNS),
            *(total.votes.get(option, 0) for option in options),
        )

    return _table(data, f"{criteria.secim} sandik", headings, rows)


def _place(row: BoxRow) -> tuple[Cell, ...]:
    return (
        titles.district(row.place.cevre),
        titles.board(row.place.kurul),
        row.mahalle,
        row.place.sandik,
        titles.KINDS[row.kind],
        row.sheets + row.count_sheets,
        row.version or None,
        row.reason,
        row.time,
    )


def _numbers(row: BoxRow, options: Sequence[str]) -> Iterator[Cell]:
    yield from row.numbers.values()
    yield from map(row.votes.get, options)


def changes(
    data: ScopedData, criteria: Criteria, since_snapshot: int = 0, since: datetime | None = None
) -> ExportTable:
    """Return the corrections of a search: one row for each number that changed."""
    named = data.option_titles(criteria)
    headings = (
        SNAPSHOT_HEADING + " (değişiklik)",
        HEADINGS["belge"],
        HEADINGS["cevre"],
        HEADINGS["kurul"],
        HEADINGS["sandik"],
        HEADINGS["surum"],
        HEADINGS["neden"],
        HEADINGS["zaman"],
        "Yeni Tarama",
        "Alan",
        "Eski",
        "Yeni",
    )

    def rows() -> Iterator[Sequence[Cell]]:
        offset = 0
        while True:
            page = data.changes(criteria, since_snapshot, since, offset, _PAGE)
            for change in page.changes:
                for name, old, new in change.differences():
                    yield (*_change(change), titles.field(name, named), old, new)
            offset += _PAGE
            if offset >= page.count:
                return

    return _table(data, f"{criteria.secim} degisiklik", headings, rows)


def _change(change: ChangedResult) -> tuple[Cell, ...]:
    return (
        change.snapshot,
        change.belge.turkish,
        titles.district(change.cevre) if change.cevre else "",
        titles.board(change.kurul) if change.kurul else "",
        change.sandik,
        change.version,
        change.reason,
        change.time,
        "var" if change.new_scan else "yok",
    )


def gaps(data: ScopedData, criteria: Criteria, without_sheet: bool = False) -> ExportTable:
    """Return the boxes without a result (or without a result sheet)."""
    headings = (
        HEADINGS["cevre"],
        HEADINGS["kurul"],
        "Mahalle/Köy",
        HEADINGS["sandik"],
        HEADINGS["sandik_turu"],
        "Sonuç",
        "Tutanak",
        "Bildirilen Neden",
        "Açıklama",
    )

    def rows() -> Iterator[Sequence[Cell]]:
        found, _ = data.gaps(criteria, without_sheet, 0, _ALL)
        for gap in found:
            row = gap.row
            yield (
                *_place(row)[:5],
                "var" if row.version else "yok",
                "var" if row.sheets else "yok",
                gap.reason,
                gap.why,
            )

    return _table(data, f"{criteria.secim} eksik", headings, rows)


def findings(
    data: ScopedData, criteria: Criteria | None = None, check: Check | None = None
) -> ExportTable:
    """Return what the checks found, one row for each number that takes part."""
    headings = ("Kontrol", "Tür", "Seçim", "Yer", "Alan", "Değer")

    def rows() -> Iterator[Sequence[Cell]]:
        offset = 0
        while True:
            page = data.findings(criteria, check, offset, _PAGE)
            for found in page.findings:
                place = " ".join(found.places)
                fixed = (found.check.value, found.check.kind.value, found.secim.value, place)
                for name, number in found.numbers.items() or (("", None),):
                    yield (*fixed, name, number)
            offset += _PAGE
            if offset >= page.count:
                return

    return _table(data, "uyarilar", headings, rows)


def aggregates(data: ScopedData, criteria: Criteria) -> ExportTable:
    """Return the aggregate sheets of a place beside the sums of their boxes, a row a number."""
    named = data.option_titles(criteria)
    headings = (
        HEADINGS["belge"],
        HEADINGS["cevre"],
        HEADINGS["kurul"],
        HEADINGS["surum"],
        HEADINGS["neden"],
        HEADINGS["zaman"],
        "Sandık",
        "Açılan Sandık",
        "Tutanak Sayfası",
        "Alan",
        "Tutanakta",
        "Sandıkların Toplamı",
        "Farklı",
    )

    def rows() -> Iterator[Sequence[Cell]]:
        for line in data.aggregates(criteria.secim, criteria.cevre, criteria.kurul):
            stated, differs = line.stated, line.differs
            fixed = (
                line.key.belge.turkish,
                titles.district(line.key.cevre) if line.key.cevre else "",
                titles.board(line.key.kurul) if line.key.kurul else "",
                stated.version if stated else None,
                stated.reason if stated else "",
                stated.time if stated else None,
                line.boxes,
                line.opened,
                len(line.sheets),
            )
            for name, on_sheet, summed in line.numbers():
                different = "farklı" if name in differs else ""
                yield (*fixed, titles.field(name, named), on_sheet, summed, different)

    return _table(data, f"{criteria.secim} birlestirme", headings, rows)


def as_rehearsed(table: ExportTable) -> ExportTable:
    """Return the table with rows that say that they are a rehearsal's."""
    return replace(table, rows=lambda: ((*row[:-1], REHEARSED) for row in table.rows()))


def _table(
    data: ScopedData,
    title: str,
    headings: Sequence[str],
    rows: Callable[[], Iterator[Sequence[Cell]]],
) -> ExportTable:
    number = data.snapshot.number
    return ExportTable(
        title,
        (*headings, SNAPSHOT_HEADING, "Durum"),
        lambda: ((*row, number, PROVISIONAL) for row in rows()),
        number,
    )
