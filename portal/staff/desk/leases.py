"""Who is looking at which page, so that two people do not work on the same one by chance.

A lease is a notice to others, and no lock: it ends after a while without a sign of life, and when
its holder opens another page. What two people do at the same moment is decided by the publisher.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

SECONDS = 90.0


@dataclass
class Leases:
    """The leases of one staff site, in memory; any thread may call it."""

    monotonic: Callable[[], float]
    _held: dict[str, tuple[str, float]] = field(default_factory=dict)  # by account
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, who: str, file: str) -> None:
        """Note that an account looks at a page now."""
        with self._lock:
            self._held[who] = file, self.monotonic() + SECONDS

    def release(self, who: str) -> None:
        """Note that an account looks at no page any more."""
        with self._lock:
            self._held.pop(who, None)

    def others(self, file: str, who: str) -> tuple[str, ...]:
        """Return the other accounts that look at a page."""
        return tuple(name for name, of in self._live() if of == file and name != who)

    def by_file(self, who: str) -> dict[str, str]:
        """Return for each page that another account looks at the name of that account."""
        return {file: name for name, file in self._live() if name != who}

    def _live(self) -> Iterable[tuple[str, str]]:
        now = self.monotonic()
        with self._lock:
            for name in [name for name, (_, until) in self._held.items() if until <= now]:
                del self._held[name]
            return [(name, file) for name, (file, _) in self._held.items()]
