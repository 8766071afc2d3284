"""HTTP/1.1 as uvicorn speaks it with httptools, with limits that apply before a request is whole.

A client has HEAD_SECONDS to send the head of a request, MAX_HEAD bytes long at most, and
BODY_SECONDS for its body, which may take MAX_SENT bytes with all its chunks and trailers. So a
client that sends a byte now and then (slowloris) is disconnected, and many megabytes are never
collected. While more of an answer waits for a client than it has taken, it has to take MIN_READ
bytes in READ_SECONDS: a very slow line brings a thousand bytes a second. A connection beyond its
address's share (portal/listener) gets a short answer that says so, and is closed.

An answer is handed to TLS in pieces of PIECE bytes. OpenSSL encrypts into a buffer of the
connection that grows to what it gets at once, and never shrinks. A short answer is one piece.
"""

import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from config.party import Address
from portal import problem

HEAD_SECONDS, BODY_SECONDS, READ_SECONDS = 15.0, 30.0, 60.0
MIN_READ = 60_000  # bytes
MAX_HEAD = 32 * 1024  # bytes
MAX_SENT = 512 * 1024  # bytes after the head: portal/access/front allows a body of 64 KiB
PIECE = 16 * 1024  # bytes, as many as a record of TLS has
_BUFFER = 64 * 1024  # bytes
_ACKNOWLEDGED_AT = 120  # in struct tcp_info of linux/tcp.h, since Linux 4.1
_LINGER = 0.1  # seconds for a client to read why it is disconnected
_DETAILS = {
    400: "İstek HTTP kurallarına uymuyor.",
    413: "İsteğin gövdesi çok büyük.",
    431: f"İsteğin başlıkları en çok {MAX_HEAD} bayt olabilir.",
    503: "Bu adresten çok sayıda bağlantı açık. Retry-After kadar bekleyin.",
}


class Pieces:
    """A transport with TLS that gets what is written in pieces; everything else is the transport's.

    uvicorn writes the head of an answer and its body one after the other. They are held until the
    answer is whole, or else the event loop's turn ends, so a short answer is one record of TLS.

    It hides nothing of the transport from uvicorn, which asks it about many things.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write in pieces."""
        if len(self._held) + len(data) <= PIECE:
            if not self._held:
                self._loop.call_soon(self.flush)
            self._held += data
            return
        self.flush()
        view = memoryview(data)
        for at in range(0, len(view), PIECE):
            self._transport.write(view[at : at + PIECE])

    def flush(self) -> None:
        """Write what is held."""
        held, self._held = self._held, b""
        if held and not self._transport.is_closing():
            self._transport.write(held)

    def close(self) -> None:
        """Write what is held, and close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Received(asyncio.BufferedProtocol):
    """Lets TLS put what it has received into one buffer, and hands a copy of it to `protocol`.

    For a protocol without a buffer, uvloop reads into a new block of 256 KiB each time. That the
    kernel maps and unmaps it took a tenth of the time of a short call.
    """

    _buffer = memoryview(bytearray(_BUFFER))  # of all connections: it is copied at once

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass the connection on to the protocol."""
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the end of the connection on."""
        self._protocol.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client takes less than is written."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has taken what was written."""
        self._protocol.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer; a read that fills it is followed by another one."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was received."""
        self._protocol.data_received(bytes(self._buffer[:nbytes]))


class Refused(Exception):
    """Ends the parsing of what was received, after a refusal."""


class HttpProtocol(HttpToolsProtocol):
    """The HTTP of one connection, with the limits above."""

    _source: Address | None = None  # None: the other end of the connection
    _when_lost: Callable[[], object] = staticmethod(lambda: None)
    _accepted = True
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None  # that which is answered, or was last
    _head = _sent = 0  # bytes of the head so far, and of what follows it
    _received = _first = 0  # bytes that came last, and that came when the head began
    _refused = False
    url = b""  # until a request begins

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
            self._refuse(503, "retry-after: 10")
            return
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_waiting()
        self._stop_watching()
        self._when_lost()
        if self._running is not None and self._running is not self.cycle:
            # uvicorn only notifies the last of the requests that arrived in one piece.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)
        # Both refer to this protocol. Without them, all that the connection holds is freed at once,
        # and not when Python looks for cycles, which it may not do for minutes.
        self._unset_keepalive_if_required()
        self.app_state = {}

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head, and of what follows it."""
        if self._refused:
            return
        self._received = len(data)
        if self._head < 0:
            self._sent += len(data)
        else:
            self._head += len(data)
            if self._deadline is None:
                self._wait(HEAD_SECONDS)
        super().data_received(data)
        if self._refused:
            return
        if self._head > MAX_HEAD:
            # All of it is still a head: `on_headers_complete` has not been called.
            self._refuse(431)
        elif self._head < 0 and self._sent > MAX_SENT:
            self._refuse(413)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head, self._first = 0, self._received
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole; the body has its own time."""
        # `_head` lacks what came together with the end of the request before this one.
        if self._head + self._first > MAX_HEAD and self._head_size() > MAX_HEAD:
            self._refuse(431)
            raise Refused
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._refuse(400)  # RFC 9112 section 3.2
            raise Refused
        self._head, self._sent = -1, 0
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole; what follows is the head of the next one."""
        self._stop_waiting()
        self._head = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for a client that has not taken what was sent so far."""
        super().pause_writing()
        self._stop_watching()
        self._watch_reading()

    def resume_writing(self) -> None:
        """Stop watching: the client has taken what was sent."""
        super().resume_writing()
        self._stop_watching()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not an HTTP request."""
        if not self._refused:
            self._refuse(400)

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing in the log: any client can ask for another protocol, and gets HTTP/1.1."""

    def _refuse(self, status: int, *headers: str) -> None:
        """Say why, unless an answer has begun, and disconnect."""
        self._refused = True
        if not self._answering():
            self.transport.write(_refusal(status, self.url, headers))
        if self.cycle is not None:
            self.cycle.disconnected = True  # nothing follows
        # `close` would end TLS in order, and read everything that the client still sends.
        self._wait(_LINGER)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def on_response_complete(self) -> None:
        """Keep nothing of the request that was answered: the next one may come in a minute."""
        if self._running is not None:
            if self.scope is self._running.scope:  # no head of another request has begun
                self.scope = None  # type: ignore[assignment]
            self._running.scope = {}  # type: ignore[typeddict-item]
        if isinstance(self.transport, Pieces):
            self.transport.flush()
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _answering(self) -> bool:
        """Say whether an answer is being sent, or was sent although the body is not whole."""
        if self.cycle is None:
            return False
        if self.pipeline:  # `cycle` is the last of the requests that wait for an earlier answer
            return True
        in_body = self._head < 0  # so the last answer is that to this request
        return self.cycle.response_started if in_body else not self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._end)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_reading(self) -> None:
        self._unread = self.loop.call_later(READ_SECONDS, self._check_reading, self._acknowledged())

    def _check_reading(self, before: int) -> None:
        """End a connection whose client takes nothing; one that is only slow goes on."""
        if self._acknowledged() - before < MIN_READ:
            self._end()
        else:
            self._watch_reading()

    def _acknowledged(self) -> int:
        """Return the bytes that the client's machine has taken (tcpi_bytes_acked of tcp(7))."""
        found: Any = self.transport.get_extra_info("socket")
        info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AT + 8)
        return int.from_bytes(info[_ACKNOWLEDGED_AT:], sys.byteorder)

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _end(self) -> None:
        self._deadline = self._unread = None
        if self._running is not None:
            self._running.disconnected = True  # so that an answer that is cut off is no error
        transport: Any = self.transport
        transport.abort()


def _refusal(status: int, url: bytes, headers: Sequence[str]) -> bytes:
    """Return an answer for a program if it asks for a call, or if that is not known."""
    path = url.partition(b"?")[0].decode("latin-1")
    kind, body = "text/plain; charset=utf-8", f"{_DETAILS[status]}\n".encode()
    if not path or problem.is_call(path):
        kind, body = problem.MEDIA_TYPE, problem.content(status, _DETAILS[status])
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
