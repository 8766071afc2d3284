"""The figures of the site that all open pages show: taken once for all of them, in a thread.

`follow` takes them every second or two. On a large site it takes its time: it rests three times as
long as it worked, so that it never takes more than a quarter of a processor.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from config.settings import Settings
from publisher.database import Unreachable
from publisher.status import figures
from publisher.status.figures import Figures
from publisher.status.pace import Pace
from publisher.status.places import PlaceLine, Places

MAX_AGE = 1.5  # seconds; older figures are taken again
_REST = 3.0  # times as long as taking them took
_SPAN = timedelta(hours=12)  # of the curve

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at one moment; `number` grows by one each time."""

    number: int
    figures: Figures
    districts: tuple[PlaceLine, ...]
    unplaced: int  # pages in quarantine that belong to no known place


class Watch:
    """The figures of one site; of one event loop."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        max_age: float = MAX_AGE,
    ) -> None:
        self._settings, self._clock, self._monotonic = settings, clock, monotonic
        self._max_age = max_age
        site = settings().site
        self._pace, self._places = Pace(site, _SPAN), Places(site)
        self._seen: Seen | None = None
        self._next = float("-inf")  # when the figures are too old
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()

    async def now(self) -> Seen:
        """Return what is to be seen now; raises Faults if the site cannot be read."""
        async with self._lock:
            if self._seen is None or self._monotonic() >= self._next:
                number, began = self._seen.number + 1 if self._seen else 1, self._monotonic()
                self._seen = await asyncio.to_thread(self._take, number)
                ended = self._monotonic()
                self._next = ended + max(self._max_age, _REST * (ended - began))
                news, self._news = self._news, asyncio.Event()
                news.set()
            return self._seen

    async def lines(self, place: str) -> list[PlaceLine]:
        """Return a line for each board of a district, or for each box of a board."""
        async with self._lock:
            return await asyncio.to_thread(self._places.lines, place)

    async def follow(self) -> None:
        """Look again and again, until the task is cancelled."""
        failed = False
        while True:
            try:
                await self.now()
                failed = False
            except Exception as error:
                if not failed:
                    trace = not isinstance(error, Unreachable)
                    _log.error("figures-not-taken", cause=str(error), exc_info=trace)
                failed = True
            await asyncio.sleep(max(self._max_age, self._next - self._monotonic()))

    async def wait(self, number: int, seconds: float) -> Seen | None:
        """Return what was seen last, when it is newer than `number`; None if nothing came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._seen is None or self._seen.number <= number:
                    await self._news.wait()
                return self._seen
        return None

    def last(self) -> Seen | None:
        """Return what was seen last, however old it is."""
        return self._seen

    def _take(self, number: int) -> Seen:
        taken = figures.take(self._settings(), self._clock(), self._pace)
        return Seen(number, taken, tuple(self._places.lines()), self._places.unplaced())
