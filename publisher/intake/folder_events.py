"""Reports files that arrive in one intake folder and its subfolders, by inotify (watchdog).

A watch belongs to an inode, not to a path: a folder that is made again, or mounted over, needs a
new watch, and the kernel does not report it. The kernel also limits the number of watches. The
owner of a FolderEvents therefore compares `identity` now and then, and asks `covers` for each
folder that it scans.
"""

import logging
import os
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog
from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

from keys.kernel import file_system

_KINDS: list[type[FileSystemEvent]] = [FileMovedEvent, FileCreatedEvent, FileClosedEvent]

# watchdog logs an error each time it is stopped normally, and its lines are not JSON. Its real
# errors are noticed without it: `covers` finds a folder without a watch, and the next scan finds
# what was lost when a queue overflowed.
logging.getLogger("watchdog").setLevel(logging.CRITICAL + 1)
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")
log = structlog.get_logger()

Identity = tuple[int, int]  # device and inode


class FolderEvents:
    """The watch of one folder; must be closed."""

    def __init__(
        self, folder: Path, events: deque[tuple[str, bool]], wake: Callable[[], None]
    ) -> None:
        """Events are appended to `events`, as a path and whether it was renamed into place.

        `wake` is called from another thread after each.
        """
        self._folder = folder
        self._handler = _EventHandler(events, wake)
        self._observer: _Observer | None = None
        self._unwatched: set[str] = set()
        self.identity: Identity | None = None
        self.cause: str | None = "it is not watched yet"  # why there are no events

    def watch(self) -> None:
        """Watch the folder that is at its path now; `cause` says if that is not possible.

        Raises OSError if there is no folder.
        """
        self.close()
        found = self._folder.stat()
        self.identity = found.st_dev, found.st_ino
        self.cause = None
        observer = _Observer()
        try:
            observer.schedule(self._handler, str(self._folder), recursive=True, event_filter=_KINDS)
            observer.start()
        except OSError as error:
            self.cause = str(error)
            observer.stop()
            return
        self._observer = observer
        if not file_system.is_local_folder(self._folder):
            self.cause = "it is a share: what other machines write there sends no events"

    def covers(self, folder: str) -> bool | None:
        """Return whether a subfolder is watched; None if it is too early to say.

        A folder that was just made gets its watch a moment later. If it still has none when it is
        asked for again, this tries to add one.
        """
        if self._observer is None:
            return False
        path, emitters = os.fsencode(folder), self._observer.arrivals
        if all(emitter.watches(path) for emitter in emitters):
            self._unwatched.discard(folder)
            return True
        if folder not in self._unwatched:
            self._unwatched.add(folder)
            return None
        return all(emitter.watch_too(path) for emitter in emitters)

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None
        self.identity = None


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

    def watches(self, folder: bytes) -> bool:
        """Return whether a folder has a watch; beyond the kernel's limit, watchdog adds none."""
        group = self._inotify
        if group is None:
            return False
        with group._lock:
            return folder in group._active_callbacks_by_path

    def watch_too(self, folder: bytes) -> bool:
        """Add a watch for a subfolder; return whether it has one."""
        group = self._inotify
        if group is not None:
            with group._lock:
                if folder not in group._active_callbacks_by_path:
                    group._add_callback(folder)
        return self.watches(folder)


class _Watches(InotifyFD):
    """Adds a watch that exists already without a warning.

    A new folder gets a watch from its event and from the scan of its parent, in either order.
    watchdog warns of the second one. Where warnings are errors, as in the tests, the warning would
    end the thread that reads events.
    """

    def _add_callback(
        self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId
    ) -> WatchDescriptor:
        watch = self._get_or_create_watch(path, mask)
        watch.callbacks[id_] = callback
        return watch.wd


class _Observer(InotifyObserver):
    """Uses the two classes above; `_ArrivalEmitter` also reports moves from unwatched folders."""

    def __init__(self) -> None:
        self._inotify_fd = _Watches()
        self._inotify_fd.start()
        BaseObserver.__init__(self, _ArrivalEmitter, inotify_fd=self._inotify_fd)

    @property
    def arrivals(self) -> list[_ArrivalEmitter]:
        """The emitters, one for each watched folder."""
        return [emitter for emitter in self.emitters if isinstance(emitter, _ArrivalEmitter)]


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
