"""Watches the intake folders and returns the files that are complete and may be claimed.

The periodic full scan finds every file. inotify events only make it faster; a network share sends
none. A file that is renamed into place is complete at once. Any other file must keep its size and
mtime for `settle_seconds`, measured by our own monotonic clock, because its writer may close it
and open it again.

Names that scanners give to unfinished files (`.x`, `x.tmp`, `x.part`, `x.partial`, `x.filepart`)
wait for their rename. Such a file that does not change for ten minutes is taken like any other:
otherwise a page could be lost without a message. Subfolders are scanned too; links are never
followed.
"""

import heapq
import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants, Mask

from publisher.page import Stamp
from publisher.source import Source, status

TEMPORARY_NAME_SECONDS = 600.0  # how long a file with a temporary name must not change
_TEMPORARY = (".tmp", ".part", ".partial", ".filepart")
_SCAN_SLICE = 2000  # entries of a scan per call, so that filing continues during a long scan

# watchdog logs an error each time it is stopped normally.
logging.getLogger("watchdog.observers.inotify").setLevel(logging.CRITICAL)
log = structlog.get_logger()


class Candidate(NamedTuple):
    """A file that may be claimed if its stamp is still `stamp`."""

    folder: Path
    path: str
    stamp: Stamp


@dataclass(slots=True)
class _Waiting:
    stamp: Stamp
    due: float


class Settling:
    """Decides which files have not changed for long enough. Does no I/O.

    The caller reports what it sees of a file; times are seconds of one monotonic clock. A file is
    checked when it is first seen and again when its waiting time is over, so many waiting files
    cost little. Of the files that are due, those with the oldest mtime come first: after an
    outage the oldest pages are filed first.
    """

    def __init__(self, settle: float, temporary_seconds: float = TEMPORARY_NAME_SECONDS) -> None:
        self._settle = settle
        self._temporary_seconds = temporary_seconds
        self._waiting: dict[str, _Waiting] = {}
        self._queue: list[tuple[float, str]] = []
        self._due: list[tuple[int, str, float]] = []  # by mtime

    def seen(self, path: str, stamp: Stamp, now: float) -> bool:
        """Note the stamp of a file at `now`; return True if the file may be claimed."""
        known = self._waiting.get(path)
        if known is not None and known.stamp == stamp:
            if now < known.due:
                return False
            del self._waiting[path]
            return True
        due = now + (self._temporary_seconds if is_temporary(path) else self._settle)
        self._waiting[path] = _Waiting(stamp, due)
        heapq.heappush(self._queue, (due, path))
        return False

    def renamed(self, path: str, stamp: Stamp, now: float) -> bool:
        """Like `seen`, for a file that was just renamed into place and need not wait."""
        if is_temporary(path):
            return self.seen(path, stamp, now)
        self._waiting.pop(path, None)
        return True

    def __contains__(self, path: str) -> bool:
        return path in self._waiting

    def removed(self, path: str) -> None:
        """Forget a file that no longer exists."""
        self._waiting.pop(path, None)

    def due(self, now: float, limit: int) -> list[str]:
        """Return at most `limit` files whose waiting time is over.

        The caller checks each of them and calls `seen` or `removed`.
        """
        while self._queue and self._queue[0][0] <= now:
            due, path = heapq.heappop(self._queue)
            if self._is_due(path, due):
                heapq.heappush(self._due, (self._waiting[path].stamp.mtime_ns, path, due))
        found: list[str] = []
        while self._due and len(found) < limit:
            _, path, due = heapq.heappop(self._due)
            if self._is_due(path, due):
                found.append(path)
        return found

    def next_due(self) -> float | None:
        """Return when the next file is due, None if no file waits."""
        if self._due:
            return self._due[0][2]
        return self._queue[0][0] if self._queue else None

    def _is_due(self, path: str, due: float) -> bool:
        known = self._waiting.get(path)
        return known is not None and known.due == due


def is_temporary(path: str) -> bool:
    """Return True if scanners give such a name to a file that is not finished."""
    name = path.rpartition("/")[2]
    return name.startswith(".") or name.lower().endswith(_TEMPORARY)


class Intake:
    """The watched folders; must be closed.

    `wake` is called from another thread when an inotify event arrives.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        settle: float,
        rescan: float,
        now: float,
        wake: Callable[[], None],
    ) -> None:
        """Create the folders that are missing and start watching them.

        Times are in seconds; `now` is the monotonic clock.
        """
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._folders = tuple(folder.resolve() for folder in folders)
        self._settling = Settling(settle)
        self._rescan = rescan
        self._next_scan = now
        self._scan: Iterator[os.DirEntry[str]] = iter(())
        self._scanning = False
        self._events: deque[tuple[str, bool]] = deque()
        self._observer = self._start_observer(wake)

    def ready(self, now: float, limit: int) -> list[Candidate]:
        """Return files to claim, about `limit` at most; those that waited come first."""
        self._continue_scan(now)
        found: list[Candidate] = []
        for path in self._settling.due(now, limit):
            self._check(path, now, self._settling.seen, found)
        while self._events and len(found) < limit:
            path, renamed = self._events.popleft()
            report = self._settling.renamed if renamed else self._settling.seen
            self._check(path, now, report, found)
        return found

    def next_check(self, now: float) -> float:
        """Return when `ready` should be called again, unless `wake` is called earlier."""
        if self._events or self._scanning:
            return now
        due = self._settling.next_due()
        return self._next_scan if due is None else min(due, self._next_scan)

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def _check(
        self,
        path: str,
        now: float,
        report: Callable[[str, Stamp, float], bool],
        found: list[Candidate],
    ) -> None:
        folder = self._folder_of(path)
        if folder is None:
            return
        try:
            current = status(Source(str(folder), path.removeprefix(f"{folder}{os.sep}")))
        except OSError:
            self._settling.removed(path)
            return
        if stat.S_ISDIR(current.st_mode):
            self._settling.removed(path)
        elif report(path, stamp := Stamp.of(current), now):
            found.append(Candidate(folder, path, stamp))

    def _folder_of(self, path: str) -> Path | None:
        return next((f for f in self._folders if path.startswith(f"{f}{os.sep}")), None)

    def _continue_scan(self, now: float) -> None:
        if now >= self._next_scan and not self._scanning:
            self._scan = _files(self._folders)
            self._next_scan = now + self._rescan
        part = list(islice(self._scan, _SCAN_SLICE))
        for entry in part:
            if entry.path not in self._settling:
                with suppress(FileNotFoundError):
                    stamp = Stamp.of(entry.stat(follow_symlinks=False))
                    self._settling.seen(entry.path, stamp, now)
        self._scanning = len(part) == _SCAN_SLICE

    def _start_observer(self, wake: Callable[[], None]) -> InotifyObserver | None:
        observer = _Observer()
        kinds: list[type[FileSystemEvent]] = [FileMovedEvent, FileCreatedEvent, FileClosedEvent]
        try:
            for folder in self._folders:
                handler = _EventHandler(self._events, wake)
                observer.schedule(handler, str(folder), recursive=True, event_filter=kinds)
            observer.start()
        except OSError as error:
            log.warning("intake-not-watched", cause=str(error), rescan_seconds=self._rescan)
            observer.stop()
            return None
        return observer


class _ArrivalEmitter(InotifyFullEmitter):
    """Reports files that arrive, and not files that leave.

    Each of our own claims moves a file out of the folder. After such an event watchdog waits half a
    second for the file to appear in another watched folder, and delays all later events. So the
    kernel is not asked for these events.
    """

    def get_event_mask_from_filter(self) -> Mask:
        """Return the events that the kernel is asked for."""
        moves = InotifyConstants.IN_MOVED_FROM
        return Mask(super().get_event_mask_from_filter() & ~moves)


class _Observer(InotifyObserver):
    """Also reports files that are moved in from an unwatched folder, as good scanners do."""

    def __init__(self) -> None:
        super().__init__(generate_full_events=True)
        self._emitter_class = _ArrivalEmitter


class _EventHandler(FileSystemEventHandler):
    def __init__(self, events: deque[tuple[str, bool]], wake: Callable[[], None]) -> None:
        self._events = events
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Queue the path of an event; a move that watchdog only inferred is not a rename."""
        renamed = isinstance(event, FileMovedEvent)
        path = os.fsdecode(event.dest_path if renamed else event.src_path)
        if path and not event.is_directory:
            self._events.append((path, renamed and not event.is_synthetic))
            self._wake()


def _files(folders: tuple[Path, ...]) -> Iterator[os.DirEntry[str]]:
    waiting = deque(str(folder) for folder in folders)
    while waiting:
        folder = waiting.popleft()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield entry
        except OSError as error:
            log.warning("intake-folder-unreadable", folder=folder, cause=str(error))
