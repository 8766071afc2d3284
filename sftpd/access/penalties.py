"""How much patience an address has used up: failures that add up and fade, and a rate.

In the manner of OpenSSH's PerSourcePenalties (sshd_config(5)). Every failure costs an address
some seconds; they add up, and pass as time does. Beyond what is tolerated its connections are
closed at accept, `LONGEST` seconds at most without a further failure: an address that gets this
far is one that a party registered, and is slowed, never locked out. What is guessed under a
party's name counts against where it came from alone. A login that succeeds costs nothing.

IPv4 addresses count one by one, IPv6 addresses by their /64. No more than `MOST_SOURCES` are
remembered; the one that was heard of longest ago is forgotten first.
"""

import time
from collections.abc import Callable
from enum import Enum

from config.party import Address
from sftpd.access.authorize import Reason
from sftpd.access.ratelimit import Bucket

TOLERATED = 10.0  # seconds of penalties that have no effect yet
LONGEST = 5.0  # seconds for which an address is refused
BURST, PER_SECOND = 200.0, 50.0  # connections of one address
MOST_SOURCES = 4096

Source = tuple[int, int]


class Cost(Enum):
    """What goes wrong, and the seconds it costs."""

    LOGIN = 1.0
    PROTOCOL = 0.5
    GRACE = 2.0  # no login in time
    CRASH = 5.0  # a child died of it


# What a party's own client meets without anybody guessing.
_HARMLESS = frozenset({Reason.NOT_YET_OPEN, Reason.CLOSED, Reason.SESSIONS, Reason.KEYS_UNREADABLE})
_ENDS = {
    "no login in time": Cost.GRACE,
    "protocol error": Cost.PROTOCOL,
    "server error": Cost.CRASH,
    "killed": Cost.CRASH,
}


def deserved(reason: str) -> bool:
    """Say whether a login that was refused for `reason` costs something."""
    return reason not in _HARMLESS


def after(end: str, *, probed: bool) -> Cost | None:
    """Return what it costs that a connection without a login ended like that.

    It may have offered keys that do not fit and left without a signature (`probed`).
    """
    return _ENDS.get(end, Cost.LOGIN if probed else None)


def source(address: Address) -> Source:
    """Return what `address` counts as."""
    number = int(address)
    return address.version, number if address.version == 4 else number >> 64


class Penalties:
    """Failures of each address."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        tolerated: float = TOLERATED,
        longest: float = LONGEST,
        most: int = MOST_SOURCES,
    ) -> None:
        self._monotonic = monotonic
        self._tolerated = tolerated
        self._longest = longest
        self._most = most
        self._until: dict[Source, float] = {}

    def charge(self, address: Address, cost: Cost) -> None:
        """Note a failure."""
        now = self._monotonic()
        key = source(address)
        until = max(self._until.pop(key, now), now) + cost.value
        if len(self._until) >= self._most:
            del self._until[next(iter(self._until))]
        self._until[key] = min(until, now + self._tolerated + self._longest)

    def refused_for(self, address: Address) -> float:
        """Return the seconds for which `address` is not to be served, 0 if it is welcome."""
        key = source(address)
        until = self._until.get(key)
        if until is None:
            return 0.0
        left = until - self._monotonic()
        if left <= 0:
            del self._until[key]
        return max(0.0, left - self._tolerated)

    def __len__(self) -> int:
        return len(self._until)


class Rates:
    """How often each address connects."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        burst: float = BURST,
        per_second: float = PER_SECOND,
        most: int = MOST_SOURCES,
    ) -> None:
        self._monotonic = monotonic
        self._burst = burst
        self._per_second = per_second
        self._most = most
        self._buckets: dict[Source, Bucket] = {}

    def allow(self, address: Address) -> bool:
        """Say whether one connection more of `address` is served."""
        key = source(address)
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(self._per_second, self._burst, self._monotonic)
            if len(self._buckets) >= self._most:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket.try_take(1)

    def __len__(self) -> int:
        return len(self._buckets)
