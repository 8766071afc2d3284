"""Genel durum: how much of the results is here, by district and on a map of the provinces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from config import turkish
from config.event import AccessEvent
from config.sheet import Secim
from portal.access.gate import entrance_of, gated_router, record
from portal.data import titles
from portal.data.answers.places import CoverageLine
from portal.data.criteria import Criteria
from portal.data.scoped import ScopedData
from portal.party.dependencies import Data, Visitor, search_of
from portal.party.look import remembered_part
from portal.web import tile_map
from portal.web.announced import announced
from portal.web.rendering import page

router = gated_router()


@dataclass(frozen=True, slots=True)
class Tile:
    """One province on the map; `level` is its tenth of opened boxes, None if it has no box here."""

    plate: str
    name: str
    x: int
    y: int
    boxes: int
    opened: int
    district: str  # its first one
    several: bool  # it has several districts in scope

    @property
    def level(self) -> int | None:
        """The tenth of its boxes that are opened, 0 to 10."""
        return None if not self.boxes else self.opened * 10 // self.boxes


@router.get("/")
def home(request: Request, who: Visitor, data: Data) -> Response:
    """Show the counters, the bars of the districts and the map."""
    criteria = Criteria(search_of(request, data).secim)
    record(request, AccessEvent.PAGE, snapshot=data.snapshot.number)
    return page(
        request,
        "ana.html",
        data=data,
        announcements=announced(entrance_of(request).settings.site),
        content=remembered_part(
            data, "_ana-icerik.html", criteria.secim, lambda: _content(data, criteria)
        ),
    )


def _content(data: ScopedData, criteria: Criteria) -> Mapping[str, Any]:
    """Return what the template of the counters, the map and the bars needs."""
    lines = coverage_of(data, criteria.secim)
    return {
        "contests": data.contests,
        "criteria": criteria,
        "summary": data.summary(criteria),
        "lines": lines,
        "tiles": tiles_of(lines),
        "rows": tile_map.ROWS,
        "columns": tile_map.COLUMNS,
        "corrections": data.changes(criteria, limit=1).count,
        "sheets": sum(line.sheets for line in lines),
    }


def coverage_of(data: ScopedData, secim: Secim) -> list[CoverageLine]:
    """Return the coverage of each district, in the order of their names."""
    return sorted(
        data.coverage(secim), key=lambda line: turkish.sort_key(titles.district(line.cevre))
    )


def tiles_of(lines: list[CoverageLine]) -> list[Tile]:
    """Return the map's tiles, one for each province."""
    found = []
    for plate, (x, y) in tile_map.PLACES.items():
        here = [line for line in lines if line.cevre.partition("-")[0] == plate]
        boxes, opened = sum(line.boxes for line in here), sum(line.opened for line in here)
        district = here[0].cevre if here else ""
        found.append(
            Tile(plate, tile_map.name(plate), x, y, boxes, opened, district, len(here) > 1)
        )
    return found
