"""How the book's records get into the ledger: at once, or all of a turn together.

Under [ledger] sync = "always" the disk holds each record before its writer goes on, which takes as
long for many as for one. So the Journal then `gathers`: what it takes stands only once `settle`,
called when everybody who has something to tell was heard, has written all of it at once. If that
fails none of it stands, and what was granted on the strength of it is taken back.

What has happened has happened: a close or a session's end that the disk has no room for is owed,
and written later.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from config.event import Event, Transfer
from keys.ledger.writer import Ledger, Unsynced, Unwritable

_HAPPENED = frozenset({Transfer.CLOSE, Transfer.SESSION_END})
_MOST_OWED = 10_000

_log = structlog.get_logger()


class Journal:
    """Writes one ledger."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self.gathers = ledger.always
        self.unsynced = 0  # records that may not survive a loss of power
        self._unsynced_since = 0.0
        self._waiting: list[Event] = []
        self._owed: list[Event] = []
        self._holds = False
        self._take_back: list[Callable[[bool], None]] = []
        self._unsure = False  # whether what was lost last is written all the same

    @property
    def next_seq(self) -> int:
        """The number that the next record will have, of those that stand."""
        return self._ledger.next_seq

    def append(self, *events: Event) -> bool:
        """Say whether events stand on record; where it gathers, `settle` says so later."""
        if self._holds or self.gathers:
            self._waiting += events
            return True
        if self._waiting:
            events, self._waiting = (*self._waiting, *events), []
        return self._written(events)

    def hold(self) -> None:
        """Keep what is appended, for one write with what comes after `release`."""
        self._holds = True

    def release(self) -> None:
        """Write with the next what was kept."""
        self._holds = False

    def flush(self) -> None:
        """Write what was kept, if nothing came after it."""
        self._holds = False
        if self._waiting and not self.gathers:
            self.append()

    def if_lost(self, undo: Callable[[bool], None]) -> None:
        """Where it gathers, call `undo` if what was appended last does not come to stand.

        It is told whether that is written all the same, only not confirmed by the disk.
        """
        if self.gathers:
            self._take_back.append(undo)

    def settle(self) -> bool:
        """Write down what was gathered; False if nothing of that can be, nor be granted."""
        if not self._waiting:
            return True
        events, self._waiting = self._waiting, []
        take_back, self._take_back = self._take_back, []
        if self._written(events):
            return True
        for undo in take_back:
            undo(self._unsure)
        return False

    @property
    def owes(self) -> int:
        """How many records of what has happened do not stand yet."""
        return len(self._owed) + sum(event.event in _HAPPENED for event in self._waiting)

    def pay(self) -> None:
        """Append what could not be written when it happened; what cannot be now is owed further."""
        owed, self._owed = self._owed, []
        if owed:
            self.append(*owed)

    def lag(self) -> float:
        """Return the seconds since the oldest record that may not survive a loss of power."""
        return self._monotonic() - self._unsynced_since if self.unsynced else 0.0

    def synced(self) -> None:
        """Note that all that was written would survive now."""
        self.unsynced = 0

    def _written(self, events: Sequence[Event]) -> bool:
        try:
            self._ledger.append(*events)
        except Unwritable as error:
            named = list(dict.fromkeys(event.event for event in events))
            _log.error("no record", event_names=named, records=len(events), cause=str(error))
            self._unsure = isinstance(error, Unsynced)
            if not self._unsure:
                happened = [event for event in events if event.event in _HAPPENED]
                self._owed += happened[: _MOST_OWED - len(self._owed)]
            return False
        if not self.gathers:
            if not self.unsynced:
                self._unsynced_since = self._monotonic()
            self.unsynced += len(events)
        return True
