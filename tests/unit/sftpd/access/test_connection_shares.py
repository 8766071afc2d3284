from collections.abc import Sequence

from config.party import Address, Contact, Party, PartyKind, parse_address
from config.scope import ALL
from sftpd.access.connection_shares import ConnectionShares

NEVER, ALWAYS = 1.0, 0.0  # what chance() returns so that a connection is never, or always, dropped
ADDRESSES = [parse_address(f"192.0.2.{number}") for number in range(1, 101)]
A, B, C, D = ADDRESSES[:4]


def party(id_: str, *addresses: Address) -> Party:
    return Party(id_, id_, PartyKind.PARTY, ALL, addresses, Contact())


def shares(parties: Sequence[Party], maximum: int = 512, chance: float = NEVER) -> ConnectionShares:
    made = ConnectionShares(lambda: chance)
    made.set_parties(parties, maximum)
    return made


def take_all(
    limits: ConnectionShares, address: Address, connections: list[tuple[Address, bool]]
) -> int:
    """Connect from `address` until a connection is refused; return how many were not."""
    taken = 0
    while not limits.refuses(address, connections):
        connections.append((address, False))
        taken += 1
    return taken


FOUR = [party("a", A), party("b", B), party("c", C), party("d", D)]


def test_each_attacker_takes_half_of_what_is_free_and_the_last_party_still_gets_in() -> None:
    limits, connections = shares(FOUR), list[tuple[Address, bool]]()

    assert [take_all(limits, each, connections) for each in (A, B, C, D)] == [256, 128, 64, 32]


def test_attackers_on_all_other_addresses_leave_four_connections_for_the_last() -> None:
    limits = shares([party(str(a), a) for a in ADDRESSES[:20]])
    connections: list[tuple[Address, bool]] = []
    for _ in range(3):
        for attacker in ADDRESSES[:19]:
            take_all(limits, attacker, connections)

    assert take_all(limits, ADDRESSES[19], connections) == 4


def test_one_party_s_forty_clients_may_start_at_once() -> None:
    limits = shares(FOUR, chance=ALWAYS)

    assert take_all(limits, A, []) > 40


def test_no_connection_is_dropped_by_chance_below_32_unfinished_logins() -> None:
    # 96 of 160 are taken, so a party may have 32 of the 64 that are free.
    others = [(A, True)] * 48 + [(B, True)] * 48
    assert take_all(shares(FOUR, 160, ALWAYS), C, [*others]) == 32
    # With 40 fewer taken it may have 52. From the 33rd on chance decides.
    assert take_all(shares(FOUR, 160, ALWAYS), C, others[40:]) == 33
    assert take_all(shares(FOUR, 160, NEVER), C, others[40:]) == 52


def test_the_chance_to_be_dropped_grows_with_the_unfinished_logins() -> None:
    def dropped(unfinished: int, chance: float) -> bool:
        return shares(FOUR, 512, chance).refuses(A, [(A, False)] * unfinished)

    assert [dropped(n, 0.5) for n in (64, 65, 159, 161, 255)] == [False, False, False, True, True]
    assert dropped(65, 0.001)


def test_both_addresses_of_a_party_share_its_half() -> None:
    limits = shares([party("a", A, B), party("c", C)], 64)
    connections: list[tuple[Address, bool]] = []

    assert [take_all(limits, each, connections) for each in (A, B, C)] == [32, 0, 16]


def test_an_address_of_several_parties_has_a_share_of_its_own() -> None:
    limits = shares([party("a", A, C), party("b", B, C)], 64)
    connections: list[tuple[Address, bool]] = []

    assert [take_all(limits, each, connections) for each in (C, A, B)] == [32, 16, 8]


def test_sessions_that_have_logged_in_do_not_count_as_unfinished() -> None:
    limits = shares(FOUR, 64)

    assert take_all(limits, A, [(A, True)] * 30) == 17
    assert take_all(limits, A, [(A, True)] * 60) == 0  # the last four are kept for others


def test_a_party_that_is_alone_may_take_everything() -> None:
    assert take_all(shares([party("a", A, B)], 64, ALWAYS), A, []) == 60
    assert shares([party("a", A)], 64, ALWAYS).refuses(A, [(A, False)] * 63) is False


def test_a_small_server_with_many_addresses_can_be_filled() -> None:
    parties = [party(str(a), a) for a in ADDRESSES[:40]]
    connections: list[tuple[Address, bool]] = []
    for address in ADDRESSES[:40] * 3:
        if not shares(parties, 70).refuses(address, connections):
            connections.append((address, False))

    assert len(connections) == 70


def test_an_address_is_held_by_the_party_that_registered_it_if_only_one_did() -> None:
    limits = shares([party("a", A, B), party("b", B, C)])

    assert [limits.holder(each) for each in (A, B, C, D)] == ["a", str(B), "b", str(D)]
