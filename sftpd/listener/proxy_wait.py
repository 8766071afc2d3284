"""Holds connections from a balancer until their PROXY header has arrived.

No child is forked for a connection that waits here, and only the header is read (keys/credentials/
proxy_header). At most `MAX_WAITING` connections wait, each for `HEADER_TIMEOUT` seconds at most.

A health check gets the line with which SSH begins, and nothing more. The kernel takes connections
for a server that hangs, but only a server that works sends this line.
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from config.party import Address
from keys.credentials import proxy_header
from keys.credentials.proxy_header import Header, Malformed
from sftpd.monitor.loop import Loop, Timer

MAX_WAITING = 256
HEADER_TIMEOUT = 3.0  # seconds
_REASON = "proxy header"
_IDENTIFICATION = b"SSH-2.0-ssps\r\n"


@dataclass(slots=True)
class _Connection:
    peer: socket.socket
    balancer: Address
    timer: Timer | None = None
    received: bytes = b""


class ProxyWait:
    """The connections that wait for their header.

    `dispatch` gets a connection whose header has arrived: (socket, client's address, balancer).
    `on_refusal` gets the balancer of a connection that was closed here, and the reason.
    """

    def __init__(
        self,
        loop: Loop,
        dispatch: Callable[[socket.socket, Address, Address], object],
        on_refusal: Callable[[Address, str], object],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._on_refusal = on_refusal
        self._max_waiting = max_waiting
        self._waiting: dict[int, _Connection] = {}

    def add(self, peer: socket.socket, balancer: Address) -> None:
        """Wait for the header of `peer`; ProxyWait closes the socket."""
        if len(self._waiting) >= self._max_waiting:
            peer.close()
            self._on_refusal(balancer, "sessions")
            return
        peer.setblocking(False)
        connection = _Connection(peer, balancer)
        self._waiting[peer.fileno()] = connection
        self._loop.watch(peer, lambda: self._receive(connection))
        when = self._loop.time() + HEADER_TIMEOUT
        connection.timer = self._loop.call_at(when, lambda: self._refuse(connection))

    def _receive(self, connection: _Connection) -> None:
        try:
            header = _read(connection)
        except BlockingIOError:
            return
        except (Malformed, OSError):
            self._refuse(connection)
            return
        if header is None:
            return
        with self._remove(connection) as peer:
            if header.source is not None:
                self._dispatch(peer, header.source, connection.balancer)
            elif header.length:
                answer_check(peer)

    def _refuse(self, connection: _Connection) -> None:
        self._remove(connection).close()
        self._on_refusal(connection.balancer, _REASON)

    def _remove(self, connection: _Connection) -> socket.socket:
        if connection.timer is not None:
            connection.timer.cancel()
        self._loop.unwatch(connection.peer)
        del self._waiting[connection.peer.fileno()]
        connection.peer.setblocking(True)
        return connection.peer

    def close(self) -> None:
        """Close all of them."""
        for connection in list(self._waiting.values()):
            self._remove(connection).close()

    def __len__(self) -> int:
        return len(self._waiting)


def answer_check(peer: socket.socket) -> None:
    """Answer the health check of a balancer; it may have closed the connection already."""
    with suppress(OSError):
        peer.send(_IDENTIFICATION, socket.MSG_DONTWAIT)


def _read(connection: _Connection) -> Header | None:
    """Return the header once it is complete; its source is None if there is no client to serve."""
    peeked = connection.peer.recv(proxy_header.MAX_HEADER, socket.MSG_PEEK)
    if not peeked:
        if connection.received:
            raise Malformed("the header is incomplete")
        return Header(0, None)  # a probe of the port: it connected and hung up
    header = proxy_header.parse(connection.received + peeked)
    # So far it only peeked. What follows the header is SSH, and must stay in the socket.
    size = len(peeked) if header is None else header.length - len(connection.received)
    connection.received += connection.peer.recv(size)
    return header
