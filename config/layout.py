"""Makes and parses the path of a sheet in a party's tree. No other module does.

    /<election>/<cevre>/<kurul>/sandik-<no>/<secim>-<belge>-s<page>.<ext>
    /<election>/<cevre>/<kurul>/birlestirme/<secim>-<belge>-s<page>.<ext>
    /<election>/<cevre>/birlestirme/...   and   /<election>/birlestirme/...

A later version of the same page (a re-scan, a correction) has `.v2`, `.v3`, ... before its
extension and is in the same folder. Paths here are relative to the tree, without the leading
slash. For example

    2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v2.jpg

is the second version of page 1 of the presidential result sheet of box 1234.

The publisher also writes files of its own (publisher/feed/feed). Segments, sums and tools have a
signature each, in a file of the same name with `.sig` added:

    /BENIOKU.txt                                     what this is
    /araclar/mirror.py                               the reference client, scripts/mirror
    /araclar/known_hosts                             the host keys of the server
    /araclar/allowed_signers                         the public key of every signature
    /araclar/SHA256SUMS                              sums of these three
    /akis/son.txt                                    which segment of the change feed is newest
    /akis/00000042.csv                               a segment
    /<election>/SHA256SUMS                           sums of the SHA256SUMS files below:
    /<election>/<cevre>/<kurul>/SHA256SUMS           of all pages of a board
    /<election>/<cevre>/birlestirme/SHA256SUMS       of the aggregates of a district
    /<election>/birlestirme/SHA256SUMS               of the aggregates of the election
    .../SHA256SUMS.kunye                             beside each of these four: which election and
                                                     folder they are of, since when, with a number
    /<election>/sonuclar/00000042/mv.csv             a file of a snapshot of the results, if the
                                                     site shares results in the trees
    /<election>/sonuclar/00000042/SHA256SUMS         of all files of that snapshot
"""

import re
from typing import NamedTuple

from config import name
from config.scope import Scope
from config.sheet import Belge, Level, Secim, Sheet

EXTENSIONS = ("jpg", "png", "tif", "pdf")
README = "BENIOKU.txt"
SUMS = "SHA256SUMS"
LABEL_SUFFIX = ".kunye"
SIGNATURE_SUFFIX = ".sig"
LABEL = SUMS + LABEL_SUFFIX
# In the order in which they are shown: a label and a signature come before what they are of.
SUMS_FILES = (LABEL + SIGNATURE_SUFFIX, LABEL, SUMS + SIGNATURE_SUFFIX, SUMS)
NEWEST_SEGMENT = "akis/son.txt"
TOOLS = "araclar"
MIRROR, KNOWN_HOSTS, ALLOWED_SIGNERS = "mirror.py", "known_hosts", "allowed_signers"
TOOL_NAMES = (MIRROR, KNOWN_HOSTS, ALLOWED_SIGNERS, SUMS)
MAX_SEGMENT = 99_999_999
RESULTS = "sonuclar"
_FEED = "akis/"
_FOR_EVERY_PARTY = (_FEED.rstrip("/"), TOOLS)
_AGGREGATE = "birlestirme"
_BOX = "sandik-"
_SEGMENT = re.compile(r"akis/(?!0{8})[0-9]{8}\.csv", re.ASCII)
_OF_SNAPSHOT = re.compile(rf"{RESULTS}/[0-9]{{8,}}/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_FILE = re.compile(
    rf"({'|'.join(Secim)})-({'|'.join(Belge)})-s([1-9][0-9]{{0,2}})"
    rf"(?:\.v([1-9][0-9]{{0,5}}))?\.({'|'.join(EXTENSIONS)})",
    re.ASCII,
)


class SheetFile(NamedTuple):
    """What the path of a page tells about the page."""

    election: str
    sheet: Sheet
    version: int
    extension: str


def folder(election: str, sheet: Sheet) -> str:
    """Return the folder, relative to a tree, that has every version of `sheet`."""
    parts = [election, *(p for p in (sheet.cevre, sheet.kurul) if p is not None)]
    parts.append(_AGGREGATE if sheet.sandik is None else _BOX + sheet.sandik)
    return "/".join(parts)


def path(election: str, sheet: Sheet, version: int, extension: str) -> str:
    """Return the path, relative to a tree, of one version (from 1) of `sheet`."""
    if version < 1 or extension not in EXTENSIONS:
        raise ValueError(f"no version {version} with extension {extension!r}")
    tail = f"v{version}.{extension}" if version > 1 else extension
    return f"{folder(election, sheet)}/{sheet.secim}-{sheet.belge}-s{sheet.page}.{tail}"


def parse(text: str) -> SheetFile:
    """Parse a path that `path` made; raise ValueError if it is not the path of a sheet."""
    *folders, file = text.split("/")
    match = _FILE.fullmatch(file)
    if match is None or not 2 <= len(folders) <= 4:
        raise ValueError(f"not the path of a sheet: {text!r}")
    secim, belge, page, version, extension = match.groups()
    *places, last = folders
    election, cevre, kurul = (*places, None, None)[:3]
    sandik = last.removeprefix(_BOX) if Belge(belge).level is Level.BOX else None
    sheet = Sheet(Secim(secim), Belge(belge), cevre, kurul, sandik, int(page))
    placed = SheetFile(election or "", sheet, int(version or 1), extension)
    if name.fault(placed.election) or path(*placed) != text:
        raise ValueError(f"not the path of a sheet: {text!r}")
    return placed


def segment(number: int) -> str:
    """Return the path, relative to a tree, of a segment of the change feed (from 1)."""
    if not 1 <= number <= MAX_SEGMENT:
        raise ValueError(f"no segment {number}")
    return f"akis/{number:08}.csv"


def results_folder(election: str, number: int) -> str:
    """Return the folder, relative to a tree, of a snapshot of the results."""
    return f"{election}/{RESULTS}/{number:08}"


def sums_folder(cevre: str | None, kurul: str | None) -> str:
    """Return the folder of the SHA256SUMS file for a place, relative to the election's folder."""
    if cevre is None:
        return _AGGREGATE
    return f"{cevre}/{kurul or _AGGREGATE}"


def ilce_of(kurul: str) -> str:
    """Return the ilçe of a board: that of `kadikoy-2` is `kadikoy`, of `sehit-kamil` itself."""
    stem, _, number = kurul.rpartition("-")
    return stem if stem and number.isdecimal() else kurul


def in_scope(path: str, scope: Scope) -> bool:
    """Say whether a party with that scope may see the file or folder at `path` in its tree.

    A folder is in scope if it leads to something in scope.
    """
    election, *places = path.split("/")
    if scope.places is None or not places or election in _FOR_EVERY_PARTY:
        return True
    if places[0] == RESULTS or (_is_of_sums(places[0]) and len(places) == 1):
        return True
    boards = {board for district, board in scope.places if district == places[0]}
    return None in boards or (bool(boards) and (len(places) == 1 or places[1] in boards))


def is_publisher_file(path: str) -> bool:
    """Say whether the file at `path` in a tree is one that the publisher writes, not a page."""
    signed = path.removesuffix(SIGNATURE_SUFFIX)
    if path in (README, NEWEST_SEGMENT) or _SEGMENT.fullmatch(signed):
        return True
    if signed in (f"{TOOLS}/{file}" for file in TOOL_NAMES):
        return True
    election, _, rest = path.partition("/")
    if _OF_SNAPSHOT.fullmatch(rest):
        return not name.fault(election)
    *folders, file = signed.split("/")
    if not _is_of_sums(file) or not folders or name.fault(folders[0]):
        return False
    return len(folders) == 1 or _is_sums_folder(folders[1:])


def _is_of_sums(file: str) -> bool:
    return file.removesuffix(SIGNATURE_SUFFIX).removesuffix(LABEL_SUFFIX) == SUMS


def _is_sums_folder(folders: list[str]) -> bool:
    if folders == [_AGGREGATE]:
        return True
    if len(folders) != 2 or name.fault(folders[0]):
        return False
    return folders[1] == _AGGREGATE or not name.fault(folders[1])
