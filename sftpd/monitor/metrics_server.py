"""The port for a Prometheus server, answered from the parent's loop without ever blocking it.

A few connections at a time, one request each (sftpd/monitor/metrics), a few seconds for it.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from sftpd.monitor import metrics
from sftpd.monitor.loop import READ, WRITE, Loop

MAX_CLIENTS = 16
REQUEST_TIMEOUT = 5.0  # seconds from accept to the last byte


@dataclass(slots=True)
class _Client:
    peer: socket.socket
    deadline: float
    request: bytes = b""
    answer: memoryview | None = None


class MetricsServer:
    """Serves `page` on `listener`, which is its own to close."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        page: Callable[[], bytes],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._page = page
        self._monotonic = monotonic
        self._clients: dict[int, _Client] = {}  # in the order in which they fall due
        listener.setblocking(False)
        loop.watch(listener, self._accept)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            peer.close()
            return
        peer.setblocking(False)
        client = _Client(peer, self._monotonic() + REQUEST_TIMEOUT)
        self._clients[peer.fileno()] = client
        self._loop.watch(peer, lambda: self._read(client), READ)

    def _read(self, client: _Client) -> None:
        try:
            data = client.peer.recv(metrics.MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.request += data
        answer = metrics.respond(client.request, self._page)
        if answer is not None:
            client.answer = memoryview(answer)
            self._loop.watch(client.peer, lambda: self._write(client), WRITE)

    def _write(self, client: _Client) -> None:
        answer = client.answer
        if answer is None:
            raise AssertionError("nothing to write is not watched for")
        try:
            client.answer = answer[client.peer.send(answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = answer[:0]
        if not client.answer:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        self._loop.unwatch(client.peer)
        del self._clients[client.peer.fileno()]
        client.peer.close()

    def next_due(self) -> float | None:
        """Return when the next has taken too long."""
        return next((client.deadline for client in self._clients.values()), None)

    def catch_up(self) -> None:
        """Hang up on those who take too long."""
        now = self._monotonic()
        while (deadline := self.next_due()) is not None and deadline <= now:
            self._drop(next(iter(self._clients.values())))

    def close(self) -> None:
        """Close the port and all connections to it."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._loop.unwatch(self._listener)
        self._listener.close()
