import pytest
from unit.fake_clock import FakeClock

from config.event import Event
from config.party import parse_address
from sftpd.monitor.loop import Loop
from sftpd.monitor.records.refusal_log import RefusalLog

HOME, BALANCER = parse_address("192.0.2.7"), parse_address("203.0.113.1")


@pytest.fixture
def written() -> list[Event]:
    return []


@pytest.fixture
def refusals(loop: Loop, written: list[Event]) -> RefusalLog:
    return RefusalLog(loop, written.append, max_keys=3)


def counts(written: list[Event]) -> list[tuple[str, object]]:
    return [(event.origin, event.detail["count"]) for event in written]


def test_the_first_refusal_is_recorded_at_once_and_the_next_ones_as_a_count(
    refusals: RefusalLog, loop: Loop, written: list[Event], clock: FakeClock
) -> None:
    for _ in range(5):
        refusals.refuse_connection(HOME, "address")
    assert counts(written) == [("192.0.2.7", 1)]
    clock.now = 101.0
    loop.run_once(clock.now)
    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.7", 4)]
    clock.now = 102.0
    loop.run_once(clock.now)
    assert len(refusals) == 0
    assert len(written) == 2


def test_the_record_names_the_balancer(refusals: RefusalLog, written: list[Event]) -> None:
    refusals.refuse_connection(HOME, "address", BALANCER)

    assert written[0].origin == "192.0.2.7"
    assert written[0].detail == {"reason": "address", "count": 1, "via": "203.0.113.1"}


def test_a_flood_from_many_addresses_is_counted_together(
    refusals: RefusalLog, loop: Loop, written: list[Event], clock: FakeClock
) -> None:
    for number in range(1000):
        address = parse_address(f"10.0.{number // 250}.{number % 250}")
        refusals.refuse_connection(address, "address")
    assert len(refusals) == 4
    assert counts(written) == [("10.0.0.0", 1), ("10.0.0.1", 1), ("10.0.0.2", 1), ("many", 1)]
    clock.now = 101.0
    loop.run_once(clock.now)
    assert counts(written)[4:] == [("many", 996)]


def test_flush_records_every_count(refusals: RefusalLog, written: list[Event]) -> None:
    for _ in range(3):
        refusals.refuse_connection(HOME, "rate")
    refusals.flush()

    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.7", 2)]
    assert len(refusals) == 0


def test_each_address_has_its_own_interval(
    refusals: RefusalLog, loop: Loop, written: list[Event], clock: FakeClock
) -> None:
    other = parse_address("192.0.2.8")
    refusals.refuse_connection(HOME, "address")
    clock.now = 100.5
    for address in (other, other, HOME):
        refusals.refuse_connection(address, "address")
    clock.now = 101.0
    loop.run_once(clock.now)
    assert counts(written) == [("192.0.2.7", 1), ("192.0.2.8", 1), ("192.0.2.7", 1)]
    clock.now = 101.5
    loop.run_once(clock.now)
    assert counts(written)[3:] == [("192.0.2.8", 1)]
