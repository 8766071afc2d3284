"""A lease ends by the leader's own clock before it ends by the database's."""

import pytest

from publisher.election.lease import LEASE_SECONDS, Deposed, Lease, Seat, may_follow


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_lasts_from_the_question_not_from_the_answer() -> None:
    clock = Clock()
    asked_at = clock.now
    clock.now += 2
    lease = Lease(asked_at, clock)
    clock.now = asked_at + LEASE_SECONDS - 1.1
    lease.check()
    clock.now += 0.1

    with pytest.raises(Deposed, match="ran out"):
        lease.check()


def test_a_lease_that_is_renewed_lasts_longer_by_the_same_margin() -> None:
    clock = Clock()
    lease = Lease(clock.now, clock)
    clock.now += 4
    lease.renewed(clock.now)
    clock.now += LEASE_SECONDS - 1.1

    lease.check()
    clock.now += 0.1
    with pytest.raises(Deposed, match="ran out"):
        lease.check()


def test_a_renewal_that_took_longer_than_the_lease_lets_it_be_over() -> None:
    clock = Clock()
    lease = Lease(clock.now, clock)
    asked_at = clock.now + 2
    clock.now += 10
    lease.renewed(asked_at)

    with pytest.raises(Deposed):
        lease.check()
    lease.renewed(clock.now)
    lease.check()  # no other leader was elected: the database has renewed it


def test_a_lease_that_has_ended_is_not_renewed() -> None:
    clock = Clock()
    lease = Lease(clock.now, clock)
    lease.end("another publisher was elected")
    lease.end("a later cause")
    lease.renewed(clock.now)

    with pytest.raises(Deposed, match="another publisher"):
        lease.check()
    assert lease.has_ended


@pytest.mark.parametrize(
    ("left", "host", "sole", "may"),
    [
        (0.1, "pub2", True, False),
        (0.0, "pub2", True, True),
        (-5.0, "pub2", False, True),
        # The process of this host that had the lease has died: a daemon's lock says so.
        (5.0, "pub1", True, True),
        # A command cannot know that.
        (5.0, "pub1", False, False),
    ],
)
def test_a_lease_is_followed_when_it_has_expired(
    left: float, host: str, sole: bool, may: bool
) -> None:
    seat = Seat("pub1", "ssps filing pub1 4711", 3, left)

    assert may_follow(seat, host, sole=sole) is may
