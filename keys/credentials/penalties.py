"""Slows down an address that fails often, connects too fast, or costs too much before its logins.

This works like OpenSSH's PerSourcePenalties (sshd_config(5)). Each failure adds some seconds to an
address's penalty, and the penalty decreases by one second per second. While it is more than
TOLERATED, the address is refused, but for at most MAX_REFUSAL after its last failure: only an
address that a party registered gets this far, so it is slowed down and not locked out. Failures
under a party's name count against the address that they came from, not against the party. A
successful login adds no penalty.

What the logins of an address cost is limited too, whether they succeed or not: the processes that
serve its clients may use CPU_RATE of one processor until the login, and CPU_BURST seconds at once.

An IPv4 address counts by itself, an IPv6 address by its /64. At most MAX_SOURCES are remembered;
the one that was active longest ago is forgotten first.
"""

import time
from collections.abc import Callable
from enum import Enum

from config.party import Address
from keys.credentials.admission import Reason
from keys.credentials.ratelimit import TokenBucket

TOLERATED = 10.0  # seconds of penalties without effect
MAX_REFUSAL = 5.0  # seconds
BURST, PER_SECOND = 200.0, 50.0  # connections of one address
CPU_BURST, CPU_RATE = 5.0, 0.25  # seconds of processor time; the second, each second
MAX_SOURCES = 4096

Source = tuple[int, int]
OnCharge = Callable[[Source, float], object]


class Cost(Enum):
    """A kind of failure, and the seconds that it costs."""

    LOGIN = 1.0
    PROTOCOL = 0.5
    NO_ATTEMPT = 0.25  # the client hung up without trying to log in
    GRACE = 2.0  # no login in time
    CRASH = 5.0  # the process that served it died


# Reasons that a party's own client can meet. Its credential was right, or could not be checked, so
# it is no guess. A client that keeps trying reads the reason at each attempt.
_HARMLESS = frozenset(
    {
        Reason.NOT_YET_OPEN,
        Reason.CLOSED,
        Reason.REHEARSAL,
        Reason.SUSPENDED,
        Reason.SESSIONS,
        Reason.MUST_CHANGE,
        Reason.KEYS_UNREADABLE,
    }
)


def costs_penalty(reason: str) -> bool:
    """Return whether a login that was refused for `reason` costs a penalty."""
    return reason not in _HARMLESS


def source_of(address: Address) -> Source:
    """Return the key under which `address` is counted."""
    number = int(address)
    return address.version, number if address.version == 4 else number >> 64


class Penalties:
    """The penalties of each address; `on_charge` gets those that are charged here."""

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
        self._free_at: dict[Source, float] = {}  # when all penalties of a source have passed
        self.on_charge: OnCharge = _ignore

    def charge(self, address: Address, cost: Cost) -> None:
        """Add a penalty."""
        source = source_of(address)
        self.charge_source(source, cost.value)
        self.on_charge(source, cost.value)

    def charge_source(self, source: Source, seconds: float) -> None:
        """Add a penalty, of this gateway or of another."""
        now = self._monotonic()
        free_at = max(self._free_at.pop(source, now), now) + seconds
        if len(self._free_at) >= self._max_sources:
            del self._free_at[next(iter(self._free_at))]
        self._free_at[source] = min(free_at, now + self._tolerated + self._max_refusal)

    def refused_for(self, address: Address) -> float:
        """Return the seconds for which `address` is refused, 0 if it is not."""
        source = source_of(address)
        free_at = self._free_at.get(source)
        if free_at is None:
            return 0.0
        left = free_at - self._monotonic()
        if left <= 0:
            del self._free_at[source]
        return max(0.0, left - self._tolerated)

    def __len__(self) -> int:
        return len(self._free_at)


class ConnectionRates:
    """Limits how often each address connects."""

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
        self.on_charge: OnCharge = _ignore

    def allow(self, address: Address) -> bool:
        """Count one connection; return False if it is one too many."""
        source = source_of(address)
        if not self._bucket(source).try_take(1):
            return False
        self.on_charge(source, 1)
        return True

    def charge_source(self, source: Source, connections: float) -> None:
        """Count connections to another gateway."""
        self._bucket(source).take(connections)

    def _bucket(self, source: Source) -> TokenBucket:
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            bucket = TokenBucket(self._per_second, self._burst, self._monotonic)
            if len(self._buckets) >= self._max_sources:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[source] = bucket
        return bucket

    def __len__(self) -> int:
        return len(self._buckets)


class LoginCpu:
    """Limits the processor time that each address uses before its logins."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        burst: float = CPU_BURST,
        rate: float = CPU_RATE,
        max_sources: int = MAX_SOURCES,
    ) -> None:
        self._monotonic = monotonic
        self._burst = burst
        self._rate = rate
        self._max_sources = max_sources
        self._buckets: dict[Source, TokenBucket] = {}
        self.on_charge: OnCharge = _ignore

    def charge(self, address: Address, seconds: float) -> None:
        """Count the processor time that a connection used until its login or its end."""
        source = source_of(address)
        self.charge_source(source, seconds)
        self.on_charge(source, seconds)

    def charge_source(self, source: Source, seconds: float) -> None:
        """Count processor time, of this gateway or of another."""
        bucket = self._buckets.pop(source, None)
        if bucket is None:
            bucket = TokenBucket(self._rate, self._burst, self._monotonic)
            if len(self._buckets) >= self._max_sources:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[source] = bucket
        bucket.take(seconds)

    def exhausted(self, address: Address) -> bool:
        """Return whether the address has used up its time."""
        bucket = self._buckets.get(source_of(address))
        return bucket is not None and bucket.take(0.0) > 0

    def __len__(self) -> int:
        return len(self._buckets)


def _ignore(*_: object) -> None:
    """Do nothing: on a site with one gateway there is no other to tell."""
