"""The queue of the desk: which pages it shows, in which order, and which comes next.

The filters are in the address, so a queue can be bookmarked and passed on:

    ?durum=is&neden=no-karekod&klasor=kadikoy/tarayici-1&kurul=34-istanbul-1/kadikoy-2&yas=15

`durum` is `is` (to do for me, the default), `hepsi`, `yeniden-tarama`, or one of State. `yas` is
the least age in minutes, `kurul` the board that a page probably belongs to.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import urlencode

from portal.staff.desk.held import Case, State
from publisher.page import Reason

WORK, ALL, RESCANS = "is", "hepsi", "yeniden-tarama"
STATUSES = {
    WORK: "Bana düşen iş",
    State.FIRST.value: "Kimse bakmadı",
    State.SECOND.value: "İkinci kişi bekleniyor",
    State.MINE.value: "Ben tanımladım",
    State.DISPUTED.value: "Anlaşmazlık",
    RESCANS: "Yeniden tarama istendi",
    State.DECIDED.value: "Karara bağlandı",
    ALL: "Hepsi",
}
AGES = {0: "Hepsi", 5: "5 dakikadan eski", 15: "15 dakikadan eski", 60: "1 saatten eski"}
_MOST = 200  # characters of a filter

Board = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a queue shows; empty parts show everything."""

    status: str = WORK
    reason: str = ""
    folder: str = ""
    board: str = ""
    age: int = 0

    def query(self) -> str:
        """Return the filters as the query of an address, without those that show everything."""
        fields = {
            "durum": "" if self.status == WORK else self.status,
            "neden": self.reason,
            "klasor": self.folder,
            "kurul": self.board,
            "yas": str(self.age) if self.age else "",
        }
        return urlencode({name: value for name, value in fields.items() if value})


def parse(fields: Mapping[str, str]) -> Filters:
    """Read the filters of an address; what cannot be read shows everything."""
    age, status = fields.get("yas", ""), fields.get("durum", WORK)
    return Filters(
        status if status in STATUSES else WORK,
        fields.get("neden", "")[:_MOST],
        fields.get("klasor", "")[:_MOST],
        fields.get("kurul", "")[:_MOST],
        int(age) if age.isascii() and age.isdecimal() and len(age) < 6 else 0,
    )


class Queue:
    """The cases of the desk as one account sees them at one moment."""

    def __init__(
        self,
        cases: Sequence[Case],
        who: str,
        now: datetime,
        board_of: Callable[[Case], Board | None],
        waiting: frozenset[str] = frozenset(),
    ) -> None:
        """`waiting` are the pages about which a request is on its way."""
        self.now, self.board_of = now, board_of
        self._waiting = waiting
        self._cases = [(case, case.state(who)) for case in cases]

    def shown(self, filters: Filters) -> list[Case]:
        """Return the cases that the filters show, the oldest first."""
        return [case for case, state in self._cases if self._is_shown(case, state, filters)]

    def next(self, filters: Filters, after: str, leased: Mapping[str, str]) -> Case | None:
        """Return the next case to work on after a file, one that nobody looks at if possible."""
        todo = [case for case in self.shown(filters) if case.page.file != after]
        later = [case for case in todo if case.page.file > after]
        ordered = [*later, *(case for case in todo if case.page.file < after)]
        free = (case for case in ordered if case.page.file not in leased)
        return next(free, ordered[0] if ordered else None)

    def counts(self, filters: Filters) -> dict[str, Counter[str]]:
        """Return for each filter how many cases each value of it would show."""
        found: dict[str, Counter[str]] = {}
        for name, emptied, values in (
            ("neden", replace(filters, reason=""), lambda case: case.page.reason),
            ("klasor", replace(filters, folder=""), lambda case: case.page.folder),
            ("kurul", replace(filters, board=""), self._board),
        ):
            found[name] = Counter(values(case) for case in self.shown(emptied))
        found["durum"] = Counter()
        for status in STATUSES:
            count = sum(1 for _ in self.shown(replace(filters, status=status)))
            found["durum"][status] = count
        return found

    def _board(self, case: Case) -> str:
        board = self.board_of(case)
        return "/".join(board) if board else ""

    def _is_shown(self, case: Case, state: State, filters: Filters) -> bool:
        page = case.page
        return (
            self._has_status(case, state, filters)
            and (not filters.reason or page.reason == filters.reason)
            and (not filters.folder or page.folder == filters.folder)
            and (not filters.board or self._board(case) == filters.board)
            and (not filters.age or self.now - page.at >= timedelta(minutes=filters.age))
        )

    def _has_status(self, case: Case, state: State, filters: Filters) -> bool:
        # Nothing is to be decided about the back of a sheet.
        is_blank = case.page.reason == Reason.BLANK_BACK and not case.accounts
        if is_blank and filters.status != ALL and filters.reason != Reason.BLANK_BACK:
            return False
        match filters.status:
            case "hepsi":
                return True
            case "is":
                open_ = state in (State.FIRST, State.SECOND) and case.rescan is None
                return open_ and case.page.file not in self._waiting
            case "yeniden-tarama":
                return case.rescan is not None and state is not State.DECIDED
        return state.value == filters.status


def grouped(counter: Counter[str], title: Callable[[str], str]) -> list[tuple[str, str, int]]:
    """Return value, title and number of each entry of a filter's list, the most first."""
    entries: Iterable[tuple[str, int]] = counter.most_common()
    return [(value, title(value), number) for value, number in entries if value]
