"""Accepts the connections of a web daemon: what applies to each before it speaks HTTP.

    step                          deadline            if it fails
    1. its address's share        none                503 and closed (portal/connection_share)
    2. a balancer's PROXY header  HEADER_SECONDS      closed, recorded as refused
    3. the handshake of TLS       HANDSHAKE_SECONDS   closed
    4. HTTP                       portal/http_protocol

A connection counts from its first moment, so a client that opens connections and sends nothing only
uses its own share. With `proxy_protocol`, every connection from a balancer of `proxies` has to
begin with a PROXY header, version 1 or 2 (keys/credentials/proxy_header): its text is not guessed
from the first bytes, as the protocol demands. From then on the connection counts as the client's.
The header comes before TLS, so a balancer may pass TLS through. A connection that a balancer makes
for itself (LOCAL, UNKNOWN) gets an answer to its health check only (portal/access/front).

A connection beyond the share of its address is answered with 503. The answer needs a TLS handshake,
so at most TOLD connections are answered at the same time; the others are closed at once.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog
import uvicorn

from config.party import Address, parse_address
from config.settings import WebSettings
from keys.credentials import proxy_header
from keys.credentials.proxy_header import Header, Malformed
from portal.connection_share import ConnectionShare
from portal.http_protocol import HttpProtocol, Received

HEADER_SECONDS, HANDSHAKE_SECONDS = 3.0, 15.0
TOLD = 16
_AT_ONCE = 64  # connections that are accepted before anything else is done
_UNACKNOWLEDGED_MS = 120_000  # until a client that acknowledges nothing is given up
_PAUSE = 0.5  # seconds, when the process has no descriptor left
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = structlog.get_logger()


class Place:
    """A counted connection; `give_back` may be called more than once."""

    def __init__(self, share: ConnectionShare, address: Address) -> None:
        self._share = share
        self._counted = share.take(address)

    @property
    def taken(self) -> bool:
        """Whether there was a place for the connection."""
        return self._counted is not None

    def give_back(self) -> None:
        """Note the end of the connection."""
        if self._counted is not None:
            self._share.release(self._counted)
            self._counted = None


class Listener:
    """The listening socket of one daemon; it belongs to one event loop.

    `web` returns the settings in force. `header_refused` is called with the balancer whose header
    could not be read.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext | None,
        share: ConnectionShare,
        web: Callable[[], WebSettings],
        header_refused: Callable[[Address], Awaitable[object]],
        *,
        header_seconds: float = HEADER_SECONDS,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._listening, self._context, self._share = listening, context, share
        self._header_seconds, self._handshake_seconds = header_seconds, handshake_seconds
        self._web, self._header_refused = web, header_refused
        self._opening: set[asyncio.Task[None]] = set()
        self._told = 0
        self._make: Callable[[], HttpProtocol] | None = None

    def start(self, make: Callable[[], HttpProtocol]) -> None:
        """Accept connections from now on; `make` returns the protocol of a new one."""
        self._make = make
        self._listening.setblocking(False)
        self._watch()

    def close(self) -> None:
        """Accept no more, and drop those that have not begun to speak HTTP."""
        asyncio.get_running_loop().remove_reader(self._listening)
        for task in self._opening:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until those that were dropped are gone."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _watch(self) -> None:
        with suppress(ValueError, OSError):  # closed meanwhile
            asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    raise
                _log.error("accept-paused", seconds=_PAUSE, cause=str(error))
                loop.remove_reader(self._listening)
                loop.call_later(_PAUSE, self._watch)
                return
            accepted.setblocking(False)
            task = loop.create_task(self._open(accepted, parse_address(address[0])))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, peer: Address) -> None:
        place = Place(self._share, peer)
        handed_over = False
        try:
            source, via, check = peer, None, False
            if place.taken and self._web().proxy_protocol and peer in self._web().proxies:
                header = await self._header(accepted, peer)
                if header is None:
                    return
                if header.source is None:
                    check = True
                else:
                    source, via = header.source, peer
                    place.give_back()
                    place = Place(self._share, source)
            handed_over = await self._serve(accepted, place, source, via, check=check)
        finally:
            if not handed_over:
                place.give_back()
                accepted.close()

    async def _header(self, accepted: socket.socket, balancer: Address) -> Header | None:
        """Return a balancer's PROXY header, None if no client is behind it."""
        try:
            async with asyncio.timeout(self._header_seconds):
                return await _read_header(accepted)
        except (Malformed, OSError, TimeoutError):
            await self._header_refused(balancer)
            return None

    async def _serve(
        self,
        accepted: socket.socket,
        place: Place,
        source: Address,
        via: Address | None,
        *,
        check: bool,
    ) -> bool:
        """Hand a connection over to its protocol; return False if it has to be closed."""
        if self._make is None or (not place.taken and self._told >= TOLD):
            return False
        protocol = self._make()
        protocol.set_client(
            source, via, accepted=place.taken, when_lost=place.give_back, check=check
        )
        with suppress(OSError):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # So an open page whose line has changed gives its place back.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        self._told += not place.taken
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol if self._context is None else Received(protocol),
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_seconds if self._context else None,
            )
        except (OSError, ssl.SSLError):
            return False
        finally:
            self._told -= not place.taken
        return True


class WebServer(uvicorn.Server):
    """uvicorn's server, whose connections a Listener accepts."""

    def __init__(self, config: uvicorn.Config, listener: Listener) -> None:
        super().__init__(config)
        self._listener = listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await self.lifespan.startup()

        def make() -> HttpProtocol:
            return HttpProtocol(self.config, self.server_state, self.lifespan.state)

        self._listener.start(make)
        servers: list[Any] = [self._listener]
        self.servers = servers
        self.started = True


async def _read_header(accepted: socket.socket) -> Header | None:
    """Return the header; what follows it stays in the socket."""
    received = b""
    while True:
        try:
            peeked = accepted.recv(proxy_header.MAX_HEADER, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(accepted)
            continue
        if not peeked:
            if received:
                raise Malformed("the header is incomplete")
            return None  # a probe of the port: it connected and hung up
        header = proxy_header.parse(received + peeked)
        size = len(peeked) if header is None else header.length - len(received)
        received += accepted.recv(size)
        if header is not None:
            return header


async def _readable(accepted: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(accepted, wake)
    try:
        await ready
    finally:
        loop.remove_reader(accepted)
