"""Pictures of signed sheets: the original where a browser can show it, else one made of it.

A JPEG or PNG is sent as it is. A page of a TIFF or PDF is rendered in a process of its own
(portal/pictures/worker) and kept in memory, up to CACHE_BYTES for all of them.

A page in quarantine may be anything. Its original is sent only if its size is known and no larger
than a browser can show; any other is rendered, also if it is cut off.
"""

import hashlib
import os
import select
import stat
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import structlog
from fastapi import Request

from config.site import original_file
from keys.kernel import memory_file
from portal import programs
from publisher.page import format_of

CACHE_BYTES = 16 << 20
MAX_BYTES = 64 << 20  # of an original
MAX_SHOWN_PIXELS = 40_000_000  # of an original from quarantine
_AT_A_TIME = 2
_TIMEOUT = 30.0  # seconds for one picture
_SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png"}
MEDIA_TYPES = {**_SHOWN, "TIFF": "image/tiff", "PDF": "application/pdf"}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, and whether it is the original itself."""

    content: bytes
    media_type: str
    original: bool


class OriginalChanged(Exception):
    """The file in the store does not have the bytes that were filed."""


class Pictures:
    """Makes pictures and keeps the last ones; any thread may call it."""

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._rendering = threading.Semaphore(_AT_A_TIME)

    def original(self, site: Path, sha256: str) -> Picture | None:
        """Return the original with that digest, None if the store does not have it.

        Raises OriginalChanged if the bytes there have another digest.
        """
        try:
            content = (site / original_file(sha256)).read_bytes()
        except OSError as error:
            _log.error("original-unreadable", sha256=sha256, cause=str(error))
            return None
        if (actual := hashlib.sha256(content).hexdigest()) != sha256:
            _log.error("original-changed", sha256=sha256, actual=actual)
            raise OriginalChanged(sha256)
        kind = format_of(content) or ""
        return Picture(content, MEDIA_TYPES.get(kind, "application/octet-stream"), original=True)

    def picture(self, site: Path, sha256: str, frame: int) -> Picture | None:
        """Return a picture of one page of an original, `frame` counts from 1; None if none."""
        key = (sha256, frame)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        found = self.original(site, sha256)
        if found is None or found.media_type in _SHOWN.values():
            return found
        made = self._render(found.content, frame)
        return None if made is None else self._keep(key, made)

    def of_held(
        self, path: Path, sha256: str | None, frame: int, size: tuple[int, int] | None
    ) -> Picture | None:
        """Return a picture of one page of a file in quarantine, None if there is none.

        `size` is that of the page in pixels, None if it is not known. Raises OriginalChanged.
        """
        content = _held_bytes(path)
        if content is None or sha256 is None:
            return None
        if (actual := hashlib.sha256(content).hexdigest()) != sha256:
            _log.error("original-changed", sha256=sha256, actual=actual)
            raise OriginalChanged(sha256)
        media_type = MEDIA_TYPES.get(format_of(content) or "", "")
        if media_type in _SHOWN.values() and size and size[0] * size[1] <= MAX_SHOWN_PIXELS:
            return Picture(content, media_type, original=True)
        key = (sha256, frame)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        made = self._render(content, frame, "--lenient")
        return None if made is None else self._keep(key, made)

    def _keep(self, key: tuple[str, int], made: bytes) -> Picture:
        rendered = Picture(made, "image/jpeg", original=False)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = rendered
                self._size += len(made)
            while self._size > self._cache_bytes and len(self._kept) > 1:
                _, dropped = self._kept.popitem(last=False)
                self._size -= len(dropped.content)
        return rendered

    def _render(self, content: bytes, frame: int, *options: str) -> bytes | None:
        if len(content) > MAX_BYTES:
            return None
        with self._rendering:
            try:
                code, made = _run_worker(content, str(frame - 1), *options)
            except TimeoutError:
                _log.warning("picture-failed", cause=f"it took more than {_TIMEOUT:.0f} s")
                return None
        if code or not made:
            _log.warning("picture-failed", cause=f"it ended with {code}")
            return None
        return made


def _run_worker(content: bytes, *words: str) -> tuple[int, bytes]:
    """Run the worker, and return its exit status and the picture; TimeoutError if it takes long."""
    deadline = time.monotonic() + _TIMEOUT
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reading, "rb", 0) as output, memory_file.of(content) as original:
        try:
            process = programs.start(programs.PICTURE, words, original, writing)
        finally:
            os.close(writing)
        try:
            parts: list[bytes] = []
            readable = select.poll()
            readable.register(output, select.POLLIN)
            while readable.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
                if not (part := output.read(1 << 20)):
                    return process.wait(deadline - time.monotonic()), b"".join(parts)
                parts.append(part)
            raise TimeoutError
        finally:
            process.kill()


def _held_bytes(path: Path) -> bytes | None:
    """Return the bytes of a plain file; a link, a pipe or one that is too large has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        return file.read(MAX_BYTES)


def pictures_of(request: Request) -> Pictures:
    """Return what makes the pictures of sheets."""
    found: Pictures = request.app.state.pictures
    return found
