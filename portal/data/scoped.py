"""Everything that can be asked of the data, within one scope.

`ScopedData` is the only way to read a view, and it can only be made with a scope. What is in scope
is decided in portal/data/scoped_rows: each method here takes only rows that `rows` returns, and
only places for which `covers` is true, and portal/data/answers makes values of them. Only findings
are chosen by their own query (portal/data/queries/findings). A method that gets a place outside the
scope answers as for a place that does not exist.
"""

import json
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zstandard

from config.ballot import Option, Tur
from config.layout import ilce_of
from config.layout import parse as parse_path
from config.result import BOX_SHEET, NUMBER_COLUMNS
from config.scope import Scope
from config.settings import ShareLevel
from config.sheet import Belge, SandikTuru, Secim
from config.site import FILING, RESULTS_LEDGER
from config.snapshot import EXPORTS
from portal.data.answers import aggregates
from portal.data.answers.aggregates import AggregateLine
from portal.data.answers.boxes import (
    PLACE_ORDER,
    BoxRow,
    Gap,
    Summary,
    Table,
    box_rows,
    in_order,
)
from portal.data.answers.changes import ChangePage, Feed, changed
from portal.data.answers.places import (
    Choices,
    CoverageLine,
    MahalleLine,
    coverage_lines,
    mahalle_lines,
)
from portal.data.criteria import Area, Criteria
from portal.data.numbers import sums
from portal.data.numbers.boxes import ABROAD, KINDS, Boxes, BoxPlace
from portal.data.numbers.columns import common_options
from portal.data.numbers.parquet import lines as parquet_lines
from portal.data.numbers.snapshots import (
    ChangeLine,
    Cursor,
    SnapshotInfo,
    lines_after,
    read_info,
)
from portal.data.numbers.sums import Group, Selection, Sum
from portal.data.queries import receipts
from portal.data.queries import sheets as sheet_queries
from portal.data.queries.databases import in_files, open_catalog
from portal.data.queries.findings import FindingPage
from portal.data.queries.history import BoxHistory, box_history
from portal.data.queries.sheets import SheetFile
from portal.data.scoped_rows import ScopedRows
from portal.data.view import Aggregate, AggregateKey, Correction, View
from publisher.results.checks.finding import Check
from publisher.results.snapshots.folder import condition, snapshot_folder

_CACHED = 500  # answers of one view; one has some kilobytes
_BOXES_AT_A_TIME = 100  # whose sheets are asked for
_ABSENT: Any = object()
_EXPORTS_BACK = 500  # snapshots; exports of older ones may be removed
_PARQUET = ".parquet"
_T = TypeVar("_T")


class ScopedData:
    """The data of one view within one scope; cheap to make, of one request."""

    def __init__(self, view: View, scope: Scope) -> None:
        """Take a view and what may be seen of it."""
        self._view = view
        self._scope = scope
        self._scoped = ScopedRows(view, scope)

    # What there is.

    @property
    def snapshot(self) -> SnapshotInfo:
        """The snapshot that is shown."""
        return self._view.snapshot

    @property
    def contests(self) -> tuple[Secim, ...]:
        """The contests of the election, in the order of the ballot."""
        return tuple(self._view.contests)

    @property
    def sees_everything(self) -> bool:
        """Whether the scope is the whole election, so that whole files may be handed out."""
        return self._scope.places is None

    def options(self, secim: Secim, cevre: str | None = None) -> tuple[Option, ...]:
        """Return the ballot of a contest: of a district, or what every district has."""
        if self._view.ballot is None or (cevre is not None and not self._scoped.any_in(cevre)):
            return ()
        if cevre is None:
            return common_options(self._view.ballot, secim)
        return self._view.ballot.options(secim, cevre)

    def shown_options(self, criteria: Criteria) -> tuple[str, ...]:
        """Return the options that a table of these boxes has columns for, in ballot order."""
        columns = self._view.contests.get(criteria.secim)
        if columns is None:
            return ()
        districts = self._districts(criteria)
        if len(districts) == 1 and self._view.ballot is not None:
            listed = [o.id for o in self._view.ballot.options(criteria.secim, *districts)]
            return tuple(dict.fromkeys((*listed, *columns.layout.options(*districts))))
        own = (option for name in districts for option in columns.layout.own.get(name, ()))
        return tuple(dict.fromkeys((*columns.layout.common, *own)))

    def option_titles(self, criteria: Criteria) -> dict[str, str]:
        """Return the title of each option of `shown_options`.

        An id that stands for different people in several districts is its own title there.
        """
        shown = self.shown_options(criteria)
        if self._view.ballot is None:
            return {option: option for option in shown}
        here = self._districts(criteria)
        titles: dict[str, set[str]] = {}
        for row in self._view.ballot.rows:
            if row.secim is criteria.secim and row.cevre in ("", *here):
                titles.setdefault(row.option.id, set()).add(row.option.ad)
        return {
            option: found.pop() if len(found := titles.get(option, set())) == 1 else option
            for option in shown
        }

    def joint_options(self, criteria: Criteria) -> frozenset[str]:
        """Return those of `shown_options` that are the joint votes of an alliance."""
        rows = self._view.ballot.rows if self._view.ballot is not None else ()
        secim = criteria.secim
        joint = {r.option.id for r in rows if (r.secim, r.option.tur) == (secim, Tur.ITTIFAK)}
        return frozenset(joint.intersection(self.shown_options(criteria)))

    def _districts(self, criteria: Criteria) -> list[str]:
        """Return the districts that a search finds boxes in, in order."""
        return self._kept("districts", criteria, lambda: self._find_districts(criteria))

    def _find_districts(self, criteria: Criteria) -> list[str]:
        return list(dict.fromkeys(district for district, _ in self.boxes_by_board(criteria)))

    def board_numbers(self) -> dict[tuple[str, str], int]:
        """Return a stable number for each board in scope (portal/data/numbers/ids)."""
        numbers = self._view.boxes.board_numbers
        return {board: numbers["/".join(board)] for board in self.boards()}

    def boxes_by_board(self, criteria: Criteria) -> dict[tuple[str, str], int]:
        """Return how many boxes of a search each board has."""
        boxes = self._view.boxes
        counts = np.bincount(boxes.board[self._scoped.rows(criteria)], minlength=len(boxes.boards))
        return {boxes.boards[board]: int(counts[board]) for board in np.flatnonzero(counts)}

    def places(self, criteria: Criteria) -> Iterator[BoxPlace]:
        """Yield the place of every box of a search."""
        return map(self._view.boxes.place, self._scoped.rows(criteria).tolist())

    def mahalle_number(self, place: BoxPlace, name: str) -> int:
        """Return the number of a mahalle, as `mahalles` has it; 0 if it is unknown."""
        if not self._scoped.covers(place.cevre, place.kurul):
            return 0
        key = f"{place.cevre}/{place.kurul}/{name}"
        return self._view.boxes.mahalle_numbers.get(key, 0)

    def mahalles(self, criteria: Criteria) -> list[MahalleLine]:
        """Return the mahalles of a search, each with a stable number and its range of boxes.

        Boxes without one are listed as a mahalle without a name.
        """
        rows = self._scoped.rows(criteria)
        return mahalle_lines(self._view.boxes, rows) if len(rows) else []

    def boards(self) -> tuple[tuple[str, str], ...]:
        """Return district and board of every board in scope, in the order of places."""
        return tuple(board for board in self._view.boxes.boards if self._scoped.covers(*board))

    def choices(self, criteria: Criteria) -> Choices:
        """Return what can be chosen; each list is within what was chosen before it."""
        return self._kept("choices", criteria, lambda: self._find_choices(criteria))

    def _find_choices(self, criteria: Criteria) -> Choices:
        boxes = self._view.boxes
        # What depends on the first parameters only is the same for most searches.
        of_contest = Criteria(criteria.secim)
        areas = self._kept("areas", of_contest, lambda: self._areas(of_contest))
        of_area = Criteria(criteria.secim, criteria.area)
        kinds = self._kept("kinds", of_area, lambda: self._kinds(of_area))
        of_kind = Criteria(criteria.secim, criteria.area, criteria.kind)
        names = self._kept("boards", of_kind, lambda: tuple(self.boxes_by_board(of_kind)))
        boards = tuple(board for district, board in names if district == criteria.cevre)
        mahalles: tuple[str, ...] = ()
        if criteria.cevre is not None and criteria.kurul is not None:
            place = (criteria.cevre, criteria.kurul)
            chosen = Criteria(criteria.secim, criteria.area, criteria.kind, *place)
            found = np.unique(boxes.mahalle[self._scoped.rows(chosen)])
            mahalles = tuple(text for number in found if (text := boxes.mahalles[number]))
        ranks = boxes.number_rank[self._scoped.rows(criteria)]
        return Choices(
            self.contests,
            areas,
            kinds,
            tuple(dict.fromkeys(district for district, _ in names)),
            boards,
            mahalles,
            boxes.ranked_numbers[ranks.min()] if len(ranks) else None,
            boxes.ranked_numbers[ranks.max()] if len(ranks) else None,
        )

    def _areas(self, of_contest: Criteria) -> tuple[Area, ...]:
        everywhere = len(self._scoped.rows(of_contest))
        abroad = len(self._scoped.rows(replace(of_contest, area=Area.ABROAD)))
        found = [Area.EVERYWHERE]
        found += [Area.HOME] if everywhere > abroad else []
        found += [Area.ABROAD] if abroad else []
        return tuple(found)

    def _kinds(self, of_area: Criteria) -> tuple[SandikTuru, ...]:
        kinds = self._view.boxes.kind[self._scoped.rows(of_area)]
        present = np.bincount(kinds, minlength=len(KINDS))
        return tuple(kind for number, kind in enumerate(KINDS) if present[number])

    # Results.

    def summary(self, criteria: Criteria) -> Summary:
        """Return how many boxes of a search are opened, and their sum with the shares."""
        return self._kept(
            "summary", criteria, lambda: self._summary(criteria, self._scoped.rows(criteria))
        )

    def _summary(self, criteria: Criteria, rows: Selection) -> Summary:
        columns = self._view.contests.get(criteria.secim)
        opened = int((columns.version[rows] > 0).sum()) if columns is not None else 0
        total = self._sum(criteria, rows)
        return Summary(len(rows), opened, total.numbers["secmen"], total)

    def _sum(self, criteria: Criteria, rows: Selection) -> Sum:
        columns = self._view.contests.get(criteria.secim)
        if columns is None:
            return Sum(0, dict.fromkeys(NUMBER_COLUMNS, 0), {}, None)
        groups = sums.by_board(columns, self._view.boxes, rows)
        level = self._view.share_level
        whole = criteria.only_places and self._adds_whole_places(criteria)
        return sums.add_up(columns, groups, criteria.secim, self._view.ballot, level, whole)

    def _adds_whole_places(self, criteria: Criteria) -> bool:
        """Say whether the rows are whole places of the level at which joint votes are divided."""
        if self._view.share_level is ShareLevel.ILCE:
            return self._adds_whole_ilces(criteria)
        if criteria.kurul is not None:
            return False
        places = self._scope.places
        if places is None:
            return True
        whole = {district for district, board in places if board is None}
        seen = {district for district, _ in places} if criteria.cevre is None else {criteria.cevre}
        return seen <= whole

    def _adds_whole_ilces(self, criteria: Criteria) -> bool:
        """Say whether each ilçe with a board among the rows has all its boards among them."""
        seen: set[tuple[str, str]] = set()
        rest: set[tuple[str, str]] = set()
        for district, board in self._view.boxes.boards:
            wanted = criteria.cevre in (None, district) and criteria.kurul in (None, board)
            found = seen if wanted and self._scoped.covers(district, board) else rest
            found.add((district, ilce_of(board)))
        return not seen & rest

    def groups(self, criteria: Criteria, by_board: bool = False) -> tuple[Group, ...]:
        """Return the sums of each district of a search (or of each board) that has a result."""
        columns = self._view.contests.get(criteria.secim)
        if columns is None:
            return ()
        found = sums.by_board(columns, self._view.boxes, self._scoped.rows(criteria))
        return tuple(found if by_board else sums.by_district(found))

    def votes_of(self, secim: Secim, group: Group) -> dict[str, int]:
        """Return the votes of a group by option."""
        return group.votes(self._view.contests[secim])

    def table(
        self,
        criteria: Criteria,
        sort: str = PLACE_ORDER,
        descending: bool = False,
        offset: int = 0,
        limit: int = 100,
    ) -> Table:
        """Return a part of the boxes of a search in some order, and the sum of all of them.

        `sort` is one of SORTS or `oylar.<option>`; ValueError if it is neither. Boxes that lack
        the number come last.
        """
        rows, count, total = self.listed(criteria, sort, descending, offset, limit)
        return Table(tuple(rows), count, total)

    def listed(
        self, criteria: Criteria, sort: str, descending: bool, offset: int, limit: int
    ) -> tuple[Iterator[BoxRow], int, Sum]:
        """Return what `table` does: the boxes, each made as it is asked for, their number, the sum.

        Ten thousand boxes need 25 MB.
        """
        rows = self._scoped.rows(criteria)
        chosen = self._in_order(criteria.secim, rows, sort, descending, offset, limit)
        total = self._kept("summary", criteria, lambda: self._summary(criteria, rows)).total
        return self._box_rows(criteria.secim, chosen), len(rows), total

    def rows(
        self, criteria: Criteria, sort: str = PLACE_ORDER, descending: bool = False
    ) -> Iterator[BoxRow]:
        """Yield every box of a search in some order, as `table` has them."""
        rows = self._scoped.rows(criteria)
        ordered = self._in_order(criteria.secim, rows, sort, descending, 0, len(rows))
        return self._box_rows(criteria.secim, ordered)

    def _in_order(
        self, secim: Secim, rows: Selection, sort: str, descending: bool, offset: int, limit: int
    ) -> Selection:
        columns = self._view.contests.get(secim)
        return in_order(self._view.boxes, columns, rows, sort, descending, offset, limit)

    def _box_rows(self, secim: Secim, rows: Iterable[int]) -> Iterator[BoxRow]:
        columns = self._view.contests.get(secim)
        if columns is None:
            return iter(())
        pages = [self._view.sheets.of(secim, belge) for belge in sheet_queries.BOX_FORMS]
        return box_rows(self._view.boxes, columns, pages, rows)

    def box_row(self, secim: Secim, place: BoxPlace) -> BoxRow | None:
        """Return one box, None if there is no such box with that contest."""
        row = self._scoped.row_of(secim, place)
        return None if row is None else next(self._box_rows(secim, [row]))

    def contests_of(self, place: BoxPlace) -> list[Secim]:
        """Return the contests of one box, in the order of the ballot."""
        return [s for s in self.contests if self._scoped.row_of(s, place) is not None]

    def box(self, place: BoxPlace) -> BoxHistory | None:
        """Return everything that is known of a box, None if there is no such box.

        Its versions are those of the snapshot: a later one is shown to all at the same time. So is
        what the checks found in it.
        """
        if (
            not self._scoped.covers(place.cevre, place.kurul)
            or self._view.boxes.row_of(place) is None
        ):
            return None
        return box_history(self._view.site, place, self.snapshot)

    @property
    def in_files(self) -> bool:
        """Whether catalog and results are files of SQLite."""
        return in_files(self._view.site)

    def neighbours(
        self, criteria: Criteria, place: BoxPlace
    ) -> tuple[BoxPlace | None, BoxPlace | None]:
        """Return the boxes before and after a box in the order of places of a search."""
        row = self._scoped.row_of(criteria.secim, place)
        if row is None:
            return None, None
        before, after = self._scoped.rows_beside(criteria, row)
        boxes = self._view.boxes
        return (
            None if before is None else boxes.place(before),
            None if after is None else boxes.place(after),
        )

    # Places.

    def coverage(self, secim: Secim, cevre: str | None = None) -> tuple[CoverageLine, ...]:
        """Return how much of each district is here, or of each board of one district."""
        criteria = Criteria(secim, cevre=cevre)
        return self._kept("coverage", criteria, lambda: self._coverage(criteria))

    def _coverage(self, criteria: Criteria) -> tuple[CoverageLine, ...]:
        columns = self._view.contests.get(criteria.secim)
        rows = self._scoped.rows(criteria)
        if columns is None or not len(rows):
            return ()
        pages = self._view.sheets.of(criteria.secim, BOX_SHEET)
        by_board = criteria.cevre is not None
        return coverage_lines(self._view.boxes, columns, pages, rows, by_board=by_board)

    def gaps(
        self,
        criteria: Criteria,
        without_sheet: bool = False,
        offset: int = 0,
        limit: int = 100,
    ) -> tuple[tuple[Gap, ...], int]:
        """Return boxes without a result (or without a result sheet), and how many there are."""
        columns = self._view.contests.get(criteria.secim)
        rows = self._scoped.rows(criteria)
        if columns is None:
            return (), 0
        if without_sheet:
            pages = self._view.sheets.of(criteria.secim, BOX_SHEET)
            missing = rows if pages is None else rows[pages[rows] == 0]
        else:
            missing = rows[columns.version[rows] == 0]
        shown = list(self._box_rows(criteria.secim, missing[offset : offset + limit]))
        with open_catalog(self._view.site) as catalog:
            reasons = sheet_queries.absences(catalog, (row.place for row in shown))
        return tuple(
            Gap(row, criteria.secim, *reasons.get(row.place, ("", ""))) for row in shown
        ), len(missing)

    def aggregates(
        self, secim: Secim, cevre: str | None = None, kurul: str | None = None
    ) -> tuple[AggregateLine, ...]:
        """Return the aggregate sheets beside the sums of their boxes.

        Without a place: those of districts and of the election. With a district: its own and those
        of its boards. With a board: those of that board.
        """
        stated = self._view.aggregates.get(secim, {})
        expected = self._view.expected_aggregates.get(secim, ())
        keys = [
            key
            for key in dict.fromkeys((*expected, *stated))
            if self._scoped.covers(key.cevre, key.kurul) and aggregates.is_wanted(key, cevre, kurul)
        ]
        with open_catalog(self._view.site) as catalog:
            return tuple(
                self._aggregate_line(
                    secim, key, stated.get(key), aggregates.sheets_of(catalog, secim, key)
                )
                for key in keys
            )

    def _aggregate_line(
        self,
        secim: Secim,
        key: AggregateKey,
        stated: Aggregate | None,
        sheets: Sequence[SheetFile],
    ) -> AggregateLine:
        below = aggregates.boxes_below(self._view.boxes.boards, secim, key)
        summaries = [self.summary(part) for part in below]
        whole = all(self._scoped.covers(part.cevre or "", part.kurul or "") for part in below)
        return aggregates.line(secim, key, stated, summaries, sheets, whole=whole)

    # Sheets.

    def aggregate_sheets(
        self, secim: Secim, cevre: str, kurul: str
    ) -> dict[Belge, tuple[int, int]]:
        """Return how many aggregate sheets, and pages of them, a place has of each form.

        The place is a board, a district (`kurul` empty) or the election (`cevre` empty too).
        """
        if not self._scoped.covers(cevre, kurul):
            return {}
        counts = self._view.sheets.aggregates
        return {
            belge: found for belge in Belge if (found := counts.get((secim, belge, cevre, kurul)))
        }

    def sheets(self, cevre: str = "", kurul: str = "", sandik: str = "") -> tuple[SheetFile, ...]:
        """Return the scans of exactly one place: of a box, or the aggregates of a place."""
        if not self._scoped.covers(cevre, kurul):
            return ()
        with open_catalog(self._view.site) as catalog:
            return tuple(sheet_queries.of_place(catalog, cevre, kurul, sandik))

    def sheet(self, path: str) -> SheetFile | None:
        """Return the scan at a path of the trees, None if there is none."""
        try:
            sheet = parse_path(path).sheet
        except ValueError:
            return None
        if not self._scoped.covers(sheet.cevre or "", sheet.kurul or ""):
            return None
        with open_catalog(self._view.site) as catalog:
            return sheet_queries.of_path(catalog, path)

    def sheets_of(self, criteria: Criteria) -> Iterator[SheetFile]:
        """Return the result and counting sheets of the boxes of a search, of its contest.

        It takes them from the catalog as they are asked for, and holds no view meanwhile.
        """
        rows = self._scoped.rows(criteria)
        return _sheets_of(self._view.site, self._view.boxes, rows, criteria.secim)

    # Changes and findings.

    def changes(
        self,
        criteria: Criteria,
        since_snapshot: int = 0,
        since: datetime | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> ChangePage:
        """Return the corrections of a search after a snapshot or a time, newest first."""
        found = [
            correction
            for correction in self._kept("changes", criteria, lambda: self._corrections(criteria))
            if correction.snapshot > since_snapshot
        ]
        if since is not None:
            numbers = {correction.snapshot for correction in found}
            after = {n for n in numbers if (at := self._closed_at(n)) and at > since}
            found = [correction for correction in found if correction.snapshot in after]
        found.reverse()
        shown = found[offset : offset + limit]
        with open_catalog(self._view.site) as catalog:
            site = self._view.site
            return ChangePage(
                tuple(changed(site, c, self._closed_at(c.snapshot), catalog) for c in shown),
                len(found),
            )

    def _corrections(self, criteria: Criteria) -> list[Correction]:
        wanted = np.zeros(len(self._view.boxes), dtype=np.bool_)
        wanted[self._scoped.rows(criteria)] = True
        of_contest = [c for c in self._view.corrections if c.secim is criteria.secim]
        rows = np.array([correction.row for correction in of_contest], dtype=np.int64)
        there = np.where(rows >= 0, wanted[rows], True).tolist() if of_contest else []
        return [
            c
            for c, here in zip(of_contest, there, strict=True)
            if here and self._is_wanted(c, wanted, criteria)
        ]

    def _is_wanted(
        self, correction: Correction, wanted: npt.NDArray[np.bool_], criteria: Criteria
    ) -> bool:
        if correction.row >= 0:
            return bool(wanted[correction.row])
        # An aggregate sheet is no box: it is found by its place alone.
        return (
            criteria.only_places
            and criteria.cevre in (None, correction.cevre)
            and criteria.kurul in (None, correction.kurul)
            and (
                criteria.area is Area.EVERYWHERE
                or (correction.cevre in ("", *ABROAD)) == (criteria.area is Area.ABROAD)
            )
            and self._scoped.covers(correction.cevre, correction.kurul)
        )

    def _closed_at(self, number: int) -> datetime | None:
        cache = self._view.cache
        key = ("closed_at", number)
        found: datetime | None = cache.get(key)
        if found is None:
            info = read_info(self._view.site, number)
            found = cache[key] = info.closed_at if info else None
        return found

    def feed(self, cursor: Cursor, limit: int, max_bytes: int = 8 << 20) -> Feed:
        """Return the changes after a cursor in the order of their acceptance, first results too.

        It ends after `limit` changes, or after reading `max_bytes` of the files.
        """
        newest = self._view.snapshot.number
        found: list[ChangeLine] = []
        at, read = cursor, 0
        for line in lines_after(self._view.site, cursor, newest):
            read += len(line.line)
            at = line.after
            if self._may_see(line.line):
                found.append(line)
            if len(found) >= limit or read >= max_bytes:
                return Feed(tuple(found), at, more=True)
        return Feed(tuple(found), Cursor(max(newest, cursor.snapshot)), more=False)

    def _may_see(self, line: bytes) -> bool:
        if self._scope.places is None:
            return True
        change = json.loads(line)
        return self._scoped.covers(change["cevre"] or "", change["kurul"] or "")

    def findings(
        self,
        criteria: Criteria | None = None,
        check: Check | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> FindingPage:
        """Return what the checks found: of one contest and place, or all."""
        place = (criteria.cevre, criteria.kurul) if criteria else (None, None)
        secim = criteria.secim if criteria else None
        last = self.snapshot.last_result
        return self._view.findings.find(self._scope, secim, place, last, check, offset, limit)

    def finding_counts(self, criteria: Criteria | None = None) -> dict[Check, int]:
        """Return how many findings each check has: of one contest and place, or of all."""
        place = (criteria.cevre, criteria.kurul) if criteria else (None, None)
        secim = criteria.secim if criteria else None
        return self._view.findings.count(self._scope, secim, place, self.snapshot.last_result)

    # Proofs and whole files.

    def receipt(self, ledger: str, seq: int) -> bytes | None:
        """Return the receipt of a result or of a filed sheet: the proof that it is on record.

        `ledger` is `results` or `filing`. None if there is no such record in scope, or if it is not
        signed yet. A party verifies it with `ssps audit` or any C2SP tool (keys/ledger/receipt).
        """
        if ledger not in (RESULTS_LEDGER, FILING):
            return None
        found = receipts.receipt(self._view.site, ledger, seq)
        if found is None:
            return None
        receipt, place = found
        return receipt if self._scoped.covers(*place) else None

    def snapshot_tables(self, number: int) -> tuple[str, ...]:
        """Return the tables of a snapshot: `mv`, `mv-birlestirme`; none if it does not exist."""
        info = self.snapshot_info(number)
        files = info.content.get("files", {}) if info else {}
        found = (name.removesuffix(_PARQUET) for name in files if name.endswith(_PARQUET))
        return tuple(sorted(found))

    def snapshot_info(self, number: int) -> SnapshotInfo | None:
        """Return what a snapshot's manifest says, None if there is no such snapshot yet."""
        if number == self.snapshot.number:
            return self.snapshot if number else None
        return read_info(self._view.site, number) if 0 < number < self.snapshot.number else None

    @property
    def newest_exports(self) -> int | None:
        """Return the newest snapshot whose ready-made files are there."""
        newest = self.snapshot.number
        for number in range(newest, max(0, newest - _EXPORTS_BACK), -1):
            if (snapshot_folder(self._view.site, number) / EXPORTS).exists():
                return number
        return None

    def snapshot_lines(self, number: int, table: str) -> Iterator[bytes]:
        """Yield the rows of a snapshot's table as lines of a batch (NDJSON)."""
        if table not in self.snapshot_tables(number):
            return
        parquet = snapshot_folder(self._view.site, number) / f"{table}{_PARQUET}"
        # The condition only saves time; what may be seen is decided below.
        for cevre, kurul, line in parquet_lines(parquet, condition(self._scope)):
            if self._scoped.covers(cevre, kurul):
                yield line

    def whole_file(self, name: str, number: int | None = None) -> Path | None:
        """Return the path of a file of a snapshot that holds the whole country.

        None if the scope is not the whole election, or if there is no such file.
        """
        if not self.sees_everything or "/" in name or name.startswith("."):
            return None
        path = snapshot_folder(self._view.site, number or self.snapshot.number) / name
        return path if path.is_file() else None

    # Answers that are kept.

    def remembered_text(self, key: Hashable, make: Callable[[], str]) -> str:
        """Return what `make` returned, as `remembered` does; kept compressed."""
        kept = self.remembered(key, lambda: zstandard.compress(make().encode(), 1))
        return zstandard.decompress(kept).decode()

    def remembered(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return what `make` returned for this key, this view and this scope."""
        whole_key = ("remembered", self._scope, key)
        cache = self._view.cache
        found: bytes | None = cache.get(whole_key)
        if found is None:
            # After a snapshot many users ask for the same at once: one of them makes it.
            with cache.setdefault(("making", whole_key), threading.Lock()):
                found = cache.get(whole_key)
                if found is None:
                    found = make()
                    self._keep(whole_key, found)
            cache.pop(("making", whole_key), None)
        return found

    def _kept(self, what: str, criteria: Criteria, make: Callable[[], _T]) -> _T:
        """Return what `make` returned for this search in this view and scope."""
        key = (what, self._scope, criteria)
        found: _T = self._view.cache.get(key, _ABSENT)
        if found is _ABSENT:
            found = make()
            self._keep(key, found)
        return found

    def _keep(self, key: Hashable, value: object) -> None:
        cache = self._view.cache
        if len(cache) > _CACHED:
            cache.clear()
        cache[key] = value


def _sheets_of(site: Path, boxes: Boxes, rows: Selection, secim: Secim) -> Iterator[SheetFile]:
    for first in range(0, len(rows), _BOXES_AT_A_TIME):
        places = map(boxes.place, rows[first : first + _BOXES_AT_A_TIME].tolist())
        with open_catalog(site) as catalog:
            found = [s for place in places for s in sheet_queries.of_place(catalog, *place)]
        yield from (sheet for sheet in found if sheet.secim is secim)
