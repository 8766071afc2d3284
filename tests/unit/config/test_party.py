from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest

from config import cevre, party
from config.election import Election
from config.party import Contact, Party, PartyKind
from config.scope import ALL

OPENS = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_opens_is_included_and_closes_is_not() -> None:
    election = Election("e-1", "Seçim", OPENS, closes=OPENS + 10 * SECOND)

    assert not election.open_at(OPENS - timedelta(microseconds=1))
    assert election.open_at(OPENS)
    assert election.open_at(OPENS + 10 * SECOND - timedelta(microseconds=1))
    assert not election.open_at(OPENS + 10 * SECOND)


def test_an_election_without_a_close_stays_open() -> None:
    assert Election("e-1", "Seçim", OPENS).open_at(OPENS + timedelta(days=3650))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", IPv4Address("192.0.2.7")),
        ("::ffff:192.0.2.7", IPv4Address("192.0.2.7")),
        ("2001:db8::7", IPv6Address("2001:db8::7")),
        ("fe80::1%eth0", IPv6Address("fe80::1")),
    ],
)
def test_an_ipv4_mapped_address_is_the_ipv4_address(text: str, address: party.Address) -> None:
    assert party.parse_address(text) == address


def test_an_independent_has_no_tree() -> None:
    kinds = [Party("p", "P", kind, ALL, (), Contact()).mirrors for kind in PartyKind]

    assert dict(zip(PartyKind, kinds, strict=True)) == {
        PartyKind.PARTY: True,
        PartyKind.CANDIDATE: True,
        PartyKind.INDEPENDENT: False,
    }


def test_there_are_87_districts_in_81_provinces_and_two_outside() -> None:
    names = cevre.names()

    assert len(names) == len(set(names)) == 89
    assert len({n.split("-")[0] for n in names[:87]}) == 81
    assert names[-2:] == ("yurt-disi", "gumruk")
    assert {"34-istanbul-1", "34-istanbul-3", "35-izmir-2", "63-sanliurfa", "76-igdir"} <= set(
        names
    )
    assert all(n.isascii() for n in names)
