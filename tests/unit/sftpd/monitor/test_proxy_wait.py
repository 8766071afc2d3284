import socket
import time as wall
from collections.abc import Iterator

import pytest
from unit.sftpd.fake_clock import FakeClock
from unit.sftpd.monitor.test_proxy import ALL, BINARY, LINE, LOCAL, NAMES

from config.party import Address, parse_address
from sftpd.monitor.loop import Loop
from sftpd.monitor.proxy_wait import ProxyWait

BALANCER = parse_address("203.0.113.1")


class Lounge:
    """A lobby of two places, what it let through and what it refused."""

    def __init__(self) -> None:
        self.time = FakeClock()
        self.loop = Loop()
        self.welcomed: list[tuple[Address, Address, bytes]] = []
        self.refused: list[str] = []
        self.wait = ProxyWait(self.loop, self.welcome, self.refuse, self.time, max_waiting=2)
        self.clients: list[socket.socket] = []

    def welcome(self, peer: socket.socket, source: Address, balancer: Address) -> None:
        assert peer.getblocking()
        left = peer.recv(100, socket.MSG_DONTWAIT) if pending(peer) else b""
        self.welcomed.append((source, balancer, left))

    def refuse(self, balancer: Address, reason: str) -> None:
        assert balancer == BALANCER
        self.refused.append(reason)

    def arrive(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.clients.append(theirs)
        self.wait.add(ours, BALANCER)
        return theirs

    def run_once(self) -> None:
        self.loop.run_once([], wall.monotonic())


def pending(peer: socket.socket) -> bool:
    try:
        return bool(peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False


@pytest.fixture
def lounge() -> Iterator[Lounge]:
    lounge = Lounge()
    yield lounge
    lounge.wait.close()
    assert len(lounge.loop) == 0
    lounge.loop.close()
    for client in lounge.clients:
        client.close()


@pytest.mark.parametrize(("header", "source"), ALL, ids=NAMES)
def test_a_header_byte_by_byte_and_not_a_byte_beyond_it(
    lounge: Lounge, header: bytes, source: str | None
) -> None:
    client = lounge.arrive()
    for at in range(len(header)):
        client.send(header[at : at + 1])
        lounge.run_once()
    assert lounge.refused == []
    assert [who for who, *_ in lounge.welcomed] == ([parse_address(source)] if source else [])
    assert len(lounge.wait) == 0


def test_what_follows_the_header_is_left_for_ssh(lounge: Lounge) -> None:
    lounge.arrive().send(BINARY + b"SSH-2.0-x\r\n")
    lounge.run_once()
    assert lounge.welcomed == [(parse_address("192.0.2.7"), BALANCER, b"SSH-2.0-x\r\n")]


def test_what_is_no_header_is_refused(lounge: Lounge) -> None:
    client = lounge.arrive()
    client.send(b"SSH-2.0-x\r\n")
    lounge.run_once()
    assert lounge.refused == ["proxy header"]
    client.settimeout(5)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_header_cut_off_is_refused(lounge: Lounge) -> None:
    client = lounge.arrive()
    client.send(LINE[:-1])
    client.shutdown(socket.SHUT_WR)
    lounge.run_once()
    lounge.run_once()
    assert lounge.refused == ["proxy header"]


def test_a_look_whether_the_port_is_open_leaves_no_trace(lounge: Lounge) -> None:
    lounge.arrive().close()
    lounge.run_once()
    lounge.arrive().send(LOCAL)
    lounge.run_once()
    assert (lounge.welcomed, lounge.refused, len(lounge.wait)) == ([], [], 0)


def test_a_header_that_does_not_come_is_waited_for_three_seconds(lounge: Lounge) -> None:
    lounge.arrive()
    lounge.time.now += 1.0
    lounge.arrive().send(LINE[:5])
    lounge.run_once()
    assert lounge.wait.next_due() == 103.0
    lounge.time.now = 103.0
    lounge.wait.catch_up()
    assert (lounge.refused, len(lounge.wait)) == (["proxy header"], 1)
    lounge.time.now = 104.0
    lounge.wait.catch_up()
    assert (lounge.refused, len(lounge.wait)) == (["proxy header"] * 2, 0)
    assert lounge.wait.next_due() is None


def test_only_so_many_wait(lounge: Lounge) -> None:
    for _ in range(5):
        lounge.arrive()
    assert (len(lounge.wait), lounge.refused) == (2, ["sessions"] * 3)
