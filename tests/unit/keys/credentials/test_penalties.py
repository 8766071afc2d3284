import pytest
from unit.fake_clock import FakeClock

from config.party import parse_address
from keys.credentials.admission import Reason
from keys.credentials.penalties import (
    ConnectionRates,
    Cost,
    LoginCpu,
    Penalties,
    costs_penalty,
)

HOME, OTHER = parse_address("192.0.2.7"), parse_address("192.0.2.8")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def penalties(clock: FakeClock) -> Penalties:
    return Penalties(clock)


def test_a_few_failures_have_no_effect(penalties: Penalties) -> None:
    for _ in range(10):
        penalties.charge(HOME, Cost.LOGIN)

    assert penalties.refused_for(HOME) == 0.0


def test_penalties_add_up(penalties: Penalties) -> None:
    for _ in range(12):
        penalties.charge(HOME, Cost.LOGIN)
    assert penalties.refused_for(HOME) == pytest.approx(2.0)

    penalties.charge(HOME, Cost.GRACE)
    assert penalties.refused_for(HOME) == pytest.approx(4.0)


def test_no_number_of_failures_locks_an_address_out(penalties: Penalties, clock: FakeClock) -> None:
    for _ in range(10_000):
        penalties.charge(HOME, Cost.CRASH)
    assert penalties.refused_for(HOME) == pytest.approx(5.0)

    clock.now += 5.0

    assert penalties.refused_for(HOME) == 0.0


def test_penalties_pass_with_time_and_are_forgotten(penalties: Penalties, clock: FakeClock) -> None:
    for _ in range(12):
        penalties.charge(HOME, Cost.LOGIN)

    clock.now += 1.5
    assert penalties.refused_for(HOME) == pytest.approx(0.5)

    clock.now += 20.0
    assert penalties.refused_for(HOME) == 0.0
    assert len(penalties) == 0


def test_failures_count_only_against_the_address_they_came_from(penalties: Penalties) -> None:
    for _ in range(30):
        penalties.charge(HOME, Cost.LOGIN)

    assert penalties.refused_for(HOME) > 0
    assert penalties.refused_for(OTHER) == 0.0


def test_an_ipv6_address_counts_by_its_64(penalties: Penalties) -> None:
    for number in range(30):
        penalties.charge(parse_address(f"2001:db8:0:1::{number:x}"), Cost.LOGIN)

    assert penalties.refused_for(parse_address("2001:db8:0:1:ffff::")) > 0
    assert penalties.refused_for(parse_address("2001:db8:0:2::1")) == 0.0


def test_the_same_number_in_ipv4_and_ipv6_is_not_the_same_source(penalties: Penalties) -> None:
    for _ in range(30):
        penalties.charge(parse_address("0.0.0.7"), Cost.LOGIN)

    assert penalties.refused_for(parse_address("0:0:0:7::1")) == 0.0


def test_a_limited_number_of_sources_is_remembered(clock: FakeClock) -> None:
    penalties = Penalties(clock, max_sources=100)
    rates = ConnectionRates(clock, max_sources=100)

    for number in range(1000):
        address = parse_address(f"10.0.{number // 250}.{number % 250}")
        penalties.charge(address, Cost.LOGIN)
        assert rates.allow(address)

    assert (len(penalties), len(rates)) == (100, 100)


def test_connections_are_allowed_in_a_burst_and_then_at_a_rate(clock: FakeClock) -> None:
    rates = ConnectionRates(clock)
    assert [rates.allow(HOME) for _ in range(201)] == [True] * 200 + [False]
    assert rates.allow(OTHER)

    clock.now += 0.125

    assert [rates.allow(HOME) for _ in range(7)] == [True] * 6 + [False]


def test_a_refusal_that_a_party_s_own_client_runs_into_costs_nothing() -> None:
    free = {reason for reason in Reason if not costs_penalty(reason)}

    assert free == {
        Reason.NOT_YET_OPEN,
        Reason.CLOSED,
        Reason.REHEARSAL,
        Reason.SUSPENDED,
        Reason.SESSIONS,
        Reason.MUST_CHANGE,
        Reason.KEYS_UNREADABLE,
    }


def test_an_address_that_used_up_its_login_time_waits_until_it_has_some_again(
    clock: FakeClock,
) -> None:
    cpu = LoginCpu(clock, burst=5.0, rate=0.25)
    for _ in range(100):
        cpu.charge(HOME, 0.045)
    assert not cpu.exhausted(HOME)
    cpu.charge(HOME, 1.0)

    assert cpu.exhausted(HOME)
    assert not cpu.exhausted(OTHER)
    clock.now += 1.9
    assert cpu.exhausted(HOME)
    clock.now += 0.2
    assert not cpu.exhausted(HOME)


def test_the_login_times_of_a_limited_number_of_addresses_are_kept(clock: FakeClock) -> None:
    cpu = LoginCpu(clock, max_sources=2)
    for number in range(9):
        cpu.charge(parse_address(f"192.0.2.{number}"), 99.0)

    assert len(cpu) == 2
    assert not cpu.exhausted(parse_address("192.0.2.1"))
    assert cpu.exhausted(parse_address("192.0.2.8"))
