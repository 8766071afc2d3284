"""What every page about results shares: who asks, the data in its scope, and the search."""

from typing import Annotated

from fastapi import Depends, Request

from config.sheet import Secim
from portal.access.gate import Refusal, signed_in
from portal.access.identity import Identity
from portal.data.criteria import BadCriterion, Criteria, parse
from portal.data.live import LiveData
from portal.data.scoped import ScopedData
from portal.data.sites import Sites

Visitor = Annotated[Identity, Depends(signed_in())]
ROWS_A_PAGE = 100
_MAX_PAGE = 100_000


def sites_of(request: Request) -> Sites:
    """Return the data of all sites of the portal."""
    found: Sites = request.app.state.sites
    return found


async def _live(request: Request, who: Visitor) -> LiveData:
    return await sites_of(request).live(who.site)


Live = Annotated[LiveData, Depends(_live)]


async def _scoped(who: Visitor, live: Live) -> ScopedData:
    return live.scoped(who.scope)


Data = Annotated[ScopedData, Depends(_scoped)]


def search_of(request: Request, data: ScopedData) -> Criteria:
    """Return the search in the address; raises Refusal if a part of it cannot be read."""
    default = next(iter(data.contests), Secim.CB)
    try:
        return parse(request.query_params, default)
    except BadCriterion as error:
        raise Refusal(422, "bad-criterion", f"Adresteki ölçüt anlaşılamadı: {error}.") from None


def page_of(request: Request) -> int:
    """Return the number of the page that is asked for, from 1."""
    text = request.query_params.get("sayfa", "1")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
    return min(max(number, 1), _MAX_PAGE)
