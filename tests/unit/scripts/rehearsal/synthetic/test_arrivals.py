from collections import Counter

import pytest

from scripts.rehearsal.synthetic import arrivals, election
from scripts.rehearsal.synthetic.arrivals import DAY, HOUR, LAST_ARRIVAL, NIGHT_END, ScheduledScan
from scripts.rehearsal.synthetic.scanner import ScanKind


@pytest.fixture(scope="module")
def coming() -> list[ScheduledScan]:
    return arrivals.plan(election.entries(120, seed=1), seed=1)


@pytest.mark.parametrize(
    ("hours", "percent"),
    [(0, 0), (0.25, 0), (1, 0), (2, 18), (3, 50), (4, 73), (5.5, 90), (8, 98), (14, 100)],
)
def test_arrivals_start_slowly_peak_and_have_a_long_tail(hours: float, percent: int) -> None:
    assert round(100 * arrivals.share_arrived(hours * HOUR)) == percent


def test_all_but_one_box_in_a_thousand_arrive_by_morning() -> None:
    assert 0.999 < arrivals.share_arrived(NIGHT_END) < 0.9999


@pytest.mark.parametrize("share", [0.001, 0.25, 0.5, 0.9, 0.99])
def test_arrival_time_is_the_inverse_of_share_arrived(share: float) -> None:
    assert arrivals.share_arrived(arrivals.arrival_time(share)) == pytest.approx(share)


def test_arrival_times_lie_within_the_night() -> None:
    assert arrivals.arrival_time(0) == 0.25 * HOUR
    assert arrivals.arrival_time(1) == NIGHT_END


def test_half_of_the_corrections_come_within_a_day() -> None:
    assert arrivals.correction_time(0) == 15 * HOUR
    assert arrivals.correction_time(0.5) == 15 * HOUR + DAY
    assert arrivals.correction_time(1) == LAST_ARRIVAL


def test_the_night_takes_nine_tenths_of_the_playback() -> None:
    assert arrivals.playback_time(0, 60) == 0
    assert arrivals.playback_time(7 * HOUR, 60) == 27
    assert arrivals.playback_time(NIGHT_END, 60) == 54
    assert arrivals.playback_time(LAST_ARRIVAL, 60) == 60


def test_scans_are_ordered_and_numbered_by_time(coming: list[ScheduledScan]) -> None:
    assert [c.scan.number for c in coming] == list(range(len(coming)))
    assert [c.at for c in coming] == sorted(c.at for c in coming)


def test_every_sheet_comes_once_except_those_of_the_absent_box(
    coming: list[ScheduledScan],
) -> None:
    entries = list(election.entries(120, seed=1))
    (missing,) = arrivals.absent_boxes(entries, seed=1)

    come = Counter(c.scan.entry.karekod for c in coming if c.scan.kind is ScanKind.PAGE)

    expected = [
        e.karekod
        for e in entries
        if (e.sheet.cevre, e.sheet.kurul, e.sheet.sandik) != missing or not e.sheet.sandik
    ]
    assert come == Counter(expected)
    assert 0 < len(entries) - len(expected) <= 6


def test_a_night_has_repeats_corrections_and_unfilable_scans(
    coming: list[ScheduledScan],
) -> None:
    kinds = Counter(str(c.scan.kind) for c in coming)

    assert kinds["page"] == 834
    assert kinds["repeat"] == 17
    assert kinds["rescan"] == 9
    assert kinds["blank"] + kinds["torn"] + kinds["stranger"] == 8
    assert {c.scan.rescan_number for c in coming if c.scan.kind is ScanKind.RESCAN} == {1}


def test_corrections_come_after_the_night(coming: list[ScheduledScan]) -> None:
    assert all(c.at >= 15 * HOUR for c in coming if c.scan.kind is ScanKind.RESCAN)


def test_aggregates_of_a_board_come_after_its_last_box(coming: list[ScheduledScan]) -> None:
    pages = [c for c in coming if c.scan.kind is ScanKind.PAGE]
    boxes: dict[tuple[str | None, str | None], float] = {}
    for c in pages:
        if c.scan.entry.sheet.sandik:
            boxes[c.scan.entry.sheet.cevre, c.scan.entry.sheet.kurul] = c.at
    of_boards = [c for c in pages if c.scan.entry.sheet.kurul and not c.scan.entry.sheet.sandik]

    assert len(of_boards) > 20
    for c in of_boards:
        sheet = c.scan.entry.sheet
        assert c.at > boxes.get((sheet.cevre, sheet.kurul), 0)
