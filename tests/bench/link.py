"""Simulate a long link on one machine: a TCP proxy that delays every byte by half a round trip.

It works where the kernel has no netem. It also limits the rate if one is given. Without a rate, the
amount of data in flight is limited only by the two ends; over SSH that is the channel window and
the number of outstanding requests. Each link is a process of its own, so that it uses nothing of
client and server except CPU time.

With a log it writes each packet that it takes from an end, when it ends: one line with the seconds
since the start, the number of the connection, `>` for the server or `<` for the client, and the
bytes. This is a packet trace without tcpdump, taken in the middle of the link.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

_CHUNK = 256 << 10
_PACED_CHUNK = 8 << 10  # with a rate
_LATENESS = 0.02  # seconds
_MAX_LATENESS = 0.5  # seconds, while more data waits on a busy machine
_PROMPT = 0.002  # seconds: data that arrives within them was there already
_MAX_CHUNKS = 512  # in flight in one direction


@contextmanager
def delayed(
    port: int, round_trip: float, mbit: float = 0, log: Path | None = None
) -> Iterator[int]:
    """Yield a port that forwards to `port` with a delay of `round_trip` seconds in total.

    `mbit` limits the rate of all connections together in each direction to megabits per second,
    unless it is 0.
    """
    command = [sys.executable, __file__, str(port), str(round_trip / 2), str(mbit), str(log or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class Packet(NamedTuple):
    """What the link took from an end at one moment; `to` is `>` for the server, `<` for the client.

    `at` is in seconds since the first packet of the link.
    """

    at: float
    connection: int
    to: str
    size: int


def packets(log: Path) -> list[Packet]:
    """Read a log; the link must have ended."""
    found = []
    for line in log.read_text().splitlines():
        at, connection, to, size = line.split()
        found.append(Packet(float(at), int(connection), to, int(size)))
    return found


class _Line:
    """One direction of the link; `mbit` is its rate, 0 if it has no limit."""

    def __init__(self, mbit: float) -> None:
        self.mbit = mbit
        self._free = 0.0  # when it has sent everything so far

    async def send(self, size: int, now: float, waited: float) -> None:
        """Wait until the line has sent `size` more bytes, for which it waited so many seconds."""
        if self.mbit:
            # A timer may fire late. What the line could have sent meanwhile is not lost.
            late = _LATENESS if waited > _PROMPT else _MAX_LATENESS
            self._free = max(self._free, now - late) + size * 8 / (self.mbit * 1e6)
            await asyncio.sleep(self._free - now)


class _Log:
    """The packets so far; nothing is kept without a path."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: list[str] = []
        self.began = 0.0

    def add(self, at: float, connection: int, to: str, size: int) -> None:
        """Note a packet."""
        if self.path:
            self.began = self.began or at
            self.lines.append(f"{at - self.began:.6f} {connection} {to} {size}\n")

    def write(self) -> None:
        """Write all lines."""
        if self.path:
            Path(self.path).write_text("".join(self.lines))


async def _forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    line: _Line,
    log: Callable[[float, int], None],
) -> None:
    now = asyncio.get_running_loop().time
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MAX_CHUNKS)

    async def send() -> None:
        while True:
            due, chunk = await waiting.get()
            if due > now():
                await asyncio.sleep(due - now())
            if not chunk:
                writer.close()
                return
            writer.write(chunk)
            await writer.drain()

    sending = asyncio.create_task(send())
    with suppress(ConnectionError):
        while True:
            asked = now()
            chunk = await reader.read(_PACED_CHUNK if line.mbit else _CHUNK)
            if not chunk:
                break
            log(now(), len(chunk))
            await line.send(len(chunk), now(), now() - asked)
            await waiting.put((now() + delay, chunk))
            if sending.done():
                return
    await waiting.put((now() + delay, b""))
    with suppress(ConnectionError):
        await sending


async def _serve(port: int, delay: float, mbit: float, log: _Log) -> None:
    up, down = _Line(mbit), _Line(mbit)
    numbers = count(1)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        far, to_far = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        await asyncio.gather(
            _forward(reader, to_far, delay, up, lambda at, n: log.add(at, number, ">", n)),
            _forward(far, writer, delay, down, lambda at, n: log.add(at, number, "<", n)),
        )

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_CHUNK, backlog=200)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    log.write()
    os._exit(0)  # without waiting for the connections


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(_serve(int(given[0]), float(given[1]), float(given[2]), _Log(given[3])))
