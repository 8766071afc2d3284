"""Writes the monitor's records to the transfer ledger, one at a time or in batches with one sync.

Under `[ledger] sync = "always"` a record must be on the disk before its client gets an answer. One
sync takes as long for many records as for one, so GroupCommit is then `batching`: `append` only
collects, and `commit`, called once a turn of the loop, writes and syncs the whole batch. If that
fails, no record of the batch counts, and the `on_rollback` functions undo what was granted.

Under `sync = "interval"` (the default) `append` writes at once, and the server syncs every second.

A CLOSE or SESSION_END describes something that has happened already, so it cannot be refused. If
the disk has no room for it, it is kept as `pending` and retried by `flush_pending`.
"""

import time
from collections.abc import Callable, Sequence

import structlog

from config.event import Event, TransferEvent
from keys.ledger.writer import Ledger, Unsynced, Unwritable

_RETRIED = frozenset({TransferEvent.CLOSE, TransferEvent.SESSION_END})
_MAX_PENDING = 10_000

_log = structlog.get_logger()


class GroupCommit:
    """Writes records to one ledger."""

    def __init__(self, ledger: Ledger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._monotonic = monotonic
        self.batching = ledger.sync_always
        self.unsynced = 0  # records that a power failure could still lose
        self._unsynced_since = 0.0
        self._batch: list[Event] = []
        self._pending: list[Event] = []
        self._holding = False
        self._rollbacks: list[Callable[[bool], None]] = []
        self._maybe_written = False  # the last failed batch may be in the ledger

    @property
    def next_seq(self) -> int:
        """The sequence number that the next record will get."""
        return self._ledger.next_seq

    def append(self, *events: Event) -> bool:
        """Write records; return whether they are in the ledger.

        While batching or holding, only collect them and return True: `commit` or `flush` writes.
        """
        if self._holding or self.batching:
            self._batch += events
            return True
        if self._batch:
            events, self._batch = (*self._batch, *events), []
        return self._write(events)

    def hold(self) -> None:
        """Collect the records that are appended from now on, to write them together later."""
        self._holding = True

    def release(self) -> None:
        """Stop collecting: the next `append` writes what was collected, in one write."""
        self._holding = False

    def flush(self) -> None:
        """Stop collecting, and write what was collected if no later `append` has written it."""
        self._holding = False
        if self._batch and not self.batching:
            self.append()

    def on_rollback(self, undo: Callable[[bool], None]) -> None:
        """While batching, call `undo` if the record that was appended last cannot be committed.

        The argument of `undo` is True if the record may still be in the ledger: it was written, but
        the disk did not confirm it.
        """
        if self.batching:
            self._rollbacks.append(undo)

    def commit(self) -> bool:
        """Write and sync the batch; False if that failed, so nothing in it may be granted."""
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
        """How many CLOSE and SESSION_END records are not in the ledger yet."""
        return len(self._pending) + sum(event.event in _RETRIED for event in self._batch)

    def flush_pending(self) -> None:
        """Retry the pending records; those that fail again stay pending."""
        pending, self._pending = self._pending, []
        if pending:
            self.append(*pending)

    def lag(self) -> float:
        """Return the age in seconds of the oldest record that a power failure could lose."""
        return self._monotonic() - self._unsynced_since if self.unsynced else 0.0

    def mark_synced(self) -> None:
        """Note that the ledger was synced: every record is safe."""
        self.unsynced = 0

    def _write(self, events: Sequence[Event]) -> bool:
        try:
            self._ledger.append(*events)
        except Unwritable as error:
            names = list(dict.fromkeys(event.event for event in events))
            _log.error(
                "record-not-written", event_names=names, records=len(events), cause=str(error)
            )
            self._maybe_written = isinstance(error, Unsynced)
            if not self._maybe_written:
                retried = [event for event in events if event.event in _RETRIED]
                self._pending += retried[: _MAX_PENDING - len(self._pending)]
            return False
        if not self.batching:
            if not self.unsynced:
                self._unsynced_since = self._monotonic()
            self.unsynced += len(events)
        return True
