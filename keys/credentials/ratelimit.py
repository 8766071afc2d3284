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

    def change(self, rate: float, burst: float) -> None:
        """Give another rate and burst from now on; what was taken stays taken."""
        self._refill()
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def _refill(self) -> None:
        now = self._monotonic()
        elapsed = now - self._refilled_at
        self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._refilled_at = now


class BandwidthLimits:
    """Each party's limit on bandwidth, which all its sessions share."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, tuple[tuple[float, float], TokenBucket]] = {}

    def wait(self, party: str, rate_mbit: float | None, size: int, share: float = 1.0) -> float:
        """Return the seconds that `party` has to wait before it sends `size` bytes more.

        `share` is the part of its bandwidth that it has on this gateway.
        """
        if rate_mbit is None:
            self._buckets.pop(party, None)
            return 0.0
        known, bucket = self._buckets.get(party, (None, None))
        if bucket is None or known != (rate_mbit, share):
            rate = rate_mbit * share * 1e6 / 8
            burst = max(rate * _BURST, _MIN_BURST)
            if bucket is not None and known is not None and known[0] == rate_mbit:
                bucket.change(rate, burst)
            else:
                bucket = TokenBucket(rate, burst, self._monotonic)
            self._buckets[party] = (rate_mbit, share), bucket
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
        self._buckets: dict[str, tuple[tuple[float, float], TokenBucket]] = {}

    def wait(self, party: str, per_second: float, share: float = 1.0) -> float:
        """Count an open of `party`; return the seconds until it may be answered.

        `share` is the part of its opens that it has on this gateway.
        """
        known, bucket = self._buckets.get(party, (None, None))
        if bucket is None or known != (per_second, share):
            rate = per_second * share
            if bucket is not None and known is not None and known[0] == per_second:
                bucket.change(rate, _OPEN_BURST * rate)
            else:
                bucket = TokenBucket(rate, _OPEN_BURST * rate, self._monotonic)
            self._buckets[party] = (per_second, share), bucket
        return bucket.take(1)

    def forget(self, party: str) -> None:
        """Drop the bucket of a party without a session, unless the party still has to wait."""
        found = self._buckets.get(party)
        if found is not None and found[1].full:
            del self._buckets[party]
