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

from config.event import Event, TransferEvent
from keys.ledger.writer import Ledger, Unsynced, Unwritable

_MUST_BE_RECORDED = frozenset({TransferEvent.CLOSE, TransferEvent.SESSION_END})
_MAX_PENDING = 10_000

_log = structlog.get_logger()


class GroupCommit:
    """Writes one ledger."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self.batching = ledger.sync_always
        self.unsynced = 0  # records that may not survive a loss of power
        self._unsynced_since = 0.0
        self._batch: list[Event] = []
        self._pending: list[Event] = []
        self._holding = False
        self._rollbacks: list[Callable[[bool], None]] = []
        self._maybe_written = False  # whether what was lost last is written all the same

    @property
    def next_seq(self) -> int:
        """The number that the next record will have, of those that stand."""
        return self._ledger.next_seq

    def append(self, *events: Event) -> bool:
        """Say whether events stand on record; where it gathers, `settle` says so later."""
        if self._holding or self.batching:
            self._batch += events
            return True
        if self._batch:
            events, self._batch = (*self._batch, *events), []
        return self._write(events)

    def hold(self) -> None:
        """Keep what is appended, for one write with what comes after `release`."""
        self._holding = True

    def release(self) -> None:
        """Write with the next what was kept."""
        self._holding = False

    def flush(self) -> None:
        """Write what was kept, if nothing came after it."""
        self._holding = False
        if self._batch and not self.batching:
            self.append()

    def on_rollback(self, undo: Callable[[bool], None]) -> None:
        """Where it gathers, call `undo` if what was appended last does not come to stand.

        It is told whether that is written all the same, only not confirmed by the disk.
        """
        if self.batching:
            self._rollbacks.append(undo)

    def commit(self) -> bool:
        """Write down what was gathered; False if nothing of that can be, nor be granted."""
        if not self._batch:
            return True
        events, self._batch = self._batch, []
        rollbacks, self._rollbacks = self._rollbacks, []
        if self._write(events):
            return True
        for undo in rollbacks:
            undo(self._maybe_written)
        return False

    @property
    def pending(self) -> int:
        """How many records of what has happened do not stand yet."""
        return len(self._pending) + sum(event.event in _MUST_BE_RECORDED for event in self._batch)

    def flush_pending(self) -> None:
        """Append what could not be written when it happened; what cannot be now is owed further."""
        pending, self._pending = self._pending, []
        if pending:
            self.append(*pending)

    def lag(self) -> float:
        """Return the seconds since the oldest record that may not survive a loss of power."""
        return self._monotonic() - self._unsynced_since if self.unsynced else 0.0

    def mark_synced(self) -> None:
        """Note that all that was written would survive now."""
        self.unsynced = 0

    def _write(self, events: Sequence[Event]) -> bool:
        try:
            self._ledger.append(*events)
        except Unwritable as error:
            named = list(dict.fromkeys(event.event for event in events))
            _log.error("no record", event_names=named, records=len(events), cause=str(error))
            self._maybe_written = isinstance(error, Unsynced)
            if not self._maybe_written:
                happened = [event for event in events if event.event in _MUST_BE_RECORDED]
                self._pending += happened[: _MAX_PENDING - len(self._pending)]
            return False
        if not self.batching:
            if not self.unsynced:
                self._unsynced_since = self._monotonic()
            self.unsynced += len(events)
        return True
