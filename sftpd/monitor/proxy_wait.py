"""Where connections that a balancer passes on wait until it has said from where they came.

Nothing is read beyond the PROXY header (sftpd/monitor/proxy), and no child is forked for them; so
many wait at most, and each for so long at most.
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from config.party import Address
from sftpd.monitor import proxy
from sftpd.monitor.loop import Loop
from sftpd.monitor.proxy import Header, Malformed

MAX_WAITING = 256
HEADER_TIMEOUT = 3.0  # seconds for the header
REASON = "proxy header"


@dataclass(slots=True)
class _Connection:
    peer: socket.socket
    balancer: Address
    deadline: float
    received: bytes = b""


class ProxyWait:
    """Connections from balancers.

    `welcome` is given the connection, the address it came from and the balancer's; `refuse` is
    told of the balancer whose connection came to nothing, and why.
    """

    def __init__(
        self,
        loop: Loop,
        dispatch: Callable[[socket.socket, Address, Address], object],
        refuse: Callable[[Address, str], object],
        monotonic: Callable[[], float] = time.monotonic,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._loop = loop
        self._dispatch = dispatch
        self._refuse = refuse
        self._monotonic = monotonic
        self._max_waiting = max_waiting
        self._waiting: dict[int, _Connection] = {}  # in the order in which they fall due

    def add(self, peer: socket.socket, balancer: Address) -> None:
        """Take a connection in; it is the lobby's to close from now on."""
        if len(self._waiting) >= self._max_waiting:
            peer.close()
            self._refuse(balancer, "sessions")
            return
        peer.setblocking(False)
        connection = _Connection(peer, balancer, self._monotonic() + HEADER_TIMEOUT)
        self._waiting[peer.fileno()] = connection
        self._loop.watch(peer, lambda: self._receive(connection))

    def _receive(self, connection: _Connection) -> None:
        try:
            header = _read(connection)
        except BlockingIOError:
            return
        except (Malformed, OSError):
            self._remove(connection).close()
            self._refuse(connection.balancer, REASON)
            return
        if header is None:
            return
        with self._remove(connection) as peer:
            if header.source is not None:
                self._dispatch(peer, header.source, connection.balancer)

    def _remove(self, connection: _Connection) -> socket.socket:
        self._loop.unwatch(connection.peer)
        del self._waiting[connection.peer.fileno()]
        connection.peer.setblocking(True)
        return connection.peer

    def next_due(self) -> float | None:
        """Return when the next has waited long enough."""
        return next((connection.deadline for connection in self._waiting.values()), None)

    def catch_up(self) -> None:
        """Close those who have waited long enough."""
        now = self._monotonic()
        while (deadline := self.next_due()) is not None and deadline <= now:
            connection = next(iter(self._waiting.values()))
            self._remove(connection).close()
            self._refuse(connection.balancer, REASON)

    def close(self) -> None:
        """Close them all."""
        for connection in list(self._waiting.values()):
            self._remove(connection).close()

    def __len__(self) -> int:
        return len(self._waiting)


def _read(connection: _Connection) -> Header | None:
    """Return the header once it is all there; a source of None is nobody to serve."""
    peeked = connection.peer.recv(proxy.MAX_HEADER, socket.MSG_PEEK)
    if not peeked:
        if connection.received:
            raise Malformed("no end of the header")
        return Header(0, None)  # looked whether the port is open
    header = proxy.parse(connection.received + peeked)
    # What is no whole header yet belongs to it as a whole.
    size = len(peeked) if header is None else header.length - len(connection.received)
    connection.received += connection.peer.recv(size)
    return header
