"""Simulate a long link on one machine: a TCP proxy that delays every byte by half a round trip.

It works where the kernel has no netem. It also limits the rate if one is given. Without a rate, the
amount of data in flight is limited only by the two ends; over SSH that is the channel window and
the number of outstanding requests. Each link is a process of its own, so that it uses nothing of
client and server except CPU time.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 256 << 10
_PACED_CHUNK = 8 << 10  # with a rate
_LATENESS = 0.02  # seconds
_MAX_CHUNKS = 512  # in flight in one direction


@contextmanager
def delayed(port: int, round_trip: float, mbit: float = 0) -> Iterator[int]:
    """Yield a port that forwards to `port` with a delay of `round_trip` seconds in total.

    `mbit` limits the rate of all connections together in each direction to megabits per second,
    unless it is 0.
    """
    command = [sys.executable, __file__, str(port), str(round_trip / 2), str(mbit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


class _Line:
    """One direction of the link; `mbit` is its rate, 0 if it has no limit."""

    def __init__(self, mbit: float) -> None:
        self.mbit = mbit
        self._free = 0.0  # when it has sent everything so far

    async def send(self, size: int, now: float) -> None:
        """Wait until the line has sent `size` more bytes."""
        if self.mbit:
            # A timer may fire late. What the line could have sent meanwhile is not lost.
            self._free = max(self._free, now - _LATENESS) + size * 8 / (self.mbit * 1e6)
            await asyncio.sleep(self._free - now)


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, line: _Line
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
        while chunk := await reader.read(_PACED_CHUNK if line.mbit else _CHUNK):
            await line.send(len(chunk), now())
            await waiting.put((now() + delay, chunk))
            if sending.done():
                return
    await waiting.put((now() + delay, b""))
    with suppress(ConnectionError):
        await sending


async def _serve(port: int, delay: float, mbit: float) -> None:
    up, down = _Line(mbit), _Line(mbit)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", port, limit=_CHUNK)
        await asyncio.gather(
            _forward(reader, to_far, delay, up), _forward(far, writer, delay, down)
        )

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_CHUNK, backlog=200)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
