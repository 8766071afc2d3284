"""The lease of a leader, without I/O: how long it may act, and who may follow it.

Several publishers can work on one site whose catalog is in PostgreSQL. One of them files: the
leader. It has a lease of six seconds and renews it every second, so that a busy machine may keep it
from running for nearly five seconds. The lease ends by two clocks:

    the database's     after it, another publisher may take over
    the leader's own   a second earlier: from then on the leader changes nothing

The leader counts from the moment before it asked for the lease, so its own end comes first whatever
the answer took. A process that was frozen finds the end behind it when it wakes up. Between two
looks at the clock it can still do one step; publisher/election/leader says what stops that.
"""

from collections.abc import Callable
from typing import NamedTuple

LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.0
MARGIN_SECONDS = 1.0  # the leader's own clock ends the lease so much earlier


class Deposed(OSError):
    """This process is not the leader any more. What it was doing is finished by the next one."""


class Seat(NamedTuple):
    """What the database says of the leader of a task.

    `holder` names its process. `left` are the seconds until its lease expires, by the clock of the
    database; they are not positive if it has expired.
    """

    host: str
    holder: str
    term: int
    left: float


def may_follow(seat: Seat, host: str, *, sole: bool) -> bool:
    """Return whether a candidate on `host` may take the seat.

    With `sole` no other process of this host can be the leader, so a lease of this host is that of
    a process that has died, and need not expire.
    """
    return seat.left <= 0 or (sole and seat.host == host)


class Lease:
    """The lease that this process has, by its own clock. Threads may share it."""

    def __init__(self, asked_at: float, monotonic: Callable[[], float]) -> None:
        """`asked_at` is when the database was asked for it, by the monotonic clock."""
        self._monotonic = monotonic
        self._until = asked_at + LEASE_SECONDS - MARGIN_SECONDS
        self._ended = ""

    def renewed(self, asked_at: float) -> None:
        """Note that the database renewed the lease when it was asked at that time."""
        self._until = asked_at + LEASE_SECONDS - MARGIN_SECONDS

    def end(self, cause: str) -> None:
        """Note that the lease is over, whatever the clock says."""
        self._ended = self._ended or cause

    @property
    def has_ended(self) -> bool:
        """Whether the lease is over for good; one that has only run out may still be renewed."""
        return bool(self._ended)

    def check(self) -> None:
        """Raise Deposed unless the lease lasts."""
        if self._ended:
            raise Deposed(self._ended)
        if self._monotonic() >= self._until:
            raise Deposed("the lease ran out before it was renewed")
