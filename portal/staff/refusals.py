"""Counts the refused connections and logins of each party, from the transfer ledger.

It begins with the newest records and then reads only what is new.
"""

import threading
from collections import Counter

from config.event import Event, TransferEvent
from config.settings import Settings
from config.site import LEDGERS, TRANSFER
from keys.ledger import segments

_FIRST = 20_000  # records that are read at first
UNKNOWN = ""  # whom the refusals of unregistered addresses are counted under


class Refusals:
    """The counts since the first update and shortly before; for any thread."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def update(self, settings: Settings) -> Counter[str]:
        """Read what is new, and return the counts by party."""
        folder = settings.site / LEDGERS / TRANSFER
        with self._lock:
            if folder.exists():
                end = segments.next_seq(folder)
                begin = max(0, end - _FIRST) if self._next is None else self._next
                if begin < end:
                    for record in segments.read_records(folder, begin):
                        self._count(settings, record.event)
                        self._next = record.seq + 1
            return Counter(self._counts)

    def _count(self, settings: Settings, event: Event) -> None:
        if event.event == TransferEvent.LOGIN_REFUSED and settings.party(event.who) is not None:
            self._counts[event.who] += 1
        elif event.event in (TransferEvent.LOGIN_REFUSED, TransferEvent.CONNECTION_REFUSED):
            count = event.detail.get("count", 1)
            owners = (p.id for p in settings.parties if event.origin in map(str, p.static_ips))
            self._counts[next(owners, UNKNOWN)] += count if isinstance(count, int) else 1
