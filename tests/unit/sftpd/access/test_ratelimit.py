import pytest
from unit.sftpd.fake_clock import FakeClock

from sftpd.access.ratelimit import Pacer, TokenBucket

MEGABYTE = 1_000_000


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    time = FakeClock()
    bucket = TokenBucket(10.0, 20.0, time)
    assert [bucket.take(10) for _ in range(4)] == [0.0, 0.0, 1.0, 2.0]
    time.now += 3.0
    assert bucket.take(10) == 0.0
    time.now += 1000.0
    assert [bucket.take(20), bucket.take(10)] == [0.0, 1.0]


def test_who_tries_is_refused_without_paying() -> None:
    time = FakeClock()
    bucket = TokenBucket(1.0, 2.0, time)
    assert [bucket.try_take(1) for _ in range(4)] == [True, True, False, False]
    time.now += 1.0
    assert [bucket.try_take(1), bucket.try_take(1)] == [True, False]
    assert not bucket.full
    time.now += 2.0
    assert bucket.full


def test_two_sessions_of_a_party_share_its_cap() -> None:
    pacer = Pacer(FakeClock())
    waits = [pacer.wait("a", 40.0, MEGABYTE) for _ in range(10)]  # 5 MB a second
    assert waits[-1] == pytest.approx((10 * MEGABYTE - 500_000) / 5e6)
    assert waits == sorted(waits)


def test_another_party_is_untouched() -> None:
    pacer = Pacer(FakeClock())
    for _ in range(10):
        pacer.wait("a", 40.0, MEGABYTE)
    assert pacer.wait("b", 40.0, 100_000) == 0.0
    assert pacer.wait("c", None, 10 * MEGABYTE) == 0.0


def test_a_new_cap_is_in_force_at_once_and_a_lifted_one_too() -> None:
    pacer = Pacer(FakeClock())
    pacer.wait("a", 1.0, MEGABYTE)
    assert pacer.wait("a", 8.0, 1_100_000) == pytest.approx(1.0)
    assert pacer.wait("a", None, MEGABYTE) == 0.0
    assert pacer.wait("a", 8.0, 100_000) == 0.0


def test_a_debt_is_not_forgiven_by_connecting_anew() -> None:
    time = FakeClock()
    pacer = Pacer(time)
    pacer.wait("a", 8.0, 2 * MEGABYTE)
    pacer.forget("a")
    assert pacer.wait("a", 8.0, 1) > 1.8
    time.now += 60.0
    pacer.forget("a")
    assert pacer._buckets == {}
