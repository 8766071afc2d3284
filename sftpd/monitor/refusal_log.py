"""Connections that were closed unheard, put on record without letting anybody flood it.

One record a second for each address and reason, with the count of all since the one before.
Where more than `MAX_KEYS` addresses knock at once, the rest are counted together, as from `many`.
"""

import time
from collections.abc import Callable

from config.event import Event, Outcome, TransferEvent, Value
from config.party import Address

INTERVAL = 1.0  # seconds between two records
MAX_KEYS = 1024
MANY_ADDRESSES = "many"

_Key = tuple[str, str, str]


class RefusalLog:
    """Counts refused connections and writes what is due; `write` puts an event on record."""

    def __init__(
        self,
        write: Callable[[Event], object],
        monotonic: Callable[[], float] = time.monotonic,
        max_keys: int = MAX_KEYS,
    ) -> None:
        self._write = write
        self._monotonic = monotonic
        self._max_keys = max_keys
        # In the order in which they fall due.
        self._counts: dict[_Key, tuple[float, int]] = {}

    def refuse_connection(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Note a connection that was closed unheard."""
        now = self._monotonic()
        key = str(address), reason, str(via or "")
        if key not in self._counts and len(self._counts) >= self._max_keys:
            key = MANY_ADDRESSES, reason, ""
        due, count = self._counts.get(key, (0.0, 0))
        if key in self._counts and now < due:
            self._counts[key] = due, count + 1
        else:
            self._record_now(key, count + 1, now)

    def next_due(self) -> float | None:
        """Return when `catch_up` has something to do."""
        return next((due for due, _ in self._counts.values()), None)

    def catch_up(self, everything: bool = False) -> None:
        """Record what was counted meanwhile."""
        now = self._monotonic()
        while self._counts:
            key, (due, count) = next(iter(self._counts.items()))
            if now < due and not everything:
                return
            if count and not everything:
                self._record_now(key, count, now)
            else:
                del self._counts[key]
                if count:
                    self._write_record(key, count)

    def _record_now(self, key: _Key, count: int, now: float) -> None:
        self._write_record(key, count)
        self._counts.pop(key, None)
        self._counts[key] = now + INTERVAL, 0

    def _write_record(self, key: _Key, count: int) -> None:
        address, reason, via = key
        detail: dict[str, Value] = {"reason": reason, "count": count}
        if via:
            detail["via"] = via
        self._write(
            Event(TransferEvent.CONNECTION_REFUSED, "", address, "", Outcome.REFUSED, detail)
        )

    def __len__(self) -> int:
        return len(self._counts)
