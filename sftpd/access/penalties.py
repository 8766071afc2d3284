"""How much patience an address has used up: failures that add up and fade, and a rate.

In the manner of OpenSSH's PerSourcePenalties (sshd_config(5)). Every failure costs an address
some seconds; they add up, and pass as time does. Beyond what is tolerated its connections are
closed at accept, `MAX_REFUSAL` seconds at most without a further failure: an address that gets this
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
from sftpd.access.ratelimit import TokenBucket

TOLERATED = 10.0  # seconds of penalties that have no effect yet
MAX_REFUSAL = 5.0  # seconds for which an address is refused
BURST, PER_SECOND = 200.0, 50.0  # connections of one address
MAX_SOURCES = 4096

Source = tuple[int, int]


class Cost(Enum):
    """What goes wrong, and the seconds it costs."""

    LOGIN = 1.0
    PROTOCOL = 0.5
    GRACE = 2.0  # no login in time
    CRASH = 5.0  # a child died of it


# What a party's own client meets without anybody guessing.
_HARMLESS = frozenset({Reason.NOT_YET_OPEN, Reason.CLOSED, Reason.SESSIONS, Reason.KEYS_UNREADABLE})
_COST_OF_END = {
    "no login in time": Cost.GRACE,
    "protocol error": Cost.PROTOCOL,
    "server error": Cost.CRASH,
    "killed": Cost.CRASH,
}


def costs_penalty(reason: str) -> bool:
    """Say whether a login that was refused for `reason` costs something."""
    return reason not in _HARMLESS


def cost_of_end(end: str, *, probed: bool) -> Cost | None:
    """Return what it costs that a connection without a login ended like that.

    It may have offered keys that do not fit and left without a signature (`probed`).
    """
    return _COST_OF_END.get(end, Cost.LOGIN if probed else None)


def source_of(address: Address) -> Source:
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
        max_refusal: float = MAX_REFUSAL,
        max_sources: int = MAX_SOURCES,
    ) -> None:
        self._monotonic = monotonic
        self._tolerated = tolerated
        self._max_refusal = max_refusal
        self._max_sources = max_sources
        self._free_at: dict[Source, float] = {}

    def charge(self, address: Address, cost: Cost) -> None:
        """Note a failure."""
        now = self._monotonic()
        key = source_of(address)
        free_at = max(self._free_at.pop(key, now), now) + cost.value
        if len(self._free_at) >= self._max_sources:
            del self._free_at[next(iter(self._free_at))]
        self._free_at[key] = min(free_at, now + self._tolerated + self._max_refusal)

    def refused_for(self, address: Address) -> float:
        """Return the seconds for which `address` is not to be served, 0 if it is welcome."""
        key = source_of(address)
        free_at = self._free_at.get(key)
        if free_at is None:
            return 0.0
        left = free_at - self._monotonic()
        if left <= 0:
            del self._free_at[key]
        return max(0.0, left - self._tolerated)

    def __len__(self) -> int:
        return len(self._free_at)


class ConnectionRates:
    """How often each address connects."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        burst: float = BURST,
        per_second: float = PER_SECOND,
        max_sources: int = MAX_SOURCES,
    ) -> None:
        self._monotonic = monotonic
        self._burst = burst
        self._per_second = per_second
        self._max_sources = max_sources
        self._buckets: dict[Source, TokenBucket] = {}

    def allow(self, address: Address) -> bool:
        """Say whether one connection more of `address` is served."""
        key = source_of(address)
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = TokenBucket(self._per_second, self._burst, self._monotonic)
            if len(self._buckets) >= self._max_sources:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = bucket
        return bucket.try_take(1)

    def __len__(self) -> int:
        return len(self._buckets)
