"""Answers a Prometheus server over HTTP, in the monitor's loop, and never blocks it.

It serves at most `MAX_CLIENTS` connections at a time, with one request each
(keys/prometheus). A connection is closed after `REQUEST_TIMEOUT` seconds at the latest.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass

from keys import prometheus
from sftpd.monitor.loop import READ, WRITE, Loop, Timer

MAX_CLIENTS = 16
REQUEST_TIMEOUT = 5.0  # seconds


@dataclass(slots=True)
class _Client:
    peer: socket.socket
    timer: Timer | None = None
    request: bytes = b""
    answer: memoryview | None = None


class MetricsServer:
    """Serves `page` on the listening socket, which it closes."""

    def __init__(self, loop: Loop, listening: socket.socket, page: Callable[[], bytes]) -> None:
        self._loop = loop
        self._socket = listening
        self._page = page
        self._clients: dict[int, _Client] = {}
        listening.setblocking(False)
        loop.watch(listening, self._accept)

    def _accept(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            peer.close()
            return
        peer.setblocking(False)
        client = _Client(peer)
        self._clients[peer.fileno()] = client
        self._loop.watch(peer, lambda: self._read(client), READ)
        when = self._loop.time() + REQUEST_TIMEOUT
        client.timer = self._loop.call_at(when, lambda: self._drop(client))

    def _read(self, client: _Client) -> None:
        try:
            data = client.peer.recv(prometheus.MAX_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.request += data
        answer = prometheus.respond(client.request, self._page)
        if answer is not None:
            client.answer = memoryview(answer)
            self._loop.watch(client.peer, lambda: self._write(client), WRITE)

    def _write(self, client: _Client) -> None:
        answer = client.answer
        if answer is None:
            raise AssertionError("watched for writing without an answer")
        try:
            client.answer = answer[client.peer.send(answer) :]
        except BlockingIOError:
            return
        except OSError:
            client.answer = answer[:0]
        if not client.answer:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if client.timer is not None:
            client.timer.cancel()
        self._loop.unwatch(client.peer)
        del self._clients[client.peer.fileno()]
        client.peer.close()

    def close(self) -> None:
        """Close the port and all connections to it."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._loop.unwatch(self._socket)
        self._socket.close()
