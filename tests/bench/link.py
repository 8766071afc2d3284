"""A long link on one machine: a proxy that hands every byte on only after half a round trip.

For where the kernel has no netem. It delays, and paces if it is told a rate; else as much may be
under way as the two ends allow each other, which over SSH is the channel's window and the
requests in flight. One process a link, so that it takes nothing from client or server but the
processor.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 256 << 10
_NARROW_PIECE = 8 << 10
_MOST = 512  # pieces under way in one direction


@contextmanager
def delayed(port: int, round_trip: float, mbit: float = 0) -> Iterator[int]:
    """Yield a port that leads to `port`, `round_trip` seconds away there and back.

    No more than `mbit` megabits a second pass either way, unless it is 0.
    """
    command = [sys.executable, __file__, str(port), str(round_trip / 2), str(mbit)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def _hand_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, mbit: float
) -> None:
    now = asyncio.get_running_loop().time
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST)

    async def send() -> None:
        while True:
            due, piece = await waiting.get()
            if due > now():
                await asyncio.sleep(due - now())
            if not piece:
                writer.close()
                return
            writer.write(piece)
            await writer.drain()

    sending = asyncio.create_task(send())
    free = now()
    with suppress(ConnectionError):
        while piece := await reader.read(_NARROW_PIECE if mbit else _PIECE):
            if mbit:
                free = max(free, now()) + len(piece) * 8 / (mbit * 1e6)
                await asyncio.sleep(free - now())
            await waiting.put((now() + delay, piece))
            if sending.done():
                return
    await waiting.put((now() + delay, b""))
    with suppress(ConnectionError):
        await sending


async def _serve(port: int, delay: float, mbit: float) -> None:
    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", port, limit=_PIECE)
        await asyncio.gather(
            _hand_on(reader, to_far, delay, mbit), _hand_on(far, writer, delay, mbit)
        )

    server = await asyncio.start_server(welcome, "127.0.0.1", 0, limit=_PIECE, backlog=200)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
