"""Sends server-sent events (HTML Living Standard 9.2) to an open page while its user may go on.

    event: snapshot
    id: 42
    data: {"number": 42}

A stream is one record, and not every event. It ends within CHECK_SECONDS when the user is no longer
admitted or logs out, when the session ends, or when the site stops. It does not count as a use of
the session: an open page alone does not prolong a session beyond `idle_minutes`, unless the page
is shown on a wall screen (`keeps_session`). A user has some streams at a time
(portal/access/limits); for one more, the page gets 429 and is not updated.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from portal.access.gate import Refusal, entrance_of
from portal.access.identity import Identity

CHECK_SECONDS = 1.0  # between two looks whether the user may go on
_LATER = {"Retry-After": "60"}
_QUIET = 15  # looks without news, until a comment keeps the connection open


def stream(
    request: Request,
    who: Identity,
    news: Callable[[], Awaitable[Sequence[str]]],
    *,
    keeps_session: bool = False,
) -> Response:
    """Return a stream of the events that `news` returns, each a text such as the one above.

    `news` waits for CHECK_SECONDS at most.
    """
    entrance, token = entrance_of(request), request.state.token
    streams = entrance.limits.streams
    if streams.is_full(who.login):
        raise Refusal(429, "too-many", "Çok sayıda sayfa açık; birkaçını kapatın.", _LATER)

    def is_live() -> bool:
        if not entrance.knows_the_others():
            return False
        if keeps_session:
            return entrance.sessions.find(token) is not None
        return entrance.sessions.is_live(token)

    def may_go_on() -> bool:
        return is_live() and entrance.still_admitted(who) and not entrance.stopping.is_set()

    async def events() -> AsyncIterator[str]:
        if streams.is_full(who.login):
            return  # the others came at the same moment
        quiet = 0
        with streams.counted(who.login):
            yield "retry: 3000\n\n"
            while may_go_on():
                found = await news()
                if found and not may_go_on():
                    return
                for event in found:
                    yield event
                quiet = 0 if found else quiet + 1
                if quiet >= _QUIET:
                    quiet = 0
                    yield ": \n\n"

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events(), media_type="text/event-stream", headers=headers)
