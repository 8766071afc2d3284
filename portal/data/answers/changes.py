"""Changes of results: the numbers before and after each, and the feed of all of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from config.sheet import Belge, Secim
from portal.data.answers.boxes import VOTE
from portal.data.numbers.snapshots import ChangeLine, Cursor, changes_file
from portal.data.queries import sheets as sheet_queries
from portal.data.queries.databases import Connection
from portal.data.view import Correction


@dataclass(frozen=True, slots=True)
class ChangedResult:
    """A change of a result: the numbers before (None for a first result) and after it."""

    snapshot: int
    closed_at: datetime | None
    secim: Secim
    belge: Belge
    cevre: str
    kurul: str
    sandik: str
    version: int
    reason: str
    time: datetime
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]
    new_scan: bool  # its sheet was scanned more than once

    def differences(self) -> list[tuple[str, int | None, int | None]]:
        """Return name, old and new number of everything that changed; votes as `oylar.<option>`."""
        old, new = _flat(self.before), _flat(self.after)
        return [
            (name, old.get(name), new.get(name))
            for name in dict.fromkeys((*old, *new))
            if old.get(name) != new.get(name)
        ]


@dataclass(frozen=True)
class ChangePage:
    """Some changes, newest first; `count` is how many there are in all."""

    changes: tuple[ChangedResult, ...]
    count: int


@dataclass(frozen=True)
class Feed:
    """The changes after a cursor; with `more`, ask again at once with `cursor`."""

    lines: tuple[ChangeLine, ...]
    cursor: Cursor
    more: bool


def changed(
    site: Path, correction: Correction, closed_at: datetime | None, catalog: Connection
) -> ChangedResult:
    """Read a correction from the changes of its snapshot, which closed at `closed_at`."""
    file = changes_file(site, correction.snapshot, correction.secim)
    with file.open("rb") as lines:
        lines.seek(correction.byte)
        change = json.loads(lines.read(correction.length))
    place = [change[name] or "" for name in ("cevre", "kurul", "sandik")]
    belge, time = Belge(change["belge"]), datetime.fromisoformat(change["zaman"])
    new_scan = any(
        sheet.version > 1
        for sheet in sheet_queries.of_place(catalog, *place)
        if (sheet.secim, sheet.belge) == (correction.secim, belge)
    )
    return ChangedResult(
        correction.snapshot,
        closed_at,
        correction.secim,
        belge,
        place[0],
        place[1],
        place[2],
        change["surum"],
        change["neden"],
        time,
        change["eski"],
        change["yeni"],
        new_scan,
    )


def _flat(stated: Mapping[str, Any] | None) -> dict[str, int | None]:
    if stated is None:
        return {}
    votes = {f"{VOTE}{option}": number for option, number in stated["oylar"].items()}
    return {**{name: value for name, value in stated.items() if name != "oylar"}, **votes}
