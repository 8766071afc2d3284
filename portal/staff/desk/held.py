"""The pages in quarantine as the desk shows them, with what became of each so far.

A page is read once from the catalog (its evidence has what the engines read, and where), and kept
in memory, since it never changes. What operators said about it is read each time.
"""

import json
import os
import posixpath
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from config.site import QUARANTINE
from portal.data.queries.databases import open_catalog
from publisher.catalog.decisions import review
from publisher.catalog.decisions.rescans import Rescan
from publisher.catalog.decisions.review import Identification, Review
from publisher.database import Reader
from publisher.page import ID_LENGTH, MEASURE, Reading, Reason
from publisher.source import Source
from publisher.store.quarantine import parse_note

_NOTE = ".json"
_SURE_AFTER = 2_000_000_000  # nanoseconds


class State(StrEnum):
    """The state of a page for one operator; the values are those in the address (`durum=`)."""

    FIRST = "ilk"  # no account has identified it
    SECOND = "ikinci"  # another account has; it needs this one
    MINE = "benim"  # this account has; it needs another one
    DISPUTED = "anlasmazlik"  # two accounts differ
    DECIDED = "karar"  # filed or rejected


@dataclass(frozen=True, slots=True)
class HeldPage:
    """A file in quarantine. `folder` is the scanner's folder, `size` that of its first page."""

    file: str
    name: str
    folder: str
    reason: str
    at: datetime
    sha256: str | None
    frames: int = 1
    size: tuple[int, int] | None = None
    readings: tuple[Reading, ...] = ()

    @property
    def arrival(self) -> str:
        """The id of its arrival."""
        return self.file[:ID_LENGTH]

    @property
    def codes(self) -> tuple[Reading, ...]:
        """What was read on it, without measures of the page."""
        return tuple(reading for reading in self.readings if reading.engine != MEASURE)


@dataclass(frozen=True, slots=True)
class Case:
    """A page in quarantine, and what operators said about it."""

    page: HeldPage
    identifications: tuple[Identification, ...] = ()
    reviewed: Review | None = None
    rescan: Rescan | None = None

    @property
    def accounts(self) -> tuple[Identification, ...]:
        """The identifications by accounts of the staff site."""
        return tuple(each for each in self.identifications if review.is_account(each.who))

    @property
    def step(self) -> str:
        """What a form on its page must find again when it is sent."""
        return review.step_of(self.identifications, self.reviewed)

    def by(self, who: str) -> Identification | None:
        """Return the identification by an account."""
        return next((each for each in self.accounts if each.who == who), None)

    def state(self, who: str) -> State:
        """Return its state for the account `who`, written as in records: `staff:ayse`."""
        if not self.identifications:  # most of them
            return State.DECIDED if self.reviewed else State.FIRST
        if review.in_dispute(self.accounts):
            return State.DISPUTED
        if self.by(who) is not None:
            return State.MINE
        if self.accounts:
            return State.SECOND
        return State.DECIDED if self.reviewed else State.FIRST


@dataclass
class HeldPages:
    """All pages in quarantine of one site; any thread may call it."""

    site: Path
    _known: dict[str, HeldPage] = field(default_factory=dict)
    _listed: tuple[int, tuple[HeldPage, ...]] = (0, ())  # the folder's mtime and what was in it
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cases(self) -> list[Case]:
        """Return every page in quarantine, oldest first."""
        with open_catalog(self.site) as catalog:
            pages = self._pages(catalog)
            if catalog is None:
                return [Case(page) for page in pages]
            named: dict[str, list[Identification]] = {}
            for file, each in _identifications(catalog):
                named.setdefault(file, []).append(each)
            reviews = dict(_reviews(catalog))
            asked = dict(_rescans(catalog))
        return [
            Case(
                page,
                tuple(named.get(page.file, ())),
                reviews.get(page.file),
                asked.get(page.file),
            )
            for page in pages
        ]

    def case(self, file: str) -> Case | None:
        """Return one page in quarantine, None if there is no file of that name."""
        if not _is_name(file) or not os.path.lexists(self.site / QUARANTINE / file):
            return None  # a link or a pipe is in quarantine too
        with open_catalog(self.site) as catalog:
            page = self._page(catalog, file)
            if page is None:
                return None
            if catalog is None:
                return Case(page)
            named = tuple(each for _, each in _identifications(catalog, file))
            reviewed = dict(_reviews(catalog, file)).get(file)
            asked = dict(_rescans(catalog, file)).get(file)
        return Case(page, named, reviewed, asked)

    def _pages(self, catalog: Reader | None) -> Sequence[HeldPage]:
        folder = self.site / QUARANTINE
        try:
            changed = folder.stat().st_mtime_ns
        except FileNotFoundError:
            return ()
        stamp, pages = self._listed
        if changed == stamp:
            return pages
        names = {path.name for path in folder.iterdir()}
        files = sorted(
            name
            for name in names
            if _is_name(name) and not (name.endswith(_NOTE) and name.removesuffix(_NOTE) in names)
        )
        found = [self._page(catalog, file) for file in files]
        pages = tuple(page for page in found if page is not None)
        # The clock of a file system ticks slowly: a file may still come at the same time.
        if time.time_ns() - changed > _SURE_AFTER and None not in found:
            self._listed = changed, pages
        return pages

    def _page(self, catalog: Reader | None, file: str) -> HeldPage | None:
        with self._lock:
            if (known := self._known.get(file)) is not None:
                return known
        found = _of_arrival(catalog, file) if catalog is not None else None
        if found is None:
            found = _of_note(self.site / QUARANTINE, file)
        if found is not None:
            with self._lock:
                self._known[file] = found
        return found


def _is_name(file: str) -> bool:
    return bool(file) and "/" not in file and "\0" not in file and not file.startswith(".")


def _of_arrival(catalog: Reader, file: str) -> HeldPage | None:
    query = (
        "SELECT name, source, received_at, sha256, reason, evidence FROM arrival "
        "WHERE id = ? AND what = ? AND outcome = 'quarantined'"
    )
    row = catalog.execute(query, (file[:ID_LENGTH], file)).fetchone()
    if row is None:
        return None
    name, source, received, sha256, reason, evidence = row
    found = json.loads(evidence or "{}")
    size = found.get("size")
    readings = tuple(
        Reading(text, engine, scan, ms, tuple((x, y) for x, y in corners), frame)
        for text, engine, scan, ms, corners, frame in found.get("readings", ())
    )
    return HeldPage(
        file,
        name,
        folder_of(name, source),
        reason or "",
        datetime.fromisoformat(received),
        sha256,
        int(found.get("frames", 1)),
        (size[0], size[1]) if size and all(size) else None,
        readings,
    )


def folder_of(name: str, source: bytes) -> str:
    """Return the scanner's folder of a file: below the intake folder, or that folder itself."""
    inner = posixpath.dirname(name)
    return inner or posixpath.basename(Source.parse(source).folder) or "intake"


def _of_note(folder: Path, file: str) -> HeldPage | None:
    """Return what is known about a file that never was an arrival, from the note beside it."""
    try:
        note = parse_note((folder / f"{file}{_NOTE}").read_bytes())
        at = datetime.fromisoformat(note.time)
    except (OSError, ValueError):
        return None
    where = posixpath.dirname(note.name) or "intake"
    return HeldPage(file, note.name, where, note.reason, at, note.sha256, note.frames)


def _where(file: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if file is None else (" WHERE file = ?", (file,))


def _identifications(
    catalog: Reader, file: str | None = None
) -> Iterator[tuple[str, Identification]]:
    where, values = _where(file)
    query = f"SELECT file, who, id, sheets, why, named_at FROM naming{where} ORDER BY named_at, id"
    for of, who, identity, sheets, why, at in catalog.execute(query, values):
        parsed = review.parse_sheets(sheets.split()) if sheets else ()
        yield of, Identification(who, identity, parsed, why, at)


def _reviews(catalog: Reader, file: str | None = None) -> Iterator[tuple[str, Review]]:
    where, values = _where(file)
    query = f"SELECT file, id, outcome, who, why, ruled_at FROM ruling{where}"
    for of, *rest in catalog.execute(query, values):
        yield of, Review(*rest)


def _rescans(catalog: Reader, file: str | None = None) -> Iterator[tuple[str, Rescan]]:
    if "rescan" not in catalog.tables():
        return  # a catalog of an earlier version
    where, values = _where(file)
    query = f"SELECT {', '.join(Rescan._fields)} FROM rescan{where} ORDER BY id"
    for row in catalog.execute(query, values):
        yield row[0], Rescan(*row)


REASONS: dict[str, str] = {
    Reason.NO_KAREKOD: "Karekod okunamadı",
    Reason.UNKNOWN_KAREKOD: "Karekod kayıtlı değil",
    Reason.CONFLICTING_KAREKODS: "Karekodlar çelişiyor",
    Reason.SEVERAL_SHEETS: "Birden çok tutanak",
    Reason.SEVERAL_BOARDS: "Birden çok kurul",
    Reason.BLANK_BACK: "Boş arka yüz",
    Reason.CODE_OUT_OF_PLACE: "Karekod yerinde değil",
    Reason.TOO_FEW_READINGS: "Karekod bir kez okundu",
    Reason.EMPTY: "Boş dosya",
    Reason.TOO_LARGE: "Çok büyük",
    Reason.NOT_A_FILE: "Dosya değil",
    Reason.NOT_PERMITTED: "Okuma izni yok",
    Reason.NOT_AN_IMAGE: "Görüntü değil",
    Reason.ENCRYPTED_PDF: "Parolalı PDF",
    Reason.INCOMPLETE: "Yarım kalmış dosya",
    Reason.UNREADABLE_IMAGE: "Açılamayan görüntü",
    Reason.ODD_PIXELS: "Alışılmadık görüntü türü",
    Reason.POLYGLOT: "Aynı anda iki türde dosya",
    Reason.ACTIVE_CONTENT: "Etkin içerikli PDF",
    Reason.TOO_MANY_PAGES: "Çok fazla sayfa",
    Reason.READER_DIED: "Okuma yarıda kesildi",
    Reason.READER_TIMEOUT: "Okuma çok uzun sürdü",
    "found-in-a-tree": "Parti ağacında bulundu",
}


def reason_title(reason: str) -> str:
    """Return the reason of a page in Turkish."""
    if reason.startswith("format-"):
        return f"Desteklenmeyen biçim: {reason.removeprefix('format-').upper()}"
    return REASONS.get(reason, reason or "Notu yok")
