"""Answers Prometheus at `[staff] metrics` with the figures of the site, in the event loop."""

import asyncio
import contextlib

import structlog

from config.party import parse_address
from keys import prometheus
from portal.staff.entrance import StaffEntrance
from portal.staff.watch import Watch
from publisher.status import metrics

_TIMEOUT = 5.0  # seconds for a request and its answer
_MAX_CLIENTS = 16

_log = structlog.get_logger()


async def serve(entrance: StaffEntrance, watch: Watch) -> None:
    """Answer until the task is cancelled; without the setting, return at once."""
    stated = entrance.web.metrics
    if stated is None:
        return
    host, port = stated
    if not parse_address(host).is_loopback:
        _log.warning("metrics-exposed", address=host)
    clients = 0

    def page() -> bytes:
        seen = watch.last()
        if seen is None:
            return b""
        return metrics.render(seen.figures, entrance.clock(), len(entrance.sessions))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        if clients >= _MAX_CLIENTS:
            writer.close()
            return
        clients += 1
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT):
                    request, reply = b"", None
                    while reply is None and (data := await reader.read(prometheus.MAX_REQUEST)):
                        request += data
                        reply = prometheus.respond(request, page)
                    writer.write(reply or b"")
                    await writer.drain()
        finally:
            clients -= 1
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, port)
    except OSError as error:
        # Operators can work without metrics.
        _log.error("metrics-unavailable", address=host, port=port, cause=str(error))
        return
    _log.info("metrics-listening", address=host, port=server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()
