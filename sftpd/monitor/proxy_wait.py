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

MOST = 256
PATIENCE = 3.0  # seconds for the header
HEADER = "proxy header"


@dataclass(slots=True)
class _Waiting:
    peer: socket.socket
    balancer: Address
    due: float
    heard: bytes = b""


class Lobby:
    """Connections from balancers.

    `welcome` is given the connection, the address it came from and the balancer's; `refuse` is
    told of the balancer whose connection came to nothing, and why.
    """

    def __init__(
        self,
        loop: Loop,
        welcome: Callable[[socket.socket, Address, Address], object],
        refuse: Callable[[Address, str], object],
        monotonic: Callable[[], float] = time.monotonic,
        most: int = MOST,
    ) -> None:
        self._loop = loop
        self._welcome = welcome
        self._refuse = refuse
        self._monotonic = monotonic
        self._most = most
        self._waiting: dict[int, _Waiting] = {}  # in the order in which they fall due

    def receive(self, peer: socket.socket, balancer: Address) -> None:
        """Take a connection in; it is the lobby's to close from now on."""
        if len(self._waiting) >= self._most:
            peer.close()
            self._refuse(balancer, "sessions")
            return
        peer.setblocking(False)
        waiting = _Waiting(peer, balancer, self._monotonic() + PATIENCE)
        self._waiting[peer.fileno()] = waiting
        self._loop.watch(peer, lambda: self._hear(waiting))

    def _hear(self, waiting: _Waiting) -> None:
        try:
            header = _read(waiting)
        except BlockingIOError:
            return
        except (Malformed, OSError):
            self._leave(waiting).close()
            self._refuse(waiting.balancer, HEADER)
            return
        if header is None:
            return
        with self._leave(waiting) as peer:
            if header.source is not None:
                self._welcome(peer, header.source, waiting.balancer)

    def _leave(self, waiting: _Waiting) -> socket.socket:
        self._loop.forget(waiting.peer)
        del self._waiting[waiting.peer.fileno()]
        waiting.peer.setblocking(True)
        return waiting.peer

    def next_due(self) -> float | None:
        """Return when the next has waited long enough."""
        return next((waiting.due for waiting in self._waiting.values()), None)

    def catch_up(self) -> None:
        """Close those who have waited long enough."""
        now = self._monotonic()
        while (due := self.next_due()) is not None and due <= now:
            waiting = next(iter(self._waiting.values()))
            self._leave(waiting).close()
            self._refuse(waiting.balancer, HEADER)

    def close(self) -> None:
        """Close them all."""
        for waiting in list(self._waiting.values()):
            self._leave(waiting).close()

    def __len__(self) -> int:
        return len(self._waiting)


def _read(waiting: _Waiting) -> Header | None:
    """Return the header once it is all there; a source of None is nobody to serve."""
    peeked = waiting.peer.recv(proxy.LONGEST, socket.MSG_PEEK)
    if not peeked:
        if waiting.heard:
            raise Malformed("no end of the header")
        return Header(0, None)  # looked whether the port is open
    header = proxy.parse(waiting.heard + peeked)
    # What is no whole header yet belongs to it as a whole.
    size = len(peeked) if header is None else header.length - len(waiting.heard)
    waiting.heard += waiting.peer.recv(size)
    return header
