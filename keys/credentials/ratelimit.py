"""Token buckets: limits on connections, refusals, opens and bandwidth.

`take` always takes the tokens, and returns how long to wait if there were too few. So several
takers that share a bucket wait one after the other. A bucket that was not used for a while holds at
most its burst.
"""

import time
from collections.abc import Callable

_BURST = 0.1  # the burst is what the rate allows in this many seconds
_MIN_BURST = 32 * 1024  # bytes
_OPEN_BURST = 2.0  # the same in seconds for opens: a client begins by listing every folder


class TokenBucket:
    """Gives `rate` tokens a second, and up to `burst` at once."""

    def __init__(
        self, rate: float, burst: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._tokens = burst
        self._refilled_at = monotonic()

    def take(self, tokens: float) -> float:
        """Take tokens; return the seconds to wait before using them."""
        self._refill()
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def try_take(self, tokens: float) -> bool:
        """Take tokens if there are enough; return whether there were."""
        self._refill()
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    @property
    def full(self) -> bool:
        """Return whether the bucket has all its tokens."""
        self._refill()
        return self._tokens >= self._burst

    def _refill(self) -> None:
        now = self._monotonic()
        elapsed = now - self._refilled_at
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._refilled_at = now


class BandwidthLimits:
    """Each party's limit on bandwidth, which all its sessions share."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}

    def wait(self, party: str, rate_mbit: float | None, size: int) -> float:
        """Return the seconds that `party` has to wait before it sends `size` bytes more."""
        if rate_mbit is None:
            self._buckets.pop(party, None)
            return 0.0
        current_rate, bucket = self._buckets.get(party, (None, None))
        if bucket is None or current_rate != rate_mbit:
            rate = rate_mbit * 1e6 / 8
            bucket = TokenBucket(rate, max(rate * _BURST, _MIN_BURST), self._monotonic)
            self._buckets[party] = rate_mbit, bucket
        return bucket.take(size)

    def forget(self, party: str) -> None:
        """Drop the bucket of a party without a session, unless the party still has to wait."""
        found = self._buckets.get(party)
        if found is not None and found[1].full:
            del self._buckets[party]


class OpenRates:
    """Each party's limit on how many files and folders it opens, which all its sessions share."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[float, TokenBucket]] = {}

    def wait(self, party: str, per_second: float) -> float:
        """Count an open of `party`; return the seconds until it may be answered."""
        rate, bucket = self._buckets.get(party, (None, None))
        if bucket is None or rate != per_second:
            bucket = TokenBucket(per_second, _OPEN_BURST * per_second, self._monotonic)
            self._buckets[party] = per_second, bucket
        return bucket.take(1)

    def forget(self, party: str) -> None:
        """Drop the bucket of a party without a session, unless the party still has to wait."""
        found = self._buckets.get(party)
        if found is not None and found[1].full:
            del self._buckets[party]
