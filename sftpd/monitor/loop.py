"""An event loop for one thread: calls back when a file is ready or when a time has come.

    loop.watch(listener, accept)                        # whenever `listener` is readable
    timer = loop.call_at(loop.time() + 3.0, give_up)    # once, unless timer.cancel() comes first
    loop.call_every(1.0, sync)
    while not stopped:
        loop.run_once()

Callbacks must not block. All times are seconds of the monotonic clock.

Rule 1. Unwatch a file before you close it. epoll(7) registers the open file, not its number. A
child process that was just forked has a copy of every descriptor, so the file can live on after
our close(); epoll would go on reporting it, under a number that we can no longer unregister.

Rule 2. A callback may unwatch any file. If epoll has already reported that file in this turn, the
report is dropped, even if a new file has got the same number meanwhile.

Rule 3. A turn has three steps: the files that are ready, then the timers that are due, then
`after_events`, for work that is cheaper once a turn than once an event.
"""

import select
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
Callback = Callable[[], object]


class HasFileno(Protocol):
    """An object with a file descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Timer:
    """One call that is scheduled; `when` is its time."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callback) -> None:
        self.when = when
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        """Do not make the call. Harmless if it was made already."""
        self.callback = None


class Loop:
    """Watches files and keeps timers; `monotonic` is the clock."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.time = monotonic
        self.after_events: Callback | None = None
        self._epoll = select.epoll()
        self._watched: dict[int, Callback] = {}
        # A heap. The number orders timers that have the same time; Timers cannot be compared.
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_numbers = count()

    def watch(self, file: HasFileno | int, callback: Callback, events: int = READ) -> None:
        """Call `callback` whenever `file` is ready, in place of the callback it had before."""
        descriptor = _descriptor(file)
        if descriptor in self._watched:
            self._epoll.modify(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        self._watched[descriptor] = callback

    def unwatch(self, file: HasFileno | int) -> None:
        """Stop watching `file`. Harmless if it is not watched."""
        descriptor = _descriptor(file)
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def is_watching(self, file: HasFileno | int) -> bool:
        """Say whether `file` is watched."""
        return _descriptor(file) in self._watched

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Call `callback` once, at `when` or as soon after it as possible."""
        timer = Timer(when, callback)
        heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def call_every(self, seconds: float, callback: Callback) -> None:
        """Call `callback` every `seconds`, for the first time `seconds` from now."""

        def repeat() -> None:
            self.call_at(self.time() + seconds, repeat)
            callback()

        self.call_at(self.time() + seconds, repeat)

    def run_once(self, until: float | None = None) -> None:
        """Wait for a file or a timer, at most until `until`, and make the calls that are due."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heappop(timers)
        if timers and (until is None or timers[0][0] < until):
            until = timers[0][0]
        timeout = None if until is None else max(0.0, until - self.time())
        watched = self._watched
        ready = [(each, watched.get(each)) for each, _ in self._epoll.poll(timeout)]
        for descriptor, callback in ready:
            # Rule 2: compare the callbacks, the number may belong to a new file.
            if callback is not None and watched.get(descriptor) is callback:
                callback()
        if timers:
            now = self.time()
            while timers and timers[0][0] <= now:
                due = heappop(timers)[2].callback
                if due is not None:
                    due()
        if self.after_events is not None:
            self.after_events()

    def __len__(self) -> int:
        return len(self._watched)

    def close(self) -> None:
        """Stop watching everything; the files stay open."""
        self._watched.clear()
        self._timers.clear()
        self._epoll.close()


def _descriptor(file: HasFileno | int) -> int:
    return file if isinstance(file, int) else file.fileno()
