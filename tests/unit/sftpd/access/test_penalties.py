import pytest
from unit.sftpd.fake_clock import FakeClock

from config.party import parse_address
from sftpd.access.penalties import ConnectionRates, Cost, Penalties

HOME, OTHER = parse_address("192.0.2.7"), parse_address("192.0.2.8")


@pytest.fixture
def time() -> FakeClock:
    return FakeClock()


@pytest.fixture
def penalties(time: FakeClock) -> Penalties:
    return Penalties(time)


def test_a_few_failures_have_no_effect(penalties: Penalties) -> None:
    for _ in range(10):
        penalties.charge(HOME, Cost.LOGIN)
    assert penalties.refused_for(HOME) == 0.0


def test_more_add_up(penalties: Penalties) -> None:
    for _ in range(12):
        penalties.charge(HOME, Cost.LOGIN)
    assert penalties.refused_for(HOME) == pytest.approx(2.0)
    penalties.charge(HOME, Cost.GRACE)
    assert penalties.refused_for(HOME) == pytest.approx(4.0)


def test_no_number_of_failures_locks_an_address_out(penalties: Penalties, time: FakeClock) -> None:
    for _ in range(10_000):
        penalties.charge(HOME, Cost.CRASH)
    assert penalties.refused_for(HOME) == pytest.approx(5.0)
    time.now += 5.0
    assert penalties.refused_for(HOME) == 0.0


def test_they_fade_and_are_forgotten(penalties: Penalties, time: FakeClock) -> None:
    for _ in range(12):
        penalties.charge(HOME, Cost.LOGIN)
    time.now += 1.5
    assert penalties.refused_for(HOME) == pytest.approx(0.5)
    time.now += 20.0
    assert penalties.refused_for(HOME) == 0.0
    assert len(penalties) == 0


def test_they_count_against_where_they_came_from_alone(penalties: Penalties) -> None:
    for _ in range(30):
        penalties.charge(HOME, Cost.LOGIN)
    assert penalties.refused_for(HOME) > 0
    assert penalties.refused_for(OTHER) == 0.0


def test_ipv6_counts_by_its_64(penalties: Penalties) -> None:
    for number in range(30):
        penalties.charge(parse_address(f"2001:db8:0:1::{number:x}"), Cost.LOGIN)
    assert penalties.refused_for(parse_address("2001:db8:0:1:ffff::")) > 0
    assert penalties.refused_for(parse_address("2001:db8:0:2::1")) == 0.0


def test_the_same_number_in_both_families_is_not_the_same_source(penalties: Penalties) -> None:
    for _ in range(30):
        penalties.charge(parse_address("0.0.0.7"), Cost.LOGIN)
    assert penalties.refused_for(parse_address("0:0:0:7::1")) == 0.0


def test_only_so_many_sources_are_remembered(time: FakeClock) -> None:
    penalties = Penalties(time, max_sources=100)
    rates = ConnectionRates(time, max_sources=100)
    for number in range(1000):
        source_of = parse_address(f"10.0.{number // 250}.{number % 250}")
        penalties.charge(source_of, Cost.LOGIN)
        assert rates.allow(source_of)
    assert (len(penalties), len(rates)) == (100, 100)


def test_connections_are_allowed_in_a_burst_and_then_at_a_rate(time: FakeClock) -> None:
    rates = ConnectionRates(time)
    assert [rates.allow(HOME) for _ in range(201)] == [True] * 200 + [False]
    assert rates.allow(OTHER)
    time.now += 0.125
    assert [rates.allow(HOME) for _ in range(7)] == [True] * 6 + [False]
