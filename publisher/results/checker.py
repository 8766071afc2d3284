"""Runs the checks as results arrive; a new row causes checks of its own box only.

Findings belong to a subject, and a subject's findings are replaced as a whole:

    box <secim> <place>             one box in one contest
    contests <place>                the contests of one box
    sum <secim> <belge> <place>     an aggregate sheet against the sum below it
    board <secim> <cevre>/<kurul>   the boxes of one board against each other

The last two are computed once per snapshot, for the boards that changed.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from config.ballot import Ballot
from config.layout import ilce_of
from config.registry import Registry
from config.result import BOX_SHEET, Result, ResultKey
from config.sheet import Belge, Level, SandikTuru, Secim
from publisher.results.checks.box import BoxState, SheetVersion, check_box, check_contests
from publisher.results.checks.finding import Check, Finding
from publisher.results.checks.neighbours import BoxVotes, check_board
from publisher.results.checks.sums import SHEETS_BELOW, PlaceSums, check_sum, sum_of_sheets
from publisher.results.store import ResultStore, StoredResult

Findings = dict[str, list[Finding]]
SheetsOf = Callable[[Iterable[ResultKey]], Mapping[ResultKey, tuple[SheetVersion, ...]]]


class Checker:
    """Keeps the sums and returns what the checks find; for one thread."""

    def __init__(
        self,
        store: ResultStore,
        registry: Registry,
        ballot: Callable[[], Ballot | None],
        sheets_of: SheetsOf,
        held: int | None = None,
    ) -> None:
        """Load the newest results from the store.

        `held` is the id of the last result in the last snapshot: the places of later ones are
        checked with the next snapshot. Without it, only those of results that are added.
        """
        self._store = store
        self._registry = registry
        self._ballot = ballot
        self._sheets_of = sheets_of
        self._sums = PlaceSums()
        self._aggregates: dict[ResultKey, Result] = {}
        self._changed_boards: set[tuple[Secim, str, str]] = set()
        self._expected = registry.expected_boxes(BOX_SHEET)
        self._boards_of_ilce: defaultdict[tuple[Secim, str, str], list[str]] = defaultdict(list)
        for secim, district, board in self._expected:
            self._boards_of_ilce[secim, district, ilce_of(board)].append(board)
        for secim in Secim:
            for stored in store.newest(secim):
                self._count(None, stored.result)
        self._changed_boards.clear()
        if held is not None:
            for stored in store.since(held, store.last_recorded()):
                self._note_change(stored.result.key)

    @property
    def sums(self) -> PlaceSums:
        """The sums of the newest results."""
        return self._sums

    def add(
        self,
        results: Sequence[StoredResult],
        known: Mapping[ResultKey, Mapping[int, StoredResult]],
        sheets: Mapping[ResultKey, tuple[SheetVersion, ...]],
        kinds: Mapping[ResultKey, SandikTuru | None] = MappingProxyType({}),
    ) -> Findings:
        """Count results that were recorded just now; return the findings of their boxes.

        `known` are the earlier versions of the same boxes, in every contest; `kinds` is what the
        registry says of some of them.
        """
        versions = {key: dict(of_key) for key, of_key in known.items()}
        for stored in results:
            versions.setdefault(stored.result.key, {})[stored.result.version] = stored
        keys = {stored.result.key for stored in results}
        for key in keys:
            before = known.get(key)
            highest = max(before) if before else 0
            newest = versions[key][max(versions[key])]
            if newest.result.version > highest:
                self._count(before[highest].result if before else None, newest.result)
        return self._check_boxes(keys, versions, sheets, kinds)

    def recheck(self, keys: Iterable[ResultKey]) -> Findings:
        """Check boxes again whose sheets changed; of a box without a result only that is noted."""
        boxes = set(keys)
        places = {key._replace(secim=secim) for key in boxes for secim in self._contests(key)}
        versions = self._store.versions(boxes | places)
        sheets = self._sheets_of(boxes)
        found = self._check_boxes({key for key in boxes if key in versions}, versions, sheets)
        for key in boxes - versions.keys():
            if key in sheets:
                paths = tuple(sheet.path for sheet in sheets[key])
                lacking = Finding(Check.SHEET_WITHOUT_RESULT, key.secim, (key.place,), {}, paths)
                found[f"box {key.secim} {key.place}"] = [lacking]
        return found

    def check_changed_places(self) -> Findings:
        """Check the sums and the neighbours of every board that changed since the last call."""
        changed, self._changed_boards = self._changed_boards, set()
        last = self._store.last_recorded()
        found: Findings = {}
        listed: list[tuple[str, Finding, Sequence[ResultKey]]] = []
        for key, result in self._aggregates.items():
            if self._touches(key, changed):
                subject = f"sum {key.secim} {key.belge} {key.place}"
                found[subject] = []
                sums = (replace(found, last_result=last) for found in self._check_sum(result))
                listed += [(subject, finding, [key]) for finding in sums]
        ballot = self._ballot()
        for secim, district, board in changed:
            if ballot is None:
                break
            options = [option.id for option in ballot.options(secim, district)]
            keys = {}
            boxes = []
            for box, votes in self._store.newest_votes(secim, district, board):
                key = ResultKey(secim, BOX_SHEET, district, board, box)
                keys[key.place] = key
                boxes.append(BoxVotes(secim, key.place, votes))
            hints = [replace(hint, last_result=last) for hint in check_board(boxes, options)]
            subject = f"board {secim} {district}/{board}"
            found[subject] = []
            listed += [(subject, hint, [keys[place] for place in hint.places]) for hint in hints]
        self._add_with_sheets(found, listed)
        return found

    def _add_with_sheets(
        self, found: Findings, listed: Sequence[tuple[str, Finding, Sequence[ResultKey]]]
    ) -> None:
        """Add findings of subjects, with the paths of the sheets that state their numbers."""
        sheets = self._sheets_of({key for *_, keys in listed for key in keys}) if listed else {}
        for subject, finding, keys in listed:
            paths = tuple(sheet.path for key in keys for sheet in sheets.get(key, ()))
            found[subject].append(replace(finding, sheets=paths))

    def _contests(self, key: ResultKey) -> tuple[Secim, ...]:
        ballot = self._ballot()
        return ballot.contests() if ballot is not None and key.belge is BOX_SHEET else ()

    def _count(self, before: Result | None, after: Result) -> None:
        if after.key.belge is BOX_SHEET:
            self._sums.replace(before, after)
        else:
            self._aggregates[after.key] = after
        self._note_change(after.key)

    def _note_change(self, key: ResultKey) -> None:
        self._changed_boards.add((key.secim, key.cevre or "", key.kurul or ""))

    def _check_boxes(
        self,
        keys: set[ResultKey],
        versions: Mapping[ResultKey, Mapping[int, StoredResult]],
        sheets: Mapping[ResultKey, tuple[SheetVersion, ...]],
        kinds: Mapping[ResultKey, SandikTuru | None] = MappingProxyType({}),
    ) -> Findings:
        found: Findings = {}
        listed: list[tuple[str, Finding, Sequence[ResultKey]]] = []
        by_place: defaultdict[tuple[str | None, ...], dict[Secim, Result]] = defaultdict(dict)
        last = {key: max(s.id for s in of_key.values()) for key, of_key in versions.items()}
        for key in versions:
            by_place[key[1:]][key.secim] = versions[key][max(versions[key])].result
        for key in keys:
            if key.belge is not BOX_SHEET:
                continue
            ordered = [stored.result for _, stored in sorted(versions[key].items())]
            if (kind := kinds.get(key)) is None:
                place = (key.cevre or "", key.kurul or "", key.sandik or "")
                kind = self._registry.box_kind(key.secim, key.belge, *place)
            state = BoxState(ordered, kind, sheets.get(key, ()))
            where = key.place
            found[f"box {key.secim} {where}"] = [
                replace(finding, last_result=last[key]) for finding in check_box(state)
            ]
            subject = f"contests {where}"
            if subject in found:
                continue  # another contest of the box changed as well
            differ = list(check_contests(by_place[key[1:]]))
            # A first version cannot end an earlier finding about the other contests.
            if differ or len(ordered) > 1:
                found[subject] = []
            for finding in differ:
                contests = [key._replace(secim=Secim(name)) for name in finding.numbers]
                newest = max(last[contest] for contest in contests)
                listed.append((subject, replace(finding, last_result=newest), contests))
        self._add_with_sheets(found, listed)
        return found

    def _touches(self, key: ResultKey, changed: set[tuple[Secim, str, str]]) -> bool:
        if key.level is Level.ELECTION:
            return any(secim is key.secim for secim, _, _ in changed)
        if key.level is Level.DISTRICT:
            return any((secim, cevre) == (key.secim, key.cevre) for secim, cevre, _ in changed)
        boards = self._boards_below(key)
        return any((key.secim, key.cevre or "", board) in changed for board in boards)

    def _boards_below(self, key: ResultKey) -> list[str]:
        """Return the boards whose boxes a board's aggregate sheet adds up.

        `ilce-birlestirme-kurullar` is about all boards of one ilçe: kadikoy-1, kadikoy-2.
        """
        board = key.kurul or ""
        if key.belge is not Belge.ILCE_BIRLESTIRME_KURULLAR:
            return [board]
        return self._boards_of_ilce.get((key.secim, key.cevre or "", ilce_of(board)), [])

    def _check_sum(self, aggregate: Result) -> list[Finding]:
        key = aggregate.key
        if key.level is Level.ELECTION:
            below = self._sums.abroad_and_customs(key.secim)
            expected = sum(
                boxes
                for (secim, district, _), boxes in self._expected.items()
                if secim is key.secim and district in PlaceSums.BESIDE
            )
        elif key.level is Level.DISTRICT:
            below = self._sums.of(key.secim, key.cevre, None)
            expected = sum(
                boxes
                for (secim, district, _), boxes in self._expected.items()
                if (secim, district) == (key.secim, key.cevre)
            )
        else:
            boards = self._boards_below(key)
            below = self._sums.of_boards(key.secim, key.cevre or "", boards)
            expected = sum(
                self._expected.get((key.secim, key.cevre or "", board), 0) for board in boards
            )
        missing = expected - below["sandik"]
        found = list(check_sum(aggregate, below, missing))
        if missing and not found and (added := self._sheets_below(key)):
            total, lacking = sum_of_sheets(added)
            found = list(check_sum(aggregate, total, 0, lacking))
        return found

    def _sheets_below(self, key: ResultKey) -> list[Result]:
        """Return the aggregate sheets that a sheet adds up; none if one of them is not here."""
        forms = SHEETS_BELOW.get(key.belge, ())
        if key.level is Level.ELECTION:
            districts = zip(forms, PlaceSums.BESIDE, strict=True)
            keys = [[ResultKey(key.secim, form, name, None, None)] for form, name in districts]
        else:
            boards = self._boards_below(key)
            if key.level is Level.DISTRICT:
                place = (key.secim, key.cevre)
                boards = [board for *of, board in self._expected if tuple(of) == place]
            keys = [
                [ResultKey(key.secim, form, key.cevre, board, None) for form in forms]
                for board in boards
            ]
        found = [next((k for k in of_one if k in self._aggregates), None) for of_one in keys]
        here = [self._aggregates[k] for k in found if k is not None]
        return here if len(here) == len(found) else []
