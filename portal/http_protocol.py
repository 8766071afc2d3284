"""HTTP/1.1 as uvicorn speaks it with httptools, with limits that apply before a request is whole.

A client has HEAD_SECONDS to send the head of a request, MAX_HEAD bytes long at most, and
BODY_SECONDS for its body. So a client that sends a byte now and then (slowloris) is disconnected,
and a head of many megabytes is never collected.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS, BODY_SECONDS = 15.0, 30.0
MAX_HEAD = 32 * 1024  # bytes
_LINGER = 0.1  # seconds for a client to read why it is disconnected
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"connection: close\r\n"
    b"content-length: 0\r\n\r\n"
)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _head = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
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
            self._refused = True
            self.transport.write(_TOO_LARGE)
            # `close` would end TLS in order, and read everything that the client still sends.
            self._wait(_LINGER)

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
