"""Sends the part of a page that changes, as server-sent events (HTML Living Standard 9.2).

    event: durum
    data: {"html": "<section data-live=…"}

The stream is one record, and not every renewal. It ends when the user is no longer admitted, logs
out, or the site stops.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from portal.access.gate import entrance_of
from portal.access.identity import Identity

CHECK_SECONDS = 1.0  # between two looks whether the user is still admitted
_QUIET = 15  # looks without news, until a comment keeps the connection open


def stream(
    request: Request, who: Identity, render: Callable[[], Awaitable[str | None]]
) -> Response:
    """Return a stream of what `render` returns, where that has changed.

    `render` waits for CHECK_SECONDS at most, and returns None if there is nothing new.
    """
    entrance, token = entrance_of(request), request.state.token

    async def events() -> AsyncIterator[str]:
        shown, number, quiet = "", 0, 0
        yield "retry: 3000\n\n"
        while entrance.still_admitted(who) and not entrance.stopping.is_set():
            if entrance.sessions.find(token) is None:
                return  # logged out
            html = await render()
            quiet += 1
            if html is not None and html != shown:
                shown, number, quiet = html, number + 1, 0
                yield f"event: durum\nid: {number}\ndata: {json.dumps({'html': html})}\n\n"
            if quiet >= _QUIET:
                quiet = 0
                yield ": \n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
