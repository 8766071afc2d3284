"""Which signed sheets are scanned, and the list of scans of a place, from the catalog.

`SheetCounts` counts the pages that every box has of its two forms. The counts are read once and
then kept up to date by the number of each filing's ledger record, so an update costs only what is
new. Everything else is asked from the catalog when it is shown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from config.sheet import Belge, Secim
from portal.data.numbers.boxes import Boxes, BoxPlace
from publisher.database import Reader

BOX_FORMS = (Belge.SANDIK_SONUC, Belge.SAYIM_DOKUM_CETVELI)
_Form = tuple[Secim, Belge]
AggregateForm = tuple[Secim, Belge, str, str]
_ROWS_A_FETCH = 5000


@dataclass(frozen=True, slots=True)
class SheetFile:
    """One version of one page of a signed sheet, as it is filed."""

    secim: Secim
    belge: Belge
    cevre: str
    kurul: str
    sandik: str
    page: int
    version: int
    path: str  # in a party's tree
    sha256: str  # of the original, which the store has
    frame: int  # the page of the original that shows it, from 1
    filed_at: datetime
    karekod: str
    seq: int  # its record in the filing ledger


@dataclass(frozen=True)
class SheetCounts:
    """How many pages each box has of each form; up to record `seq` of the filing ledger.

    `aggregates` has for contest, form, district and board how many aggregate sheets (their first
    pages) and how many pages there are.
    """

    pages: Mapping[_Form, npt.NDArray[np.uint8]]
    aggregates: Mapping[AggregateForm, tuple[int, int]] = field(default_factory=dict)
    seq: int = -1

    def of(self, secim: Secim, belge: Belge) -> npt.NDArray[np.uint8] | None:
        """Return the pages of a form by row, None if no box has one."""
        return self.pages.get((secim, belge))


def update(counts: SheetCounts, catalog: Reader, boxes: Boxes) -> SheetCounts:
    """Return the counts with every page that was filed since; the same object if there is none."""
    (last,) = catalog.execute("SELECT max(seq) FROM filing").fetchone()
    if last is None or last <= counts.seq:
        return counts
    pages, aggregates = dict(counts.pages), dict(counts.aggregates)
    copied: set[_Form] = set()
    # For the first reading the order of places is best: consecutive rows are of one box.
    order = "cevre, kurul, sandik" if counts.seq < 0 else "seq"
    query = (
        "SELECT secim, belge, page, cevre, kurul, sandik FROM filing "
        f"WHERE seq > ? AND seq <= ? AND version = 1 ORDER BY {order}"
    )
    before: tuple[str, str, str] | None = None
    row: int | None = None
    for secim, belge, page, *place in catalog.stream(query, (counts.seq, last)):
        if not place[2]:
            of_place = Secim(secim), Belge(belge), str(place[0]), str(place[1])
            sheets, scans = aggregates.get(of_place, (0, 0))
            aggregates[of_place] = sheets + (page == 1), scans + 1
            continue
        if (here := (place[0], place[1], place[2])) != before:
            before, row = here, boxes.row_of(BoxPlace(*here))
        if row is None:
            continue
        form = Secim(secim), Belge(belge)
        if form not in copied:
            old = pages.get(form)
            pages[form] = np.zeros(len(boxes), np.uint8) if old is None else old.copy()
            copied.add(form)
        if pages[form][row] < 255:
            pages[form][row] += 1
    return SheetCounts(pages, aggregates, last)


_COLUMNS = (
    "secim, belge, cevre, kurul, sandik, page, version, path, sha256, frame, filed_at, karekod, seq"
)


def of_place(catalog: Reader | None, cevre: str, kurul: str, sandik: str) -> list[SheetFile]:
    """Return every scan of exactly this place; an empty part is one that the place lacks."""
    if catalog is None:
        return []
    query = (
        f"SELECT {_COLUMNS} FROM filing WHERE cevre = ? AND kurul = ? AND sandik = ? "
        "AND seq IS NOT NULL ORDER BY secim, belge, page, version"
    )
    return [_sheet_file(row) for row in catalog.execute(query, (cevre, kurul, sandik))]


def of_path(catalog: Reader | None, path: str) -> SheetFile | None:
    """Return the scan that is filed at a path of the trees."""
    if catalog is None:
        return None
    query = f"SELECT {_COLUMNS} FROM filing WHERE path = ? AND seq IS NOT NULL"
    row = catalog.execute(query, (path,)).fetchone()
    return _sheet_file(row) if row else None


def absences(catalog: Reader | None, places: Iterable[BoxPlace]) -> dict[BoxPlace, tuple[str, str]]:
    """Return reason and explanation of each of the boxes that were recorded as absent."""
    wanted = set(places)
    if catalog is None or not wanted:
        return {}
    query = (
        "SELECT cevre, kurul, sandik, reason, why FROM absence "
        "WHERE withdrawn IS NULL AND sandik <> '' ORDER BY seq"
    )
    return {
        place: (reason, why)
        for *parts, reason, why in catalog.execute(query)
        if (place := BoxPlace(*parts)) in wanted
    }


def _sheet_file(row: tuple[object, ...]) -> SheetFile:
    secim, belge, cevre, kurul, sandik, page, version, path, digest, frame, filed, karekod, seq = (
        row
    )
    return SheetFile(
        Secim(str(secim)),
        Belge(str(belge)),
        str(cevre),
        str(kurul),
        str(sandik),
        int(str(page)),
        int(str(version)),
        str(path),
        str(digest),
        int(str(frame)),
        datetime.fromtimestamp(int(str(filed)), UTC),
        str(karekod),
        int(str(seq)),
    )
