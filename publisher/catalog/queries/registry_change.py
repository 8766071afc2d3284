"""Compares a new registry with the one in force, and with the sheets that are filed already.

If a registry is replaced during an election, it must not drop or move a sheet that is filed: the
parties have the page at the old place, and coverage would count it as unexpected. `ssps registry
import` refuses such a registry without --force.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from config.site import REGISTRY_INDEX
from publisher.catalog.catalog import url
from publisher.catalog.queries import beside
from publisher.database import open_reader

_PLACE = ("cevre", "kurul", "sandik", "secim", "belge", "page")
_SAME_PLACE = " AND ".join(f"a.{column} = b.{column}" for column in _PLACE)
_NAME = "a.cevre, a.kurul, a.sandik, a.secim, a.belge, a.page, printf('%010d', a.karekod)"
_IN = "EXISTS (SELECT 1 FROM {table} b WHERE " + _SAME_PLACE + "{more})"
_SAME_CODE = " AND b.karekod = CAST(a.karekod AS INTEGER)"
MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Sheets:
    """A number of sheets, and the first of them as texts."""

    number: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryChanges:
    """What a new registry changes.

    `changed` are sheets with another karekod, sandık türü or mahalle. `filed` are sheets that are
    filed already, and that the new registry lacks or gives another karekod.
    """

    added: Sheets = Sheets()
    removed: Sheets = Sheets()
    changed: Sheets = Sheets()
    filed: Sheets = Sheets()

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return bool(self.added.number or self.removed.number or self.changed.number)


def compare(site: Path, new_index: Path) -> RegistryChanges:
    """Compare the index of a new registry with the one in force, which may be missing."""
    with closing(sqlite3.connect(f"{new_index.absolute().as_uri()}?mode=ro", uri=True)) as found:
        if not _attach(found, site / REGISTRY_INDEX, "old", "sheet"):
            (number,) = found.execute("SELECT count(*) FROM sheet").fetchone()
            return RegistryChanges(added=Sheets(number))
        same = _IN.format(table="sheet", more="")
        was = _IN.format(table="old.sheet", more="")
        other = (
            " AND (b.karekod, b.sandik_turu, b.mahalle) <> (a.karekod, a.sandik_turu, a.mahalle)"
        )
        changes = RegistryChanges(
            _sheets(found, f"FROM main.sheet a WHERE NOT {was}"),
            _sheets(found, f"FROM old.sheet a WHERE NOT {same.replace('sheet b', 'main.sheet b')}"),
            _sheets(found, f"FROM main.sheet a WHERE {_IN.format(table='old.sheet', more=other)}"),
        )
        if not changes.any or not _attach_catalog(found, url(site)):
            return changes
        old = _IN.format(table="old.sheet", more=_SAME_CODE)
        new = _IN.format(table="main.sheet", more=_SAME_CODE)
        filed = f"FROM catalog.filing a WHERE a.version = 1 AND {old} AND NOT {new}"
        return RegistryChanges(
            changes.added, changes.removed, changes.changed, _sheets(found, filed)
        )


def _attach_catalog(database: sqlite3.Connection, place: sa.URL) -> bool:
    """Attach what the catalog has of filed sheets; return False if it has none, or is damaged."""
    if place.drivername == "sqlite":
        return _attach(database, Path(place.database or ""), "catalog", "filing")
    with open_reader(place) as reader:
        if reader is None:
            return False
        database.execute("ATTACH '' AS catalog")  # a temporary file of SQLite's own
        beside.make_tables(database, "catalog")
        beside.copy_rows(reader, database, "filing", "version = 1")
    return True


def _attach(database: sqlite3.Connection, file: Path, name: str, table: str) -> bool:
    """Attach a database read only; return False if it has no such table, or is damaged."""
    if not file.exists():
        return False
    database.execute(f"ATTACH ? AS {name}", (f"{file.absolute().as_uri()}?mode=ro",))
    try:
        query = f"SELECT 1 FROM {name}.sqlite_master WHERE type = 'table' AND name = ?"
        return database.execute(query, (table,)).fetchone() is not None
    except sqlite3.DatabaseError:
        return False


def _sheets(database: sqlite3.Connection, which: str) -> Sheets:
    (number,) = database.execute(f"SELECT count(*) {which}").fetchone()
    if not number:
        return Sheets()
    return Sheets(number, tuple(_first(database, which)))


def _first(database: sqlite3.Connection, which: str) -> Iterator[str]:
    for *place, secim, belge, page, karekod in database.execute(
        f"SELECT {_NAME} {which} ORDER BY 1, 2, 3, 4, 5, 6 LIMIT {MAX_SHOWN}"
    ):
        where = "/".join(filter(None, place)) or "(the election)"
        yield f"{where} {secim}-{belge}-s{page} ({karekod})"
