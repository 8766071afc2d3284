"""No address can take all connections of the portal, and what ends is free again."""

import asyncio
import socket
from ipaddress import ip_address

import uvicorn
from starlette.types import Receive, Scope, Send

from portal.connection_share import KEPT, UNREGISTERED, ConnectionShare
from portal.http_protocol import sharing

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
STRANGERS = [ip_address(f"198.51.100.{n}") for n in range(1, 200)]
BALANCER = ip_address("203.0.113.1")


def share(most: int = 200) -> ConnectionShare:
    return ConnectionShare({A, B, C}.__contains__, lambda address: address == BALANCER, most)


def taken(of: ConnectionShare, address: object, tries: int = 1000) -> int:
    return sum(of.take(address) for _ in range(tries))  # type: ignore[arg-type]


def test_the_first_address_gets_a_half_the_second_a_quarter_and_a_third_still_gets_in() -> None:
    shares = share()

    assert taken(shares, A) == 100
    assert taken(shares, B) == 50
    assert taken(shares, C) >= KEPT


def test_strangers_together_get_a_small_share() -> None:
    shares = share()

    assert sum(taken(shares, stranger, 5) for stranger in STRANGERS) == UNREGISTERED
    assert taken(shares, A, KEPT) == KEPT


def test_a_balancer_may_have_all_of_them() -> None:
    shares = share()

    assert taken(shares, BALANCER) == 200


def test_what_ends_is_free_again() -> None:
    shares = share()
    held = taken(shares, A)
    for _ in range(held):
        shares.release(A)

    assert taken(shares, A) == held


def test_a_connection_too_many_is_told_and_closed_and_a_later_one_gets_in() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return await reader.readline()

    async def story() -> tuple[list[bytes], bytes, bytes]:
        shares = ConnectionShare(lambda _: True, lambda _: False, 2 * KEPT)
        protocol = sharing(shares)
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None)
        config.load()
        state = uvicorn.Server(config).server_state
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: protocol(config=config, server_state=state, app_state={}),
            sock=socket.create_server(("127.0.0.1", 0)),
        )
        port = server.sockets[0].getsockname()[1]
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(KEPT)]
        answers = [await ask(*each) for each in opened]
        more = await asyncio.open_connection("127.0.0.1", port)
        refused = await more[0].readline()
        opened[0][1].close()
        while len(state.connections) > KEPT - 1:
            await asyncio.sleep(0.01)
        late = await asyncio.open_connection("127.0.0.1", port)
        accepted = await ask(*late)
        for _, writer in (*opened, more, late):
            writer.transport.abort()
        server.close()
        return answers, refused, accepted

    answers, refused, accepted = asyncio.run(asyncio.wait_for(story(), 60))

    assert {line.split()[1] for line in answers} == {b"204"}
    assert refused.split()[1] == b"503"
    assert accepted.split()[1] == b"204"
