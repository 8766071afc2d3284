"""Records refused connections, and limits how many records a second they can cause.

The first refusal of an address for a reason is recorded at once. Further ones of the same address
and reason are counted, and recorded once a second as one record with their `count`:

    connection-refused    from 192.0.2.7    reason "rate"    count 41

If more than `MAX_KEYS` addresses are refused within a second, the rest are counted together, with
`many` as their origin. So the ledger gets at most about 1,000 of these records a second.
"""

from collections.abc import Callable

from config.event import Event, Outcome, TransferEvent, Value
from config.party import Address
from sftpd.monitor.loop import Loop

INTERVAL = 1.0  # seconds between two records of the same address and reason
MAX_KEYS = 1024
MANY_ADDRESSES = "many"

_Key = tuple[str, str, str]  # address, reason, balancer


class RefusalLog:
    """Counts refused connections; `write` puts an event into the ledger."""

    def __init__(
        self, loop: Loop, write: Callable[[Event], object], max_keys: int = MAX_KEYS
    ) -> None:
        self._loop = loop
        self._write = write
        self._max_keys = max_keys
        self._counts: dict[_Key, int] = {}  # refusals since the last record

    def refuse_connection(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Record or count a connection that was refused."""
        key = str(address), reason, str(via or "")
        if key not in self._counts and len(self._counts) >= self._max_keys:
            key = MANY_ADDRESSES, reason, ""
        if key in self._counts:
            self._counts[key] += 1
        else:
            self._record(key, 1)

    def flush(self) -> None:
        """Record what was counted so far, at once."""
        counts, self._counts = self._counts, {}
        for key, count in counts.items():
            if count:
                self._write_event(key, count)

    def _record(self, key: _Key, count: int) -> None:
        self._write_event(key, count)
        self._counts[key] = 0
        self._loop.call_at(self._loop.time() + INTERVAL, lambda: self._end_interval(key))

    def _end_interval(self, key: _Key) -> None:
        count = self._counts.pop(key, 0)
        if count:
            self._record(key, count)

    def _write_event(self, key: _Key, count: int) -> None:
        address, reason, via = key
        detail: dict[str, Value] = {"reason": reason, "count": count}
        if via:
            detail["via"] = via
        self._write(
            Event(TransferEvent.CONNECTION_REFUSED, "", address, "", Outcome.REFUSED, detail)
        )

    def __len__(self) -> int:
        return len(self._counts)
