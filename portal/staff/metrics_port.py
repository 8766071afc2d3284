"""Answers Prometheus at `[staff] metrics` with the figures of the site, in the event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import structlog

from config.party import parse_address
from config.settings import StaffSettings
from keys import prometheus
from portal.staff.entrance import StaffEntrance
from portal.staff.watch import Watch
from publisher.status import metrics

_TIMEOUT = 5.0  # seconds for a request and its answer
_MAX_CLIENTS = 16
_PAUSE = 0.5  # seconds, after a connection could not be accepted

_log = structlog.get_logger()
_Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listen(web: StaffSettings) -> socket.socket | None:
    """Open the port; None without the setting, or if it cannot be opened."""
    if web.metrics is None:
        return None
    host, port = web.metrics
    address = parse_address(host)
    if not address.is_loopback:
        _log.warning("metrics-exposed", address=host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        # Operators can work without metrics.
        _log.error("metrics-unavailable", address=host, port=port, cause=str(error))
        return None
    listening.setblocking(False)
    _log.info("metrics-listening", address=host, port=listening.getsockname()[1])
    return listening


async def serve(listening: socket.socket, entrance: StaffEntrance, watch: Watch) -> None:
    """Answer until the task is cancelled."""
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

    loop = asyncio.get_running_loop()
    while True:
        try:
            accepted, _ = await loop.sock_accept(listening)
        except OSError as error:
            _log.error("accept-paused", seconds=_PAUSE, cause=str(error))
            await asyncio.sleep(_PAUSE)
            continue
        # A confined process may not call listen(2), as a server of asyncio would again.
        await loop.connect_accepted_socket(lambda: _protocol(answer), accepted)


def _protocol(answer: _Answer) -> asyncio.StreamReaderProtocol:
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), answer)
