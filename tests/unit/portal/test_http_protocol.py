"""What a connection gets of what uvicorn writes, and what it may send."""

import asyncio
import gc
import re
import socket
import sys
import weakref
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from config.party import parse_address
from portal import http_protocol
from portal.http_protocol import MAX_HEAD, MAX_SENT, PIECE, HttpProtocol, Pieces

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


def test_the_end_of_an_answer_is_written_before_the_next_turn_of_the_loop() -> None:
    seen = []

    class Answering(Connection):
        async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().answer(scope, receive, send)
            seen.append(self.socket.received.count(b"200 OK"))

    async def run() -> None:
        connection = Answering()
        pieces: Any = Pieces(connection.socket, asyncio.get_running_loop())
        connection.protocol.transport = pieces
        for expected in (1, 2):
            connection.protocol.data_received(NEXT)
            while len(seen) < expected:
                await asyncio.sleep(0)
        connection.protocol.connection_lost(None)

    asyncio.run(run())
    assert seen == [1, 2]


class Socket(asyncio.Transport):
    """The other end of a connection: what it has received, and whether it was disconnected."""

    def __init__(self) -> None:
        super().__init__()
        self.received, self.ended = b"", asyncio.Event()
        self.taken = self.takes = 0  # bytes of an answer: until now, and between two looks
        self.found: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.found if name == "socket" else default

    def getsockopt(self, *_: int) -> bytes:
        self.taken += self.takes
        return bytes(120) + self.taken.to_bytes(8, sys.byteorder)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.received += bytes(data)

    def close(self) -> None:
        self.ended.set()

    abort = close

    def is_closing(self) -> bool:
        return self.ended.is_set()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Kept:
    """What an application puts beside a request."""


class Connection:
    """A connection to an application that answers each path with itself, and reads no body."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.scopes: list[weakref.ref[Kept]] = []
        config = uvicorn.Config(
            self.answer, interface="asgi3", proxy_headers=False, log_config=None, ws="none"
        )
        config.load()
        self.socket = Socket()
        self.protocol = HttpProtocol(config, ServerState(), {})
        self.protocol.set_client(
            parse_address("192.0.2.1"), None, accepted=True, when_lost=lambda: None
        )
        self.protocol.connection_made(self.socket)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        scope["kept"] = Kept()
        self.scopes.append(weakref.ref(scope["kept"]))
        head = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b""})


def sent(*pieces: bytes) -> tuple[list[str], bytes]:
    """Send pieces to a connection; return the paths that were asked for, and what it answers."""

    async def run() -> tuple[list[str], bytes]:
        connection = Connection()
        for piece in pieces:
            connection.protocol.data_received(piece)
            await asyncio.sleep(0)
        cycle = connection.protocol.cycle
        while cycle is not None and not (cycle.response_complete or cycle.disconnected):
            await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        return connection.asked, connection.socket.received

    return asyncio.run(run())


POST = b"POST /giris HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_in_one_piece_are_answered_in_order() -> None:
    asked, answers = sent(POST + b"Content-Length: 2\r\n\r\nab" + NEXT + NEXT)

    assert asked == ["/giris", "/next", "/next"]
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_an_answer_that_is_cut_off_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    class Cut(Connection):
        async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
            head = [(b"content-length", b"10")]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            scope["state"]["abort"]()
            await send({"type": "http.response.body", "body": b""})

    async def run() -> bytes:
        connection = Cut()
        connection.protocol.data_received(NEXT)
        await connection.socket.ended.wait()
        await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        return connection.socket.received

    answer = asyncio.run(run())

    assert b"content-length: 10" in answer
    assert not caplog.records


def test_an_open_connection_keeps_nothing_of_the_request_that_was_answered() -> None:
    async def run() -> tuple[object, bytes]:
        connection = Connection()
        connection.protocol.data_received(NEXT)
        await asyncio.sleep(0)
        kept = connection.scopes[0]()
        connection.protocol.data_received(NEXT)
        await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        return kept, connection.socket.received

    kept, answers = asyncio.run(run())

    assert kept is None
    assert answers.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_nothing_of_a_closed_connection_waits_for_the_garbage_collector(
    error: Exception | None,
) -> None:
    async def run() -> object:
        connection = Connection()
        connection.protocol.data_received(NEXT)
        await asyncio.sleep(0)
        connection.protocol.connection_lost(error)
        protocol = weakref.ref(connection.protocol)
        del connection.protocol
        await asyncio.sleep(0)
        return protocol()

    gc.disable()
    try:
        assert asyncio.run(run()) is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        b"Content-Length: 4\r\nContent-Length: 0\r\n\r\nabcd",
        b"Content-Length: 4,4\r\n\r\nabcd",
        b"Content-Length: +4\r\n\r\nabcd",
        b"Content-Length: 0x4\r\n\r\nabcd",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"X: a\r\n Content-Length: 4\r\n\r\n",
        b"X: a\rContent-Length: 4\r\n\r\n",
        b"X: a\0b\r\n\r\n",
        b"Host: y\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    ],
)
def test_no_second_request_hides_in_a_request_whose_end_is_not_clear(lengths: bytes) -> None:
    """A balancer and the portal must not see different ends of a request (request smuggling)."""
    asked, answers = sent(POST + lengths + NEXT)

    assert "/next" not in asked
    assert re.findall(rb"HTTP/1.1 ([0-9]+)", answers) in ([b"400"], [])


def test_a_request_has_one_host() -> None:
    assert sent(b"GET / HTTP/1.1\r\n\r\n")[0] == []
    assert sent(b"GET / HTTP/1.0\r\n\r\n")[0] == ["/"]


@pytest.mark.parametrize("size", [len(NEXT), 16384, 1 << 20])
def test_a_large_head_is_refused_in_whatever_pieces_it_comes(size: int) -> None:
    head = NEXT[:-2] + b"X: " + b"a" * MAX_HEAD + b"\r\n\r\n"

    asked, answers = sent(*(head[at : at + size] for at in range(0, len(head), size)))

    assert asked == []
    assert answers.startswith(b"HTTP/1.1 431 ")


def test_many_small_requests_at_once_are_no_large_head() -> None:
    asked, _ = sent((NEXT * 2000)[:-10], NEXT[-10:])

    assert len(asked) == 2000


@pytest.mark.parametrize(
    "piece",
    [b"0\r\n" + b"X-A: b\r\n" * 2000, b"0\r\nX: " + b"a" * 16384, b"3;" + b"a" * 16384],
    ids=["trailers", "one trailer", "chunk extension"],
)
def test_what_follows_a_head_is_not_collected_without_end(piece: bytes) -> None:
    async def run() -> None:
        connection = Connection()
        connection.protocol.data_received(CHUNKED + piece)
        rest = piece.removeprefix(b"0\r\n").removeprefix(b"3;").removeprefix(b"X: ")
        for _ in range(MAX_SENT // len(rest) + 1):
            connection.protocol.data_received(rest)
        collected = sum(len(name) + len(value) for name, value in connection.protocol.headers)
        assert connection.protocol._refused
        assert collected < 2 * MAX_SENT
        for _ in range(100):
            connection.protocol.data_received(rest)
        after = sum(len(name) + len(value) for name, value in connection.protocol.headers)
        assert after == collected
        await asyncio.wait_for(connection.socket.ended.wait(), 30)
        connection.protocol.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("request_", "status", "is_problem"),
    [
        (b"GET /v1/summary HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", 400, True),
        (b"GET /arama HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", 400, False),
        (b"nonsense\r\n\r\n", 400, True),
        (b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 70_000, 431, True),
        (b"GET /api/ssps/x?" + b"a" * 70_000, 431, True),
        (b"GET /arama?" + b"a" * 70_000, 431, False),
    ],
)
def test_an_error_before_any_route_is_a_problem_for_a_program(
    request_: bytes, status: int, is_problem: bool
) -> None:
    at = 1000
    _, answer = sent(*(request_[n : n + at] for n in range(0, len(request_), at)))

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    kind = b"application/problem+json" if is_problem else b"text/plain; charset=utf-8"
    assert b"content-type: " + kind + b"\r\n" in head
    assert f"content-length: {len(body)}".encode() in head
    if is_problem:
        assert orjson.loads(body)["status"] == status
        assert orjson.loads(body)["detail"]


@pytest.mark.parametrize(
    "second", [CHUNKED + b"nonsense\r\n", NEXT + b"nonsense\r\n\r\n"], ids=["in a body", "a head"]
)
def test_no_refusal_is_written_into_the_answer_to_an_earlier_request(second: bytes) -> None:
    async def run() -> bytes:
        connection = Connection()
        connection.protocol.data_received(NEXT + second)
        refused = connection.socket.received
        await asyncio.wait_for(connection.socket.ended.wait(), 30)
        connection.protocol.connection_lost(None)
        return refused

    assert asyncio.run(run()) == b""


def test_each_request_of_a_client_learns_that_it_is_gone() -> None:
    async def run() -> None:
        connection = Connection()
        received: list[str] = []

        async def stream(scope: Scope, receive: Receive, send: Send) -> None:
            while not received or received[-1] != "http.disconnect":
                received.append((await receive())["type"])

        connection.protocol.app = stream
        connection.protocol.data_received(NEXT + NEXT)
        while not received:
            await asyncio.sleep(0)
        connection.protocol.connection_lost(None)
        async with asyncio.timeout(30):
            while received[-1] != "http.disconnect":
                await asyncio.sleep(0)

    asyncio.run(run())


def test_a_client_that_takes_nothing_of_an_answer_is_disconnected_and_a_slow_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_protocol, "READ_SECONDS", 0.01)

    async def run() -> None:
        slow, fast, stuck = Connection(), Connection(), Connection()
        slow.socket.takes = http_protocol.MIN_READ
        for each in (slow, fast, stuck):
            each.socket.found = each.socket
            each.protocol.pause_writing()
        fast.protocol.resume_writing()
        await asyncio.wait_for(stuck.socket.ended.wait(), 30)
        while slow.socket.taken < 5 * http_protocol.MIN_READ:
            await asyncio.sleep(0.01)
        assert not (slow.socket.ended.is_set() or fast.socket.ended.is_set())
        for each in (slow, fast, stuck):
            each.protocol.connection_lost(None)

    asyncio.run(run())


def test_the_bytes_that_a_client_has_taken_are_those_that_the_kernel_counts() -> None:
    async def run() -> None:
        connection = Connection()
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname()) as client,
            listening.accept()[0] as served,
        ):
            connection.socket.found = served
            served.sendall(b"x" * 54_321)
            assert len(client.recv(54_321, socket.MSG_WAITALL)) == 54_321
            while connection.protocol._acknowledged() < 54_321:
                await asyncio.sleep(0.01)
            assert connection.protocol._acknowledged() == 54_321

    asyncio.run(asyncio.wait_for(run(), 30))
