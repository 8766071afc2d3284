"""No address can take all connections of the portal, and what ends is free again."""

from ipaddress import ip_address

import pytest

from portal.connection_share import KEPT, STRANGER, UNREGISTERED, ConnectionShare

A, B, C = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3))
STRANGERS = [ip_address(f"198.51.100.{n}") for n in range(1, 200)]
BALANCER = ip_address("203.0.113.1")


def share(most: int = 200) -> ConnectionShare:
    return ConnectionShare({A, B, C}.__contains__, lambda address: address == BALANCER, most)


def taken(of: ConnectionShare, address: object, tries: int = 1000) -> int:
    return sum(of.take(address) is not None for _ in range(tries))  # type: ignore[arg-type]


def test_the_first_address_gets_a_half_the_second_a_quarter_and_a_third_still_gets_in() -> None:
    shares = share()

    assert taken(shares, A) == 100
    assert taken(shares, B) == 50
    assert taken(shares, C) >= KEPT


def test_strangers_together_get_a_small_share() -> None:
    shares = share()

    assert sum(taken(shares, stranger, 5) for stranger in STRANGERS) == UNREGISTERED
    assert taken(shares, A, KEPT) == KEPT


def test_one_stranger_leaves_room_for_others() -> None:
    shares = share()

    counted = shares.take(STRANGERS[0])
    assert counted is not None
    assert taken(shares, STRANGERS[0]) == STRANGER - 1
    assert taken(shares, STRANGERS[1], 5) == 5
    shares.release(counted)
    assert taken(shares, STRANGERS[0]) == 1


def test_a_balancer_may_have_all_of_them() -> None:
    shares = share()

    assert taken(shares, BALANCER) == 200


def test_what_ends_is_free_again() -> None:
    shares = share()
    held = [counted for _ in range(1000) if (counted := shares.take(A))]
    for counted in held:
        shares.release(counted)

    assert taken(shares, A) == len(held) == 100


@pytest.mark.parametrize("registered_first", [True, False])
def test_what_ends_is_free_again_although_a_reload_changed_who_is_registered(
    registered_first: bool,
) -> None:
    registered = {A, B} if registered_first else {B}
    shares = ConnectionShare(registered.__contains__, lambda _: False, 200)
    held = [shares.take(address) for address in (A, A, STRANGERS[0], B)]
    registered ^= {A}
    held += [shares.take(address) for address in (A, STRANGERS[0])]

    for counted in held:
        assert counted is not None
        shares.release(counted)

    assert not shares._held and not shares._strangers
