"""Checks a TIFF's chain of directories, which decoders follow on trust (TIFF 6.0, sections 2, 8).

    header      II or MM, 42, offset of the first directory
    directory   count, so many entries of 12 bytes, offset of the next directory or 0
    entry       tag, type, count, value or the offset of the values

A chain that is cut off, or leads back into itself, is read by Pillow as if it were a shorter
one, so that pages would be missing in silence. Here each directory must lie in the file, and so
must the strips or tiles that it names, and none may come twice. No pixel is decoded.
"""

from collections.abc import Iterator
from struct import Struct

_DIMENSIONS = (256, 257)  # width and height
_BLOCKS = ((273, 279), (324, 325))  # offsets and lengths of strips, of tiles
_SIZES = {3: "H", 4: "I"}  # SHORT and LONG, the types that these may have
_MAX_BLOCKS = 100_000


class BrokenTiff(ValueError):
    """The chain is cut off, loops, or leads out of the file."""


class TooManyPages(Exception):
    """There are more directories than anybody scans pages."""


def page_sizes(data: bytes, most: int) -> list[tuple[int, int]]:
    """Return width and height of each page; raise BrokenTiff, or TooManyPages beyond `most`."""
    order = "<" if data[:2] == b"II" else ">"
    word, long = Struct(order + "H"), Struct(order + "I")
    found: list[tuple[int, int]] = []
    seen: set[int] = set()
    offset = _read(long, data, 4)
    while offset:
        if offset in seen:
            raise BrokenTiff(f"the directory at {offset} comes twice")
        if len(found) == most:
            raise TooManyPages
        seen.add(offset)
        count = _read(word, data, offset)
        tags = dict(_entries(data, offset + 2, count, order))
        found.append(_page(tags, len(data)))
        offset = _read(long, data, offset + 2 + 12 * count)
    if not found:
        raise BrokenTiff("no directory")
    return found


def _entries(data: bytes, at: int, count: int, order: str) -> Iterator[tuple[int, list[int]]]:
    wanted = {*_DIMENSIONS, *(tag for pair in _BLOCKS for tag in pair)}
    head, long = Struct(order + "HHI"), Struct(order + "I")
    for entry in range(at, at + 12 * count, 12):
        tag, kind, length = head.unpack(_piece(data, entry, 8))
        if tag not in wanted or kind not in _SIZES:
            _piece(data, entry, 12)
            continue
        if length > _MAX_BLOCKS:
            raise BrokenTiff(f"{length} values of tag {tag}")
        values = Struct(f"{order}{length}{_SIZES[kind]}")
        where = entry + 8 if values.size <= 4 else _read(long, data, entry + 8)
        yield tag, list(values.unpack(_piece(data, where, values.size)))


def _page(tags: dict[int, list[int]], size: int) -> tuple[int, int]:
    for offsets, lengths in _BLOCKS:
        for start, length in zip(tags.get(offsets, []), tags.get(lengths, []), strict=False):
            if start + length > size:
                raise BrokenTiff(f"{length} bytes of a page at {start} are not all there")
    width, height = ((tags.get(tag) or [0])[0] for tag in _DIMENSIONS)
    if not width or not height:
        raise BrokenTiff("a page without a size")
    return width, height


def _read(what: Struct, data: bytes, at: int) -> int:
    (value,) = what.unpack(_piece(data, at, what.size))
    return int(value)


def _piece(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) < size:
        raise BrokenTiff(f"it ends before {at + size}")
    return piece
