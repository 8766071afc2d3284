"""Checks the chain of directories of a TIFF file, and copies one page out of it.

    header      II or MM, 42, offset of the first directory        (TIFF 6.0, section 2)
    directory   number of entries, entries of 12 bytes each, offset of the next directory or 0
    entry       tag, type, number of values, then the value or the offset of the values

BigTIFF has 43 in place of 42 and numbers of eight bytes in place of four. Pillow reads a chain that
is cut off or loops as a shorter one, so pages would be missing without an error. This check
requires that each directory, and the strips or tiles it names, lies within the file, and that no
directory occurs twice. It decodes no pixels. A directory of a smaller picture of another page
(NewSubfileType bit 0, or SubfileType 2) is not a page.

`extract` makes a file of one page: a header, the page's directory with its entries in the same
order, the values that do not fit into an entry, and its strips or tiles, byte for byte as they
were. The same page always gives the same bytes, whatever else is in the file. Entries that point to
another directory (EXIF, GPS, sub-directories) are left out.
"""

from dataclasses import dataclass
from struct import Struct
from struct import pack as struct_pack

_WIDTH, _HEIGHT = 256, 257
_COMPRESSION = 259
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO, _BLACK_IS_ZERO = 258, 262, 0, 1
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
_BLOCKS = ((273, 279), (324, 325))  # offsets and lengths of strips; of tiles
_OLD_JPEG = (513, 514)  # offset and length of a JPEG stream, in files of TIFF 6.0, section 22
_OLD_JPEG_TABLES = (519, 520, 521)  # offsets of tables whose lengths only a decoder knows
_DIRECTORIES = (330, 34665, 34853, 40965)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BIG_SIZES = _SIZES | {16: 8, 17: 8, 18: 8}
_NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of whole numbers
_MAX_VALUES = 100_000


class BrokenTiff(ValueError):
    """The chain is cut off, loops, or points outside the file."""


class TooManyPages(Exception):
    """The file has more directories than the limit."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How numbers are written in a file."""

    order: str
    big: bool

    @property
    def count(self) -> Struct:
        return Struct(self.order + ("Q" if self.big else "H"))

    @property
    def offset(self) -> Struct:
        return Struct(self.order + ("Q" if self.big else "I"))

    @property
    def head(self) -> Struct:
        return Struct(self.order + ("HHQ" if self.big else "HHI"))

    @property
    def entry_size(self) -> int:
        return 20 if self.big else 12


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    number: int
    where: int  # offset of its values in the file
    size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: its number in the chain, and the size of its picture in pixels."""

    number: int
    width: int
    height: int
    is_page: bool
    entries: tuple[_Entry, ...]
    is_deep_negative: bool = False  # 16 bits of grey, of which 0 is white
    compression: int = 1


def pages(data: bytes, limit: int) -> list[Directory]:
    """Return the pages of a file; raise BrokenTiff, or TooManyPages if there are above `limit`."""
    found = [page for page in directories(data, 2 * limit) if page.is_page]
    if not found:
        raise BrokenTiff("the file has no page")
    if len(found) > limit:
        raise TooManyPages
    return found


def directories(data: bytes, limit: int) -> list[Directory]:
    """Return every directory of the chain."""
    form = _form(data)
    found: list[Directory] = []
    seen: set[int] = set()
    offset = _read(form.offset, data, 8 if form.big else 4)
    while offset:
        if offset in seen:
            raise BrokenTiff(f"the directory at {offset} occurs twice")
        if len(found) == limit:
            raise TooManyPages
        seen.add(offset)
        count = _read(form.count, data, offset)
        first = offset + form.count.size
        entries = _entries(data, first, count, form)
        found.append(_directory(len(found), entries, data, form))
        offset = _read(form.offset, data, first + form.entry_size * count)
    if not found:
        raise BrokenTiff("the file has no directory")
    return found


def extract(data: bytes, page: Directory) -> bytes:
    """Return a file with one page of this one; raises BrokenTiff if it cannot be copied."""
    form = _form(data)
    kept = [entry for entry in page.entries if entry.tag not in _DIRECTORIES]
    if any(entry.tag in _OLD_JPEG_TABLES for entry in kept):
        raise BrokenTiff("a page with JPEG tables of TIFF 6.0 cannot be copied")
    mark = (43, 8, 0) if form.big else (42,)
    header = (b"II" if form.order == "<" else b"MM") + struct_pack(
        form.order + "H" * len(mark), *mark
    )
    first = len(header) + form.offset.size
    end = first + form.count.size + form.entry_size * len(kept) + form.offset.size
    rest = bytearray()

    def placed(content: bytes) -> int:
        rest.extend(b"\0" * (len(rest) + end & 1))
        rest.extend(content)
        return end + len(rest) - len(content)

    moved = {}
    for tags in (*_BLOCKS, _OLD_JPEG):
        by_tag = {entry.tag: entry for entry in kept if entry.tag in tags}
        if len(by_tag) == 2:
            blocks = zip(*(_numbers(data, by_tag[tag], form) for tag in tags), strict=True)
            offsets = [placed(_piece(data, start, length)) for start, length in blocks]
            kind = 16 if form.big else 4
            moved[tags[0]] = (
                kind,
                struct_pack(f"{form.order}{len(offsets)}{_NUMBERS[kind]}", *offsets),
            )
    if not moved:
        raise BrokenTiff("a page has no strips and no tiles")
    table = bytearray(form.count.pack(len(kept)))
    for entry in kept:
        kind, values = moved.get(entry.tag, (entry.kind, _piece(data, entry.where, entry.size)))
        table += form.head.pack(entry.tag, kind, entry.number)
        room = form.offset.size
        table += (
            values.ljust(room, b"\0") if len(values) <= room else form.offset.pack(placed(values))
        )
    table += form.offset.pack(0)
    return header + form.offset.pack(first) + bytes(table) + bytes(rest)


def as_positive(data: bytes, page: Directory) -> bytes:
    """Return the file with a page of 16 bits marked as a positive, whatever its pixels are.

    Pillow reads such a negative as a positive if it is little-endian, and else not at all.
    """
    form, changed = _form(data), bytearray(data)
    for entry in page.entries:
        if entry.tag == _PHOTOMETRIC and entry.kind in _NUMBERS:
            Struct(form.order + _NUMBERS[entry.kind]).pack_into(
                changed, entry.where, _BLACK_IS_ZERO
            )
    return bytes(changed)


def _form(data: bytes) -> _Form:
    order = "<" if data[:2] == b"II" else ">"
    return _Form(order, _read(Struct(order + "H"), data, 2) == 43)


def _entries(data: bytes, at: int, count: int, form: _Form) -> tuple[_Entry, ...]:
    sizes = _BIG_SIZES if form.big else _SIZES
    _piece(data, at, form.entry_size * count)
    found = []
    for entry in range(at, at + form.entry_size * count, form.entry_size):
        tag, kind, number = form.head.unpack(_piece(data, entry, form.head.size))
        if kind not in sizes:
            continue
        size = sizes[kind] * number
        where = entry + form.head.size
        if size > form.offset.size:
            where = _read(form.offset, data, where)
        found.append(_Entry(tag, kind, number, where, size))
    return tuple(found)


def _directory(number: int, entries: tuple[_Entry, ...], data: bytes, form: _Form) -> Directory:
    def numbers(tag: int) -> list[int]:
        entry = next((entry for entry in entries if entry.tag == tag), None)
        return _numbers(data, entry, form) if entry else []

    for offsets, lengths in (*_BLOCKS, _OLD_JPEG):
        for start, length in zip(numbers(offsets), numbers(lengths), strict=False):
            if start + length > len(data):
                raise BrokenTiff(f"{length} bytes of a page at {start} exceed the file")
    width, height = ((numbers(tag) or [0])[0] for tag in (_WIDTH, _HEIGHT))
    if not width or not height:
        raise BrokenTiff("a page has no size")
    reduced = (numbers(_NEW_SUBFILE_TYPE) or [0])[0] & 1 or numbers(_SUBFILE_TYPE)[:1] == [2]
    deep_negative = numbers(_BITS) == [16] and numbers(_PHOTOMETRIC) == [_WHITE_IS_ZERO]
    compression = (numbers(_COMPRESSION) or [1])[0]
    return Directory(number, width, height, not reduced, entries, deep_negative, compression)


def _numbers(data: bytes, entry: _Entry, form: _Form) -> list[int]:
    if entry.kind not in _NUMBERS:
        return []
    if entry.number > _MAX_VALUES:
        raise BrokenTiff(f"tag {entry.tag} has {entry.number} values")
    values = Struct(f"{form.order}{entry.number}{_NUMBERS[entry.kind]}")
    return list(values.unpack(_piece(data, entry.where, values.size)))


def _read(what: Struct, data: bytes, at: int) -> int:
    (value,) = what.unpack(_piece(data, at, what.size))
    return int(value)


def _piece(data: bytes, at: int, size: int) -> bytes:
    piece = data[at : at + size]
    if len(piece) < size:
        raise BrokenTiff(f"the file ends before {at + size}")
    return piece
