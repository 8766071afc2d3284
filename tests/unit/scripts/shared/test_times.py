from datetime import datetime, timedelta, timezone

import pytest

from scripts.shared import times

ZONE = timezone(timedelta(hours=3))
NOW = datetime.fromisoformat("2023-05-13T22:10:30.5+00:00")  # 01.10 of the 14th in Turkey


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("now", "2023-05-14T01:10:30+03:00"),
        ("16.30", "2023-05-14T16:30:00+03:00"),
        ("16:30", "2023-05-14T16:30:00+03:00"),
        ("tomorrow 16.30", "2023-05-15T16:30:00+03:00"),
        ("yarin 9.05", "2023-05-15T09:05:00+03:00"),
        ("+45m", "2023-05-14T01:55:30+03:00"),
        ("-10m", "2023-05-14T01:00:30+03:00"),
        ("2023-05-14T16:30", "2023-05-14T16:30:00+03:00"),
        ("2023-05-14 16:30:00", "2023-05-14T16:30:00+03:00"),
        ("2023-05-14T13:30:00Z", "2023-05-14T16:30:00+03:00"),
    ],
)
def test_a_time_without_a_zone_is_in_the_zone_of_the_election(text: str, found: str) -> None:
    assert times.parse_time(text, NOW, ZONE) == datetime.fromisoformat(found)


@pytest.mark.parametrize("text", ["", "soon", "25.00", "16.60", "2023-05-14", "+", "16.30 tomorow"])
def test_an_invalid_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|hour"):
        times.parse_time(text, NOW, ZONE)


@pytest.mark.parametrize(
    ("text", "found"), [("0", 0), ("45m", 2700), ("1h", 3600), ("1h30m", 5400), ("2d", 172800)]
)
def test_a_formatted_duration_is_parsed_to_the_same_duration(text: str, found: int) -> None:
    assert times.parse_duration(text) == timedelta(seconds=found)
    assert times.format_duration(times.parse_duration(text)) == text


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1x", "99999999999999d", "9999d"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|ten years"):
        times.parse_duration(text)


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        ("2023-05-14T13:30:00+00:00", "2023-05-14T16:30:00+03:00"),
        ("9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59+00:00"),
    ],
)
def test_a_time_is_shown_in_the_zone_of_the_election_if_possible(stated: str, found: str) -> None:
    assert times.format_time(datetime.fromisoformat(stated), ZONE) == found
