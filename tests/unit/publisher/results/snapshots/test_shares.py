from fractions import Fraction

import pytest

from publisher.results.snapshots import shares

# Adana/Aladağ, parliament 2018.
ALADAG = {
    "AK": 5092,
    "MHP": 1859,
    "HUDAPAR": 45,
    "VATAN": 44,
    "HDP": 63,
    "CHP": 1557,
    "SAADET": 135,
    "IYI": 1598,
    "CUMHUR": 99,
    "MILLET": 11,
}


@pytest.mark.parametrize(
    ("alliance", "members", "exact", "shown"),
    [
        (
            "CUMHUR",
            ("AK", "MHP"),
            (Fraction(99 * 5092, 6951), Fraction(99 * 1859, 6951)),
            (73, 26),
        ),
        (
            "MILLET",
            ("CHP", "SAADET", "IYI"),
            (Fraction(11 * 1557, 3290), Fraction(11 * 135, 3290), Fraction(11 * 1598, 3290)),
            (5, 1, 5),
        ),
    ],
)
def test_the_joint_votes_of_aladag_2018_are_divided_by_own_votes(
    alliance: str,
    members: tuple[str, ...],
    exact: tuple[Fraction, ...],
    shown: tuple[int, ...],
) -> None:
    found = shares.divide(alliance, members, ALADAG)

    assert tuple(member.share for member in found.members) == exact
    assert tuple(member.rounded for member in found.members) == shown
    assert sum(exact) == found.joint == sum(shown)
    assert found.members[0].total == ALADAG[members[0]] + exact[0]


def test_the_share_is_undefined_when_no_party_has_a_vote_of_its_own() -> None:
    found = shares.divide("O", ("A", "B"), {"O": 7})

    assert found.undefined
    assert [(member.share, member.rounded, member.total) for member in found.members] == [
        (None, None, None),
        (None, None, None),
    ]


def test_equal_remainders_are_rounded_up_in_ballot_order() -> None:
    found = shares.divide("O", ("A", "B", "C"), {"O": 2, "A": 1, "B": 1, "C": 1})

    assert [member.rounded for member in found.members] == [1, 1, 0]


def test_no_joint_votes_give_a_share_of_nothing() -> None:
    found = shares.divide("O", ("A", "B"), {"A": 5, "B": 1})

    assert [member.share for member in found.members] == [0, 0]


def test_an_alliance_of_one_party_gets_all_joint_votes() -> None:
    assert shares.divide("O", ("A",), {"O": 3, "A": 1}).members[0].rounded == 3
