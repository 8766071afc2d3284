import pytest
from unit.fake_clock import FakeClock

from keys.credentials.ratelimit import BandwidthLimits, OpenRates, TokenBucket

MEGABYTE = 1_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_bucket_gives_its_burst_and_then_its_rate(clock: FakeClock) -> None:
    bucket = TokenBucket(10.0, 20.0, clock)
    assert [bucket.take(10) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]

    clock.now += 3.0
    assert bucket.take(10) == 0.0

    clock.now += 1000.0
    assert [bucket.take(20), bucket.take(10)] == [0.0, 1.0]


def test_a_failed_try_takes_no_tokens(clock: FakeClock) -> None:
    bucket = TokenBucket(1.0, 2.0, clock)
    assert [bucket.try_take(1) for _ in range(4)] == [True, True, False, False]

    clock.now += 1.0
    assert [bucket.try_take(1), bucket.try_take(1)] == [True, False]
    assert not bucket.full

    clock.now += 2.0
    assert bucket.full


def test_two_sessions_of_a_party_share_its_limit(clock: FakeClock) -> None:
    limits = BandwidthLimits(clock)

    waits = [limits.wait("a", 40.0, MEGABYTE) for _ in range(10)]  # 5 MB a second

    assert waits[-1] == pytest.approx((10 * MEGABYTE - 500_000) / 5e6)
    assert waits == sorted(waits)


def test_another_party_is_not_affected(clock: FakeClock) -> None:
    limits = BandwidthLimits(clock)
    for _ in range(10):
        limits.wait("a", 40.0, MEGABYTE)

    assert limits.wait("b", 40.0, 100_000) == 0.0
    assert limits.wait("c", None, 10 * MEGABYTE) == 0.0


def test_a_changed_or_removed_limit_applies_at_once(clock: FakeClock) -> None:
    limits = BandwidthLimits(clock)
    limits.wait("a", 1.0, MEGABYTE)

    assert limits.wait("a", 8.0, 1_100_000) == pytest.approx(1.0)
    assert limits.wait("a", None, MEGABYTE) == 0.0
    assert limits.wait("a", 8.0, 100_000) == 0.0


def test_a_party_cannot_shorten_its_wait_by_connecting_again(clock: FakeClock) -> None:
    limits = BandwidthLimits(clock)
    limits.wait("a", 8.0, 2 * MEGABYTE)
    limits.forget("a")
    assert limits.wait("a", 8.0, 1) > 1.8

    clock.now += 60.0
    limits.forget("a")

    assert limits._buckets == {}


def test_opens_beyond_the_rate_wait_and_none_fails(clock: FakeClock) -> None:
    rates = OpenRates(clock)

    assert [rates.wait("a", 10.0) for _ in range(20)] == [0.0] * 20
    assert [rates.wait("a", 10.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert rates.wait("b", 10.0) == 0.0
    clock.now += 1.3
    assert rates.wait("a", 10.0) == 0.0


def test_the_opens_of_a_party_are_forgotten_when_it_no_longer_waits(clock: FakeClock) -> None:
    rates = OpenRates(clock)
    for _ in range(30):
        rates.wait("a", 10.0)
    rates.forget("a")
    assert rates.wait("a", 10.0) > 1.0

    clock.now += 60.0
    rates.forget("a")

    assert rates._buckets == {}


def test_a_share_that_changes_gives_no_second_burst(clock: FakeClock) -> None:
    opens = OpenRates(clock)
    for _ in range(20):
        assert opens.wait("parti-a", 10.0) == 0.0  # its burst

    assert opens.wait("parti-a", 10.0, 0.5) == pytest.approx(0.2)
    assert opens.wait("parti-a", 10.0) == pytest.approx(0.2)

    limits = BandwidthLimits(clock)
    limits.wait("parti-a", 8.0, MEGABYTE)
    before = limits.wait("parti-a", 8.0, 0)
    assert limits.wait("parti-a", 8.0, 0, 0.25) == pytest.approx(4 * before)
