import errno
import os
import socket
from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock

from config.party import Address, parse_address
from keys.credentials.penalties import ConnectionRates, Cost, LoginCpu, Penalties
from sftpd.listener.listener import PAUSE, Listener
from sftpd.monitor.loop import Loop

CLIENT, STRANGER, BALANCER = map(parse_address, ("127.0.0.1", "192.0.2.9", "203.0.113.1"))


class Site:
    """A Listener, the connections that it served, and those that it refused."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.loop = Loop(self.clock)
        self.penalties = Penalties(self.clock)
        self.login_cpu = LoginCpu(self.clock)
        self.lack: str | None = None
        self.max_sessions, self.has_descriptors = 3, True
        self.served: list[tuple[Address, Address | None]] = []
        self.refused: list[tuple[Address, str, Address | None]] = []
        self.listener = Listener(
            self.loop,
            self.start,
            lambda _: "sessions" if len(self.served) >= self.max_sessions else self.lack,
            lambda *refusal: self.refused.append(refusal),
            self.penalties,
            ConnectionRates(self.clock, burst=4, per_second=1),
            self.login_cpu,
        )
        self.listener.set_allowed([CLIENT], [BALANCER])
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.clients: list[socket.socket] = []

    def start(self, peer: socket.socket, address: Address, via: Address | None) -> None:
        if not self.has_descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        assert peer.getblocking()
        self.served.append((address, via))

    def connect(self) -> socket.socket:
        self.clients.append(socket.create_connection(self.socket.getsockname()))
        return self.clients[-1]

    def dispatch(self, address: Address, via: Address | None = None) -> bytes:
        """Give the Listener a connection, and return what it sends before it is closed."""
        ours, theirs = socket.socketpair()
        with theirs:
            with ours:
                self.listener.dispatch(ours, address, via)
            return theirs.recv(100)

    def run_once(self) -> None:
        self.loop.run_once(self.clock.now)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.listener.close()
    assert len(site.loop) == 0
    site.loop.close()
    site.socket.close()
    for client in site.clients:
        client.close()


def test_a_registered_address_is_served_and_another_is_refused(site: Site) -> None:
    site.dispatch(CLIENT)
    site.dispatch(STRANGER)

    assert site.served == [(CLIENT, None)]
    assert site.refused == [(STRANGER, "address", None)]


def test_set_allowed_replaces_the_registered_addresses(site: Site) -> None:
    site.listener.set_allowed([STRANGER], [])
    site.dispatch(CLIENT)
    site.dispatch(STRANGER)

    assert site.served == [(STRANGER, None)]
    assert site.refused == [(CLIENT, "address", None)]


def test_a_connection_from_a_balancer_is_checked_with_the_clients_address(site: Site) -> None:
    site.dispatch(CLIENT, BALANCER)
    site.dispatch(STRANGER, BALANCER)
    checked = site.dispatch(BALANCER, BALANCER)

    assert checked == b"SSH-2.0-ssps\r\n"
    assert site.served == [(CLIENT, BALANCER)]
    assert site.refused == [(STRANGER, "address", BALANCER)]


def test_a_connection_from_a_balancer_waits_for_its_header(site: Site) -> None:
    site.listener.set_allowed([parse_address("192.0.2.7")], [CLIENT])
    site.listener.open(site.socket)
    client = site.connect()
    site.run_once()
    assert (site.served, site.refused) == ([], [])
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\r\n")
    site.run_once()

    assert site.served == [(parse_address("192.0.2.7"), CLIENT)]


def test_one_connection_is_started_and_many_are_refused_in_one_turn(site: Site) -> None:
    site.listener.open(site.socket)
    for _ in range(3):
        site.connect()
    turns = []
    for _ in range(3):
        site.run_once()
        turns.append(len(site.served))
    assert turns == [1, 2, 3]

    site.listener.set_allowed([], [])
    for _ in range(3):
        site.connect()
    site.run_once()
    assert len(site.refused) == 3


def test_an_address_that_connects_too_often_is_refused_for_a_while(site: Site) -> None:
    site.max_sessions = 99
    for _ in range(6):
        site.dispatch(CLIENT)
    assert site.refused == [(CLIENT, "rate", None)] * 2
    site.clock.now += 1.0
    site.dispatch(CLIENT)

    assert (len(site.served), len(site.refused)) == (5, 2)


def test_an_address_that_fails_too_often_is_refused_for_a_while(site: Site) -> None:
    for _ in range(3):
        site.penalties.charge(CLIENT, Cost.CRASH)
    site.dispatch(CLIENT)
    assert (site.served, site.refused) == ([], [(CLIENT, "penalty", None)])
    site.clock.now += 15.0
    site.dispatch(CLIENT)

    assert site.served == [(CLIENT, None)]


def test_connections_beyond_max_sessions_are_refused(site: Site) -> None:
    site.max_sessions = 1
    site.dispatch(CLIENT)
    site.dispatch(CLIENT)

    assert (site.served, site.refused) == ([(CLIENT, None)], [(CLIENT, "sessions", None)])


def test_accepting_pauses_if_the_machine_lacks_descriptors(site: Site) -> None:
    site.listener.open(site.socket)
    site.has_descriptors = False
    site.connect()
    site.run_once()
    assert site.refused == [(CLIENT, "resources", None)]

    site.has_descriptors = True
    site.connect()
    site.clock.now += PAUSE - 0.1
    site.run_once()
    assert site.served == []

    site.clock.now += 0.1
    site.run_once()
    site.run_once()
    assert site.served == [(CLIENT, None)]


def test_a_listener_that_is_closed_while_it_pauses_stays_closed(site: Site) -> None:
    site.listener.open(site.socket)
    site.has_descriptors = False
    client = site.connect()
    site.run_once()
    site.listener.close()
    site.clock.now += PAUSE
    site.run_once()

    assert len(site.loop) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(client.getpeername())


def test_an_address_whose_logins_cost_too_much_is_refused_for_a_while(site: Site) -> None:
    site.login_cpu.charge(CLIENT, 5.5)
    site.dispatch(CLIENT)
    site.clock.now += 2.5
    site.dispatch(CLIENT)

    assert site.refused == [(CLIENT, "cpu", None)]
    assert site.served == [(CLIENT, None)]


def test_an_address_with_too_many_unfinished_logins_is_refused(site: Site) -> None:
    site.lack = "unfinished"
    site.dispatch(CLIENT)

    assert site.refused == [(CLIENT, "unfinished", None)]
