import errno
import os
import socket
import time as wall
from collections.abc import Iterator

import pytest
from unit.sftpd.fake_clock import FakeClock

from config.party import Address, parse_address
from sftpd.access.penalties import ConnectionRates, Cost, Penalties
from sftpd.monitor.listener import PAUSE, Listener
from sftpd.monitor.loop import Loop

HOME, STRANGER, BALANCER = map(parse_address, ("127.0.0.1", "192.0.2.9", "203.0.113.1"))


class Street:
    """An entrance with its listener, whom it welcomed and whom it turned away."""

    def __init__(self) -> None:
        self.time = FakeClock()
        self.loop = Loop()
        self.penalties = Penalties(self.time)
        self.room, self.descriptors = 3, True
        self.welcomed: list[tuple[Address, Address | None]] = []
        self.refused: list[tuple[Address, str, Address | None]] = []
        self.listener = Listener(
            self.loop,
            self.welcome,
            lambda: len(self.welcomed) >= self.room,
            lambda *told: self.refused.append(told),
            self.penalties,
            ConnectionRates(self.time, burst=4, per_second=1),
            self.time,
        )
        self.server_socket = socket.create_server(("127.0.0.1", 0))
        self.clients: list[socket.socket] = []

    def welcome(self, peer: socket.socket, source: Address, balancer: Address | None) -> None:
        if not self.descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        assert peer.getblocking()
        self.welcomed.append((source, balancer))

    def arrive(self) -> socket.socket:
        self.clients.append(socket.create_connection(self.server_socket.getsockname()))
        return self.clients[-1]

    def dispatch(self, source: Address, via: Address | None = None) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.listener.dispatch(ours, source, via)

    def run_once(self) -> None:
        self.loop.run_once([], wall.monotonic())


@pytest.fixture
def street() -> Iterator[Street]:
    street = Street()
    street.listener.set_allowed([HOME], [BALANCER])
    yield street
    street.listener.close()
    assert len(street.loop) == 0
    street.loop.close()
    street.server_socket.close()
    for client in street.clients:
        client.close()


def test_a_registered_address_is_heard_and_a_stranger_is_not(street: Street) -> None:
    street.dispatch(HOME)
    street.dispatch(STRANGER)
    assert street.welcomed == [(HOME, None)]
    assert street.refused == [(STRANGER, "address", None)]


def test_nobody_is_registered_for_ever(street: Street) -> None:
    street.listener.set_allowed([STRANGER], [])
    street.dispatch(HOME)
    street.dispatch(STRANGER)
    assert street.welcomed == [(STRANGER, None)]
    assert street.refused == [(HOME, "address", None)]


def test_what_a_balancer_passes_on_is_judged_by_where_it_came_from(street: Street) -> None:
    street.dispatch(HOME, BALANCER)
    street.dispatch(STRANGER, BALANCER)
    street.dispatch(BALANCER, BALANCER)  # only looks whether anybody is there
    assert street.welcomed == [(HOME, BALANCER)]
    assert street.refused == [(STRANGER, "address", BALANCER)]


def test_a_balancers_own_connection_waits_in_the_lobby(street: Street) -> None:
    street.listener.set_allowed([parse_address("192.0.2.7")], [HOME])
    street.listener.open(street.server_socket)
    client = street.arrive()
    street.run_once()
    assert len(street.listener.proxy_wait) == 1
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\r\n")
    street.run_once()
    assert street.welcomed == [(parse_address("192.0.2.7"), HOME)]


def test_who_comes_too_often_is_turned_away_until_time_has_passed(street: Street) -> None:
    street.room = 99
    for _ in range(6):
        street.dispatch(HOME)
    assert street.refused == [(HOME, "rate", None)] * 2
    street.time.now += 1.0
    street.dispatch(HOME)
    assert (len(street.welcomed), len(street.refused)) == (5, 2)


def test_who_has_failed_too_often_is_turned_away_until_time_has_passed(street: Street) -> None:
    for _ in range(3):
        street.penalties.charge(HOME, Cost.CRASH)
    street.dispatch(HOME)
    assert (street.welcomed, street.refused) == ([], [(HOME, "penalty", None)])
    street.time.now += 15.0
    street.dispatch(HOME)
    assert street.welcomed == [(HOME, None)]


def test_beyond_the_most_sessions_nobody_is_heard(street: Street) -> None:
    street.room = 1
    street.dispatch(HOME)
    street.dispatch(HOME)
    assert (street.welcomed, street.refused) == ([(HOME, None)], [(HOME, "sessions", None)])


def test_a_machine_without_room_takes_nobody_for_a_moment(street: Street) -> None:
    street.listener.open(street.server_socket)
    street.descriptors = False
    street.arrive()
    street.run_once()
    assert street.refused == [(HOME, "resources", None)]
    assert street.listener.next_due() == 100.0 + PAUSE

    street.descriptors = True
    street.arrive()
    street.listener.catch_up()
    street.run_once()
    assert street.welcomed == []

    street.time.now += PAUSE
    street.listener.catch_up()
    street.run_once()
    assert (street.welcomed, street.listener.next_due()) == ([(HOME, None)], None)


def test_a_closed_entrance_stays_closed(street: Street) -> None:
    street.listener.open(street.server_socket)
    street.descriptors = False
    street.arrive()
    street.run_once()
    street.listener.close()
    street.time.now += PAUSE
    street.listener.catch_up()
    assert len(street.loop) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(street.clients[0].getpeername())
