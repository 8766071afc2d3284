"""Who a connection belongs to, and how long it may take before it speaks HTTP."""

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest
import uvicorn
import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from config.party import Address
from config.settings import PortalSettings
from portal.connection_share import KEPT, ConnectionShare
from portal.listener import TOLD, Listener, WebServer
from scripts.rehearsal import web_clients

pytestmark = pytest.mark.slow

T = TypeVar("T")
HERE = ip_address("127.0.0.1")
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LINE = b"PROXY TCP4 192.0.2.7 203.0.113.1 51842 443\r\n"
BINARY = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c c0000207 cb007101 ca82 01bb")
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a 20 00 0000")
BEHIND_BALANCER = PortalSettings("127.0.0.1", 0, proxies=(HERE,), proxy_protocol=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Say who the client is, and which balancer says so."""
    text = f"{scope['client'][0]} {scope['state']['via']}".encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


async def says_if_check(scope: Scope, receive: Receive, send: Send) -> None:
    """Say whether a balancer made the connection for itself."""
    text = str(scope["state"]["check"]).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@dataclass
class Listening:
    """A listener that runs."""

    port: int
    server: WebServer
    refused: list[Address] = field(default_factory=list)

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[Any, Any]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)

    async def answer(self, sent: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(sent)
        try:
            return await answer_of(reader)
        finally:
            writer.transport.abort()


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    """Return the body of an answer, its status if it is not 200, nothing if there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    status = head.split()[1]
    if status != b"200":
        return status
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    return await reader.readexactly(length)


@asynccontextmanager
async def listening(
    web: PortalSettings,
    share: ConnectionShare | None = None,
    context: ssl.SSLContext | None = None,
    application: ASGIApp = app,
    **deadlines: float,
) -> AsyncIterator[Listening]:
    refused: list[Address] = []

    async def note(balancer: Address) -> None:
        refused.append(balancer)

    shares = share or ConnectionShare(lambda _: True, web.proxies.__contains__)
    opened = socket.create_server(("127.0.0.1", 0))
    made = Listener(opened, context, shares, lambda: web, note, **deadlines)
    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    server = WebServer(config, made)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield Listening(opened.getsockname()[1], server, refused)
    finally:
        await server.shutdown([opened])


def run(story: Callable[[], Coroutine[Any, Any, T]]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(story(), 60))


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_balancers_header_says_who_the_client_is(header: bytes) -> None:
    async def story() -> list[bytes]:
        async with listening(BEHIND_BALANCER) as server:
            reader, writer = await server.connect()
            for byte in header:
                writer.write(bytes([byte]))
                await writer.drain()
            writer.write(REQUEST)
            slowly = await answer_of(reader)
            writer.transport.abort()
            return [await server.answer(header + REQUEST), slowly]

    assert run(story) == [b"192.0.2.7 127.0.0.1"] * 2


def test_a_balancer_without_a_header_is_refused() -> None:
    async def story() -> tuple[list[bytes], int]:
        async with listening(BEHIND_BALANCER, header_seconds=0.2) as server:
            answers = [await server.answer(sent) for sent in (REQUEST, b"", LINE[:20])]
            return answers, len(server.refused)

    assert run(story) == ([b"", b"", b""], 3)


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_connection_of_the_balancer_itself_is_marked_as_its_health_check(header: bytes) -> None:
    async def story() -> tuple[list[bytes], int]:
        async with listening(BEHIND_BALANCER, application=says_if_check) as server:
            answers = [await server.answer(sent + REQUEST) for sent in (header, LINE)]
            return answers, len(server.refused)

    assert run(story) == ([b"True", b"False"], 0)


def test_a_header_counts_only_from_a_balancer_and_only_where_it_is_expected() -> None:
    settings = (
        PortalSettings("127.0.0.1", 0, proxies=(ip_address("192.0.2.1"),), proxy_protocol=True),
        replace(BEHIND_BALANCER, proxy_protocol=False),
    )

    async def story() -> list[bytes]:
        found = []
        for web in settings:
            async with listening(web) as server:
                found += [await server.answer(LINE + REQUEST), await server.answer(REQUEST)]
        return found

    assert run(story) == [b"400", b"127.0.0.1 None"] * 2


def test_connections_behind_a_balancer_count_as_the_clients() -> None:
    async def story() -> list[bytes]:
        shares = ConnectionShare(lambda _: True, lambda address: address == HERE, 2 * KEPT)
        async with listening(BEHIND_BALANCER, shares) as server:
            held = [await server.connect() for _ in range(KEPT)]
            for _, writer in held:
                writer.write(LINE + REQUEST)
            for reader, _ in held:
                assert await answer_of(reader) == b"192.0.2.7 127.0.0.1"
            other = LINE.replace(b"192.0.2.7", b"192.0.2.8")
            found = [await server.answer(line + REQUEST) for line in (LINE, other)]
            for _, writer in held:
                writer.transport.abort()
            return found

    assert run(story) == [b"503", b"192.0.2.8 127.0.0.1"]


def test_a_connection_too_many_is_told_and_closed_and_a_later_one_gets_in() -> None:
    async def story() -> tuple[bytes, bytes]:
        shares = ConnectionShare(lambda _: True, lambda _: False, 2 * KEPT)
        async with listening(PortalSettings("127.0.0.1", 0), shares) as server:
            held = [await server.connect() for _ in range(KEPT)]
            for reader, writer in held:
                writer.write(REQUEST)
                await answer_of(reader)
            refused = await server.answer(b"")
            held[0][1].close()
            while len(server.server.server_state.connections) >= KEPT:
                await asyncio.sleep(0.01)
            late = await server.answer(REQUEST)
            for _, writer in held:
                writer.transport.abort()
            return refused, late

    assert run(story) == (b"503", b"127.0.0.1 None")


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    site = tmp_path_factory.mktemp("tls")
    web_clients.make_certificate(site)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(site / "keys/tls/portal.crt", site / "keys/tls/portal.key")
    return server, ssl.create_default_context(cafile=site / "clients" / "ca.pem")


def test_a_balancer_may_pass_tls_through(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async def story() -> bytes:
        async with listening(BEHIND_BALANCER, context=contexts[0]) as server:
            plain = socket.create_connection(("127.0.0.1", server.port))
            plain.sendall(BINARY)
            reader, writer = await asyncio.open_connection(
                sock=plain, ssl=contexts[1], server_hostname="127.0.0.1"
            )
            writer.write(REQUEST)
            found = await answer_of(reader)
            writer.transport.abort()
            return found

    assert run(story) == b"192.0.2.7 127.0.0.1"


def test_a_client_that_does_not_end_its_handshake_is_disconnected_and_its_place_is_free(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async def story() -> list[bytes]:
        shares = ConnectionShare(lambda _: True, lambda _: False, KEPT)
        web = PortalSettings("127.0.0.1", 0)
        async with listening(web, shares, contexts[0], handshake_seconds=0.3) as server:
            silent = [await server.connect() for _ in range(KEPT)]
            talking = b"\x16\x03\x01\x02\x00\x01"  # the beginning of a ClientHello
            silent[0][1].write(talking)
            silent.append(await server.connect())  # one too many
            ends = [await reader.read() for reader, _ in silent]
            for _, closed in silent:
                closed.transport.abort()
            reader, writer = await server.connect(contexts[1])
            writer.write(REQUEST)
            found = await answer_of(reader)
            writer.transport.abort()
            return [b"".join(ends), found]

    assert run(story) == [b"", b"127.0.0.1 None"]


def test_a_long_answer_over_tls_arrives_whole(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    text = bytes(range(256)) * 4096

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def story() -> bytes:
        web = PortalSettings("127.0.0.1", 0)
        async with listening(web, context=contexts[0], application=long) as server:
            reader, writer = await server.connect(contexts[1])
            writer.write(REQUEST)
            found = await answer_of(reader)
            writer.transport.abort()
            return found

    assert run(story) == text


def test_bodies_over_tls_that_are_larger_than_the_buffer_arrive_whole_and_are_not_mixed(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    bodies = [bytes([n]) * 400_000 for n in (65, 66, 67)]

    async def digests(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        text = hashlib.sha256(body).hexdigest().encode()
        headers = [(b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def story() -> list[bytes]:
        web = PortalSettings("127.0.0.1", 0)
        async with listening(web, context=contexts[0], application=digests) as server:
            opened = [await server.connect(contexts[1]) for _ in bodies]
            for (_, writer), body in zip(opened, bodies, strict=True):
                head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode())
            for at in range(0, 400_000, 100_000):
                for (_, writer), body in zip(opened, bodies, strict=True):
                    writer.write(body[at : at + 100_000])
                    await writer.drain()
            found = [await answer_of(reader) for reader, _ in opened]
            for _, writer in opened:
                writer.transport.abort()
            return found

    assert run(story) == [hashlib.sha256(body).hexdigest().encode() for body in bodies]


def test_more_than_a_few_refused_clients_are_closed_without_an_answer(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async def story() -> int:
        shares = ConnectionShare(lambda _: True, lambda _: False, 0)
        web = PortalSettings("127.0.0.1", 0)
        async with listening(web, shares, contexts[0], handshake_seconds=30) as server:
            opened = [await server.connect() for _ in range(TOLD + 3)]
            ended = 0
            for reader, _ in opened[TOLD:]:
                ended += await reader.read() == b""
            for _, writer in opened:
                writer.transport.abort()
            return ended

    assert run(story) == 3
