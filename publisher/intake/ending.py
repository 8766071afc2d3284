"""Checks whether a file has the end that its format requires, without reading all of it.

    JPEG   an EOI marker after the last start of scan (ITU-T T.81, B.1.1.3)
    PNG    the IEND chunk (PNG specification, 11.2.5)
    TIFF   a chain of directories that ends, and whose strips and tiles lie within the file
           (TIFF 6.0, section 2; BigTIFF)
    PDF    %%EOF behind startxref; padding of up to 1 MB may follow

A file without its end is probably still being written. A file with its end may still grow: a TIFF
or PDF to which a page is added is complete before and after.
"""

import os
import re
from collections.abc import Iterator
from struct import Struct, error

from publisher.page import format_of

_PIECE = 1 << 16
_MARGIN = 1 << 20  # bytes of PJL before a PDF, or of padding after it
_JPEG_MARK = re.compile(b"\xff[\xd9\xda]")
_PNG_END = b"IEND\xaeB`\x82"
_PDF_END = re.compile(rb"startxref\s+\d+\s+%%EOF")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0")
_PRINTER = (b"\x1b%-12345X", b"@PJL")
_BLOCKS = ((273, 279), (324, 325))  # offsets and lengths of strips; of tiles
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_DIRECTORIES, _MAX_VALUES = 4096, 100_000


def known_format(descriptor: int) -> str | None:
    """Return the format that the first bytes of an open file show, None if it is not known."""
    head = os.pread(descriptor, 1024, 0)
    if head.startswith(_TIFF):
        return "TIFF"
    if found := format_of(head):
        return found
    if head.startswith(_PRINTER) or not head.strip(b"\0 \t\r\n\f"):
        return format_of(os.pread(descriptor, _MARGIN, 0)) if head else None
    return None


def has_end(descriptor: int, kind: str) -> bool:
    """Return True if an open file of that format has its end."""
    size = os.fstat(descriptor).st_size
    match kind:
        case "JPEG":
            return any(mark == b"\xff\xd9" for mark in _last_jpeg_mark(descriptor, size))
        case "PNG":
            return _PNG_END in os.pread(descriptor, _MARGIN, max(0, size - _MARGIN))
        case "PDF":
            tail = os.pread(descriptor, _PIECE, max(0, size - _PIECE))
            if not _PDF_END.search(tail):
                tail = os.pread(descriptor, _MARGIN + _PIECE, max(0, size - _MARGIN - _PIECE))
            return _PDF_END.search(tail) is not None
        case "TIFF":
            try:
                return _tiff_is_whole(descriptor, size)
            except (error, EOFError):
                return False
    return True


def _last_jpeg_mark(descriptor: int, size: int) -> Iterator[bytes]:
    """Yield the last start of scan or end of image, if there is any, searching backwards."""
    end = size
    while end > 0:
        start = max(0, end - _PIECE)
        # One byte more, because a marker of two bytes may cross the end of this piece.
        piece = os.pread(descriptor, end - start + 1, start)
        if found := _JPEG_MARK.findall(piece):
            yield found[-1]
            return
        end = start


def _tiff_is_whole(descriptor: int, size: int) -> bool:
    head = os.pread(descriptor, 16, 0)
    order = "<" if head.startswith(b"II") else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number = Struct(order + ("Q" if big else "H"))
    offset = Struct(order + ("Q" if big else "I"))
    entry = Struct(order + ("HHQ8s" if big else "HHI4s"))
    seen: set[int] = set()
    (at,) = _unpack(descriptor, offset, 8 if big else 4)
    while at:
        if at in seen or len(seen) == _MAX_DIRECTORIES:
            return True  # a loop does not mean that the file is being written; reading refuses it
        seen.add(at)
        (count,) = _unpack(descriptor, number, at)
        if at + number.size + count * entry.size + offset.size > size:
            return False
        table = _read(descriptor, count * entry.size, at + number.size)
        tags = {
            tag: _values(descriptor, order, kind, length, value, offset)
            for tag, kind, length, value in entry.iter_unpack(table)
            if any(tag in pair for pair in _BLOCKS)
        }
        for starts, lengths in _BLOCKS:
            both = zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)
            if any(start + length > size for start, length in both):
                return False
        (at,) = _unpack(descriptor, offset, at + number.size + count * entry.size)
    return bool(seen)


def _values(
    descriptor: int, order: str, kind: int, length: int, value: bytes, offset: Struct
) -> tuple[int, ...]:
    if kind not in _TYPES or length > _MAX_VALUES:
        return ()
    values = Struct(f"{order}{length}{_TYPES[kind]}")
    if values.size <= len(value):
        return values.unpack_from(value)
    (at,) = offset.unpack(value)
    return _unpack(descriptor, values, at)


def _unpack(descriptor: int, what: Struct, at: int) -> tuple[int, ...]:
    return what.unpack(_read(descriptor, what.size, at))


def _read(descriptor: int, size: int, at: int) -> bytes:
    found = os.pread(descriptor, size, at) if at < 1 << 62 else b""
    if len(found) < size:
        raise EOFError
    return found
