"""The first page after the login."""

from typing import Annotated

from fastapi import Depends, Request, Response

from config.event import AccessEvent
from portal.access.gate import gated_router, record, signed_in
from portal.access.identity import Identity
from portal.party.rendering import page

router = gated_router()


@router.get("/")
def home(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
    """Show where everything is."""
    record(request, AccessEvent.PAGE)
    return page(request, "ana.html")
