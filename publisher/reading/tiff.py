"""Checks the chain of directories of a TIFF file (TIFF 6.0, sections 2 and 8).

    header      II or MM, 42, offset of the first directory
    directory   number of entries, entries of 12 bytes each, offset of the next directory or 0
    entry       tag, type, number of values, then the value or the offset of the values

Pillow reads a chain that is cut off or loops as a shorter one, so pages would be missing without
an error. This check requires that each directory, and the strips or tiles it names, lies within
the file, and that no directory occurs twice. It decodes no pixels.
"""

from collections.abc import Iterator
from struct import Struct

_DIMENSIONS = (256, 257)  # width and height
_BLOCKS = ((273, 279), (324, 325))  # offsets and lengths of strips; of tiles
_SIZES = {3: "H", 4: "I"}  # SHORT and LONG: the types these tags may have
_MAX_BLOCKS = 100_000


class BrokenTiff(ValueError):
    """The chain is cut off, loops, or points outside the file."""


class TooManyPages(Exception):
    """The file has more directories than the limit."""


def page_sizes(data: bytes, limit: int) -> list[tuple[int, int]]:
    """Return width and height of each page; raise BrokenTiff, or TooManyPages above `limit`."""
    order = "<" if data[:2] == b"II" else ">"
    word, long = Struct(order + "H"), Struct(order + "I")
    found: list[tuple[int, int]] = []
    seen: set[int] = set()
    offset = _read(long, data, 4)
    while offset:
        if offset in seen:
            raise BrokenTiff(f"the directory at {offset} occurs twice")
        if len(found) == limit:
            raise TooManyPages
        seen.add(offset)
        count = _read(word, data, offset)
        tags = dict(_entries(data, offset + 2, count, order))
        found.append(_page(tags, len(data)))
        offset = _read(long, data, offset + 2 + 12 * count)
    if not found:
        raise BrokenTiff("the file has no directory")
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
            raise BrokenTiff(f"tag {tag} has {length} values")
        values = Struct(f"{order}{length}{_SIZES[kind]}")
        where = entry + 8 if values.size <= 4 else _read(long, data, entry + 8)
        yield tag, list(values.unpack(_piece(data, where, values.size)))


def _page(tags: dict[int, list[int]], size: int) -> tuple[int, int]:
    for offsets, lengths in _BLOCKS:
        for start, length in zip(tags.get(offsets, []), tags.get(lengths, []), strict=False):
            if start + length > size:
                raise BrokenTiff(f"{length} bytes of a page at {start} exceed the file")
    width, height = ((tags.get(tag) or [0])[0] for tag in _DIMENSIONS)
    if not width or not height:
        raise BrokenTiff("a page has no size")
    return width, height


def _read(what: Struct, data: bytes, at: int) -> int:
    (value,) = what.unpack(_piece(data, at, what.size))
    return int(value)


def _piece(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) < size:
        raise BrokenTiff(f"the file ends before {at + size}")
    return piece
