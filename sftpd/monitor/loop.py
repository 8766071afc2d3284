"""The parent's loop: descriptors with what to do when they are ready, and things that fall due.

One thread, nothing blocks. Whoever has to act at a certain time is `Timed`; times are those of
the monotonic clock. While one thing after the other happens, those who are timed are looked at
only once in `SLACK`, so that a turn costs no more than what it does. What is best done once for
all that happened in a turn is its end's affair (`at_end`).
"""

import select
import time
from collections.abc import Callable, Iterable
from typing import Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
TIMER_SLACK = 0.02  # seconds that what has fallen due may be late
Callback = Callable[[], object]


class HasFileno(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """Return it."""


class Timed(Protocol):
    """What has something to do from time to time."""

    def next_due(self) -> float | None:
        """Return when it has something to do, None if nothing is to come."""

    def catch_up(self) -> object:
        """Do what has fallen due; called again and again, so it must cost nothing if it is not."""


class Loop:
    """What is watched, and what happens when it is ready."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, Callback] = {}
        self._monotonic = monotonic
        self._next_timer_check: float | None = (
            None  # when the timed have their turn, if things happen
        )
        self.after_events: Callback | None = None  # called when all that was ready has had its turn

    def watch(self, file: HasFileno | int, ready: Callback, events: int = READ) -> None:
        """Call `ready` whenever `file` is; only one call for each file."""
        descriptor = _descriptor(file)
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._watched[descriptor] = ready

    def unwatch(self, file: HasFileno | int) -> None:
        """Let go of `file`, which need not be watched."""
        descriptor = _descriptor(file)
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def is_watching(self, file: HasFileno | int) -> bool:
        """Say whether `file` is watched."""
        return _descriptor(file) in self._watched

    def run_once(self, timed: Iterable[Timed], until: float | None = None) -> None:
        """Wait for the next thing to happen, `until` at the latest, and do it."""
        due = [until, self._next_timer_check]
        if self._next_timer_check is None:
            due += [each.next_due() for each in timed]
        times = [t for t in due if t is not None]
        pause = max(0.0, min(times) - self._monotonic()) if times else None
        watched = self._watched
        ready = [(each, watched.get(each)) for each, _ in self._epoll.poll(pause)]
        for descriptor, act in ready:
            # One that another's turn has removed must not be taken for one that reuses its number.
            if act is not None and watched.get(descriptor) is act:
                act()
        now = self._monotonic()
        if ready and self._next_timer_check is None:
            self._next_timer_check = now + TIMER_SLACK
        if not ready or (self._next_timer_check is not None and now >= self._next_timer_check):
            self._next_timer_check = None
            for each in timed:
                each.catch_up()
        if self.after_events is not None:
            self.after_events()

    def __len__(self) -> int:
        return len(self._watched)

    def close(self) -> None:
        """Let go of everything."""
        self._watched.clear()
        self._epoll.close()


def _descriptor(file: HasFileno | int) -> int:
    return file if isinstance(file, int) else file.fileno()


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
