"""Sends the part of a page that changes (portal/access/event_stream).

event: durum
data: {"html": "<section data-live=…"}
"""

import json
from collections.abc import Awaitable, Callable

from fastapi import Request, Response

from portal.access import event_stream
from portal.access.identity import Identity


def stream(
    request: Request,
    who: Identity,
    render: Callable[[], Awaitable[str | None]],
    *,
    keeps_session: bool = False,
) -> Response:
    """Return a stream of what `render` returns, where that has changed.

    `render` waits for event_stream.CHECK_SECONDS at most, and returns None if there is nothing new.
    """
    shown, number = "", 0

    async def news() -> list[str]:
        nonlocal shown, number
        html = await render()
        if html is None or html == shown:
            return []
        shown, number = html, number + 1
        return [f"event: durum\nid: {number}\ndata: {json.dumps({'html': html})}\n\n"]

    return event_stream.stream(request, who, news, keeps_session=keeps_session)
