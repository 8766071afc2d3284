"""What the registry and the catalog say about sheets: words, versions, what a board still lacks.

`SheetFacts` is made for one request: the registry and the catalog are open as long as it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import kurul, turkish
from config.fault import Faults
from config.registry import Registry, RegistryEntry, is_karekod
from config.sheet import Belge, Secim, Sheet
from config.site import REGISTRY_INDEX
from portal.data import titles
from portal.data.queries.databases import open_catalog
from portal.staff.desk.suggestions import missing_sheets, order
from publisher.catalog.catalog import sheet_columns
from publisher.catalog.statements import SHEET_COLUMNS
from publisher.database import Reader

MOST_FOUND = 60
_THIS = " AND ".join(f"{name} = ?" for name in SHEET_COLUMNS)
# What people type for a form or a contest, in plain ASCII, besides its code.
_WORDS: dict[str, tuple[Secim | Belge, ...]] = {
    "cumhurbaskani": (Secim.CB,),
    "milletvekili": (Secim.MV,),
    "cetvel": (Belge.SAYIM_DOKUM_CETVELI,),
    "dokum": (Belge.SAYIM_DOKUM_CETVELI,),
    "sonuc": (Belge.SANDIK_SONUC,),
    "birlestirme": tuple(each for each in Belge if "birlestirme" in each),
}


@dataclass(frozen=True, slots=True)
class SheetWords:
    """A sheet in words, and whether it is here already."""

    entry: RegistryEntry
    district: str
    board: str
    box: str
    contest: str
    form: str
    page: int
    pages: int  # of this sheet
    versions: int  # that are filed
    absent: str  # why it will never come, if that is recorded

    @property
    def place(self) -> str:
        """District, board and box in one line."""
        return " · ".join(filter(None, (self.district, self.board, self.box)))

    @property
    def short(self) -> str:
        """The whole sheet in one line."""
        page = f"s. {self.page}/{self.pages}" if self.pages > 1 else ""
        return " · ".join(filter(None, (self.place, self.contest, self.form, page)))


class SheetFacts:
    """The sheets of a site, as long as registry and catalog are open; for one thread."""

    def __init__(self, registry: Registry | None, catalog: Reader | None) -> None:
        self._registry = registry
        self.catalog = catalog

    def lookup(self, karekod: str) -> RegistryEntry | None:
        """Return the sheet with that karekod, None if the registry has none."""
        return None if self._registry is None else self._registry.lookup(karekod)

    def versions(self, sheet: Sheet) -> int:
        """Return how many versions of a sheet are filed."""
        if self.catalog is None:
            return 0
        query = f"SELECT count(*) FROM filing WHERE {_THIS}"
        columns = sheet_columns(sheet)
        values = [columns[name] for name in SHEET_COLUMNS]
        (count,) = self.catalog.execute(query, values).fetchone()
        return int(count)

    def words(self, entry: RegistryEntry) -> SheetWords:
        """Return a sheet in words."""
        sheet = entry.sheet
        box = ""
        if sheet.sandik:
            box = f"Sandık {sheet.sandik}" + (f" ({entry.mahalle})" if entry.mahalle else "")
        same = [
            each
            for each in self._of_place(sheet.cevre, sheet.kurul, sheet.sandik)
            if (each.sheet.secim, each.sheet.belge) == (sheet.secim, sheet.belge)
        ]
        return SheetWords(
            entry,
            titles.district(sheet.cevre) if sheet.cevre else "Türkiye geneli",
            titles.board(sheet.kurul) if sheet.kurul else "",
            box,
            sheet.secim.turkish,
            sheet.belge.turkish,
            sheet.page,
            max(len(same), sheet.page),
            self.versions(sheet),
            self._absence(entry),
        )

    def missing(self, cevre: str, board: str) -> list[RegistryEntry]:
        """Return the missing sheets of a board, in the order of its boxes."""
        if self._registry is None:
            return []
        filed: dict[str, int] = {}
        absent: set[str] = set()
        expected = list(self._registry.at_place(cevre, board))
        if self.catalog is not None:
            query = "SELECT karekod, count(*) FROM filing WHERE cevre = ? AND kurul = ? GROUP BY 1"
            filed = dict(self.catalog.execute(query, (cevre, board)))
            gone = (
                "SELECT sandik, karekod FROM absence "
                "WHERE cevre = ? AND kurul = ? AND withdrawn IS NULL"
            )
            for box, karekod in self.catalog.execute(gone, (cevre, board)):
                absent |= (
                    {karekod}
                    if karekod
                    else {each.karekod for each in expected if each.sheet.sandik == box}
                )
        return missing_sheets(expected, filed, absent)

    def has_board(self, cevre: str, board: str) -> bool:
        """Return whether the registry has that board, or that district if `board` is empty."""
        return self._registry is not None and (cevre, board) in self._registry.boards()

    def search(self, text: str, near: tuple[str, str] | None = None) -> list[RegistryEntry]:
        """Return the sheets that words describe: a serial, or board, box and sheet type.

        `kadikoy 1234 cb sonuc` is the result sheet for the president of box 1234 in Kadıköy. The
        sheets of the board `near` come first.
        """
        if self._registry is None:
            return []
        words = turkish.to_ascii(turkish.lower(text)).replace("/", " ").split()
        serial = next((word for word in words if is_karekod(word)), None)
        if serial is not None:
            found = self._registry.lookup(serial)
            return [found] if found else []
        kinds, boxes, names = _sorted_words(words)
        places = [each for each in sorted(self._registry.boards()) if _matches(each, names)]
        if not names and not boxes:
            return []
        found_all: list[RegistryEntry] = []
        for cevre, board in sorted(places, key=lambda place: place != near):
            if boxes:
                rows = [e for box in boxes for e in self._registry.at_place(cevre, board, box)]
            else:
                rows = list(self._registry.at_place(cevre, board))
            found_all += [entry for entry in rows if _has_kinds(entry, kinds)]
            if len(found_all) > MOST_FOUND * 4:
                break
        found_all.sort(key=lambda e: ((e.sheet.cevre, e.sheet.kurul) != near, order(e)))
        return found_all[:MOST_FOUND]

    def _of_place(
        self, cevre: str | None, board: str | None, box: str | None
    ) -> Iterator[RegistryEntry]:
        if self._registry is None:
            return iter(())
        return self._registry.at_place(cevre or "", board or "", box or "")

    def _absence(self, entry: RegistryEntry) -> str:
        if self.catalog is None:
            return ""
        sheet = entry.sheet
        query = (
            "SELECT reason FROM absence WHERE withdrawn IS NULL AND "
            "(karekod = ? OR (karekod = '' AND cevre = ? AND kurul = ? AND sandik = ?)) LIMIT 1"
        )
        place = (sheet.cevre or "", sheet.kurul or "", sheet.sandik or "")
        row = self.catalog.execute(query, (entry.karekod, *place)).fetchone()
        return row[0] if row else ""


@contextmanager
def sheet_facts(site: Path) -> Iterator[SheetFacts]:
    """Open the registry and the catalog of a site; one that does not exist yet has no sheets."""
    with ExitStack() as stack:
        registry = None
        try:
            registry = Registry(site / REGISTRY_INDEX)
            stack.callback(registry.close)
        except Faults:
            registry = None
        yield SheetFacts(registry, stack.enter_context(open_catalog(site)))


def _sorted_words(words: Sequence[str]) -> tuple[list[Secim | Belge], list[str], list[str]]:
    """Return the kinds, the numbers of boxes and the names among some words."""
    kinds: list[Secim | Belge] = []
    boxes, names = [], []
    for word in words:
        if word in set(Secim):
            kinds.append(Secim(word))
        elif word in set(Belge):
            kinds.append(Belge(word))
        elif word in _WORDS:
            kinds += _WORDS[word]
        elif word.isdecimal():
            boxes.append(word)
        elif word not in ("sandik", "no", "kurul"):
            names.append(word)
    return kinds, boxes, names


def _has_kinds(entry: RegistryEntry, kinds: Sequence[Secim | Belge]) -> bool:
    secimler = [kind for kind in kinds if isinstance(kind, Secim)]
    belgeler = [kind for kind in kinds if isinstance(kind, Belge)]
    return (not secimler or entry.sheet.secim in secimler) and (
        not belgeler or entry.sheet.belge in belgeler
    )


def _matches(place: tuple[str, str], names: Sequence[str]) -> bool:
    cevre, board = place
    title = turkish.to_ascii(turkish.lower(f"{titles.district(cevre)} {kurul.title(board)}"))
    whole = f"{cevre} {board} {title}".replace("-", " ").split()
    return all(
        name in (cevre, board) or any(part.startswith(name) for part in whole) for name in names
    )
