"""Suggests which sheet a page shows, and says why: no I/O, so each rule is easy to test.

    a serial that was read               it is registered, though one reading is not enough to file
    a serial with digits missing         `10937?7528` fits few registered serials
    a near miss                          one digit differs, or two, or two were exchanged
    sheets beside it in the pile         same box, the next box, the next page, the same board

Each rule adds points, and each sheet keeps every reason. A sheet that is filed already, or will
never come, comes after those that are missing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from config.registry import RegistryEntry, is_karekod
from config.sheet import Level, Sheet
from portal.staff.desk.neighbours import Neighbour, filed_beside
from publisher.page import Reading

MOST = 9  # suggestions: as many as there are keys 1 to 9
_DIGITS = "0123456789"
_MOST_UNKNOWN = 4  # digits of a serial that are looked up in every combination
_USELESS = 7  # with so many unknown digits a serial says nothing
_READ, _SHOWN_THROUGH, _PARTLY, _ONE_OFF, _TWO_OFF = 100, 45, 70, 60, 30
_SAME_BOX, _BOTH_SAME, _NEXT_BOX, _BETWEEN = 40, 20, 25, 15
_NEXT_PAGE, _SAME_FORM, _SAME_BOARD = 15, 8, 5
_NOT_MISSING = -35

Lookup = Callable[[str], RegistryEntry | None]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A sheet that a page may show, with the points for it and the reasons in words."""

    entry: RegistryEntry
    points: int
    whys: tuple[str, ...]
    versions: int = 0  # of this sheet that are filed


@dataclass
class _Scores:
    entries: dict[str, RegistryEntry] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    whys: dict[str, list[str]] = field(default_factory=dict)

    def add(self, entry: RegistryEntry, points: int, why: str) -> None:
        karekod = entry.karekod
        self.entries[karekod] = entry
        self.points[karekod] = self.points.get(karekod, 0) + points
        if why not in self.whys.setdefault(karekod, []):
            self.whys[karekod].append(why)


def suggest(
    readings: Sequence[Reading],
    beside: Sequence[Neighbour],
    missing: Sequence[RegistryEntry],
    lookup: Lookup,
    versions: Callable[[Sheet], int],
) -> list[Suggestion]:
    """Return at most nine sheets, the likeliest first.

    `missing` are the missing sheets of the board it probably belongs to; `versions` says how many
    versions of a sheet are filed.
    """
    scores = _Scores()
    for text, engines in _texts(readings).items():
        for entry, points, why in _of_text(text, engines, missing, lookup):
            scores.add(entry, points, why)
    for entry, points, why in _of_pile(filed_beside(beside), missing):
        scores.add(entry, points, why)
    found = []
    for karekod, entry in scores.entries.items():
        filed = versions(entry.sheet)
        points = scores.points[karekod] + (_NOT_MISSING if filed else 0)
        found.append(Suggestion(entry, points, tuple(scores.whys[karekod]), filed))
    found.sort(key=lambda each: (-each.points, order(each.entry)))
    return found[:MOST]


def order(entry: RegistryEntry) -> tuple[object, ...]:
    """Return a key that sorts sheets as a board lists them: by the number of the box."""
    sheet = entry.sheet
    return (
        sheet.cevre or "",
        sheet.kurul or "",
        number_of(sheet.sandik),
        sheet.sandik or "",
        sheet.secim,
        sheet.belge,
        sheet.page,
    )


def number_of(sandik: str | None) -> int:
    """Return the number of a box; 0 for a letter code, and for a sheet that has no box."""
    return int(sandik) if sandik and sandik.isascii() and sandik.isdecimal() else 0


# What was read.


def _texts(readings: Iterable[Reading]) -> dict[str, str]:
    """Return each text that was read, with the engines and passes that read it."""
    found: dict[str, list[str]] = {}
    for reading in readings:
        found.setdefault(reading.text, []).append(f"{reading.engine}, {reading.scan}")
    return {text: "; ".join(dict.fromkeys(how)) for text, how in found.items()}


def _of_text(
    text: str, how: str, missing: Sequence[RegistryEntry], lookup: Lookup
) -> Iterator[tuple[RegistryEntry, int, str]]:
    kind, _, serial = text.rpartition(" ")
    if kind in ("other", "mirrored") and is_karekod(serial):
        if entry := lookup(serial):
            what = "arka yüzden görünen" if kind == "mirrored" else "başka türden"
            yield entry, _SHOWN_THROUGH, f"Sayfada {what} bir kodda {serial} okundu ({how})"
        return
    if kind == "digits" or (not kind and "?" in serial):
        yield from _partly(serial, missing, lookup)
        return
    if kind or not serial.isascii() or not serial.isdecimal() or not 9 <= len(serial) <= 11:
        return
    if entry := lookup(serial):
        yield entry, _READ, f"Karekod {serial} okundu ({how}), ama tek okuma yetmez"
        return
    yield from _near(serial, missing, lookup)


def _partly(
    serial: str, missing: Sequence[RegistryEntry], lookup: Lookup
) -> Iterator[tuple[RegistryEntry, int, str]]:
    """Yield the sheets whose serial fits printed digits of which some could not be read."""
    unknown = serial.count("?")
    if len(serial) != 10 or not set(serial) <= {*_DIGITS, "?"} or unknown >= _USELESS:
        return
    if not unknown:
        if entry := lookup(serial):
            yield entry, _PARTLY, f"Karekodun altındaki rakamlar {serial} okundu"
        else:
            yield from _near(serial, missing, lookup)
        return
    fits = [each for each in missing if _fits(serial, each.karekod)]
    if not fits and unknown <= _MOST_UNKNOWN:
        made = ("".join(_filled(serial, digits)) for digits in product(_DIGITS, repeat=unknown))
        fits = list(islice(filter(None, map(lookup, made)), MOST + 1))
    elif not fits:
        return
    alone = "yalnız bu tutanağa uyuyor" if len(fits) == 1 else f"{len(fits)} tutanağa uyuyor"
    for entry in fits[:MOST]:
        points = _PARTLY if len(fits) == 1 else _ONE_OFF // len(fits) + 10
        yield entry, points, f"Altındaki rakamlar {serial} okundu: {alone}"


def _fits(pattern: str, serial: str) -> bool:
    return all(a in ("?", b) for a, b in zip(pattern, serial, strict=True))


def _filled(pattern: str, digits: Sequence[str]) -> Iterator[str]:
    left = iter(digits)
    return (next(left) if c == "?" else c for c in pattern)


def _near(
    serial: str, missing: Sequence[RegistryEntry], lookup: Lookup
) -> Iterator[tuple[RegistryEntry, int, str]]:
    """Yield the sheets with a serial that differs little from one that is not registered."""
    near = {e.karekod: e for made in one_off(serial) if (e := lookup(made)) is not None}
    for entry in islice(near.values(), MOST):
        why = f"Okunan {serial} kayıtlı değil; {entry.karekod} ile tek fark var"
        yield entry, _ONE_OFF, why
    if near or len(serial) != 10:
        return
    for entry in missing:
        differ = sum(a != b for a, b in zip(serial, entry.karekod, strict=True))
        if differ == 2:
            yield entry, _TWO_OFF, f"Okunan {serial} kayıtlı değil; {entry.karekod} ile iki fark"


def one_off(serial: str) -> Iterator[str]:
    """Yield every ten digits that differ from `serial` by one digit, or by two exchanged ones."""
    match len(serial):
        case 10:
            for at, digit in product(range(10), _DIGITS):
                if digit != serial[at]:
                    yield serial[:at] + digit + serial[at + 1 :]
            for at in range(9):
                if serial[at] != serial[at + 1]:
                    yield serial[:at] + serial[at + 1] + serial[at] + serial[at + 2 :]
        case 9:
            for at, digit in product(range(10), _DIGITS):
                yield serial[:at] + digit + serial[at:]
        case 11:
            for at in range(11):
                yield serial[:at] + serial[at + 1 :]


# What lay beside it.


def _of_pile(
    filed: Sequence[Neighbour], missing: Sequence[RegistryEntry]
) -> Iterator[tuple[RegistryEntry, int, str]]:
    before = next((each for each in filed if each.place < 0), None)
    after = next((each for each in filed if each.place > 0), None)
    sides = [(each, word) for each, word in ((before, "Önceki"), (after, "Sonraki")) if each]
    if not sides:
        return
    for entry in missing:
        sheet = entry.sheet
        same = [word for each, word in sides if _same_box(each, sheet)]
        if len(same) == 2:
            yield entry, _SAME_BOX + _BOTH_SAME, "Önceki ve sonraki sayfa aynı sandıktan"
        elif same:
            yield entry, _SAME_BOX, f"{same[0]} sayfa aynı sandıktan"
        for each, word in sides:
            assert each.entry is not None  # noqa: S101 - only filed ones are here
            yield from _of_neighbour(entry, each.entry.sheet, word)
        if before and after and _between(before, sheet, after):
            yield entry, _BETWEEN, "Sandık numarası önceki ile sonraki sayfanınkinin arasında"
        if any(_same_board(each, sheet) for each, _ in sides):
            yield entry, _SAME_BOARD, "Aynı klasördeki komşu sayfalar bu kuruldan"


def _of_neighbour(
    entry: RegistryEntry, beside: Sheet, word: str
) -> Iterator[tuple[RegistryEntry, int, str]]:
    sheet = entry.sheet
    if (sheet.cevre, sheet.kurul) != (beside.cevre, beside.kurul):
        return
    form = (sheet.secim, sheet.belge)
    if sheet.sandik == beside.sandik and form == (beside.secim, beside.belge):
        step = 1 if word == "Önceki" else -1
        if sheet.page == beside.page + step:
            yield entry, _NEXT_PAGE, f"{word} sayfa bu tutanağın {beside.page}. sayfası"
        return
    distance = number_of(sheet.sandik) - number_of(beside.sandik)
    if sheet.sandik and beside.sandik and abs(distance) == 1:
        yield entry, _NEXT_BOX, f"{word} sayfa yandaki sandıktan ({beside.sandik})"
        if form == (beside.secim, beside.belge) and sheet.page == beside.page:
            yield entry, _SAME_FORM, f"{word} sayfa aynı tür tutanak"


def _same_box(each: Neighbour, sheet: Sheet) -> bool:
    if each.entry is None or sheet.belge.level is not Level.BOX:
        return False
    beside = each.entry.sheet
    return (beside.cevre, beside.kurul, beside.sandik) == (sheet.cevre, sheet.kurul, sheet.sandik)


def _same_board(each: Neighbour, sheet: Sheet) -> bool:
    return each.entry is not None and (each.entry.sheet.cevre, each.entry.sheet.kurul) == (
        sheet.cevre,
        sheet.kurul,
    )


def _between(before: Neighbour, sheet: Sheet, after: Neighbour) -> bool:
    if not (_same_board(before, sheet) and _same_board(after, sheet)):
        return False
    assert before.entry is not None and after.entry is not None  # noqa: S101 - same board
    ends = number_of(before.entry.sheet.sandik), number_of(after.entry.sheet.sandik)
    here = number_of(sheet.sandik)
    return 0 not in (*ends, here) and min(ends) < here < max(ends)


def missing_sheets(
    expected: Iterable[RegistryEntry], filed: Mapping[str, int], absent: Iterable[str]
) -> list[RegistryEntry]:
    """Return the expected sheets that are neither filed (by karekod) nor absent, in order."""
    gone = set(absent)
    found = (e for e in expected if not filed.get(e.karekod) and e.karekod not in gone)
    return sorted(found, key=order)
