"""Connections that were closed unheard, put on record without letting anybody flood it.

One record a second for each address and reason, with the count of all since the one before.
Where more than `MOST` addresses knock at once, the rest are counted together, as from `many`.
"""

import time
from collections.abc import Callable

from config.event import Event, Outcome, Transfer, Value
from config.party import Address

QUIET = 1.0  # seconds between two records
MOST = 1024
MANY = "many"

_Key = tuple[str, str, str]


class Hush:
    """Counts refused connections and writes what is due; `write` puts an event on record."""

    def __init__(
        self,
        write: Callable[[Event], object],
        monotonic: Callable[[], float] = time.monotonic,
        most: int = MOST,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._most = most
        # In the order in which they fall due.
        self._hushed: dict[_Key, tuple[float, int]] = {}

    def turn_away(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Note a connection that was closed unheard."""
        now = self._monotonic()
        key = str(address), reason, str(via or "")
        if key not in self._hushed and len(self._hushed) >= self._most:
            key = MANY, reason, ""
        due, count = self._hushed.get(key, (0.0, 0))
        if key in self._hushed and now < due:
            self._hushed[key] = due, count + 1
        else:
            self._tell(key, count + 1, now)

    def next_due(self) -> float | None:
        """Return when `catch_up` has something to do."""
        return next((due for due, _ in self._hushed.values()), None)

    def catch_up(self, everything: bool = False) -> None:
        """Record what was counted meanwhile."""
        now = self._monotonic()
        while self._hushed:
            key, (due, count) = next(iter(self._hushed.items()))
            if now < due and not everything:
                return
            if count and not everything:
                self._tell(key, count, now)
            else:
                del self._hushed[key]
                if count:
                    self._put(key, count)

    def _tell(self, key: _Key, count: int, now: float) -> None:
        self._put(key, count)
        self._hushed.pop(key, None)
        self._hushed[key] = now + QUIET, 0

    def _put(self, key: _Key, count: int) -> None:
        address, reason, via = key
        detail: dict[str, Value] = {"reason": reason, "count": count}
        if via:
            detail["via"] = via
        self._write(Event(Transfer.CONNECTION_REFUSED, "", address, "", Outcome.REFUSED, detail))

    def __len__(self) -> int:
        return len(self._hushed)
