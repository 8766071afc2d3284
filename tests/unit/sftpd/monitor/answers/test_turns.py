"""Parties take turns with a process; the test answers its questions."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.fake_clock import FakeClock

from config.party import parse_address
from keys.ledger.writer import Ledger
from sftpd.monitor.answers.turns import Reply, Turns
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import ConnectionState, Monitor


class Process:
    """Remembers what it is asked; the test answers."""

    def __init__(self, monitor: Monitor) -> None:
        self.turns = Turns(4)
        self.asked: list[str] = []
        self.replies: list[Reply] = []
        self.answered: list[tuple[str, object]] = []
        self._monitor = monitor

    def ask(self, holder: str, what: str, address: str = "192.0.2.1") -> ConnectionState:
        state = self._monitor.begin(parse_address(address))
        state.holder = holder

        def ask(reply: Reply) -> None:
            self.asked.append(what)
            self.replies.append(reply)

        self.turns.ask(state, ask, lambda found: self.answered.append((what, found)))
        return state

    def answer(self, number: int) -> None:
        """Answer the question with that place among those that were asked."""
        self.replies[number](True)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    loop = Loop(FakeClock())
    with Ledger(tmp_path) as ledger:
        yield Process(Monitor(loop, ledger, 9))
    loop.close()


def test_one_party_has_at_most_half_of_the_questions(process: Process) -> None:
    for number in range(4):
        process.ask("a", f"a{number}")
    assert process.asked == ["a0", "a1"]

    process.answer(1)
    assert process.asked == ["a0", "a1", "a2"]
    assert process.answered == [("a1", True)]


def test_two_parties_leave_room_for_a_third_one(process: Process) -> None:
    for number in range(4):
        process.ask("a", f"a{number}")
        process.ask("b", f"b{number}")
    assert process.asked == ["a0", "b0", "a1"]

    process.ask("c", "c0")
    assert process.asked[3:] == ["c0"]


def test_a_party_that_waits_comes_before_all_further_questions_of_the_others(
    process: Process,
) -> None:
    for party in "abcd":
        process.ask(party, f"{party}0")
    for number in range(1, 9):
        process.ask("a", f"a{number}")
        process.ask("b", f"b{number}")
    process.ask("e", "e0")
    process.answer(0)
    process.answer(1)

    assert process.asked[4:] == ["e0", "a1"]


def test_the_addresses_of_a_party_take_turns(process: Process) -> None:
    for number in range(6):
        process.ask("a", f"hostile {number}", "192.0.2.1")
    process.ask("a", "own", "192.0.2.2")
    process.answer(0)
    process.answer(1)

    assert process.asked[2:] == ["hostile 2", "own"]


def test_a_connection_that_has_ended_neither_asks_nor_gets_an_answer(process: Process) -> None:
    states = [process.ask("a", f"a{number}") for number in range(4)]
    for state in states[1:3]:
        state.ended = True
    process.answer(1)
    assert process.asked == ["a0", "a1", "a3"]
    assert process.answered == []

    process.answer(0)
    process.answer(2)
    assert process.answered == [("a0", True), ("a3", True)]
    assert len(process.turns) == 0
