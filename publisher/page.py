"""The publisher's nouns: an arrival, what was read in it, and why it may go to quarantine.

An arrival is one file. A TIFF or PDF may hold several pages; each is called a frame and numbered
from 1, because `page` in the ledger and in the catalog means the whole file.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from publisher.source import Source

ID_LENGTH = len("20230514T140003000041-9f3c21ab")
EXTRACT = ".extract-"  # names of pages that were copied out of a file begin so
_MAX_NAME_LENGTH = 80
# The formats that are filed: the bytes a file starts with, and the extension it gets in a tree.
MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "PDF": (b"%PDF-",),
}
MEASURE = "pixels"  # the engine of a reading that is a measure of the page and no text on it
EXTENSION = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "PDF": "pdf"}
_MAX_PREFIX = 1 << 20
_PJL = (b"\x1b%-12345X", b"@PJL")
MAX_FILE_BYTES = 64 << 20  # a larger file is not read
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]", re.ASCII)


class Reason(StrEnum):
    """Why a file went to quarantine, as the ledger and the note beside the file spell it."""

    NO_KAREKOD = "no-karekod"
    UNKNOWN_KAREKOD = "unknown-karekod"
    CONFLICTING_KAREKODS = "conflicting-karekods"
    SEVERAL_SHEETS = "several-sheets"
    SEVERAL_BOARDS = "several-boards"
    BLANK_BACK = "blank-back"  # nothing is on the page (publisher/reading/codes/blank)
    CODE_OUT_OF_PLACE = "code-out-of-place"  # a karekod that is not where a form has one
    TOO_FEW_READINGS = "one-witness"  # fewer agreeing readings than [qr] witnesses asks for
    EMPTY = "empty"
    TOO_LARGE = "too-large"
    NOT_A_FILE = "not-a-file"
    NOT_PERMITTED = "not-permitted"
    NOT_AN_IMAGE = "not-an-image"
    # Formats that are known and not filed.
    FORMAT_AVIF = "format-avif"
    FORMAT_BMP = "format-bmp"
    FORMAT_DJVU = "format-djvu"
    FORMAT_GIF = "format-gif"
    FORMAT_HEIC = "format-heic"
    FORMAT_JBIG = "format-jbig"
    FORMAT_JBIG2 = "format-jbig2"
    FORMAT_JPEG_2000 = "format-jpeg-2000"
    FORMAT_JPEG_XL = "format-jpeg-xl"
    FORMAT_MDI = "format-mdi"
    FORMAT_OFFICE = "format-office"
    FORMAT_POSTSCRIPT = "format-postscript"
    FORMAT_SVG = "format-svg"
    FORMAT_WEBP = "format-webp"
    FORMAT_ZIP = "format-zip"
    ENCRYPTED_PDF = "encrypted-pdf"  # it cannot be opened without a password
    INCOMPLETE = "incomplete"
    UNREADABLE_IMAGE = "unreadable-image"
    ODD_PIXELS = "odd-pixels"
    POLYGLOT = "polyglot"
    ACTIVE_CONTENT = "active-content"  # a PDF with scripts, programs to start or attached files
    TOO_MANY_PAGES = "too-many-pages"
    READER_DIED = "reader-died"
    READER_TIMEOUT = "reader-timeout"


_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_REFUSED = {
    Reason.FORMAT_GIF: (b"GIF87a", b"GIF89a"),
    Reason.FORMAT_BMP: (b"BM",),
    Reason.FORMAT_JPEG_2000: (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    Reason.FORMAT_JPEG_XL: (b"\0\0\0\x0cJXL ", b"\xff\x0a"),
    Reason.FORMAT_POSTSCRIPT: (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    Reason.FORMAT_DJVU: (b"AT&TFORM",),
    Reason.FORMAT_JBIG2: (b"\x97JB2\r\n\x1a\n",),
    Reason.FORMAT_MDI: (b"EP*\0",),  # Microsoft Office Document Imaging
    Reason.FORMAT_OFFICE: (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
    Reason.FORMAT_ZIP: (b"PK\3\4", b"PK\5\6"),  # also the documents of office programs
}


class Stamp(NamedTuple):
    """Inode, size and mtime of a file: one of them changes if it is replaced or written to."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take the stamp from a stat result."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)

    def __str__(self) -> str:
        return f"{self.inode}:{self.size}:{self.mtime_ns}"

    @classmethod
    def parse(cls, text: str) -> "Stamp":
        """Parse what `str` wrote."""
        inode, size, mtime_ns = text.split(":")
        return cls(int(inode), int(size), int(mtime_ns))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file from an intake folder."""

    id: str
    name: str  # its path below the intake folder, escaped
    source: Source
    stamp: Stamp  # of the file in the intake, before it was claimed
    received_at: datetime

    @property
    def file(self) -> str:
        """Its name in the spool, and in quarantine if it goes there.

        It starts with the id and is safe on every file system, terminal and shell.
        """
        return f"{self.id}-{safe_name(self.name)}"


def arrival_id(now: datetime, token: str) -> str:
    """Return an id such as `20230514T140003000041-9f3c21ab`.

    Ids sort by time; `token` makes two ids of the same microsecond differ.
    """
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S%f}-{token}"


def arrival_time(identity: str) -> datetime | None:
    """Return the time in an id, or in a name that begins with one; None if there is none."""
    try:
        return datetime.strptime(f"{identity.partition('-')[0]}Z", "%Y%m%dT%H%M%S%f%z")
    except ValueError:
        return None


def safe_name(name: str) -> str:
    """Return the last part of `name` in letters, digits, dots, dashes and underscores.

    A name longer than 80 characters loses its beginning, so that it keeps its extension.
    """
    return _UNSAFE.sub("_", name.rpartition("/")[2])[-_MAX_NAME_LENGTH:].lstrip(".") or "_"


def escaped(name: str) -> str:
    r"""Return a name as valid UTF-8 text; a byte that is not UTF-8 becomes for example `\udcff`."""
    return name.encode("utf-8", "backslashreplace").decode()


def format_of(content: bytes) -> str | None:
    """Return the format that the first bytes show, None if it is none that is filed."""
    found = next((name for name, magic in MAGIC.items() if content.startswith(magic)), None)
    return found or ("PDF" if pdf_start(content) else None)


def refused_format(content: bytes) -> Reason:
    """Return the reason that names the format of a file that is none of MAGIC."""
    if content[4:8] == b"ftyp":  # ISO/IEC 14496-12: the brands of a file
        brands = content[8 : max(16, min(int.from_bytes(content[:4], "big"), 256))]
        if b"avif" in brands or b"avis" in brands:
            return Reason.FORMAT_AVIF
        if any(brand in brands for brand in _HEIC_BRANDS):
            return Reason.FORMAT_HEIC
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return Reason.FORMAT_WEBP
    if b"<svg" in content[:1024]:
        return Reason.FORMAT_SVG
    for reason, magic in _REFUSED.items():
        if content.startswith(magic):
            return reason
    return Reason.NOT_AN_IMAGE


def pdf_start(content: bytes) -> int:
    """Return where a PDF begins behind the commands of a printer (PJL) or padding of up to 1 MB.

    Returns 0 if it begins at the first byte, or if this is not a PDF.
    """
    at = content.find(MAGIC["PDF"][0], 0, _MAX_PREFIX)
    is_padding = at > 0 and not content[:at].strip(b"\0\t\n\f\r \xef\xbb\xbf")
    return at if at > 0 and (is_padding or content.startswith(_PJL)) else 0


@dataclass(frozen=True, slots=True)
class Reading:
    """One code that one engine read in one pass.

    `scan` names the scale or the filter of the pass; corners are x, y in pixels of the page.
    """

    text: str
    engine: str
    scan: str
    ms: int
    corners: tuple[tuple[int, int], ...] = ()
    frame: int = 1

    def __str__(self) -> str:
        return f"page {self.frame}: {self.text} by {self.engine}, {self.scan}, {self.ms} ms"


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a reading worker found in a file; `fault` says why a part of it could not be read.

    `width` and `height` are those of the first frame, in pixels; `frames` is the number of frames.
    If there are several, nothing was read yet: `extracts` has a file with each frame, and these
    files are read. `pixels` is the digest of the decoded page (publisher/reading/formats/pixels) if
    a karekod was read, and `print_map` says where its print is (publisher/print_map) if both copies
    of the karekod were.
    """

    format: str | None = None
    width: int = 0
    height: int = 0
    readings: tuple[Reading, ...] = ()
    ms: int = 0
    fault: Reason | None = None
    frames: int = 1
    pixels: str | None = None
    print_map: bytes | None = None
    extracts: tuple[bytes, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that was read in the file, once, in the order found."""
        texts = (reading.text for reading in self.readings if reading.engine != MEASURE)
        return tuple(dict.fromkeys(texts))

    def readings_on(self, frame: int) -> tuple[Reading, ...]:
        """Return what was read on one frame."""
        return tuple(reading for reading in self.readings if reading.frame == frame)


@dataclass(frozen=True, slots=True)
class Page:
    """An arrival after reading; `sha256` is None if its bytes could not be read.

    `stamp` is the stamp of the spool file before it was read. If the file has several pages,
    `extracts` are the digests of the files with one page each, which are in the spool
    (`extract_file`).
    """

    arrival: Arrival
    stamp: Stamp
    sha256: str | None
    result: ReadResult
    extracts: tuple[str, ...] = ()


def extract_file(arrival: str, number: int) -> str:
    """Return the name in the spool of a page that was copied out of a file and not claimed yet."""
    return f"{EXTRACT}{arrival}-{number:03}"


def split_file(arrival: Arrival) -> str | None:
    """Return which file of several pages an arrival is a page of, None if it is a file itself."""
    whole, _, _ = arrival.source.path.rpartition("-")
    return whole if whole.startswith(EXTRACT) else None


def extracted_arrival(whole: Arrival, number: int, format: str, path: Path) -> Arrival:
    """Return the arrival of one page of a file of several; `path` is its extract in the spool.

    The same page always has the same id, so that splitting a file again gives the same arrivals.
    """
    stem = whole.name.rpartition(".")[0] or whole.name
    name = f"{stem}.page-{number}.{EXTENSION[format]}"
    spool = Source(str(path.parent), path.name)
    return Arrival(
        extracted_id(whole, number), name, spool, Stamp.of(path.lstat()), whole.received_at
    )


def extracted_id(whole: Arrival, number: int) -> str:
    """Return the id of one page of a file of several."""
    token = hashlib.sha256(f"{whole.id} {number}".encode()).hexdigest()[:8]
    return arrival_id(whole.received_at, token)
