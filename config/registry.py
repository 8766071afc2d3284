"""The registry: which sheet each karekod identifies, and so which sheets are expected.

The authority delivers it as CSV with this header. Spreadsheets save it in several ways, and
config/csv_text reads them: UTF-8 or UTF-16, separated by commas, semicolons or tabs.

    karekod,secim,belge,cevre,kurul,sandik_turu,sandik,mahalle,sayfa
    1093717526,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1234,Caferağa,1

A karekod is ten digits. `cevre`, `kurul` and `sandik` are filled in down to the form's level and
empty below it; only boxes have a `sandik_turu`; `mahalle` may always be empty. No two rows may have
the same karekod or the same sheet.

Importing makes an SQLite index, `state/registry.sqlite`, with a row for each sheet and the number
of sheets of each kind that each board must deliver. The index is replaced as a whole; if one row is
wrong, nothing changes. The writer and the reader of the index are both in this module, because they
use the same columns.
"""

import csv
import hashlib
import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from config import cevre, csv_text
from config.fault import Fault, Faults
from config.sheet import Belge, Level, SandikTuru, Secim, Sheet
from config.site import REGISTRY_CSV, REGISTRY_INDEX

COLUMNS = (
    "karekod",
    "secim",
    "belge",
    "cevre",
    "kurul",
    "sandik_turu",
    "sandik",
    "mahalle",
    "sayfa",
)
MAX_FAULTS = 100
_DIGITS = 10
_BATCH = 20_000

_SCHEMA = """
CREATE TABLE sheet (
    karekod INTEGER NOT NULL, secim TEXT NOT NULL, belge TEXT NOT NULL, cevre TEXT NOT NULL,
    kurul TEXT NOT NULL, sandik_turu TEXT NOT NULL, sandik TEXT NOT NULL, mahalle TEXT NOT NULL,
    page INTEGER NOT NULL, line INTEGER NOT NULL
);
CREATE TABLE source (sha256 TEXT NOT NULL, rows INTEGER NOT NULL);
"""
_UNIQUE_KEYS = {
    "karekod": "karekod",
    "sheet": "cevre COLLATE NOCASE, kurul COLLATE NOCASE, sandik COLLATE NOCASE, "
    "secim, belge, page",
}


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One row: a sheet, its karekod, and the kind and mahalle of its box."""

    karekod: str
    sheet: Sheet
    sandik_turu: SandikTuru | None
    mahalle: str


class RegistrySource(NamedTuple):
    """The CSV file that the index was made from."""

    sha256: str
    rows: int


class PlaceCounts(NamedTuple):
    """How many folders and sheets a place has in a tree.

    The place is a board, a district (`kurul` is empty) or the election (`cevre` is empty too).
    """

    cevre: str
    kurul: str
    folders: int  # its boxes, and one for its aggregates if it has any
    sheets: int


Progress = Callable[[int], None]


def parse_row(row: dict[str, str]) -> RegistryEntry:
    """Read one row of the CSV; ValueError has every fault of the row, separated by `; `."""
    wrong: list[str] = []

    def read(column: str, kind: Callable[[str], object], allowed: str) -> object:
        try:
            return kind(row[column])
        except ValueError:
            wrong.append(f"{column}: {row[column]!r}, write {allowed}")
            return None

    karekod = row["karekod"]
    if not is_karekod(karekod):
        wrong.append(f"karekod: {karekod!r}, write its {_DIGITS} digits")
    secim = read("secim", Secim, "one of " + ", ".join(Secim))
    belge = read("belge", Belge, "one of " + ", ".join(Belge))
    turu = row["sandik_turu"]
    if isinstance(belge, Belge):
        at_box = belge.level is Level.BOX
        if turu or at_box:
            read("sandik_turu", SandikTuru, "one of " + ", ".join(SandikTuru))
    if not row["mahalle"].isprintable() or "\ufffd" in row["mahalle"]:
        wrong.append(f"mahalle: {row['mahalle']!r}, write it in UTF-8")
    page = read("sayfa", _page_number, "the page's number, from 1")
    if isinstance(secim, Secim) and isinstance(belge, Belge) and isinstance(page, int):
        try:
            sheet = Sheet(
                secim,
                belge,
                row["cevre"] or None,
                row["kurul"] or None,
                row["sandik"] or None,
                page,
            )
        except ValueError as error:
            wrong.append(str(error))
    if (place := row["cevre"]) and place not in cevre.titles():
        wrong.append(f"cevre: {place!r} is not an election district, {cevre.hint(place)}")
    if wrong:
        raise ValueError("; ".join(wrong))
    return RegistryEntry(karekod, sheet, SandikTuru(turu) if turu else None, row["mahalle"])


def is_karekod(text: str) -> bool:
    """Say whether `text` has the form of a karekod: ten ASCII digits."""
    return len(text) == _DIGITS and text.isascii() and text.isdecimal()


def _page_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or text.startswith("0"):
        raise ValueError(text)
    return int(text)


@contextmanager
def importing(
    source: Path, index: Path, progress: Progress = lambda read: None
) -> Iterator[RegistrySource]:
    """Make an index of the CSV file `source`; it replaces `index` when the `with` body ends.

    Calls `progress` with the number of bytes read so far. Raises Faults with at most MAX_FAULTS
    rows, by line number. If it does, or if the body raises, nothing has changed.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    fresh = new_index(index)
    fresh.unlink(missing_ok=True)
    try:
        database = sqlite3.connect(fresh, isolation_level=None)
        try:
            made = _fill(database, source, progress)
        finally:
            database.close()
        _sync(fresh)
        yield made
        fresh.replace(index)
        _sync(index.parent)
    finally:
        fresh.unlink(missing_ok=True)


def new_index(index: Path) -> Path:
    """Return the file in which `importing` makes an index that will replace `index`."""
    return index.with_name(f".{index.name}.{os.getpid()}")


def import_csv(source: Path, index: Path) -> RegistrySource:
    """Make `index` from the CSV file `source`; raises what `importing` raises."""
    with importing(source, index) as made:
        return made


def faults(source: Path, progress: Progress = lambda read: None) -> tuple[Fault, ...]:
    """Return the faults that `import_csv` would raise for `source`, without writing anything."""
    database = sqlite3.connect("", isolation_level=None)  # SQLite's own temporary file
    try:
        _fill(database, source, progress)
    except Faults as found:
        return found.faults
    finally:
        database.close()
    return ()


def _fill(database: sqlite3.Connection, source: Path, progress: Progress) -> RegistrySource:
    database.executescript(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;" + _SCHEMA
    )
    wrong: list[Fault] = []
    digest = hashlib.sha256()
    rows = 0
    try:
        with _HashedFile(source, digest, progress) as raw, io.BufferedReader(raw, 1 << 20) as file:
            batch: list[tuple[object, ...]] = []
            for line, entry in _entries(source.name, csv_text.decoded_lines(file), wrong):
                batch.append(_row(line, entry))
                if len(batch) == _BATCH:
                    rows += _insert(database, batch)
            rows += _insert(database, batch)
    except OSError as error:
        raise Faults([Fault(source.name, "", f"cannot be read ({error})")]) from error
    if not rows and not wrong:
        wrong.append(Fault(source.name, "", "has no sheets, so nothing could be filed"))
    for what, columns in _UNIQUE_KEYS.items():
        database.execute(f"CREATE INDEX by_{what} ON sheet ({columns})")
        wrong += _duplicates(database, source.name, what, columns)
    if wrong:
        raise Faults(sorted(wrong, key=lambda f: int(f.key.partition(" ")[2] or 0))[:MAX_FAULTS])
    # Counting 1.2 million sheets takes seconds, so it is done once, here.
    database.execute(
        "CREATE TABLE expected AS SELECT cevre, kurul, secim, belge, count(*) AS sheets "
        "FROM sheet GROUP BY cevre, kurul, secim, belge"
    )
    made = RegistrySource(digest.hexdigest(), rows)
    database.execute("INSERT INTO source VALUES (?, ?)", made)
    return made


class _HashedFile(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, path: Path, digest: "hashlib._Hash", progress: Progress) -> None:
        self._file = path.open("rb", buffering=0)
        self._digest = digest
        self._progress = progress
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer) or 0
        self._digest.update(memoryview(buffer)[:size])
        self._read += size
        self._progress(self._read)
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def _entries(
    file: str, lines: Iterator[str], wrong: list[Fault]
) -> Iterator[tuple[int, RegistryEntry]]:
    try:
        header = next(lines, "")
        delimiter = csv_text.delimiter_of(header)
        stated = next(csv.reader([header], delimiter=delimiter), [])
    except (ValueError, csv.Error) as error:
        wrong.append(Fault(file, "line 1", str(error)))
        return
    if tuple(stated) != COLUMNS:
        found = delimiter.join(stated) or "nothing"
        wrong.append(Fault(file, "line 1", f"{found!r}, write the header {','.join(COLUMNS)}"))
        return
    reader = csv.reader(lines, delimiter=delimiter)
    while len(wrong) < MAX_FAULTS:
        line = reader.line_num + 2
        try:
            fields = next(reader)
            line = reader.line_num + 1
            if not any(fields):
                continue  # spreadsheets add rows of empty cells
            if len(fields) != len(COLUMNS):
                raise ValueError(f"{len(fields)} columns, write {len(COLUMNS)}")
            entry = parse_row(dict(zip(COLUMNS, fields, strict=True)))
        except StopIteration:
            return
        except csv_text.WrongEncoding as error:  # the rest cannot be read either
            wrong.append(Fault(file, f"line {error.line or line}", str(error)))
            return
        except (ValueError, csv.Error) as error:
            wrong.append(Fault(file, f"line {line}", str(error)))
            continue
        yield line, entry


def _row(line: int, entry: RegistryEntry) -> tuple[object, ...]:
    sheet = entry.sheet
    return (
        int(entry.karekod),
        sheet.secim.value,
        sheet.belge.value,
        sheet.cevre or "",
        sheet.kurul or "",
        entry.sandik_turu.value if entry.sandik_turu else "",
        sheet.sandik or "",
        entry.mahalle,
        sheet.page,
        line,
    )


def _insert(database: sqlite3.Connection, batch: list[tuple[object, ...]]) -> int:
    database.execute("BEGIN")
    database.executemany("INSERT INTO sheet VALUES (?,?,?,?,?,?,?,?,?,?)", batch)
    database.execute("COMMIT")
    added = len(batch)
    batch.clear()
    return added


def _duplicates(
    database: sqlite3.Connection, file: str, what: str, columns: str
) -> Iterator[Fault]:
    bare = columns.replace(" COLLATE NOCASE", "")
    query = (
        f"SELECT min(line), max(line), karekod, count(*) FROM sheet GROUP BY {columns} "
        f"HAVING count(*) > 1 LIMIT {MAX_FAULTS}"
    )
    for first, last, karekod, count in database.execute(query):
        name = f"karekod {karekod:0{_DIGITS}}" if what == "karekod" else f"sheet ({bare})"
        more = f", {count} rows in all" if count > 2 else ""
        yield Fault(file, f"line {last}", f"the same {name} as line {first}{more}, keep one")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Registry:
    """Look-ups in the index, also after an import has replaced it. For one thread only."""

    def __init__(self, index: Path) -> None:
        """Raise Faults if there is no index yet."""
        self._index = index
        self._inode: tuple[int, int] | None = None
        self._database = self._connected()

    def _connected(self) -> sqlite3.Connection:
        try:
            seen = self._index.stat()
        except FileNotFoundError:
            message = "is missing, run `ssps registry import FILE.csv`"
            raise Faults([Fault(str(REGISTRY_INDEX), "", message)]) from None
        inode = seen.st_dev, seen.st_ino
        if inode != self._inode:
            if self._inode is not None:
                self._database.close()
            self._database = sqlite3.connect(
                f"{self._index.absolute().as_uri()}?mode=ro&immutable=1",
                uri=True,
                check_same_thread=False,
            )
            self._inode = inode
        return self._database

    def lookup(self, karekod: str) -> RegistryEntry | None:
        """Return the entry of `karekod`, or None if the registry does not have it."""
        if not is_karekod(karekod):
            return None
        rows = self._rows("SELECT * FROM sheet WHERE karekod = ?", int(karekod))
        return next(map(_entry, rows), None)

    def entries(self) -> Iterator[RegistryEntry]:
        """Yield every expected sheet, ordered by district, board and box."""
        return map(_entry, self._rows(f"SELECT * FROM sheet ORDER BY {_UNIQUE_KEYS['sheet']}"))

    def at_place(
        self, cevre: str, kurul: str | None = None, sandik: str | None = None
    ) -> Iterator[RegistryEntry]:
        """Yield every expected sheet of a district, a board or a box, in order."""
        stated = {"cevre": cevre, "kurul": kurul, "sandik": sandik}
        given = {column: value for column, value in stated.items() if value is not None}
        # The index is made for look-ups that ignore case.
        where = " AND ".join(f"{column} = ? COLLATE NOCASE" for column in given)
        query = f"SELECT * FROM sheet WHERE {where} ORDER BY {_UNIQUE_KEYS['sheet']}"
        return map(_entry, self._rows(query, *given.values()))

    def source(self) -> RegistrySource:
        """Return the digest and the number of rows of the CSV that the index was made from."""
        return next(RegistrySource(*row) for row in self._rows("SELECT * FROM source"))

    def has_box(self, cevre: str, kurul: str, sandik: str) -> bool:
        """Say whether any sheet of that box is expected."""
        query = (
            "SELECT 1 FROM sheet WHERE cevre = ? COLLATE NOCASE AND kurul = ? COLLATE NOCASE "
            "AND sandik = ? COLLATE NOCASE AND (cevre, kurul, sandik) = (?, ?, ?) LIMIT 1"
        )
        return any(self._rows(query, *(cevre, kurul, sandik) * 2))

    def box_kind(
        self, secim: Secim, belge: Belge, cevre: str, kurul: str, sandik: str
    ) -> SandikTuru | None:
        """Return the kind of a box; None if page 1 of that form is not expected from it."""
        query = (
            "SELECT sandik_turu FROM sheet WHERE cevre = ? COLLATE NOCASE "
            "AND kurul = ? COLLATE NOCASE AND sandik = ? COLLATE NOCASE AND secim = ? "
            "AND belge = ? AND page = 1 AND (cevre, kurul, sandik) = (?, ?, ?)"
        )
        place = (cevre, kurul, sandik)
        rows = self._rows(query, *place, secim.value, belge.value, *place)
        return next((SandikTuru(kind) for (kind,) in rows), None)

    def has_aggregate(
        self, secim: Secim, belge: Belge, cevre: str | None, kurul: str | None
    ) -> bool:
        """Return True if that aggregate sheet is expected at that place."""
        query = "SELECT 1 FROM expected WHERE (cevre, kurul, secim, belge) = (?, ?, ?, ?) LIMIT 1"
        return any(self._rows(query, cevre or "", kurul or "", secim.value, belge.value))

    def boxes(self, secim: Secim, belge: Belge) -> Iterator[tuple[str, str, str, str]]:
        """Yield district, board, number and kind of each box with page 1 of a form."""
        query = (
            "SELECT cevre, kurul, sandik, sandik_turu FROM sheet "
            "WHERE secim = ? AND belge = ? AND page = 1"
        )
        return self._rows(query, secim.value, belge.value)

    def ballot_boxes(self) -> Iterator[tuple[str, str, str, str, str, str]]:
        """Yield contest, district, board, number, kind and mahalle of each box with a result."""
        query = (
            "SELECT secim, cevre, kurul, sandik, sandik_turu, mahalle FROM sheet "
            "WHERE belge = ? AND page = 1"
        )
        return self._rows(query, Belge.SANDIK_SONUC.value)

    def aggregates(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield contest, form, district and board of each aggregate sheet that is expected."""
        query = "SELECT secim, belge, cevre, kurul FROM sheet WHERE sandik = '' AND page = 1"
        return self._rows(query)

    def expected_sheets(self, belge: Belge) -> int:
        """Return how many pages of a form are expected in all; each box has one result page."""
        query = "SELECT coalesce(sum(sheets), 0) FROM expected WHERE belge = ?"
        return next(int(sheets) for (sheets,) in self._rows(query, belge.value))

    def expected_boxes(self, belge: Belge) -> dict[tuple[Secim, str, str], int]:
        """Return how many boxes of each (contest, district, board) have page 1 of a form."""
        query = (
            "SELECT secim, cevre, kurul, count(*) FROM sheet WHERE belge = ? AND page = 1 "
            "GROUP BY secim, cevre, kurul"
        )
        rows = self._rows(query, belge.value)
        return {(Secim(secim), cevre, kurul): boxes for secim, cevre, kurul, boxes in rows}

    def boards(self) -> frozenset[tuple[str, str]]:
        """Return every (district, board) that has a sheet."""
        query = "SELECT DISTINCT cevre, kurul FROM expected WHERE cevre <> ''"
        return frozenset(self._rows(query))

    def places(self) -> Iterator[PlaceCounts]:
        """Yield every place that has sheets: boards, districts and the election."""
        query = "SELECT cevre, kurul, count(DISTINCT sandik), count(*) FROM sheet GROUP BY 1, 2"
        return (PlaceCounts(*row) for row in self._rows(query))

    def _rows(self, query: str, *values: int | str) -> Iterator[Any]:
        try:
            yield from self._connected().execute(query, values)
        except sqlite3.DatabaseError as error:
            message = f"is damaged ({error}), run `ssps registry import {REGISTRY_CSV}`"
            raise Faults([Fault(str(REGISTRY_INDEX), "", message)]) from error

    def close(self) -> None:
        """Close the index."""
        self._database.close()


def _entry(row: tuple[int, str, str, str, str, str, str, str, int, int]) -> RegistryEntry:
    karekod, secim, belge, cevre, kurul, turu, sandik, mahalle, page, _ = row
    sheet = Sheet(Secim(secim), Belge(belge), cevre or None, kurul or None, sandik or None, page)
    return RegistryEntry(
        f"{karekod:0{_DIGITS}}", sheet, SandikTuru(turu) if turu else None, mahalle
    )


def boards(index: Path) -> frozenset[tuple[str, str]]:
    """Return the boards in the index; none if no registry was imported yet."""
    if not index.exists():
        return frozenset()
    registry = Registry(index)
    try:
        return registry.boards()
    finally:
        registry.close()
