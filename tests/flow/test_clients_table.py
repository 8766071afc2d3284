"""The parties' guide has the table that scripts/bench clients prints."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCH = (ROOT / "tests" / "bench" / "clients.py").read_text()
GUIDE = (ROOT / "docs" / "parties.md").read_text()


def test_every_client_of_the_benchmark_is_in_the_guide() -> None:
    named = re.findall(r'    (?:Client|Documented)\(\s*"([^"]+)"', BENCH)
    rows = [line for line in GUIDE.splitlines() if line.startswith("| ")]

    assert len(named) > 20
    assert [name for name in named if not any(r.startswith(f"| {name}") for r in rows)] == []


def test_the_guide_says_of_no_client_that_it_cannot_mirror() -> None:
    head = "| client | by key | by password | second pass | new keys each MB | setting | options |"
    table = GUIDE[GUIDE.index(head) :].split("\n\n")[0].splitlines()[2:]
    tried = [row.split(" | ") for row in table if "not run: " not in row]

    assert len(tried) > 10
    assert all(cell.startswith("yes") for row in tried for cell in row[1:5])
