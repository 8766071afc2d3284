"""Tells open pages what is new, as server-sent events (HTML Living Standard 9.2).

    event: snapshot
    id: 42
    data: {"number": 42, "closed_at": "2023-05-14T21:04:10+03:00"}

and, when the operator has announced something or withdrawn it,

    event: announcements
    data: {}

The page then fetches itself again and replaces what has changed. The stream itself is one record;
each page that is fetched is another. It ends when the user is no longer admitted, or its session
has ended.
"""

import json
from collections.abc import AsyncIterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from config import times
from config.event import AccessEvent
from portal.access.gate import entrance_of, gated_router, record
from portal.party import announced
from portal.party.dependencies import Live, Visitor, sites_of

router = gated_router()
_CHECK_SECONDS = 1.0  # between two looks whether the user is still admitted
_QUIET = 15  # checks without news, until a comment keeps the connection open


@router.get("/canli")
async def live(request: Request, who: Visitor, live: Live) -> Response:
    """Follow the snapshots."""
    record(request, AccessEvent.STREAM, snapshot=live.number)
    entrance, sites, token = entrance_of(request), sites_of(request), request.state.token
    stated = request.headers.get("last-event-id", "")
    shown = int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 9 else None

    async def events() -> AsyncIterator[str]:
        number, quiet = live.number if shown is None else shown, 0
        announcements = announced.version(entrance.settings.site)
        yield "retry: 3000\n\n"
        while entrance.still_admitted(who) and not entrance.stopping.is_set():
            if not entrance.sessions.is_live(token):
                return
            if live.number > number:
                snapshot = live.scoped(who.scope).snapshot
                number, quiet = snapshot.number, 0
                closed = times.format_optional(snapshot.closed_at)
                content = json.dumps({"number": number, "closed_at": closed})
                yield f"event: snapshot\nid: {number}\ndata: {content}\n\n"
            if announcements != (now := announced.version(entrance.settings.site)):
                announcements, quiet = now, 0
                yield "event: announcements\ndata: {}\n\n"
            await sites.wait(live, number, _CHECK_SECONDS)
            quiet += 1
            if quiet >= _QUIET:
                quiet = 0
                yield ": \n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
