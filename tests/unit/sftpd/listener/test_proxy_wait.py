import socket
from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock
from unit.keys.credentials.test_proxy_header import ALL, BINARY, LINE, LOCAL, NAMES

from config.party import Address, parse_address
from sftpd.listener.proxy_wait import ProxyWait
from sftpd.monitor.loop import Loop

BALANCER = parse_address("203.0.113.1")


class Waiting:
    """A ProxyWait with room for two, the connections that it dispatched, and those it refused."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = Loop(self.clock)
        self.dispatched: list[tuple[Address, Address, bytes]] = []
        self.refused: list[str] = []
        self.wait = ProxyWait(self.loop, self.dispatch, self.refuse, max_waiting=2)
        self.clients: list[socket.socket] = []

    def dispatch(self, peer: socket.socket, address: Address, balancer: Address) -> None:
        assert peer.getblocking()
        self.dispatched.append((address, balancer, unread(peer)))

    def refuse(self, balancer: Address, reason: str) -> None:
        assert balancer == BALANCER
        self.refused.append(reason)

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.clients.append(theirs)
        self.wait.add(ours, BALANCER)
        return theirs

    def run_once(self) -> None:
        self.loop.run_once(self.clock.now)


def unread(peer: socket.socket) -> bytes:
    try:
        return peer.recv(100, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    waiting = Waiting()
    yield waiting
    waiting.wait.close()
    assert len(waiting.loop) == 0
    waiting.loop.close()
    for client in waiting.clients:
        client.close()


@pytest.mark.parametrize(("header", "source"), ALL, ids=NAMES)
def test_a_header_may_arrive_byte_by_byte(
    waiting: Waiting, header: bytes, source: str | None
) -> None:
    client = waiting.connect()
    for at in range(len(header)):
        client.send(header[at : at + 1])
        waiting.run_once()

    assert waiting.refused == []
    expected = [parse_address(source)] if source else []
    assert [address for address, *_ in waiting.dispatched] == expected
    assert len(waiting.wait) == 0


def test_the_bytes_after_the_header_stay_in_the_socket(waiting: Waiting) -> None:
    waiting.connect().send(BINARY + b"SSH-2.0-x\r\n")
    waiting.run_once()

    assert waiting.dispatched == [(parse_address("192.0.2.7"), BALANCER, b"SSH-2.0-x\r\n")]


def test_bytes_that_are_not_a_header_are_refused(waiting: Waiting) -> None:
    client = waiting.connect()
    client.send(b"SSH-2.0-x\r\n")
    waiting.run_once()

    assert waiting.refused == ["proxy header"]
    client.settimeout(5)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_an_incomplete_header_is_refused(waiting: Waiting) -> None:
    client = waiting.connect()
    client.send(LINE[:-1])
    client.shutdown(socket.SHUT_WR)
    waiting.run_once()
    waiting.run_once()

    assert waiting.refused == ["proxy header"]


def test_a_health_check_is_answered_and_neither_served_nor_refused(waiting: Waiting) -> None:
    waiting.connect().close()
    waiting.run_once()
    gone = waiting.connect()
    gone.send(LOCAL)
    gone.close()
    waiting.run_once()
    check = waiting.connect()
    check.send(LOCAL)
    waiting.run_once()

    assert (waiting.dispatched, waiting.refused, len(waiting.wait)) == ([], [], 0)
    assert check.makefile("rb").read() == b"SSH-2.0-ssps\r\n"


def test_a_connection_is_refused_if_its_header_takes_longer_than_three_seconds(
    waiting: Waiting,
) -> None:
    waiting.connect()
    waiting.clock.now = 101.0
    waiting.connect().send(LINE[:5])
    waiting.clock.now = 102.9
    waiting.run_once()
    assert waiting.refused == []
    waiting.clock.now = 103.0
    waiting.run_once()
    assert (waiting.refused, len(waiting.wait)) == (["proxy header"], 1)
    waiting.clock.now = 104.0
    waiting.run_once()
    assert (waiting.refused, len(waiting.wait)) == (["proxy header"] * 2, 0)


def test_a_connection_whose_header_arrived_is_not_refused_later(waiting: Waiting) -> None:
    waiting.connect().send(LINE)
    waiting.run_once()
    waiting.clock.now += 9.0
    waiting.run_once()

    assert (len(waiting.dispatched), waiting.refused) == (1, [])


def test_connections_beyond_the_limit_are_refused(waiting: Waiting) -> None:
    for _ in range(5):
        waiting.connect()

    assert (len(waiting.wait), waiting.refused) == (2, ["sessions"] * 3)
