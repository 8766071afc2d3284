"""A proxy between client and server that acts as a slow, distant and unreliable link."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

_PIECE = 4096


@dataclass
class SlowLink:
    """Forwards bytes at `mbit` Mbit/s, delayed by half of `round_trip` seconds.

    The first connection is cut after cuts[0] bytes to the client, the second after cuts[1], and so
    on; the connections after that are not cut. Between `hold` and `release` nothing arrives at
    either end, and nothing is lost.
    """

    port: int
    mbit: float
    round_trip: float
    cuts: list[int] = field(default_factory=list)
    bytes_to_client: int = 0
    connections: int = 0
    listener: socket.socket = field(default_factory=socket.socket)
    delivering: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        """Deliver nothing from now on."""
        self.delivering.clear()

    def release(self) -> None:
        """Deliver what was held, and everything after it."""
        self.delivering.set()

    @property
    def listen_port(self) -> int:
        """The port that clients connect to."""
        port: int = self.listener.getsockname()[1]
        return port

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self.connections += 1
                left = self.cuts.pop(0) if self.cuts else -1
                for one, other, most in ((client, server, -1), (server, client, left)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    pieces: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                    for work, given in (
                        (self._receive, (one, pieces, most)), (self._deliver, (other, pieces, one)),
                    ):  # fmt: skip
                        threading.Thread(target=work, args=given, daemon=True).start()

    def _receive(
        self, source: socket.socket, pieces: "SimpleQueue[tuple[float, bytes]]", left: int
    ) -> None:
        free = 0.0
        with suppress(OSError):
            while data := source.recv(_PIECE):
                if left >= 0 and (left := left - len(data)) <= 0:
                    break
                now = time.monotonic()
                free = max(free, now) + len(data) * 8 / (self.mbit * 1e6)
                pieces.put((free + self.round_trip / 2, data))
                # A link buffers little more than the bytes that are on their way.
                time.sleep(max(0.0, free - now - 0.1))
        pieces.put((0.0, b""))

    def _deliver(
        self, sink: socket.socket, pieces: "SimpleQueue[tuple[float, bytes]]", source: socket.socket
    ) -> None:
        with suppress(OSError):
            while (piece := pieces.get())[1]:
                time.sleep(max(0.0, piece[0] - time.monotonic()))
                self.delivering.wait()
                sink.sendall(piece[1])
                if source.getsockname()[1] != self.listen_port:
                    self.bytes_to_client += len(piece[1])
        for end in (sink, source):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def slow_link(
    port: int, mbit: float = 5.0, round_trip: float = 0.05, *cuts: int
) -> Iterator[SlowLink]:
    """Run a link to the server on `port`."""
    link = SlowLink(port, mbit, round_trip, list(cuts))
    link.release()
    link.listener.bind(("127.0.0.1", 0))
    link.listener.listen()
    thread = threading.Thread(target=link.accept)
    thread.start()
    try:
        yield link
    finally:
        link.release()
        link.listener.shutdown(socket.SHUT_RDWR)
        link.listener.close()
        thread.join()
