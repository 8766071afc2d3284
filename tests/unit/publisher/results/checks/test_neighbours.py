from collections.abc import Sequence

from config.sheet import Secim
from publisher.results.checks.finding import Check, Finding, FindingKind
from publisher.results.checks.neighbours import BoxVotes, check_board

OPTIONS = ("a", "b", "c", "d")


def box(number: int, *votes: int) -> BoxVotes:
    place = f"34-istanbul-1/kadikoy-2/sandik-{number}"
    return BoxVotes(Secim.MV, place, dict(zip(OPTIONS, votes, strict=True)))


BOARD = [box(number, 100 + number, 40 - number, 20, 60) for number in range(8)]


def found(results: Sequence[BoxVotes]) -> list[Finding]:
    return list(check_board(results, OPTIONS))


def test_boxes_that_resemble_each_other_give_no_hint() -> None:
    assert found(BOARD) == []


def test_an_option_without_a_vote_among_neighbours_that_have_some_is_a_hint() -> None:
    (hint,) = found([*BOARD, box(9, 100, 40, 20, 0)])

    assert (hint.check, dict(hint.numbers)) == (Check.ZERO_AMONG_NEIGHBOURS, {"oylar.d": 0})
    assert hint.places == ("34-istanbul-1/kadikoy-2/sandik-9",)
    assert hint.check.kind is FindingKind.HINT


def test_votes_in_the_next_column_are_a_hint() -> None:
    (hint,) = found([*BOARD, box(9, 60, 101, 41, 20)])

    assert hint.check is Check.SHIFTED_COLUMNS


def test_two_boxes_with_the_same_votes_are_one_hint() -> None:
    (hint,) = found([*BOARD, box(9, *BOARD[3].votes.values())])

    assert hint.check is Check.SAME_VECTOR
    assert hint.places == (
        "34-istanbul-1/kadikoy-2/sandik-3",
        "34-istanbul-1/kadikoy-2/sandik-9",
    )


def test_small_boxes_are_not_compared() -> None:
    assert found([box(number, 10, 0, 5, 6) for number in range(20)]) == []


def test_a_board_of_few_boxes_has_no_neighbours_to_speak_of() -> None:
    assert found([BOARD[0], box(9, 100, 40, 20, 0)]) == []
