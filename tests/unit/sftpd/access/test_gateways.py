"""Two gateways of one site tell each other what their limits count."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.site import lock_file
from keys.credentials.penalties import ConnectionRates, Cost, LoginCpu, Penalties
from keys.operations import server_state
from sftpd.access.gateways import Gateways, GatewaySession

ADDRESS = ip_address("192.0.2.7")


class Gateway:
    """One gateway and its limits, at a time that a test sets."""

    def __init__(self, site: Path, host: str, now: list[float], began: float) -> None:
        self.penalties = Penalties(lambda: now[0])
        self.rates = ConnectionRates(lambda: now[0], burst=4, per_second=1)
        self.login_cpu = LoginCpu(lambda: now[0])
        limits = self.penalties, self.rates, self.login_cpu
        before, now[0] = now[0], began
        self.shared = Gateways(site, host, limits, lambda: now[0], lambda: now[0])
        now[0] = before

    def exchange(self, *sessions: GatewaySession) -> None:
        self.shared.exchange({"parti-a": sessions} if sessions else {})


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def two(tmp_path: Path, now: list[float]) -> Iterator[tuple[Gateway, Gateway]]:
    with ExitStack() as claimed:
        for host in ("gw1", "gw2"):
            claimed.enter_context(server_state.claim(tmp_path, server_state.SERVE, host))
        yield Gateway(tmp_path, "gw1", now, 900.0), Gateway(tmp_path, "gw2", now, 950.0)


def test_sessions_on_the_other_gateway_are_counted(two: tuple[Gateway, Gateway]) -> None:
    one, other = two
    one.exchange(GatewaySession(990.0, 7, False), GatewaySession(991.0, 8, False))
    other.exchange(GatewaySession(992.0, 7, False))
    one.exchange(GatewaySession(990.0, 7, False), GatewaySession(991.0, 8, False))

    assert (one.shared.elsewhere["parti-a"], other.shared.elsewhere["parti-a"]) == (1, 2)

    other.exchange()
    one.exchange()
    assert one.shared.elsewhere["parti-a"] == 0


def test_of_too_many_sessions_the_newest_end_each_on_its_own_gateway(
    two: tuple[Gateway, Gateway],
) -> None:
    one, other = two
    of_one = GatewaySession(990.0, 7, False), GatewaySession(993.0, 8, False)
    of_other = GatewaySession(991.0, 7, False), GatewaySession(992.0, 9, False)
    for _ in range(2):
        one.exchange(*of_one)
        other.exchange(*of_other)

    ended = {n: (one.shared.too_many("parti-a", n), other.shared.too_many("parti-a", n)) for n in
             (4, 3, 2, 1)}  # fmt: skip

    assert ended == {
        4: (frozenset(), frozenset()),
        3: ({8}, frozenset()),
        2: ({8}, {9}),
        1: ({8}, {7, 9}),
    }


def test_the_bandwidth_is_divided_by_sessions_with_open_files(
    two: tuple[Gateway, Gateway],
) -> None:
    one, other = two
    busy = [GatewaySession(990.0, n, True) for n in range(3)]
    idle = GatewaySession(990.0, 9, False)
    one.exchange(*busy)
    other.exchange(idle)
    one.exchange(*busy)

    assert one.shared.shares == {}  # all of it: nothing is sent elsewhere
    assert other.shared.shares == {"parti-a": 0.25}  # ready for a first transfer

    other.exchange(*busy)
    one.exchange(*busy)
    assert one.shared.shares == {"parti-a": 0.5}


def test_what_an_address_spends_on_one_gateway_counts_on_the_other(
    two: tuple[Gateway, Gateway], now: list[float]
) -> None:
    one, other = two
    one.exchange()
    other.exchange()
    for _ in range(3):
        one.penalties.charge(ADDRESS, Cost.CRASH)
        assert one.rates.allow(ADDRESS)
    one.login_cpu.charge(ADDRESS, 6.0)
    one.exchange()
    other.exchange()

    assert one.penalties.refused_for(ADDRESS) == other.penalties.refused_for(ADDRESS) == 5.0
    assert other.login_cpu.exhausted(ADDRESS)
    assert [other.rates.allow(ADDRESS) for _ in range(2)] == [True, False]

    now[0] += 6.0
    other.exchange()  # nothing is counted twice
    one.exchange()
    assert one.penalties.refused_for(ADDRESS) == other.penalties.refused_for(ADDRESS) == 0.0


def test_what_was_spent_before_a_gateway_began_is_not_charged_to_it(
    tmp_path: Path, now: list[float]
) -> None:
    with (
        server_state.claim(tmp_path, server_state.SERVE, "gw1"),
        server_state.claim(tmp_path, server_state.SERVE, "gw2"),
    ):
        old = Gateway(tmp_path, "gw1", now, 900.0)
        for _ in range(3):
            old.penalties.charge(ADDRESS, Cost.CRASH)
        old.exchange()
        new = Gateway(tmp_path, "gw2", now, 999.0)
        new.exchange()
        assert new.penalties.refused_for(ADDRESS) == 0.0

        old.penalties.charge(ADDRESS, Cost.CRASH)
        old.exchange()
        new.exchange()
        assert len(new.penalties) == 1  # but what comes after it is

        restarted = Gateway(tmp_path, "gw1", now, 1000.0)
        for _ in range(3):
            restarted.penalties.charge(ADDRESS, Cost.CRASH)
        restarted.exchange()
        new.exchange()
        assert new.penalties.refused_for(ADDRESS) == 5.0


def test_a_source_is_forgotten_a_minute_after_its_last_change(
    two: tuple[Gateway, Gateway], now: list[float], tmp_path: Path
) -> None:
    one, other = two
    one.penalties.charge(ADDRESS, Cost.LOGIN)
    one.exchange()
    assert "4/c0000207" in (tmp_path / "state/hosts/gw1/gateway.json").read_text()

    now[0] += 61.0
    one.exchange()
    assert "4/c0000207" not in (tmp_path / "state/hosts/gw1/gateway.json").read_text()
    other.exchange()
    one.penalties.charge(ADDRESS, Cost.GRACE)
    one.exchange()
    other.exchange()
    assert len(other.penalties) == 1


def sign_of_life(site: Path, when: float) -> None:
    os.utime(site / lock_file("serve", "gw2"), (when, when))


def test_a_gateway_that_is_gone_counts_for_nothing(
    two: tuple[Gateway, Gateway], now: list[float]
) -> None:
    one, other = two
    other.exchange(GatewaySession(990.0, 7, True))
    one.exchange()
    now[0] += server_state.GONE_AFTER - 1
    one.exchange()
    assert one.shared.elsewhere["parti-a"] == 1

    now[0] += 1
    one.exchange()
    assert one.shared.elsewhere["parti-a"] == 0
    assert one.shared.shares == {}


def test_a_gateway_that_has_ended_counts_for_nothing_at_once(
    two: tuple[Gateway, Gateway], tmp_path: Path
) -> None:
    one, other = two
    other.exchange(GatewaySession(990.0, 7, True))
    one.exchange()
    sign_of_life(tmp_path, 0)
    one.exchange()

    assert one.shared.elsewhere["parti-a"] == 0


@pytest.mark.parametrize("off", [-3600.0, 3600.0])
def test_a_gateway_whose_clock_is_wrong_counts_and_is_reported(
    two: tuple[Gateway, Gateway], now: list[float], tmp_path: Path, off: float
) -> None:
    one, other = two
    sign_of_life(tmp_path, time.time() + off)  # left from a death, or the first that is seen
    other.exchange(GatewaySession(990.0, 7, True))
    one.exchange()
    assert one.shared.elsewhere["parti-a"] == 0

    with capture_logs() as logs:
        for _ in range(10):
            now[0] += server_state.BEAT
            sign_of_life(tmp_path, time.time() + off)
            one.exchange()
    assert one.shared.elsewhere["parti-a"] == 1
    [warning] = logs
    assert (warning["event"], warning["host"]) == ("clock-differs", "gw2")
    assert warning["seconds"] == pytest.approx(off, abs=1.0)

    now[0] += server_state.GONE_AFTER
    one.exchange()
    assert one.shared.elsewhere["parti-a"] == 0


def test_a_sign_of_life_that_was_seen_late_is_no_wrong_clock(
    two: tuple[Gateway, Gateway], now: list[float], tmp_path: Path
) -> None:
    one, _ = two
    one.exchange()
    now[0] += 60.0  # this gateway was frozen
    sign_of_life(tmp_path, time.time() - 59.0)

    with capture_logs() as logs:
        one.exchange()
    assert logs == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"began": 999.0, "sess',
        '{"began": 999.0, "sessions": []}',
        '{"began": 999.0, "sessions": {}, "spent": {"4/c0000207": [60.0, 60]}}',
    ],
)
def test_a_damaged_file_of_another_gateway_changes_nothing(
    two: tuple[Gateway, Gateway], tmp_path: Path, text: str
) -> None:
    one, other = two
    other.exchange(GatewaySession(990.0, 7, True))
    one.exchange()
    (tmp_path / "state/hosts/gw2/gateway.json").write_text(text)
    one.exchange()

    assert one.shared.elsewhere == {"parti-a": 1}
    assert one.penalties.refused_for(ADDRESS) == 0.0
