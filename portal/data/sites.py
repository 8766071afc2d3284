"""The data of every site that users may see: the election's, and that of each rehearsal.

A site is read when it is first asked for, in a thread, and followed from then on. `follow` looks
for something new a few times a second and wakes whoever waits in `wait`.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import structlog

from config.settings import ShareLevel
from portal.data.live import LiveData
from publisher.database import Unreachable

INTERVAL = 0.25  # seconds between two looks

log = structlog.get_logger()


class Sites:
    """All sites of one portal; of one event loop."""

    def __init__(self, share_level: Callable[[], ShareLevel]) -> None:
        self._share_level = share_level
        self._live: dict[Path, LiveData] = {}
        self._loading = asyncio.Lock()
        self._news = asyncio.Event()
        self._failed: set[Path] = set()

    async def live(self, site: Path) -> LiveData:
        """Return the data of a site; raises Faults if it cannot be read."""
        found = self._live.get(site)
        if found is None:
            async with self._loading:
                found = self._live.get(site)
                if found is None:
                    found = await asyncio.to_thread(LiveData, site, self._share_level())
                    self._live[site] = found
        return found

    async def follow(self) -> None:
        """Keep every site up to date, until the task is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            await self.refresh()

    async def refresh(self) -> None:
        """Look once for something new."""
        for site, live in list(self._live.items()):
            try:
                changed = await asyncio.to_thread(live.refresh)
            except Exception as error:
                if site not in self._failed:
                    trace = not isinstance(error, Unreachable)
                    log.error("portal-data-stale", site=str(site), cause=str(error), exc_info=trace)
                self._failed.add(site)
                continue
            self._failed.discard(site)
            if changed:
                news, self._news = self._news, asyncio.Event()
                news.set()

    async def wait(self, live: LiveData, number: int, seconds: float) -> None:
        """Wait until a snapshot after `number` is there, at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while live.number <= number:
                    await self._news.wait()
