import socket
import time as wall
from collections.abc import Iterator

import pytest
from unit.sftpd.fake_clock import FakeClock

from sftpd.monitor.loop import Loop
from sftpd.monitor.metrics_server import MAX_CLIENTS, MetricsServer

GET = b"GET /metrics HTTP/1.1\r\n\r\n"


class Port:
    def __init__(self, page: bytes = b"page\n") -> None:
        self.time = FakeClock()
        self.loop = Loop()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.metrics_server = MetricsServer(self.loop, self.listener, lambda: page, self.time)
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname())
        client.settimeout(5)
        self.clients.append(client)
        self.run_once()
        return client

    def run_once(self, patience: float = 0.0) -> None:
        self.loop.run_once([], wall.monotonic() + patience)


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.metrics_server.close()
    assert len(port.loop) == 0
    port.loop.close()
    for client in port.clients:
        client.close()


def heard(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(1 << 16):
        found += data
    return found


def test_a_request_in_pieces_is_answered(port: Port) -> None:
    client = port.connect()
    for at in range(len(GET)):
        client.send(GET[at : at + 1])
        port.run_once(1.0)
    port.run_once(1.0)
    assert heard(client).endswith(b"\r\n\r\npage\n")
    assert port.metrics_server.next_due() is None


def test_who_does_not_ask_is_hung_up_on(port: Port) -> None:
    client = port.connect()
    assert port.metrics_server.next_due() == 105.0
    port.time.now = 105.0
    port.metrics_server.catch_up()
    assert heard(client) == b""


def test_who_leaves_early_is_forgotten(port: Port) -> None:
    port.connect().close()
    port.run_once(1.0)
    assert port.metrics_server.next_due() is None


def test_only_so_many_are_served_at_a_time(port: Port) -> None:
    clients = [port.connect() for _ in range(MAX_CLIENTS + 1)]
    assert heard(clients[-1]) == b""
    clients[0].send(GET)
    port.run_once(1.0)
    port.run_once(1.0)
    assert b"200 OK" in heard(clients[0])
    port.connect().send(GET)


def test_a_page_too_long_for_one_write_comes_whole() -> None:
    port = Port(b"x" * 20_000_000)
    client = port.connect()
    client.send(GET)
    client.setblocking(False)
    found = b""
    end = wall.monotonic() + 20
    while not found.endswith(b"x") or len(found) < 20_000_000:
        port.run_once(0.01)
        assert wall.monotonic() < end
        try:
            found += client.recv(1 << 20)
        except BlockingIOError:
            continue
    assert found.partition(b"\r\n\r\n")[2] == b"x" * 20_000_000
    port.metrics_server.close()
    port.loop.close()
    client.close()
