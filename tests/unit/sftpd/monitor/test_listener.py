import errno
import os
import socket
import time as wall
from collections.abc import Iterator

import pytest
from unit.sftpd.ticking import Time

from config.party import Address, address
from sftpd.access.penalties import Cost, Penalties, Rates
from sftpd.monitor.listener import BREATH, Entrance
from sftpd.monitor.loop import Loop

HOME, STRANGER, BALANCER = map(address, ("127.0.0.1", "192.0.2.9", "203.0.113.1"))


class Street:
    """An entrance with its listener, whom it welcomed and whom it turned away."""

    def __init__(self) -> None:
        self.time = Time()
        self.loop = Loop()
        self.penalties = Penalties(self.time)
        self.room, self.descriptors = 3, True
        self.welcomed: list[tuple[Address, Address | None]] = []
        self.refused: list[tuple[Address, str, Address | None]] = []
        self.entrance = Entrance(
            self.loop,
            self.welcome,
            lambda: len(self.welcomed) >= self.room,
            lambda *told: self.refused.append(told),
            self.penalties,
            Rates(self.time, burst=4, per_second=1),
            self.time,
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.clients: list[socket.socket] = []

    def welcome(self, peer: socket.socket, source: Address, balancer: Address | None) -> None:
        if not self.descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        assert peer.getblocking()
        self.welcomed.append((source, balancer))

    def arrive(self) -> socket.socket:
        self.clients.append(socket.create_connection(self.listener.getsockname()))
        return self.clients[-1]

    def receive(self, source: Address, via: Address | None = None) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.entrance.receive(ours, source, via)

    def turn(self) -> None:
        self.loop.turn([], wall.monotonic())


@pytest.fixture
def street() -> Iterator[Street]:
    street = Street()
    street.entrance.admit_from([HOME], [BALANCER])
    yield street
    street.entrance.close()
    assert len(street.loop) == 0
    street.loop.close()
    street.listener.close()
    for client in street.clients:
        client.close()


def test_a_registered_address_is_heard_and_a_stranger_is_not(street: Street) -> None:
    street.receive(HOME)
    street.receive(STRANGER)
    assert street.welcomed == [(HOME, None)]
    assert street.refused == [(STRANGER, "address", None)]


def test_nobody_is_registered_for_ever(street: Street) -> None:
    street.entrance.admit_from([STRANGER], [])
    street.receive(HOME)
    street.receive(STRANGER)
    assert street.welcomed == [(STRANGER, None)]
    assert street.refused == [(HOME, "address", None)]


def test_what_a_balancer_passes_on_is_judged_by_where_it_came_from(street: Street) -> None:
    street.receive(HOME, BALANCER)
    street.receive(STRANGER, BALANCER)
    street.receive(BALANCER, BALANCER)  # only looks whether anybody is there
    assert street.welcomed == [(HOME, BALANCER)]
    assert street.refused == [(STRANGER, "address", BALANCER)]


def test_a_balancers_own_connection_waits_in_the_lobby(street: Street) -> None:
    street.entrance.admit_from([address("192.0.2.7")], [HOME])
    street.entrance.open(street.listener)
    client = street.arrive()
    street.turn()
    assert len(street.entrance.lobby) == 1
    client.sendall(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 22\r\n")
    street.turn()
    assert street.welcomed == [(address("192.0.2.7"), HOME)]


def test_who_comes_too_often_is_turned_away_until_time_has_passed(street: Street) -> None:
    street.room = 99
    for _ in range(6):
        street.receive(HOME)
    assert street.refused == [(HOME, "rate", None)] * 2
    street.time.now += 1.0
    street.receive(HOME)
    assert (len(street.welcomed), len(street.refused)) == (5, 2)


def test_who_has_failed_too_often_is_turned_away_until_time_has_passed(street: Street) -> None:
    for _ in range(3):
        street.penalties.charge(HOME, Cost.CRASH)
    street.receive(HOME)
    assert (street.welcomed, street.refused) == ([], [(HOME, "penalty", None)])
    street.time.now += 15.0
    street.receive(HOME)
    assert street.welcomed == [(HOME, None)]


def test_beyond_the_most_sessions_nobody_is_heard(street: Street) -> None:
    street.room = 1
    street.receive(HOME)
    street.receive(HOME)
    assert (street.welcomed, street.refused) == ([(HOME, None)], [(HOME, "sessions", None)])


def test_a_machine_without_room_takes_nobody_for_a_moment(street: Street) -> None:
    street.entrance.open(street.listener)
    street.descriptors = False
    street.arrive()
    street.turn()
    assert street.refused == [(HOME, "resources", None)]
    assert street.entrance.next_due() == 100.0 + BREATH

    street.descriptors = True
    street.arrive()
    street.entrance.catch_up()
    street.turn()
    assert street.welcomed == []

    street.time.now += BREATH
    street.entrance.catch_up()
    street.turn()
    assert (street.welcomed, street.entrance.next_due()) == ([(HOME, None)], None)


def test_a_closed_entrance_stays_closed(street: Street) -> None:
    street.entrance.open(street.listener)
    street.descriptors = False
    street.arrive()
    street.turn()
    street.entrance.close()
    street.time.now += BREATH
    street.entrance.catch_up()
    assert len(street.loop) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(street.clients[0].getpeername())
