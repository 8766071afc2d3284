import pytest
from unit.sftpd.fake_clock import FakeClock

from config.event import Event
from config.party import parse_address
from sftpd.monitor.refusal_log import RefusalLog

HOME, BALANCER = parse_address("192.0.2.7"), parse_address("203.0.113.1")


@pytest.fixture
def time() -> FakeClock:
    return FakeClock()


@pytest.fixture
def written() -> list[Event]:
    return []


@pytest.fixture
def hush(written: list[Event], time: FakeClock) -> RefusalLog:
    return RefusalLog(written.append, time, max_keys=3)


def counts(written: list[Event]) -> list[tuple[str, object]]:
    return [(event.origin, event.detail["count"]) for event in written]


def test_the_first_is_recorded_at_once_and_the_rest_with_their_count(
    hush: RefusalLog, written: list[Event], time: FakeClock
) -> None:
    for _ in range(5):
        hush.refuse_connection(HOME, "address")
    assert counts(written) == [("192.0.2.7", 1)]
    time.now = 101.0
    hush.catch_up()
    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.7", 4)]
    time.now = 102.0
    hush.catch_up()
    assert len(hush) == 0
    assert hush.next_due() is None


def test_the_balancer_is_named(hush: RefusalLog, written: list[Event]) -> None:
    hush.refuse_connection(HOME, "address", BALANCER)
    assert written[0].origin == "192.0.2.7"
    assert written[0].detail == {"reason": "address", "count": 1, "via": "203.0.113.1"}


def test_a_flood_from_everywhere_is_counted_together(
    hush: RefusalLog, written: list[Event], time: FakeClock
) -> None:
    for number in range(1000):
        hush.refuse_connection(parse_address(f"10.0.{number // 250}.{number % 250}"), "address")
    assert len(hush) == 4
    assert counts(written) == [("10.0.0.0", 1), ("10.0.0.1", 1), ("10.0.0.2", 1), ("many", 1)]
    time.now = 101.0
    hush.catch_up()
    assert counts(written)[4:] == [("many", 996)]


def test_nothing_is_lost_at_the_end(hush: RefusalLog, written: list[Event]) -> None:
    for _ in range(3):
        hush.refuse_connection(HOME, "rate")
    hush.catch_up(everything=True)
    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.7", 2)]
    assert len(hush) == 0


def test_the_next_is_due_in_the_order_of_time(
    hush: RefusalLog, written: list[Event], time: FakeClock
) -> None:
    other = parse_address("192.0.2.8")
    hush.refuse_connection(HOME, "address")
    time.now = 100.5
    hush.refuse_connection(other, "address")
    hush.refuse_connection(HOME, "address")
    time.now = 101.0
    hush.catch_up()
    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.8", 1), ("192.0.2.7", 1)]
    assert hush.next_due() == 101.5
