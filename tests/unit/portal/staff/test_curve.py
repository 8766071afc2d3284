"""The curve of the wall: pages a minute as lines of SVG, beside what a rehearsal expects."""

from datetime import UTC, datetime, timedelta

import pytest

from portal.staff import curve
from publisher.status.pace import ExpectedPace, Minute

pytestmark = pytest.mark.both_databases

NOW = datetime(2023, 5, 14, 18, 30, 20, tzinfo=UTC)
END = NOW.replace(second=0)


def minutes(*pages: int) -> list[Minute]:
    """The last whole minutes, and the one that is running."""
    begin = END - timedelta(minutes=len(pages) - 1)
    return [Minute(begin + timedelta(minutes=n), count, 0) for n, count in enumerate(pages)]


def test_the_minute_that_is_running_is_not_drawn() -> None:
    found = curve.draw(minutes(*[0] * 9, 30, 60, 5), None, NOW)

    assert (found.last, found.peak, found.last_expected, found.expected) == (60, 60, None, "")
    assert found.pages.endswith(f"{curve.WIDTH:.1f},0.0")
    assert found.pages.split()[-2].endswith(",70.0")
    assert found.end == END


def test_a_quiet_site_has_a_flat_line() -> None:
    found = curve.draw([], None, NOW)
    assert found.end - found.begin == timedelta(minutes=10)
    assert {point.split(",")[1] for point in found.pages.split()} == {f"{curve.HEIGHT}.0"}


def test_the_expected_pace_is_laid_over_the_same_minutes() -> None:
    plan = ExpectedPace(END - timedelta(minutes=3), (10, 20, 40))

    found = curve.draw(minutes(*[0] * 8, 10, 20, 20, 0), plan, NOW)

    assert found.last_expected == 40 and found.peak == 40
    assert found.expected.endswith(f"{curve.WIDTH:.1f},0.0")


def test_an_expected_pace_of_another_day_is_not_drawn() -> None:
    plan = ExpectedPace(END - timedelta(days=3), (10, 20, 40))
    assert curve.draw(minutes(1, 2), plan, NOW).expected == ""


def test_a_whole_night_is_drawn_with_few_points() -> None:
    found = curve.draw(minutes(*[7] * 721), None, NOW)
    assert len(found.pages.split()) <= 240
    assert found.begin == END - timedelta(minutes=720)
