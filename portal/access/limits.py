"""Limits on logins and calls: for each address, for each user, and for the work of hashing.

A failed login costs its address a penalty, as over SFTP (keys/credentials/penalties). Besides,
each user has a number of attempts from each address, whether the user exists or not. A user from
another address has attempts of its own, so a stranger cannot lock a user out. A user of the
web service has a number of calls a minute, one of a web site PAGES_PER_MINUTE. A user has MAX_OPEN
streams and waiting calls at a time, so one party cannot take the connections of all, and MAX_FILES
files that were made for it.

Several portals of a site share the limits of attempts and calls: each notes what it takes in
`Spent`, and takes off what the others have taken (portal/access/exchange). So a bucket may be below
zero for a moment, and on average all portals together give what one of them would give.
"""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from config.party import Address
from keys.credentials.penalties import Cost, Penalties, costs_penalty, source_of
from keys.credentials.ratelimit import TokenBucket

_MAX_BUCKETS = 8192
MAX_OPEN = 16  # streams of open pages of one user, and calls of one that wait for news
MAX_FILES = 4  # of one user that are made or sent (portal/exports/stored): they take disk space
PAGES_PER_MINUTE = 6000  # of one user of a web site: each is a record
HASHES_AT_A_TIME = 2  # argon2id takes 64 MiB and four threads each time
_ATTEMPTS, _ATTEMPTS_PER_SECOND = 10.0, 1 / 6
_PENALTY = "penalty"


class Spent:
    """What was taken of limits since the last exchange with the other portals."""

    def __init__(self) -> None:
        self._amounts: dict[tuple[str, str, Hashable, float, float], float] = {}

    def add(
        self, kind: str, entrance: str, key: Hashable, rate: float, burst: float, amount: float
    ) -> None:
        """Note that an amount was taken of a bucket, or added to a penalty."""
        which = kind, entrance, key, rate, burst
        self._amounts[which] = self._amounts.get(which, 0.0) + amount

    def take(self) -> list[list[Any]]:
        """Return what was noted, and forget it."""
        found, self._amounts = self._amounts, {}
        return [[*which, amount] for which, amount in found.items()]


class Buckets:
    """A token bucket for each key; the one that was used longest ago is forgotten first."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[Hashable, tuple[float, TokenBucket]] = {}
        self._shared: tuple[str, str, Spent] | None = None

    def share(self, kind: str, entrance: str, spent: Spent) -> None:
        """Note in `spent` from now on what is taken."""
        self._shared = kind, entrance, spent

    def wait(self, key: Hashable, rate: float, burst: float) -> float:
        """Take one token; return the seconds until there is one if there was none, else 0."""
        if not self._bucket(key, rate, burst).try_take(1):
            return 1 / rate
        if self._shared is not None:
            kind, entrance, spent = self._shared
            spent.add(kind, entrance, key, rate, burst, 1)
        return 0.0

    def take(self, key: Hashable, rate: float, burst: float, amount: float) -> None:
        """Take tokens that another portal has given; at most as many are owed as one gives."""
        bucket = self._bucket(key, rate, burst)
        owed = bucket.take(0) * rate
        bucket.take(min(amount, max(0.0, burst - owed)))

    def _bucket(self, key: Hashable, rate: float, burst: float) -> TokenBucket:
        known, bucket = self._buckets.pop(key, (None, None))
        if bucket is None or known != rate:
            bucket = TokenBucket(rate, burst, self._monotonic)
            if len(self._buckets) >= _MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = rate, bucket
        return bucket


class OpenAnswers:
    """Counts the long answers that each user has: open pages, calls that wait, files."""

    def __init__(self, most: int = MAX_OPEN) -> None:
        self._most = most
        self._open: dict[str, int] = {}

    def is_full(self, login: str) -> bool:
        """Say whether a user has as many as it may have."""
        return self._open.get(login, 0) >= self._most

    @contextmanager
    def counted(self, login: str) -> Iterator[None]:
        """Count one while the block runs."""
        self._open[login] = self._open.get(login, 0) + 1
        try:
            yield
        finally:
            self._open[login] -= 1
            if not self._open[login]:
                del self._open[login]


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
        self.strangers = Buckets(monotonic)  # of the representatives' pages
        self._pages = Buckets(monotonic)
        self.hashing = asyncio.Semaphore(hashes)
        self.streams, self.waiting_calls = OpenAnswers(), OpenAnswers()
        self.files = OpenAnswers(MAX_FILES)
        self._shared: tuple[str, Spent] | None = None

    def share(self, entrance: str, spent: Spent) -> None:
        """Note in `spent` from now on what is taken and charged here."""
        self._shared = entrance, spent
        for kind, buckets in self._kinds().items():
            buckets.share(kind, entrance, spent)

    def take(self, kind: str, key: object, rate: float, burst: float, amount: float) -> None:
        """Take off what another portal has given, or add what it has charged."""
        if kind == _PENALTY:
            version, number = _hashable(key)
            self._penalties.charge_source((int(version), int(number)), amount)
        elif (buckets := self._kinds().get(kind)) is not None:
            buckets.take(_hashable(key), rate, burst, amount)

    def _kinds(self) -> dict[str, Buckets]:
        return {"attempt": self._attempts, "call": self._calls, "stranger": self.strangers}

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
            if self._shared is not None:
                entrance, spent = self._shared
                spent.add(_PENALTY, entrance, source_of(address), 0, 0, Cost.LOGIN.value)

    def call_wait(self, login: str, calls_per_minute: int) -> float:
        """Count a call of the web service; return the seconds to wait if it is too many."""
        return self._calls.wait(login, calls_per_minute / 60, max(10.0, calls_per_minute / 6))

    def page_wait(self, login: str) -> float:
        """Count a page of a web site; return the seconds to wait if it is too many."""
        return self._pages.wait(login, PAGES_PER_MINUTE / 60, PAGES_PER_MINUTE / 2)


def _hashable(key: Any) -> Any:
    """Return a key as it was before it was sent as JSON."""
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
