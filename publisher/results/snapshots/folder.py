"""Where a snapshot is, which is the newest, and which of its rows are in a scope.

Processes that only read snapshots import this module: it needs neither DuckDB nor SQLAlchemy, which
would take some 30 MB in each of them.
"""

from pathlib import Path

from config.scope import Scope
from config.site import LATEST_SNAPSHOT, SNAPSHOTS


def snapshot_folder(site: Path, number: int) -> Path:
    """Return the folder of a snapshot."""
    return site / SNAPSHOTS / f"{number:08}"


def latest_number(site: Path) -> int | None:
    """Return the number of the newest complete snapshot, None if there is none."""
    try:
        return int((site / LATEST_SNAPSHOT).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def condition(scope: Scope) -> str:
    """Return the SQL condition of the rows in scope; names are safe (config/name)."""
    if scope.places is None:
        return "true"
    parts = [
        f"cevre = '{district}'" + (f" AND kurul = '{board}'" if board is not None else "")
        for district, board in sorted(scope.places, key=str)
    ]
    return " OR ".join(f"({part})" for part in parts) or "false"
