"""HTTP/1.1 as uvicorn speaks it with httptools, with limits that apply before a request is whole.

A client has HEAD_SECONDS to send the head of a request, MAX_HEAD bytes long at most, and
BODY_SECONDS for its body. So a client that sends a byte now and then (slowloris) is disconnected,
and a head of many megabytes is never collected. A connection beyond its address's share
(portal/connection_share) gets a short answer that says so, and is closed.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from config.party import Address, parse_address
from portal.connection_share import ConnectionShare

HEAD_SECONDS, BODY_SECONDS = 15.0, 30.0
MAX_HEAD = 32 * 1024  # bytes
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


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    share: ConnectionShare | None = None  # of the portal, set by `sharing`
    _address: Address | None = None  # whose connection is counted
    _deadline: asyncio.TimerHandle | None = None
    _head = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        if self.share is not None and self.client is not None:
            address = parse_address(self.client[0])
            if not self.share.take(address):
                self._refuse(_TOO_MANY)
                return
            self._address = address
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        if self.share is not None and self._address is not None:
            self.share.release(self._address)
            self._address = None
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


def sharing(share: ConnectionShare) -> type[HttpProtocol]:
    """Return the protocol for connections that are counted in `share`."""
    return type("SharingHttpProtocol", (HttpProtocol,), {"share": share})
