"""Limits on logins and calls: for each address, for each user, and for the work of hashing.

A failed login costs its address a penalty, as over SFTP (keys/credentials/penalties). Besides,
each user has a number of attempts from each address, whether the user exists or not. A user from
another address has attempts of its own, so a stranger cannot lock a user out. A user of the
web service has a number of calls a minute.
"""

import asyncio
import time
from collections.abc import Callable, Hashable

from config.party import Address
from keys.credentials.penalties import Cost, Penalties, costs_penalty, source_of
from keys.credentials.ratelimit import TokenBucket

_MAX_BUCKETS = 8192
HASHES_AT_A_TIME = 2  # argon2id takes 64 MiB and four threads each time
_ATTEMPTS, _ATTEMPTS_PER_SECOND = 10.0, 1 / 6


class Buckets:
    """A token bucket for each key; the one that was used longest ago is forgotten first."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[Hashable, tuple[float, TokenBucket]] = {}

    def wait(self, key: Hashable, rate: float, burst: float) -> float:
        """Take one token; return the seconds until there is one if there was none, else 0."""
        known, bucket = self._buckets.pop(key, (None, None))
        if bucket is None or known != rate:
            bucket = TokenBucket(rate, burst, self._monotonic)
            if len(self._buckets) >= _MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = rate, bucket
        return 0.0 if bucket.try_take(1) else 1 / rate


class Limits:
    """All limits of one portal."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        penalties: Penalties | None = None,
        attempts: float = _ATTEMPTS,
        hashes: int = HASHES_AT_A_TIME,
    ) -> None:
        self._burst = attempts
        self._penalties = Penalties(monotonic) if penalties is None else penalties
        self._attempts, self._calls = Buckets(monotonic), Buckets(monotonic)
        self.hashing = asyncio.Semaphore(hashes)

    def login_wait(self, address: Address, login: str) -> float:
        """Count an attempt; return the seconds to wait before the next one if it is too many."""
        refused = self._penalties.refused_for(address)
        key = (source_of(address), login.strip().lower()[:100])
        return max(refused, self._attempts.wait(key, _ATTEMPTS_PER_SECOND, self._burst))

    def address_wait(self, address: Address) -> float:
        """Count an attempt under any name; return the seconds to wait if it is too many."""
        return self._attempts.wait(source_of(address), _ATTEMPTS_PER_SECOND, self._burst)

    def login_failed(self, address: Address, reason: str) -> None:
        """Charge an address for a refused login, unless a party's own client can meet that."""
        if costs_penalty(reason):
            self._penalties.charge(address, Cost.LOGIN)

    def call_wait(self, login: str, calls_per_minute: int) -> float:
        """Count a call of the web service; return the seconds to wait if it is too many."""
        return self._calls.wait(login, calls_per_minute / 60, max(10.0, calls_per_minute / 6))
