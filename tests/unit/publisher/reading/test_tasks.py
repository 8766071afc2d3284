"""Pages are offered as rows, claimed by one reader at a time, and answered once."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import postgres
import pytest
import sqlalchemy as sa

from keys.digest import digests_of
from publisher.election.leader import SCHEMA
from publisher.page import Arrival, Page, Reading, ReadResult, Reason, Stamp
from publisher.reading import tasks
from publisher.reading.tasks import Answer, Tasks
from publisher.source import Source

NOON = datetime(2023, 5, 14, 12, tzinfo=UTC)
ARRIVAL = Arrival("1-a", "gun/a.jpg", Source("/in", "gun/a\udcff.jpg"), Stamp(7, 8, 9), NOON)
TERM = 3


def page(arrival: Arrival = ARRIVAL) -> Page:
    readings = (Reading("1093717526", "zxing-cpp", "whole", 2, ((1, 2), (3, 4))),)
    result = ReadResult("JPEG", 10, 20, readings, 9)
    return Page(arrival, Stamp(1, 2, 3), digests_of(b"x").sha256, result)


def test_a_page_and_its_answer_survive_as_text() -> None:
    assert tasks.parse_page(tasks.format_page(ARRIVAL)) == ARRIVAL
    for one in (
        Answer(ARRIVAL, "c", page(), digests_of(b"x")),
        Answer(ARRIVAL, "c", replace(page(), extracts=("ab", "cd")), digests_of(b"x")),
        Answer(ARRIVAL, "c", Page(ARRIVAL, Stamp(1, 2, 3), None, ReadResult(fault=Reason.EMPTY))),
        Answer(ARRIVAL, "c"),
    ):
        assert tasks.parse_answer(ARRIVAL, "c", tasks.format_answer(one)) == one


@pytest.fixture
def url(postgres_server: postgres.Server) -> sa.URL:
    url = postgres.in_schema(postgres_server.new_database(), SCHEMA)
    postgres.change(url, "UPDATE leader SET term = ? WHERE task = 'filing'", TERM)
    return url


@pytest.fixture
def both(url: sa.URL) -> Iterator[tuple[Tasks, Tasks]]:
    with ExitStack() as stack:
        opened = Tasks(url), Tasks(url)
        for one in opened:
            stack.callback(one.close)
        yield opened


def arrivals(count: int) -> list[Arrival]:
    return [replace(ARRIVAL, id=f"{number}-a") for number in range(count)]


@pytest.mark.slow
def test_two_readers_get_different_pages_and_the_leader_their_answers(
    both: tuple[Tasks, Tasks],
) -> None:
    one, other = both
    one.add(arrivals(3), TERM)

    first, second = one.claim("c1", 2), other.claim("c2", 2)
    assert [arrival.id for arrival in (*first, *second)] == ["0-a", "1-a", "2-a"]
    assert other.answer(Answer(second[0], "c2", page(second[0]), digests_of(b"x")))
    (found,) = one.answers(TERM, 9)
    assert (found.arrival.id, found.claim, found.page) == ("2-a", "c2", page(second[0]))
    assert one.answers(TERM, 9) == []


@pytest.mark.slow
def test_a_late_answer_is_ignored(both: tuple[Tasks, Tasks], url: sa.URL) -> None:
    one, other = both
    one.add(arrivals(1), TERM)
    (late,) = one.claim("frozen", 1)
    assert other.claim("c2", 1) == []
    postgres.change(url, "UPDATE reading SET claimed_until = 0")

    assert other.claim("c2", 1) == [late]
    one.renew("frozen")
    assert not one.answer(Answer(late, "frozen", page(late)))
    assert other.answer(Answer(late, "c2", page(late), digests_of(b"x")))
    assert not one.answer(Answer(late, "frozen", page(late)))


@pytest.mark.slow
def test_pages_of_a_former_leader_are_not_read(both: tuple[Tasks, Tasks]) -> None:
    one, other = both
    one.add(arrivals(2), TERM - 1)

    assert other.claim("c", 2) == []
    one.clear(TERM - 1)
    assert len(one.take_back(TERM - 1, 1, every=True)) == 1
    one.clear(TERM)
    assert one.take_back(TERM - 1, 9, every=True) == []


@pytest.mark.slow
def test_the_leader_takes_back_what_readers_failed_with(both: tuple[Tasks, Tasks]) -> None:
    one, other = both
    one.add(arrivals(2), TERM)
    for _ in range(tasks.MAX_ATTEMPTS):
        other.claim("c", 1)
        other.give_up("c")

    assert [found.id for found in one.take_back(TERM, 9, every=False)] == ["0-a"]
    other.claim("c", 9)
    assert one.take_back(TERM, 9, every=True) == []


@pytest.mark.slow
def test_a_claim_from_before_the_clock_was_set_back_does_not_last(
    both: tuple[Tasks, Tasks], url: sa.URL
) -> None:
    one, other = both
    one.add(arrivals(1), TERM)
    one.claim("c", 1)
    assert other.claim("d", 1) == []

    postgres.change(url, "UPDATE reading SET claimed_until = claimed_until + 3600000")

    assert [found.id for found in other.claim("d", 1)] == ["0-a"]


@pytest.mark.slow
def test_a_reader_that_left_or_is_gone_does_not_count(
    both: tuple[Tasks, Tasks], url: sa.URL
) -> None:
    one, other = both
    one.seen("pub1", 2, 0)
    other.seen("pub2", 8, 3)
    other.seen("pub2", 8, 4)

    assert (one.other_workers("pub1"), one.other_workers("pub2")) == (8, 2)
    with postgres.changing(url) as connection:
        read = "SELECT pages FROM reader WHERE host = 'pub2'"
        assert connection.scalar(sa.text(read)) == 7
    other.left("pub2")
    assert one.other_workers("pub1") == 0
