"""Claims files: moves them from the intake into the spool, `state/spool/<arrival's file>`.

A page is claimed only once it can be read and has the end that its format gives it
(publisher/intake/ending). Batches of results are claimed in the same way, with their own answer to
whether they look complete (`Doubt`). What happens then depends on the writers
(publisher/intake/lease):

    none               the file is renamed into the spool. If it is on another file system, or may
                       not be moved, it is copied and then removed if that is allowed.
    some, or unknown   the file is copied and stays in the intake, because its writer would write
                       the rest to a file without a name. publisher/intake/held removes it later.
    any, and `keep`    the same, so that a standby that takes over can claim the file once more.

A copy is durable before its source is removed. A crash between the two leaves the copy and an
unchanged source, which is then held like any other. A file that is too large to be read is not
copied: the spool gets a link to its place in the intake, where it stays.

An error of one file, such as EBUSY of a share, is Postponed: it says nothing about other files. An
error of the spool's own disk is raised as it is.
"""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from config.settings import IntakeSettings
from keys.files import sync
from publisher.intake import ending
from publisher.intake.lease import StillWritten, Writers, blocking_writers, without_writers
from publisher.page import MAX_FILE_BYTES, Arrival, Stamp
from publisher.source import GONE, Source, parent, status
from publisher.store.copy import copy

_NOT_MOVABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.EXDEV, errno.EMLINK}
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PIECE = 1 << 20
_UNFINISHED_FACTOR = 15  # a file without its end waits this many times the settling time
_MAX_BUSY_SECONDS = 30.0
P = ParamSpec("P")
R = TypeVar("R")


class SourceChanged(Exception):
    """The file was removed or changed before it could be claimed; a later scan finds it again."""


class SourceGone(SourceChanged):
    """The file was removed."""


class Postponed(SourceChanged):
    """The file cannot be claimed now. Its text is the cause.

    Try again in `seconds`. `trouble` means that an operator may have to fix something; otherwise we
    wait for a writer.
    """

    def __init__(
        self, cause: str, seconds: float = 0.0, *, trouble: bool = False, advice: str = ""
    ) -> None:
        super().__init__(cause)
        self.seconds = seconds
        self.trouble = trouble
        self.advice = advice


class Claim(Enum):
    """What became of the source of a claimed arrival."""

    MOVED = auto()  # it is not in the intake any more
    HELD = auto()  # it stays until it can be removed safely
    NOT_REMOVABLE = auto()  # it stays, because it may not be removed


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a file must not change, in seconds: `settle` at least, `quiet` if in doubt.

    With `keep` it stays in the intake for a while after it was claimed.
    """

    settle: float
    quiet: float
    keep: bool = False

    @classmethod
    def of(cls, settings: IntakeSettings) -> "Patience":
        """Return the waiting times that the settings state."""
        keep = settings.keep_seconds > 0
        return cls(settings.settle_seconds, settings.quiet_seconds, keep)


class Doubt(NamedTuple):
    """Why a file may be unfinished.

    A `strong` doubt makes it wait even if no process has it open for writing: its writer may close
    it and open it again.
    """

    cause: str
    strong: bool


DoubtOf = Callable[[int, int], Doubt | None]  # of an open file and its size


def doubt_of_page(descriptor: int, size: int) -> Doubt | None:
    """Return why a page may be unfinished, None if it has its end."""
    kind = ending.known_format(descriptor) if size else None
    if kind is None:
        return Doubt("not an image yet" if size else "empty", strong=False)
    if ending.has_end(descriptor, kind):
        return None
    return Doubt(f"a {kind} without its end", strong=True)


def check(
    source: Source,
    stamp: Stamp,
    unchanged: float,
    patience: Patience,
    doubt_of: DoubtOf = doubt_of_page,
    most: int = MAX_FILE_BYTES,
) -> None:
    """Raise Postponed unless a file can be claimed that has not changed for `unchanged` seconds.

    A file of more than `most` bytes is not looked into. Raises SourceChanged if it is not there
    with that stamp.
    """
    with _errors_of_source(), parent(source) as (folder, name):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if Stamp.of(found) != stamp:
            raise SourceChanged(source.path)
        if not stat.S_ISREG(found.st_mode) or stamp.size > most:
            return
        descriptor = _open(name, folder, found)
        try:
            with blocking_writers(descriptor) as writers:
                doubt = doubt_of(descriptor, stamp.size)
                cause, needed = _reason_to_wait(doubt, writers, patience)
        finally:
            os.close(descriptor)
    if unchanged < needed:
        wait = needed - unchanged
        if writers is Writers.SOME:  # its writer may close it at any moment
            wait = min(wait, max(unchanged, patience.settle), _MAX_BUSY_SECONDS)
        raise Postponed(cause, wait)


def _open(name: str, folder: int, found: os.stat_result) -> int:
    try:
        return os.open(name, _OPEN, dir_fd=folder)
    except PermissionError as error:
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid}"
        advice = (
            "let its scanner write with umask 027 and the group of the intake folder (chmod g+s), "
            "or with umask 022; for this file: chmod g+r, or a+r"
        )
        cause = f"{error.strerror}: the publisher may not read it ({mode})"
        raise Postponed(cause, trouble=True, advice=advice) from None


def _reason_to_wait(doubt: Doubt | None, writers: Writers, patience: Patience) -> tuple[str, float]:
    """Return why a file may be unfinished, and how many seconds without change are enough."""
    if writers is Writers.SOME:
        return "a process has it open for writing", patience.quiet
    if doubt is None or (writers is Writers.NONE and not doubt.strong):
        return "", 0.0
    short = min(patience.quiet, patience.settle * _UNFINISHED_FACTOR)
    return doubt.cause, short if writers is Writers.NONE else patience.quiet


def claim(
    arrival: Arrival,
    spool: Path,
    *,
    hold: bool = False,
    keep: bool = False,
    most: int = MAX_FILE_BYTES,
) -> Claim:
    """Move or copy the arrival's source into the spool.

    With `hold`, a source that could still be written to stays in the intake, and one of more than
    `most` bytes is linked to. With `keep` as well, every source stays. Raises
    SourceChanged or Postponed, and OSError if the disk fails.
    """
    target = spool / arrival.file
    with _errors_of_source(), parent(arrival.source) as (folder, name):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if Stamp.of(found) != arrival.stamp or stat.S_ISDIR(found.st_mode):
            raise SourceChanged(arrival.name)
        if not stat.S_ISREG(found.st_mode):
            if _renamed(name, folder, target):
                return Claim.MOVED
            copy(name, target, folder)
            return finish_claim(arrival)
        if hold and found.st_size > most:
            if _renamed(name, folder, target):
                return Claim.MOVED
            _spool_disk(target.symlink_to, linked_place(arrival))
            return Claim.HELD
        if not hold and _renamed(name, folder, target):
            return Claim.MOVED
        descriptor = _open(name, folder, found)
        try:
            if hold:
                return _claim_page(arrival, folder, name, descriptor, target, keep)
            # What a writer adds to the source during the copying would be missing in the copy.
            with without_writers(descriptor):
                _copy_unchanged(arrival, descriptor, target)
                return finish_claim(arrival)
        except StillWritten:
            raise SourceChanged(arrival.name) from None
        finally:
            os.close(descriptor)


def _claim_page(
    arrival: Arrival, folder: int, name: str, descriptor: int, target: Path, keep: bool
) -> Claim:
    with blocking_writers(descriptor) as writers:
        final = writers is Writers.NONE and not keep
        if final and _renamed(name, folder, target):
            return Claim.MOVED
        _copy_unchanged(arrival, descriptor, target)
        return finish_claim(arrival) if final else Claim.HELD


def _renamed(name: str, folder: int, target: Path) -> bool:
    """Rename a source into the spool; return False if it may not be moved there."""
    try:
        os.rename(name, target, src_dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _SpoolFailed(error) from error
        if error.errno not in _NOT_MOVABLE:
            raise
        return False
    return True


def _copy_unchanged(arrival: Arrival, descriptor: int, target: Path) -> None:
    fresh = target.with_name(f".{target.name}.new")
    writing = _spool_disk(
        os.open, fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    try:
        left = arrival.stamp.size
        while left > 0 and (piece := os.read(descriptor, min(left, _PIECE))):
            left -= len(piece)
            while piece:
                piece = piece[_spool_disk(os.write, writing, piece) :]
        _spool_disk(os.fsync, writing)
        if Stamp.of(os.fstat(descriptor)) != arrival.stamp:
            raise SourceChanged(arrival.name)
        _spool_disk(os.rename, fresh, target)
        _spool_disk(sync, target.parent)
    finally:
        os.close(writing)
        fresh.unlink(missing_ok=True)


def finish_claim(arrival: Arrival) -> Claim:
    """Remove the source of a copied arrival, unless it changed after the copy was made."""
    try:
        with parent(arrival.source) as (folder, name):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if Stamp.of(found) == arrival.stamp:
                os.unlink(name, dir_fd=folder)
    except GONE:
        pass
    except OSError as error:
        return Claim.NOT_REMOVABLE if error.errno in _NOT_MOVABLE else Claim.HELD
    return Claim.MOVED


def check_unchanged(source: Source, stamp: Stamp) -> None:
    """Raise SourceGone or SourceChanged if a file was removed or changed; OSError may happen."""
    try:
        found = status(source)
    except GONE:
        raise SourceGone(source.path) from None
    if Stamp.of(found) != stamp:
        raise SourceChanged(source.path)


def remove(source: Source, stamp: Stamp) -> None:
    """Remove a file from the intake whose copy was filed.

    Raises SourceGone or SourceChanged if it was removed or changed, StillWritten if a process has
    it open for writing, and OSError if it may not be removed.
    """
    check_unchanged(source, stamp)
    with parent(source) as (folder, name):
        try:
            descriptor = os.open(name, _OPEN, dir_fd=folder)
        except PermissionError:
            os.unlink(name, dir_fd=folder)
            return
        try:
            with blocking_writers(descriptor) as writers:
                if writers is Writers.SOME:
                    raise StillWritten
                if Stamp.of(os.fstat(descriptor)) != stamp:
                    raise SourceChanged(source.path)
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(descriptor)


def is_source_unchanged(arrival: Arrival) -> bool:
    """Return True if the source is still in the intake and has not changed."""
    try:
        return Stamp.of(status(arrival.source)) == arrival.stamp
    except OSError:
        return False


def linked_place(arrival: Arrival) -> str:
    """Return the target of the link that the spool has in place of a file that is too large."""
    return f"{arrival.source.folder}{os.sep}{arrival.source.path}"


def sweep(spool: Path) -> None:
    """Remove unfinished copies that a crash left in the spool; their sources are complete."""
    for path in spool.glob(".*"):
        path.unlink()


class _SpoolFailed(Exception):
    """The spool's own disk failed, with `error`."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _spool_disk(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return call(*args, **kwargs)
    except OSError as error:
        raise _SpoolFailed(error) from error


class _errors_of_source:  # noqa: N801 - used like a function
    """Translate errors inside a `with`: the source's own become SourceChanged or Postponed."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _SpoolFailed):
            raise error.error from None
        if isinstance(error, GONE):
            raise SourceChanged(str(error)) from None
        if isinstance(error, OSError):
            if error.errno in _NO_ROOM:
                return
            raise Postponed(error.strerror or str(error), trouble=True) from error
