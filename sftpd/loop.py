"""The parent's loop: descriptors with what to do when they are ready, and things that fall due.

One thread, nothing blocks. Whoever has to act at a certain time is `Timed`; times are those of
the monotonic clock.
"""

import selectors
import time
from collections.abc import Callable, Iterable
from typing import Protocol

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Ready = Callable[[], object]


class File(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """Return it."""


class Timed(Protocol):
    """What has something to do from time to time."""

    def next_due(self) -> float | None:
        """Return when it has something to do, None if nothing is to come."""

    def catch_up(self) -> object:
        """Do what has fallen due; called after every turn, so it must cost nothing if it is not."""


class Loop:
    """A selector, and what happens when it selects."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, file: File | int, ready: Ready, events: int = READ) -> None:
        """Call `ready` whenever `file` is; only one call for each file."""
        if file in self._selector.get_map():
            self._selector.modify(file, events, ready)
        else:
            self._selector.register(file, events, ready)

    def forget(self, file: File | int) -> None:
        """Let go of `file`, which need not be watched."""
        if file in self._selector.get_map():
            self._selector.unregister(file)

    def watches(self, file: File | int) -> bool:
        """Say whether `file` is watched."""
        return file in self._selector.get_map()

    def turn(self, timed: Iterable[Timed], until: float | None = None) -> None:
        """Wait for the next thing to happen, `until` at the latest, and do it."""
        due = [until, *(each.next_due() for each in timed)]
        times = [t for t in due if t is not None]
        pause = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(pause):
            # One that another's turn has removed must not be taken for one that reuses its number.
            if self._selector.get_map().get(key.fileobj) is key:
                key.data()
        for each in timed:
            each.catch_up()

    def __len__(self) -> int:
        return len(self._selector.get_map())

    def close(self) -> None:
        """Let go of everything."""
        self._selector.close()


class Recurring:
    """Something to do every so many seconds, while it is wanted."""

    def __init__(
        self,
        seconds: float,
        act: Callable[[], object],
        wanted: Callable[[], object],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._act = act
        self._wanted = wanted
        self._monotonic = monotonic
        self._next = 0.0

    def next_due(self) -> float | None:
        """Return when it is due."""
        return self._next if self._wanted() else None

    def catch_up(self) -> None:
        """Do it, if it is."""
        now = self._monotonic()
        if now >= self._next and self._wanted():
            self._next = now + self._seconds
            self._act()
