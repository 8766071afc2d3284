"""Tells open pages what is new (portal/access/event_stream).

    event: snapshot
    id: 42
    data: {"number": 42, "closed_at": "2023-05-14T21:04:10+03:00"}

and, when the operator has announced something or withdrawn it,

    event: announcements
    data: {}

The page then fetches itself again and replaces what has changed. The stream is one record; each
page that is fetched is another.
"""

import json

from fastapi import Request, Response

from config import times
from config.event import AccessEvent
from portal.access.event_stream import CHECK_SECONDS, stream
from portal.access.gate import entrance_of, gated_router, record
from portal.party.dependencies import Live, Visitor, sites_of
from portal.web import announced

router = gated_router()


@router.get("/canli")
async def live(request: Request, who: Visitor, live: Live) -> Response:
    """Follow the snapshots."""
    record(request, AccessEvent.STREAM, snapshot=live.number)
    sites = sites_of(request)
    stated = request.headers.get("last-event-id", "")
    shown = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 9 else None

    number, announcements = live.number if shown is None else shown, _announced(request)

    async def news() -> list[str]:
        nonlocal number, announcements
        await sites.wait(live, number, CHECK_SECONDS)
        found = []
        if live.number > number:
            snapshot = live.scoped(who.scope).snapshot
            number = snapshot.number
            closed = times.format_optional(snapshot.closed_at)
            content = json.dumps({"number": number, "closed_at": closed})
            found.append(f"event: snapshot\nid: {number}\ndata: {content}\n\n")
        if announcements != (now := _announced(request)):
            announcements = now
            found.append("event: announcements\ndata: {}\n\n")
        return found

    return stream(request, who, news)


def _announced(request: Request) -> object:
    """Return a value that changes when something is announced or withdrawn."""
    return announced.version(entrance_of(request).settings.site)
