import socket
import time
from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock

from sftpd.monitor.loop import Loop
from sftpd.monitor.metrics_server import MAX_CLIENTS, REQUEST_TIMEOUT, MetricsServer

GET = b"GET /metrics HTTP/1.1\r\n\r\n"


class Port:
    """A MetricsServer and its clients."""

    def __init__(self, page: bytes = b"page\n") -> None:
        self.clock = FakeClock()
        self.loop = Loop(self.clock)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.metrics_server = MetricsServer(self.loop, self.socket, lambda: page)
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.socket.getsockname())
        client.settimeout(5)
        self.clients.append(client)
        self.run_once()
        return client

    def run_once(self, timeout: float = 0.0) -> None:
        self.loop.run_once(self.clock.now + timeout)


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.metrics_server.close()
    assert len(port.loop) == 0
    port.loop.close()
    for client in port.clients:
        client.close()


def read_all(client: socket.socket) -> bytes:
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

    assert read_all(client).endswith(b"\r\n\r\npage\n")


def test_a_client_without_a_request_is_disconnected_after_the_timeout(port: Port) -> None:
    client = port.connect()
    port.clock.now += REQUEST_TIMEOUT
    port.run_once()

    assert read_all(client) == b""


def test_a_client_that_hangs_up_frees_its_place(port: Port) -> None:
    for _ in range(MAX_CLIENTS):
        port.connect().close()
        port.run_once(1.0)
    client = port.connect()
    client.send(GET)
    port.run_once(1.0)
    port.run_once(1.0)

    assert b"200 OK" in read_all(client)


def test_clients_beyond_the_limit_are_disconnected(port: Port) -> None:
    clients = [port.connect() for _ in range(MAX_CLIENTS + 1)]
    assert read_all(clients[-1]) == b""
    clients[0].send(GET)
    port.run_once(1.0)
    port.run_once(1.0)

    assert b"200 OK" in read_all(clients[0])


def test_a_page_too_long_for_one_write_is_sent_whole() -> None:
    port = Port(b"x" * 20_000_000)
    client = port.connect()
    client.send(GET)
    client.setblocking(False)
    found = b""
    deadline = time.monotonic() + 20
    while not found.endswith(b"x") or len(found) < 20_000_000:
        port.run_once(0.01)
        assert time.monotonic() < deadline
        try:
            found += client.recv(1 << 20)
        except BlockingIOError:
            continue

    assert found.partition(b"\r\n\r\n")[2] == b"x" * 20_000_000
    port.metrics_server.close()
    port.loop.close()
    client.close()
