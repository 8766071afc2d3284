"""The scope is enforced in one place: no question, with whatever parameter, answers about others.

Every public method of ScopedData is asked for every other place. A new method fails this test until
it is listed here.
"""

import pickle
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from unit.portal.portal_site import BOARDS, BOXES, KADIKOY_2, PortalSite, every_result, result

from config.sheet import Belge, SandikTuru, Secim
from keys.ledger.receipt import parse_receipt
from keys.ledger.record import parse_record
from portal.data.answers.boxes import PLACE_ORDER, SORTS
from portal.data.criteria import Area, Criteria, Status
from portal.data.numbers.boxes import BoxPlace
from portal.data.numbers.snapshots import BEGINNING, Cursor
from portal.data.scoped import ScopedData

pytestmark = pytest.mark.both_databases

MV = Secim.MV
OWN = ("34-istanbul-1", "kadikoy-2")
OTHER_BOARDS = [board for board in BOARDS if board != OWN]
# What must never be in an answer. Not kadikoy-1, whose district the party knows as its own.
FORBIDDEN = (
    b"kadikoy-1", b"aladag", b"konak", b"almanya", b"kapikule", b"01-adana", b"35-izmir",
    b"yurt-disi/", b"gumruk/", b"Moda", b"Cafera",
)  # fmt: skip


def searches() -> list[Criteria]:
    """Every other place, by every parameter."""
    found = [Criteria(MV), Criteria(Secim.CB)]
    found += [Criteria(MV, area) for area in Area]
    found += [Criteria(MV, kind=kind) for kind in SandikTuru]
    found += [Criteria(MV, status=status) for status in Status]
    for cevre, kurul in OTHER_BOARDS:
        found += [
            Criteria(MV, cevre=cevre),
            Criteria(MV, cevre=cevre, kurul=kurul),
            Criteria(MV, kurul=kurul),
            Criteria(MV, cevre="34-istanbul-1", kurul=kurul),
        ]
        found += [Criteria(MV, cevre=cevre, kurul=kurul, first=box) for box in BOARDS[cevre, kurul]]
    found += [Criteria(MV, mahalle=m) for m in ("Moda", "Caferağa", "Çankaya", "Şıhlı", "")]
    found += [Criteria(MV, first=n, last=n) for n in ("1", "1001", "A1", "a1")]
    return found


OTHER_BOXES = [BoxPlace(*box) for box in BOXES if box[:2] != OWN]
Calls = Callable[[ScopedData, PortalSite], Iterable[Any]]
CALLS: dict[str, Calls] = {
    "snapshot": lambda d, _: [d.snapshot.number],
    "contests": lambda d, _: [d.contests],
    "sees_everything": lambda d, _: [d.sees_everything],
    "in_files": lambda d, _: [d.in_files],
    "options": lambda d, _: [d.options(MV, cevre) for cevre, _ in OTHER_BOARDS if cevre != OWN[0]],
    "shown_options": lambda d, _: map(d.shown_options, searches()),
    "option_titles": lambda d, _: map(d.option_titles, searches()),
    "joint_options": lambda d, _: map(d.joint_options, searches()),
    "boards": lambda d, _: [d.boards()],
    "board_numbers": lambda d, _: [d.board_numbers()],
    "boxes_by_board": lambda d, _: map(d.boxes_by_board, searches()),
    "places": lambda d, _: [list(d.places(c)) for c in searches()],
    "mahalle_number": lambda d, _: [d.mahalle_number(box, "Moda") for box in OTHER_BOXES],
    "mahalles": lambda d, _: map(d.mahalles, searches()),
    "aggregate_sheets": lambda d, _: [
        d.aggregate_sheets(MV, *place)
        for place in [("", ""), *BOARDS, *((b[0], "") for b in BOARDS)]
    ],
    "choices": lambda d, _: map(d.choices, searches()),
    "summary": lambda d, _: map(d.summary, searches()),
    "groups": lambda d, _: [d.groups(c, by_board=b) for c in searches() for b in (True, False)],
    "votes_of": lambda d, _: [d.votes_of(c.secim, g) for c in searches() for g in d.groups(c)],
    "table": lambda d, _: [d.table(c, sort) for c in searches() for sort in SORTS],
    "listed": lambda d, _: [
        [list(rows), *more]
        for c in searches()
        for rows, *more in [d.listed(c, PLACE_ORDER, False, 0, 1000)]
    ],
    "rows": lambda d, _: [list(d.rows(c)) for c in searches()],
    "box_row": lambda d, _: [d.box_row(s, box) for box in OTHER_BOXES for s in Secim],
    "contests_of": lambda d, _: map(d.contests_of, OTHER_BOXES),
    "box": lambda d, _: map(d.box, OTHER_BOXES),
    "neighbours": lambda d, _: [
        d.neighbours(c, BoxPlace(*box)) for c in searches() for box in BOXES
    ],
    "coverage": lambda d, _: [
        d.coverage(MV),
        *(d.coverage(MV, cevre) for cevre, _ in OTHER_BOARDS),
    ],
    "gaps": lambda d, _: [d.gaps(c, without_sheet=w) for c in searches() for w in (True, False)],
    "aggregates": lambda d, _: [
        d.aggregates(MV),
        *(d.aggregates(MV, cevre) for cevre, _ in OTHER_BOARDS),
        *(d.aggregates(MV, cevre, kurul) for cevre, kurul in OTHER_BOARDS),
    ],
    "sheets": lambda d, _: [
        d.sheets(),
        *(d.sheets(*box) for box in OTHER_BOXES),
        *(d.sheets(cevre) for cevre, _ in OTHER_BOARDS),
        *(d.sheets(*board) for board in OTHER_BOARDS),
    ],
    "sheet": lambda d, site: map(d.sheet, site.other_sheets),
    "sheets_of": lambda d, _: [list(d.sheets_of(c)) for c in searches()],
    "changes": lambda d, _: map(d.changes, searches()),
    "feed": lambda d, _: [d.feed(BEGINNING, 1000).lines, d.feed(Cursor(1, "mv", 0), 1000).lines],
    "findings": lambda d, _: [d.findings(), *map(d.findings, searches())],
    "finding_counts": lambda d, _: [d.finding_counts(), *map(d.finding_counts, searches())],
    "receipt": lambda d, _: [proven(d, n) for n in range(70)],
    "newest_exports": lambda d, _: [d.newest_exports],
    "snapshot_info": lambda d, _: [d.snapshot_info(n) and n for n in range(4)],
    "snapshot_tables": lambda d, _: [d.snapshot_tables(n) for n in range(4)],
    "snapshot_lines": lambda d, _: [
        list(d.snapshot_lines(n, name)) for n in range(4) for name in ("mv", "cb", "mv-birlestirme")
    ],
    "remembered_text": lambda d, _: [d.remembered_text("k", lambda: str([*d.rows(Criteria(MV))]))],
    "remembered": lambda d, _: [d.remembered("key", lambda: str([*d.rows(Criteria(MV))]).encode())],
    "whole_file": lambda d, _: [
        d.whole_file(name, number)
        for name in ("mv.parquet", "mv.csv", "mv.sums.ndjson", "mv.changes.ndjson")
        for number in (None, 1, 2)
    ],
}


def proven(data: ScopedData, number: int) -> str | None:
    """Return the board that a receipt is about."""
    receipt = data.receipt("results", number)
    if receipt is None:
        return None
    return "/".join(parse_record(parse_receipt(receipt).line).event.what.split("/")[:2])


@pytest.fixture
def filled(site: PortalSite) -> PortalSite:
    site.other_sheets = [site.file_sheet(box) for box in BOXES if box[:2] != OWN]
    site.other_sheets += [
        site.file_sheet((*board, ""), belge=Belge.ILCE_BIRLESTIRME)
        for board in OTHER_BOARDS
        if board[0] not in ("yurt-disi", "gumruk")
    ]
    site.other_sheets.append(site.file_sheet(("34-istanbul-1", "", ""), belge=Belge.IL_BIRLESTIRME))
    site.publish(*every_result(), *(aggregate(*board) for board in BOARDS if board[0][0] in "03"))
    site.publish(*(result(box, surum=2, neden="itiraz", gecersiz=9) for box in BOXES))
    return site


def aggregate(cevre: str, kurul: str) -> dict[str, object]:
    return {
        "secim": "mv", "belge": "ilce-birlestirme", "cevre": cevre, "kurul": kurul, "surum": 1,
        "neden": "", "zaman": "2023-05-14T20:00:00+03:00", "gecerli": 1, "oylar": {"parti-a": 1},
    }  # fmt: skip


def test_every_public_method_is_listed_here() -> None:
    assert {name for name in vars(ScopedData) if not name.startswith("_")} == set(CALLS)


def test_no_question_answers_about_another_place(filled: PortalSite) -> None:
    data = filled.data(KADIKOY_2)

    answers = {name: pickle.dumps([*call(data, filled)]) for name, call in CALLS.items()}

    leaks = [(name, word) for name, text in answers.items() for word in FORBIDDEN if word in text]
    assert leaks == []


@pytest.mark.slow
def test_the_same_questions_do_answer_with_a_larger_scope(filled: PortalSite) -> None:
    """The test above would be worthless if the answers were empty for everybody."""
    data = filled.data()

    silent = [
        name
        for name, call in CALLS.items()
        if not any(word in pickle.dumps([*call(data, filled)]) for word in FORBIDDEN)
    ]

    without_places = {
        "snapshot", "contests", "sees_everything", "in_files", "options", "shown_options",
        "option_titles", "joint_options", "summary", "votes_of", "aggregate_sheets",
        "mahalle_number", "finding_counts", "whole_file", "newest_exports", "snapshot_info",
        "snapshot_tables", "contests_of",
    }  # fmt: skip
    assert set(silent) <= without_places


@pytest.mark.slow
def test_answers_that_name_no_place_are_about_the_scope_too(filled: PortalSite) -> None:
    data, everything = filled.data(KADIKOY_2), filled.data()

    assert {s.boxes for c in searches() if (s := data.summary(c))} <= {0, 1, 4}
    assert data.finding_counts() != everything.finding_counts()
    assert sum(data.finding_counts().values()) == data.findings().count
    assert data.options(MV, "35-izmir-2") == ()
    assert {proven(data, n) for n in range(70)} == {None, "/".join(OWN)}
    assert len({proven(everything, n) for n in range(70)}) == 1 + len(BOARDS)
    assert everything.receipt("filing", 0) is None  # there is no such ledger here
    assert data.receipt("transfer", 0) is None
    assert data.whole_file("mv.parquet") is None
    assert everything.whole_file("mv.parquet") is not None
    assert everything.whole_file("../latest") is None


def test_a_sheet_outside_the_scope_looks_like_one_that_does_not_exist(filled: PortalSite) -> None:
    data = filled.data(KADIKOY_2)

    for path in (*filled.other_sheets, "../../etc/passwd", "a/b/c", "", "\x00", "x" * 9999):
        assert data.sheet(path) is None
