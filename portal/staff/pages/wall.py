"""Durum: how much of the night's sheets and results is here, by district and on a map."""

from typing import Annotated

from fastapi import Depends, Request, Response

from config import scope
from config.event import AccessEvent
from portal.access.gate import gated_router, record
from portal.data.criteria import Criteria
from portal.data.live import LiveData
from portal.party import tile_map
from portal.party.dependencies import search_of, sites_of
from portal.party.pages.home import coverage_of, tiles_of
from portal.party.rendering import page
from portal.staff.roles import ANYONE, Anyone

ROLES = ANYONE
router = gated_router()


async def _live(request: Request, who: Anyone) -> LiveData:
    return await sites_of(request).live(who.site)


@router.get("/")
def wall(request: Request, who: Anyone, live: Annotated[LiveData, Depends(_live)]) -> Response:
    """Show the coverage of the whole country."""
    data = live.scoped(scope.ALL)
    criteria = Criteria(search_of(request, data).secim)
    lines = coverage_of(data, criteria.secim)
    record(request, AccessEvent.PAGE, snapshot=data.snapshot.number)
    return page(
        request,
        "durum.html",
        data=data,
        criteria=criteria,
        lines=lines,
        tiles=tiles_of(lines),
        rows=tile_map.ROWS,
        columns=tile_map.COLUMNS,
        boxes=sum(line.boxes for line in lines),
        opened=sum(line.opened for line in lines),
        sheets=sum(line.sheets for line in lines),
    )
