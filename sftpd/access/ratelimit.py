"""A token bucket that lets its takers into debt: who takes too much is told how long to wait.

What is taken is taken at once, so that several takers queue up one behind the other, and a
bucket that stood idle gives at most its burst.
"""

import time
from collections.abc import Callable

_BURST = 0.1  # seconds of the rate
_MIN_BURST = 32 * 1024


class TokenBucket:
    """So many tokens a second, for all who share it."""

    def __init__(
        self, rate: float, burst: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = burst
        self._at = monotonic()

    def take(self, tokens: float) -> float:
        """Take tokens and return the seconds to wait before they may be used."""
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, tokens: float) -> bool:
        """Take tokens if they are there, else none."""
        self._refill()
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    @property
    def full(self) -> bool:
        """Whether forgetting it would make no difference."""
        self._refill()
        return self._tokens >= self._burst

    def _refill(self) -> None:
        now = self._monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Pacer:
    """Each party's cap on bandwidth, shared by all its sessions."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}

    def wait(self, party: str, rate_mbit: float | None, size: int) -> float:
        """Return the seconds that `party` has to wait before it sends `size` bytes more."""
        if rate_mbit is None:
            self._buckets.pop(party, None)
            return 0.0
        stated, bucket = self._buckets.get(party, (None, None))
        if bucket is None or stated != rate_mbit:
            rate = rate_mbit * 1e6 / 8
            bucket = TokenBucket(rate, max(rate * _BURST, _MIN_BURST), self._monotonic)
            self._buckets[party] = rate_mbit, bucket
        return bucket.take(size)

    def forget(self, party: str) -> None:
        """Let go of a party that has no session left, unless it is still in debt."""
        held = self._buckets.get(party)
        if held is not None and held[1].full:
            del self._buckets[party]
