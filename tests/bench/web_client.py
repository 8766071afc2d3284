"""Clients for scripts/bench portal: connections that are kept, with TLS, and what they measure.

They do little for each answer, so that they leave the processor to the server: an answer is read,
and its length counted, but it is not parsed.
"""

import asyncio
import base64
import os
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
GIGABIT = 1e9 / 8  # bytes a second
_SEGMENT = 64 * 1024
_TIMEOUT = 60.0


class BadAnswer(Exception):
    """The server answered, but not with what was asked for."""


@dataclass(frozen=True)
class Server:
    """A server that is measured. `context` is None for one without TLS."""

    port: int
    context: ssl.SSLContext | None = None
    headers: str = ""

    def request(self, path: str, more: str = "") -> bytes:
        """Return the bytes of a GET request."""
        return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{self.headers}{more}\r\n".encode()

    def connect(self) -> socket.socket:
        """Open a connection for a client that waits for each answer."""
        plain = socket.create_connection((HOST, self.port), _TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return plain
        return self.context.wrap_socket(plain, server_hostname=HOST)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for a client in an event loop."""
        return await asyncio.open_connection(HOST, self.port, ssl=self.context, limit=1 << 20)


def trusting(authority: Path) -> ssl.SSLContext:
    """Return the context of a client that knows the server's authority."""
    return ssl.create_default_context(cafile=authority)


def basic(login: str, password: str) -> str:
    """Return the header with a name and a password."""
    secret = base64.b64encode(f"{login}:{password}".encode()).decode()
    return f"Authorization: Basic {secret}\r\n"


def milliseconds(server: Server, paths: Iterable[str], more: str = "") -> list[float]:
    """Return how long each answer takes, over one connection, from the request to its last byte."""
    found = []
    with server.connect() as connection:
        for path in paths:
            began = time.perf_counter()
            connection.sendall(server.request(path, more))
            _read_answer(connection, path)
            found.append(1000 * (time.perf_counter() - began))
    return found


def _read_answer(connection: socket.socket, path: str) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(_SEGMENT)):
            raise BadAnswer(f"{path}: the connection ended")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    size = _size(head, path)
    if size is not None:
        left = size - len(body)
        while left > 0:
            if not (more := connection.recv(min(left, 1 << 20))):
                raise BadAnswer(f"{path}: the connection ended")
            left -= len(more)
        return
    tail = body[-5:]
    while not tail.endswith(b"0\r\n\r\n"):
        if not (more := connection.recv(_SEGMENT)):
            raise BadAnswer(f"{path}: the connection ended")
        tail = (tail + more)[-5:]


def _size(head: bytes, path: str) -> int | None:
    """Return the length of an answer's body, None if it comes in chunks."""
    lower = head.lower()
    if b" 200 " not in lower.split(b"\r\n", 1)[0] + b" ":
        raise BadAnswer(f"{path}: {head[:400].decode(errors='replace')}")
    if b"transfer-encoding: chunked" in lower:
        return None
    return int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0])


def megabytes_a_second(server: Server, path: str, more: str, pace: float | None) -> float:
    """Fetch a file once; `pace` are the bytes a second that the line carries, None for no limit.

    The client takes no more than the line would have brought by then, so the sender's window fills
    and it has to wait, as it would for a slow line.
    """
    with server.connect() as connection:
        if pace is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        buffer = bytearray(_SEGMENT)
        began = time.perf_counter()
        connection.sendall(server.request(path, more))
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(_SEGMENT)
        head, _, body = data.partition(b"\r\n\r\n")
        size = _size(head, path)
        if size is None:
            raise BadAnswer(f"{path}: has no length")
        got = len(body)
        while got < size:
            if pace is not None:
                ahead = got / pace - (time.perf_counter() - began)
                if ahead > 0.0005:
                    time.sleep(ahead)
            count = connection.recv_into(buffer)
            if not count:
                raise BadAnswer(f"{path}: the connection ended")
            got += count
        return size / 1e6 / (time.perf_counter() - began)


async def answer(reader: asyncio.StreamReader, path: str) -> int:
    """Read one answer; return the length of its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = _size(head, path)
    if size is not None:
        await reader.readexactly(size)
        return size
    total = 0
    while length := int(await reader.readline(), 16):
        await reader.readexactly(length + 2)
        total += length
    await reader.readline()
    return total


async def calls_in(server: Server, path: str, connections: int, seconds: float) -> int:
    """Return how many requests are answered in so many seconds."""
    request = server.request(path)
    opened = [await server.open() for _ in range(connections)]
    until = time.perf_counter() + seconds

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        count = 0
        while time.perf_counter() < until:
            writer.write(request)
            await answer(reader, path)
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(one(*each) for each in opened)))


class Load(NamedTuple):
    """What users met: milliseconds of each request by the kind of page, and errors."""

    times: dict[str, list[float]]
    errors: list[str]
    seconds: float
    own_processor: float  # share of one core that this generator used
    body_bytes: int


@dataclass
class _Users:
    server: Server
    think: float
    until: float
    times: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    body_bytes: int = 0


async def users(
    server: Server,
    cookies: Sequence[str],
    visits: Callable[[random.Random], Iterable[tuple[str, str]]],
    think: float,
    seconds: float,
) -> Load:
    """Let users browse, each with a session, a connection and a rhythm of its own.

    `visits` yields the kind and address of each page that a user opens.
    """
    began, spent = time.perf_counter(), _processor()
    shared = _Users(server, think, began + seconds)
    loop = asyncio.get_running_loop()
    tasks = [
        loop.create_task(_one_user(shared, cookie, visits, number))
        for number, cookie in enumerate(cookies)
    ]
    await asyncio.gather(*tasks)
    took = time.perf_counter() - began
    used = (_processor() - spent) / took
    return Load(shared.times, shared.errors, took, used, shared.body_bytes)


async def _one_user(
    shared: _Users,
    cookie: str,
    visits: Callable[[random.Random], Iterable[tuple[str, str]]],
    number: int,
) -> None:
    rng = random.Random(number)  # noqa: S311 - no secret in it
    await asyncio.sleep(rng.uniform(0, shared.think))
    reader, writer = await shared.server.open()
    try:
        for kind, path in visits(rng):
            if time.perf_counter() >= shared.until:
                return
            began = time.perf_counter()
            writer.write(shared.server.request(path, f"Cookie: {cookie}\r\n"))
            try:
                async with asyncio.timeout(_TIMEOUT):
                    shared.body_bytes += await answer(reader, path)
            except (BadAnswer, OSError, EOFError, TimeoutError) as error:
                shared.errors.append(f"{type(error).__name__} {error}")
                writer.close()
                reader, writer = await shared.server.open()
            else:
                took = 1000 * (time.perf_counter() - began)
                shared.times.setdefault(kind, []).append(took)
            await asyncio.sleep(rng.uniform(0.5, 1.5) * shared.think)
    finally:
        writer.close()


async def streams(
    server: Server, cookies: Sequence[str], path: str, ready: Callable[[], Awaitable[None]]
) -> dict[int, list[float]]:
    """Open an event stream for each cookie; return when each of them told of each snapshot.

    The times are those of the wall clock. `ready` is called when all are open, and returns when
    enough snapshots were told.
    """
    told: dict[int, list[float]] = {}
    opened = []
    for cookie in cookies:
        reader, writer = await server.open()
        writer.write(server.request(path, f"Cookie: {cookie}\r\n"))
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            raise BadAnswer(head.decode())
        opened.append((reader, writer))

    async def follow(reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b"id: "):
                told.setdefault(int(line[4:]), []).append(time.time())

    tasks = [asyncio.create_task(follow(reader)) for reader, _ in opened]
    await ready()
    for task in tasks:
        task.cancel()
    for _, writer in opened:
        writer.close()
    return told


def _processor() -> float:
    used = os.times()
    return used.user + used.system
