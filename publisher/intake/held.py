"""Deletes the original of a copied scan from the intake once no process can write to it any more.

A file that could still be open for writing was copied and stays where it is (publisher/intake/
spool). If it changes, the next scan finds it as a new arrival, so that what was added is filed as
well. If it does not change for `[intake] quiet_seconds`, it is removed; the kernel is asked once
more whether a process has it open. A file that may not be removed, or that was too large to be
read, stays for an operator.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from publisher.intake import spool
from publisher.intake.lease import StillWritten
from publisher.page import MAX_FILE_BYTES, Stamp
from publisher.source import Source

_MAX_DELAY = 600.0  # seconds between two attempts to remove a file
_A_TURN = 500  # files checked in one call, so that filing is not held up

log = structlog.get_logger()


@dataclass(slots=True)
class _Held:
    source: Source
    stamp: Stamp
    tries: int = 0


class HeldSources:
    """The files that were claimed and are still in the intake; times are of a monotonic clock."""

    def __init__(
        self, quiet: float, not_removable: Callable[[Source], None], most: int = MAX_FILE_BYTES
    ) -> None:
        """`not_removable` is called each time a file may not be removed.

        A file of more than `most` bytes was not copied, so it is never removed.
        """
        self._quiet = quiet
        self._most = most
        self._not_removable = not_removable
        self._held: dict[Source, _Held] = {}
        self._queue: list[tuple[float, Source, Stamp]] = []

    def __len__(self) -> int:
        return len(self._held)

    def add(self, source: Source, stamp: Stamp, now: float) -> None:
        """Hold a file that has had that stamp since `now`."""
        self._held[source] = _Held(source, stamp)
        heapq.heappush(self._queue, (now + self._quiet, source, stamp))

    def remove_quiet(self, now: float) -> list[Source]:
        """Remove the files that were quiet for long enough; return those that are gone now."""
        gone: list[Source] = []
        for _ in range(_A_TURN):
            if not self._queue or self._queue[0][0] > now:
                break
            _, source, stamp = heapq.heappop(self._queue)
            held = self._held.get(source)
            if held is None or held.stamp != stamp:
                continue  # it changed and was claimed again
            if self._try(held):
                del self._held[source]
                gone.append(source)
            elif source in self._held:
                held.tries += 1
                delay = min(max(self._quiet, 1.0) * 2.0 ** min(held.tries, 20), _MAX_DELAY)
                heapq.heappush(self._queue, (now + delay, source, stamp))
        return gone

    def _try(self, held: _Held) -> bool:
        """Try to remove a file; return True if it is gone."""
        try:
            if held.stamp.size > self._most:
                # Too large, so it was never copied: only an operator removes it.
                spool.check_unchanged(held.source, held.stamp)
                return False
            spool.remove(held.source, held.stamp)
        except spool.SourceGone:
            return True
        except spool.SourceChanged:
            del self._held[held.source]  # a scan finds it as a new arrival
            return False
        except StillWritten:
            return False
        except OSError:
            self._not_removable(held.source)
            return False
        return True
