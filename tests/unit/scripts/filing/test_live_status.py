import io
import re
from typing import Any

from rich.console import Console

from publisher.catalog.queries.coverage import CoverageLine
from scripts.filing.live_status import StatusScreen

COUNTED: dict[str, Any] = {
    "expected": 1_207_000, "filed": 905_250, "absent": 12, "missing": 301_738, "versions": 3,
    "duplicates": 4, "quarantined": 21, "ruled": 0, "waiting": 96, "in_intake": 41_000,
    "oldest_seconds": 5430.0, "pages_a_second": 61.25, "gaps": 2,
}  # fmt: skip
PLACES = [CoverageLine(f"{n:02}-cevre", 100, n, 0) for n in range(1, 82)]


def drawn(width: int, height: int, places: list[CoverageLine] = PLACES, **more: Any) -> list[str]:
    """Return the lines of a terminal of this size, without colours."""
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=width, height=height)
    warnings = more.pop("warnings", [])
    terminal.print(StatusScreen("21:04:33", {**COUNTED, **more}, "cevre", places, warnings))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    return [line.rstrip() for line in plain.splitlines()]


def test_the_head_has_counts_rate_and_the_wait_of_the_oldest_page() -> None:
    assert drawn(80, 24)[:4] == [
        "expected 1,207,000   filed 905,250 (75.0 %)   absent 12   missing 301,738",
        "versions 3   duplicates 4   quarantined 21   reviewed 0   gaps 2   at 21:04:33",
        "waiting 96   in the intake 41,000   oldest waits 90 min   pages per second 61.25",
        "",
    ]
    quiet = drawn(80, 24, expected=0, oldest_seconds=None)
    assert "filed 905,250   absent" in quiet[0]
    assert "oldest waits -   " in quiet[2]


def test_all_places_are_shown_in_order_if_they_fit() -> None:
    lines = drawn(120, 40)

    assert sum(line.count("-cevre") for line in lines) == 81
    assert lines[5].startswith("01-cevre ")
    assert [re.findall(r"\d\d-cevre +\S+ +(\d+)", line) for line in lines[5:6]] == [
        ["99", "72", "45"]
    ]
    assert "more" not in lines[-1]


def test_places_that_do_not_fit_are_counted_and_those_with_most_missing_are_shown() -> None:
    places = [*PLACES, CoverageLine("zz-last", 1000, 0, 1)]
    lines = drawn(80, 24, places, warnings=["parti-a: its last credential ends soon"])

    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert lines[3] == "parti-a: its last credential ends soon"
    assert lines[6].startswith("zz-last ")
    shown = sum(line.count("━━") > 0 for line in lines)
    assert shown == 17, "rows with two columns each, below the title"
    named = re.findall(r"\d\d-cevre", "\n".join(lines))
    assert sorted(named) == [f"{n:02}-cevre" for n in range(1, 34)], "the places with most missing"
    assert lines[-1] == f"and 48 more places with {sum(range(19, 67)):,} missing"


def test_sheets_of_the_whole_election_are_named_and_not_a_dash() -> None:
    assert drawn(80, 24, [CoverageLine("-", 2, 0, 0)])[-1].startswith("(the election) ")
