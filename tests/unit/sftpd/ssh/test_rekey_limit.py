from unit.fake_clock import FakeClock

from sftpd.ssh.rekey_limit import BURST, BYTES, RekeyLimit


def started(limit: RekeyLimit, times: int, size: int = 0) -> int:
    return sum(limit.allow(size) for _ in range(times))


def test_a_burst_of_key_exchanges_is_allowed_and_then_one_for_each_second() -> None:
    clock = FakeClock()
    limit = RekeyLimit(clock)

    assert started(limit, 3000) == BURST
    clock.now += 5.0
    assert started(limit, 3000) == 5
    clock.now += 3600.0
    assert started(limit, 3000) == BURST


def test_a_client_that_transfers_enough_between_two_key_exchanges_is_never_stopped() -> None:
    limit = RekeyLimit(FakeClock())

    assert started(limit, 3000, BYTES) == 3000
    assert started(limit, 3000, BYTES // 100) < 100
