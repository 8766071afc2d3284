"""Hesap: one's own account at the staff site."""

from fastapi import Request, Response

from config.event import AccessEvent
from portal.access.gate import gated_router, record
from portal.staff.roles import Anyone
from portal.web.rendering import page

router = gated_router()


@router.get("/hesap")
def account_page(request: Request, who: Anyone) -> Response:
    """Show one's own account."""
    record(request, AccessEvent.PAGE)
    return page(request, "hesap.html")
