"""Writes the access ledger: the portal's only writer, and nothing is served before its record.

Under `[ledger] sync = "interval"` (the default) `record` writes at once, and `sync` is called once
a second. Under `"always"` the records of all requests that are waiting are written together, with
one sync, in a thread; each request waits until its record survives a loss of power.
"""

import asyncio
from collections.abc import Sequence

from config.event import Event
from keys.ledger.writer import Ledger


class Recorder:
    """The access ledger as the requests see it; it belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[tuple[Event, ...], asyncio.Future[int]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._unsynced = False

    async def record(self, *events: Event) -> int:
        """Write records, and return the number of the last one.

        Raises Unwritable if they are not in the ledger, so nothing is served.
        """
        if not self._ledger.sync_always:
            number = self._ledger.append(*events)
            self._unsynced = True
            return number
        written: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((events, written))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await written

    async def sync(self) -> None:
        """Make everything recorded so far survive a loss of power; raises OSError."""
        if self._unsynced:
            self._unsynced = False
            try:
                await asyncio.to_thread(self._ledger.sync)
            except OSError:
                self._unsynced = True
                raise

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                together = [event for each, _ in batch for event in each]
                found = await asyncio.to_thread(self._write, together)
                before = 0 if isinstance(found, Exception) else found - len(together)
                for events, written in batch:
                    before += len(events)
                    if written.cancelled():
                        continue
                    if isinstance(found, Exception):
                        written.set_exception(found)
                    else:
                        written.set_result(before)
        finally:
            self._flushing = None

    def _write(self, events: Sequence[Event]) -> int | Exception:
        try:
            return self._ledger.append(*events)
        except Exception as error:
            return error
