"""Counts the refused connections and logins of each party, from the transfer ledger.

It begins with the newest records and then reads only what is new.
"""

import threading
from collections import Counter
from pathlib import Path

from config.event import Event, TransferEvent
from config.settings import Settings
from config.site import LEDGERS, TRANSFER
from keys.ledger import merged, segments

_FIRST = 20_000  # records that are read at first
UNKNOWN = ""  # whom the refusals of unregistered addresses are counted under


class Refusals:
    """The counts since the first update and shortly before; for any thread."""

    def __init__(self) -> None:
        self._next: dict[Path, int] = {}  # by ledger
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def update(self, settings: Settings) -> Counter[str]:
        """Read what is new, and return the counts by party."""
        ledgers = settings.site / LEDGERS
        with self._lock:
            for folder in merged.folders_of_kind(ledgers, TRANSFER):
                if folder.exists():
                    self._read_new(settings, folder)
            return Counter(self._counts)

    def _read_new(self, settings: Settings, folder: Path) -> None:
        end = segments.next_seq(folder)
        begin = self._next.get(folder, max(0, end - _FIRST))
        if begin < end:
            for record in segments.read_records(folder, begin):
                self._count(settings, record.event)
                self._next[folder] = record.seq + 1

    def _count(self, settings: Settings, event: Event) -> None:
        if event.event == TransferEvent.LOGIN_REFUSED and settings.party(event.who) is not None:
            self._counts[event.who] += 1
        elif event.event in (TransferEvent.LOGIN_REFUSED, TransferEvent.CONNECTION_REFUSED):
            count = event.detail.get("count", 1)
            owners = (p.id for p in settings.parties if event.origin in map(str, p.static_ips))
            self._counts[next(owners, UNKNOWN)] += count if isinstance(count, int) else 1
