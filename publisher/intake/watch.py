"""Watches the intake folders and returns the files that are complete and may be claimed.

The periodic full scan finds every file. inotify events only make it faster; a network share sends
none. A file that is renamed into place is complete at once. Any other file must keep its size and
mtime for `settle_seconds`, measured by our own monotonic clock, because its writer may close it
and open it again.

Names that scanners give to unfinished files (`x.tmp`, `x.part`, `x.partial`, `x.filepart`) wait for
their rename. Such a file that does not change for ten minutes is taken like any other: otherwise a
page could be lost without a message. Subfolders are scanned too; links are never followed, and
litter (config/litter) is left alone.

A folder that is missing, that may not be entered or whose share does not answer is reported
(publisher/intake/troubles) and tried again; the other folders are not affected.
"""

import errno
import heapq
import math
import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import structlog

from config.litter import Litter
from publisher.intake.folder_events import FolderEvents
from publisher.intake.spool import Postponed
from publisher.intake.troubles import Trouble, Troubles
from publisher.page import Stamp
from publisher.source import GONE, Source, status

TEMPORARY_NAME_SECONDS = 600.0  # how long a file with a temporary name must not change
_TEMPORARY = (".tmp", ".part", ".partial", ".filepart")
_SCAN_SLICE = 2000  # entries of a scan per call, so that filing continues during a long scan

_LOOK_SECONDS = 1.0  # how often to check that a path still leads to the folder that is watched
_MODE_ADVICE = "let the publisher list and enter that folder: chmod 755, or the group of scanners"
_MOUNT_ADVICE = "create the folder, or mount the share"
_NO_STAMP = Stamp(0, 0, 0)

log = structlog.get_logger()


class Candidate(NamedTuple):
    """A file that may be claimed if its stamp is still `stamp`.

    `unchanged` is for how many seconds we have seen it with that stamp.
    """

    folder: Path
    path: str
    stamp: Stamp
    unchanged: float = math.inf


@dataclass(slots=True)
class _Waiting:
    stamp: Stamp
    due: float
    since: float


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
        seconds = self._temporary_seconds if is_temporary(path) else self._settle
        self.wait(path, stamp, now, seconds, now)
        return False

    def wait(self, path: str, stamp: Stamp, now: float, seconds: float, since: float) -> None:
        """Check a file again in `seconds`; it has had this stamp since `since`."""
        due = now + seconds
        self._waiting[path] = _Waiting(stamp, due, since)
        heapq.heappush(self._queue, (due, path))

    def unchanged(self, path: str, stamp: Stamp, now: float) -> float:
        """Return for how many seconds a waiting file has had that stamp."""
        known = self._waiting.get(path)
        return now - known.since if known is not None and known.stamp == stamp else 0.0

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


_Seen = tuple[Path, str, os.stat_result | OSError]


class Intake:
    """The watched folders; must be closed.

    `wake` is called from another thread when an inotify event arrives. `left_behind` says whether a
    file was claimed before and still has that stamp.
    """

    def __init__(
        self,
        folders: tuple[Path, ...],
        settle: float,
        rescan: float,
        now: float,
        wake: Callable[[], None],
        *,
        litter: Litter | None = None,
        mounts: bool = False,
        left_behind: Callable[[Source, Stamp], bool] = lambda source, stamp: False,
    ) -> None:
        """Start watching the folders that exist.

        Times are in seconds; `now` is the monotonic clock. With `mounts` a folder must be a mount
        point. Without `litter` every name may be that of a scan.
        """
        self._folders = tuple(folder.resolve() for folder in folders)
        self._settling = Settling(settle)
        self._rescan = rescan
        self._litter = litter or Litter((), ())
        self._mounts = mounts
        self._left_behind = left_behind
        self._next_scan = now
        self._scan: Iterator[_Seen] = iter(())
        self._scanning = False
        self._scan_again = False  # soon, for folders that had no watch yet
        self._events: deque[tuple[str, bool]] = deque()
        self._troubles = Troubles(settle, rescan)
        self._refused_folders: set[str] = set()
        self._unwatched: dict[Path, int] = {}  # subfolders beyond the kernel's limit
        self._watches = {
            folder: FolderEvents(folder, self._events, wake) for folder in self._folders
        }
        self._reported: dict[Path, str] = {}
        self._next_look = now + _LOOK_SECONDS
        for folder in self._folders:
            self._look_after(folder)

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """The files and folders that cannot be read now."""
        return self._troubles.all()

    @property
    def scanning(self) -> bool:
        """Whether a scan has begun that has not seen every file yet."""
        return self._scanning

    @property
    def by_rescan_only(self) -> tuple[tuple[str, str], ...]:
        """The folders without inotify events, where only the scan finds files; with the cause."""
        causes = ((folder, self._cause_of_no_events(folder)) for folder in self._folders)
        return tuple((str(folder), cause) for folder, cause in causes if cause)

    def ready(self, now: float, limit: int) -> list[Candidate]:
        """Return files to claim, about `limit` at most; those that waited come first."""
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            for folder in self._folders:
                if self._look_after(folder):
                    self._next_scan = now
        self._continue_scan(now)
        found: list[Candidate] = []
        for path in self._settling.due(now, limit):
            self._check(path, now, self._settling.seen, found)
        while self._events and len(found) < limit:
            path, renamed = self._events.popleft()
            report = self._settling.renamed if renamed else self._settling.seen
            self._check(path, now, report, found)
        return found

    def postpone(self, candidate: Candidate, reason: Postponed, now: float) -> None:
        """Offer a candidate again later, since it could not be claimed for that reason."""
        delay = reason.seconds
        if reason.trouble:
            delay = self._troubles.note_file(candidate.path, str(reason), reason.advice)
        else:
            self._troubles.over(candidate.path)
        since = now - candidate.unchanged
        self._settling.wait(candidate.path, candidate.stamp, now, delay, since)

    def claimed(self, source: Source) -> None:
        """Note that a candidate was claimed."""
        self._troubles.over(f"{source.folder}{os.sep}{source.path}")

    def next_check(self, now: float) -> float:
        """Return when `ready` should be called again, unless `wake` is called earlier."""
        if self._events or self._scanning:
            return now
        due = self._settling.next_due()
        next_look = min(self._next_scan, self._next_look)
        return next_look if due is None else min(due, next_look)

    def close(self) -> None:
        """Stop watching."""
        for watch in self._watches.values():
            watch.close()

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
        source = Source(str(folder), path.removeprefix(f"{folder}{os.sep}"))
        if self._litter.covers(source.path):
            return
        try:
            current = status(source)
        except GONE:
            self._forget(path)
            return
        except PermissionError as error:  # its folder may not be entered; a scan tries it again
            self._forget(path)
            inside = path.rpartition(os.sep)[0]
            self._refused_folders.add(inside)
            self._folder_refused(inside, error.strerror or str(error), _MODE_ADVICE)
            return
        except OSError as error:
            self._entry_refused(path, error, now)
            return
        stamp = Stamp.of(current)
        if stat.S_ISDIR(current.st_mode) or self._left_behind(source, stamp):
            self._forget(path)
            return
        unchanged = self._settling.unchanged(path, stamp, now)
        if report(path, stamp, now):
            found.append(Candidate(folder, path, stamp, unchanged))

    def _forget(self, path: str) -> None:
        self._settling.removed(path)
        self._troubles.over(path)

    def _entry_refused(self, path: str, error: OSError, now: float) -> None:
        delay = self._troubles.note_file(path, error.strerror or str(error))
        self._settling.wait(path, _NO_STAMP, now, delay, now)

    def _folder_of(self, path: str) -> Path | None:
        return next((f for f in self._folders if path.startswith(f"{f}{os.sep}")), None)

    def _continue_scan(self, now: float) -> None:
        if now >= self._next_scan and not self._scanning:
            self._scan = self._files()
            self._next_scan = now + self._rescan
        part = list(islice(self._scan, _SCAN_SLICE))
        for folder, path, found in part:
            if path in self._settling:
                continue
            if isinstance(found, OSError):
                self._entry_refused(path, found, now)
                continue
            stamp = Stamp.of(found)
            if not self._left_behind(Source(str(folder), path[len(str(folder)) + 1 :]), stamp):
                self._settling.seen(path, stamp, now)
        self._scanning = len(part) == _SCAN_SLICE
        if self._scan_again and not self._scanning:
            self._scan_again = False
            self._next_scan = min(self._next_scan, now + _LOOK_SECONDS)

    def _files(self) -> Iterator[_Seen]:
        """Yield every file in the folders, with its stat result or the error that stat gave."""
        refused: set[str] = set()
        for root in self._folders:
            watch, covered = self._watches[root], Counter[bool | None]()
            waiting = deque([str(root)] if watch.identity is not None else [])
            while waiting:
                folder = waiting.popleft()
                covered[watch.covers(folder)] += 1
                try:
                    yield from self._entries(root, folder, waiting)
                except GONE:
                    continue
                except OSError as error:
                    refused.add(folder)
                    self._folder_refused(folder, error.strerror or str(error), _MODE_ADVICE)
            self._unwatched[root] = covered[False]
            self._scan_again |= covered[None] > 0
            self._report_missing_events(root)
        for folder in self._refused_folders - refused:
            self._troubles.over(folder)
        self._refused_folders = refused

    def _entries(self, root: Path, folder: str, subfolders: deque[str]) -> Iterator[_Seen]:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if not self._litter.covers_folder(entry.name):
                            subfolders.append(entry.path)
                        continue
                    if self._litter.covers_file(entry.name):
                        continue
                    found: os.stat_result | OSError = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    raise  # the folder may be listed but not entered: none of its files can be read
                except OSError as error:
                    found = error
                yield root, entry.path, found

    def _folder_refused(self, folder: str, cause: str, advice: str) -> None:
        self._troubles.note_folder(folder, cause, advice)

    def _look_after(self, folder: Path) -> bool:
        """Watch the folder that is at its path now; return True if that is a new one."""
        watch = self._watches[folder]
        before = watch.identity
        try:
            found = folder.stat()
            if self._mounts and not folder.is_mount():
                raise OSError(errno.ENOTCONN, "is not a mount point, but [intake] mounts = true")
            if (found.st_dev, found.st_ino) == before:
                return False
            watch.watch()
        except OSError as error:
            watch.close()
            self._folder_refused(str(folder), error.strerror or str(error), _MOUNT_ADVICE)
            return False
        self._troubles.over(str(folder))
        if before is not None:
            log.warning("intake-folder-replaced", folder=str(folder), cause="made again or mounted")
        self._report_missing_events(folder)
        return True

    def _cause_of_no_events(self, folder: Path) -> str | None:
        if self._watches[folder].identity is None:
            return None  # the folder is missing, which is a trouble of its own
        if cause := self._watches[folder].cause:
            return cause
        if missing := self._unwatched.get(folder):
            return f"{missing} folders are beyond the limit fs.inotify.max_user_watches"
        return None

    def _report_missing_events(self, folder: Path) -> None:
        cause = self._cause_of_no_events(folder)
        kind = "" if cause is None else cause.lstrip("0123456789")
        if kind and kind != self._reported.get(folder):
            fields = {"folder": str(folder), "cause": cause, "rescan_seconds": self._rescan}
            log.warning("intake-not-watched", **fields)
        self._reported[folder] = kind
