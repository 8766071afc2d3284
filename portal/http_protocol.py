"""HTTP/1.1 as uvicorn speaks it with httptools, with limits that apply before a request is whole.

A client has HEAD_SECONDS to send the head of a request, MAX_HEAD bytes long at most, and
BODY_SECONDS for its body. So a client that sends a byte now and then (slowloris) is disconnected,
and a head of many megabytes is never collected. A connection beyond its address's share
(portal/listener) gets a short answer that says so, and is closed.

An answer is handed to TLS in pieces of PIECE bytes. OpenSSL encrypts into a buffer of the
connection that grows to what it gets at once, and never shrinks. A short answer is one piece.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.party import Address

HEAD_SECONDS, BODY_SECONDS = 15.0, 30.0
MAX_HEAD = 32 * 1024  # bytes
PIECE = 16 * 1024  # bytes, as many as a record of TLS has
_LINGER = 0.1  # seconds for a client to read why it is disconnected
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\n"
    b"content-length: 0\r\n\r\n"
)


_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\n"
    b"connection: close\r\n"
    b"retry-after: 10\r\n"
    b"content-length: 0\r\n\r\n"
)


class Pieces:
    """A transport with TLS that gets what is written in pieces; everything else is the transport's.

    uvicorn writes the head of an answer and its body one after the other. A head is held until the
    end of the event loop's turn, so that a short answer is one record of TLS.

    It hides nothing of the transport from uvicorn, which asks it about many things.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write in pieces."""
        if len(self._held) + len(data) <= PIECE:
            if not self._held:
                self._loop.call_soon(self._write_held)
            self._held += data
            return
        self._write_held()
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            self._transport.write(view[at : at + PIECE])

    def close(self) -> None:
        """Write what is held, and close."""
        self._write_held()
        self._transport.close()

    def _write_held(self) -> None:
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _source: Address | None = None  # None: the other end of the connection
    _when_lost: Callable[[], object] = staticmethod(lambda: None)
    _accepted = True
    _deadline: asyncio.TimerHandle | None = None
    _head = 0
    _refused = False

    def set_client(
        self,
        source: Address,
        via: Address | None,
        *,
        accepted: bool,
        when_lost: Callable[[], object],
        check: bool = False,
    ) -> None:
        """Say who the client is, and which balancer has said so; call it before the connection.

        The state of each request gets `via`, and `abort`, which breaks the connection: a client
        does not take an answer that is cut off for a whole one.

        A connection that is not `accepted` gets 503 and is closed. `check` says that a balancer
        has made it for itself.
        """
        self._source, self._accepted, self._when_lost = source, accepted, when_lost
        self.app_state = {**self.app_state, "via": via, "check": check, "abort": self._end}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        over_tls = transport.get_extra_info("ssl_object") is not None
        super().connection_made(Pieces(transport, self.loop) if over_tls else transport)  # type: ignore[arg-type]
        if self._source is not None:
            self.client = str(self._source), self.client[1] if self.client else 0
        if not self._accepted:
            self._refuse(_TOO_MANY)
            return
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        self._when_lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head."""
        if self._refused:
            return
        if self._head >= 0:
            self._head += len(data)
            if self._deadline is None:
                self._wait(HEAD_SECONDS)
        super().data_received(data)
        if self._head > MAX_HEAD:
            # All of it is still a head: `on_headers_complete` has not been called.
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; the body has its own time."""
        self._head = -1
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; what follows is the head of the next one."""
        self._stop_waiting()
        self._head = 0
        super().on_message_complete()

    def _refuse(self, answer: bytes) -> None:
        """Say why, and disconnect."""
        self._refused = True
        self.transport.write(answer)
        # `close` would end TLS in order, and read everything that the client still sends.
        self._wait(_LINGER)

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._end)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        transport: Any = self.transport
        transport.abort()
