"""What a connection with TLS gets of what uvicorn writes."""

import asyncio
from collections.abc import Callable
from typing import Any

from portal.http_protocol import PIECE, Pieces

HEAD, BODY = b"HTTP/1.1 200 OK\r\n\r\n", b"{}"


class Transport:
    """Notes what is written, and when it is closed."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.seen.append(bytes(data))

    def close(self) -> None:
        self.seen.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.seen


def written(use: Callable[[Pieces], object], *, turns: int = 1) -> list[bytes]:
    """Return what a transport gets of what is done with its `Pieces` in one turn of the loop."""

    async def run() -> list[bytes]:
        transport: Any = Transport()
        use(Pieces(transport, asyncio.get_running_loop()))
        for _ in range(turns):
            await asyncio.sleep(0)
        found: list[bytes] = list(transport.seen)
        return found

    return asyncio.run(run())


def test_head_and_body_of_a_short_answer_are_written_at_once() -> None:
    def answer(pieces: Pieces) -> None:
        pieces.write(HEAD)
        pieces.write(BODY)

    assert written(answer) == [HEAD + BODY]


def test_a_head_alone_is_written_in_the_same_turn() -> None:
    assert written(lambda pieces: pieces.write(HEAD)) == [HEAD]
    assert written(lambda pieces: pieces.write(HEAD), turns=0) == []


def test_what_is_held_is_written_before_the_connection_is_closed() -> None:
    def answer(pieces: Pieces) -> None:
        pieces.write(HEAD)
        pieces.write(BODY)
        pieces.close()

    assert written(answer) == [HEAD + BODY, b"closed"]


def test_a_long_answer_is_written_in_pieces_and_in_order() -> None:
    body = bytes(range(256)) * 200

    def answer(pieces: Pieces) -> None:
        pieces.write(HEAD)
        pieces.write(body)
        pieces.write(BODY)

    found = written(answer)

    assert b"".join(found) == HEAD + body + BODY
    assert max(map(len, found)) == PIECE
