"""Makes up a double election: president and parliament on one day, as on 14 May 2023.

Only the provinces, countries and customs gates are real. At full size it is as large as Turkey's
(201,000 boxes, 1,094 boards, over a million sheets). With four boxes or more it has voters in
Turkey, abroad and at customs gates, and so all eleven sheet types. Registry entries are generated
one by one, so a whole country needs no more memory than a town.
"""

import csv
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from config import cevre
from config.cevre import ascii_name
from config.registry import COLUMNS, RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from scripts.rehearsal.synthetic import places
from scripts.rehearsal.synthetic.seeded_random import seeded_rng

NOT_IN_TURKEY = (cevre.ABROAD, cevre.CUSTOMS)
CONTESTS = (Secim.CB, Secim.MV)
_BOARDS_IN_TURKEY = 1094
_SHARE_ABROAD, _SHARE_CUSTOMS = 0.025, 0.005  # of all boxes
_MIN_BOXES_PER_DISTRICT = 4
_MIN_BOXES_PER_BOARD = 3
AGGREGATE_LINES = 40  # boxes or places listed on one page of an aggregate sheet
_FIRST_BOX_NUMBER = 1001  # of each board
_HALF_RANGE = 10**5  # a karekod is two halves of five digits


@dataclass(frozen=True, slots=True)
class _District:
    """One district, with (name, number of boxes) for each of its boards."""

    cevre: str
    boards: tuple[tuple[str, int], ...]


def entries(boxes: int, seed: int) -> Iterator[RegistryEntry]:
    """Yield the registry entries of an election with `boxes` ballot boxes, by district."""
    if boxes < 1:
        raise ValueError(f"{boxes} boxes: an election needs at least one")
    for number, (sheet, turu, mahalle) in enumerate(_sheets(_districts(boxes, seed), seed)):
        yield RegistryEntry(serial(seed, number), sheet, turu, mahalle)


def write_csv(made: Iterable[RegistryEntry], path: Path) -> int:
    """Write the entries as a registry CSV file and return the number of rows."""
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for rows, entry in enumerate(made, start=1):  # noqa: B007 - used after the loop
            sheet = entry.sheet
            writer.writerow(
                (
                    entry.karekod,
                    sheet.secim.value,
                    sheet.belge.value,
                    sheet.cevre,
                    sheet.kurul,
                    entry.sandik_turu.value if entry.sandik_turu else None,
                    sheet.sandik,
                    entry.mahalle,
                    sheet.page,
                )
            )
    return rows


def districts(made: Iterable[RegistryEntry]) -> list[str]:
    """Return the districts with boxes, most boxes first; abroad and customs come last."""
    boxes: dict[str, set[tuple[str | None, str]]] = {}
    for entry in made:
        sheet = entry.sheet
        if sheet.cevre and sheet.sandik:
            boxes.setdefault(sheet.cevre, set()).add((sheet.kurul, sheet.sandik))
    return sorted(boxes, key=lambda name: (name in NOT_IN_TURKEY, -len(boxes[name]), name))


def serial(seed: int, number: int) -> str:
    """Return karekod number `number` (0 to 10¹⁰ - 1) of this seed; all of them differ.

    A Feistel network over the two halves of the ten digits gives a permutation that looks random
    and needs no memory.
    """
    left, right = divmod(number, _HALF_RANGE)
    for turn in range(4):
        mixed = (right + 1) * 2_654_435_761 + (seed + turn * 97) * 40_503
        mixed ^= mixed >> 15
        left, right = right, (left + (mixed * 2_246_822_519 >> 13)) % _HALF_RANGE
    return f"{left:05d}{right:05d}"


def unregistered_karekod(seed: int, number: int) -> str:
    """Return a karekod that is in no registry of this seed."""
    return serial(seed, _HALF_RANGE * _HALF_RANGE - 1 - number)


def _districts(boxes: int, seed: int) -> list[_District]:
    abroad = max(1, round(boxes * _SHARE_ABROAD)) if boxes >= 3 else 0
    customs = max(1, round(boxes * _SHARE_CUSTOMS)) if boxes >= 4 else 0
    made = list(_districts_in_turkey(boxes - abroad - customs, seed))
    for name, there, count in (
        (cevre.ABROAD, places.COUNTRIES, abroad),
        (cevre.CUSTOMS, places.GATES, customs),
    ):
        shares = _shares(count, [1 / (rank + 1) for rank in range(len(there))], 0)
        boards = ((ascii_name(n), share) for n, share in zip(there, shares, strict=True) if share)
        if count:
            made.append(_District(name, tuple(boards)))
    return made


def _districts_in_turkey(boxes: int, seed: int) -> Iterator[_District]:
    """Yield the districts in Turkey. A small election has few districts with several boxes each."""
    names = [n for n in cevre.names() if n not in NOT_IN_TURKEY]
    weights = {name: _weight(name, seed) for name in names}
    board_shares = _shares(_BOARDS_IN_TURKEY, [weights[name] ** 0.5 for name in names], 1)
    max_boards = dict(zip(names, board_shares, strict=True))
    count = min(len(names), max(1, boxes // _MIN_BOXES_PER_DISTRICT))
    chosen = sorted(seeded_rng(seed, "districts").sample(names, count), key=names.index)
    floor = min(2, boxes // count)
    shares = _shares(boxes, [weights[name] for name in chosen], floor)
    for name, share in zip(chosen, shares, strict=True):
        rng = seeded_rng(seed, "boards", name)
        boards = places.boards(rng, min(max_boards[name], max(1, share // _MIN_BOXES_PER_BOARD)))
        parts = _shares(share, [rng.uniform(0.4, 1.6) for _ in boards], 1)
        yield _District(name, tuple(zip(boards, parts, strict=True)))


def _weight(name: str, seed: int) -> float:
    """Return the relative size of a district; the largest are in provinces with several."""
    one_of_several = name.count("-") > 1
    return 3.0 if one_of_several else seeded_rng(seed, "weight", name).uniform(0.2, 2.0)


def _shares(total: int, weights: Sequence[float], floor: int) -> list[int]:
    """Divide `total` in proportion to the weights, by largest remainder, at least `floor` each."""
    spare = total - floor * len(weights)
    exact = [spare * weight / sum(weights) for weight in weights]
    shares = [int(share) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda n: shares[n] - exact[n])
    for n in by_remainder[: spare - sum(shares)]:
        shares[n] += 1
    return [floor + share for share in shares]


_SheetRow = tuple[Sheet, SandikTuru | None, str]


def _sheets(country: Sequence[_District], seed: int) -> Iterator[_SheetRow]:
    for district in country:
        in_turkey = district.cevre not in NOT_IN_TURKEY
        for board, boxes in district.boards:
            rng = seeded_rng(seed, "boxes", district.cevre, board)
            yield from _box_sheets(district.cevre, board, boxes, rng)
            forms = _BOARD_FORMS.get(district.cevre, (Belge.ILCE_BIRLESTIRME,))
            if in_turkey and board.endswith("-1"):
                forms = (*forms, Belge.ILCE_BIRLESTIRME_KURULLAR)
            for belge in forms:
                yield from _aggregate_sheets(belge, district.cevre, board, boxes)
        belge = _DISTRICT_FORMS.get(district.cevre, Belge.IL_BIRLESTIRME)
        yield from _aggregate_sheets(belge, district.cevre, None, len(district.boards))
    elsewhere = [d for d in country if d.cevre in NOT_IN_TURKEY]
    if elsewhere:
        belge = Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME
        yield from _aggregate_sheets(belge, None, None, sum(len(d.boards) for d in elsewhere))


_BOARD_FORMS: dict[str, tuple[Belge, ...]] = {
    cevre.ABROAD: (Belge.YURT_DISI_ULKE_BIRLESTIRME,),
    cevre.CUSTOMS: (Belge.GUMRUK_ILCE_BIRLESTIRME_RUMUZ, Belge.GUMRUK_ILCE_BIRLESTIRME_KURUL),
}
_DISTRICT_FORMS = {
    cevre.ABROAD: Belge.YURT_DISI_ULKELER_BIRLESTIRME,
    cevre.CUSTOMS: Belge.GUMRUK_KAPILARI_BIRLESTIRME,
}


def _aggregate_sheets(
    belge: Belge, district: str | None, board: str | None, rows: int
) -> Iterator[_SheetRow]:
    for secim in CONTESTS:
        for page in range(1, 2 + (rows - 1) // AGGREGATE_LINES):
            yield Sheet(secim, belge, district, board, None, page), None, ""


def _box_sheets(district: str, board: str, count: int, rng: random.Random) -> Iterator[_SheetRow]:
    mahalles = places.mahalles(rng, 1 + count // 6)
    for number in range(count):
        sandik, turu = _box_number_and_kind(district, number, count)
        mahalle = mahalles[number // 6] if district not in _DISTRICT_FORMS else ""
        for secim in CONTESTS:
            # The counting sheet has a second page, except at small boxes.
            small = turu in (SandikTuru.CEZAEVI, SandikTuru.SEYYAR) or rng.random() < 0.05
            for belge, pages in (
                (Belge.SAYIM_DOKUM_CETVELI, 1 if small else 2),
                (Belge.SANDIK_SONUC, 1),
            ):
                for page in range(1, pages + 1):
                    yield Sheet(secim, belge, district, board, sandik, page), turu, mahalle


def _box_number_and_kind(district: str, number: int, count: int) -> tuple[str, SandikTuru]:
    if district == cevre.CUSTOMS:
        letter, place = divmod(number, 99)
        return f"{chr(ord('A') + letter)}{place + 1}", SandikTuru.GUMRUK
    if district == cevre.ABROAD:
        return str(number + 1), SandikTuru.YURT_DISI
    # The last box of a board is mobile; the one before it is in a prison.
    kinds = {count - 1: SandikTuru.SEYYAR, count - 2: SandikTuru.CEZAEVI}
    kind = kinds.get(number, SandikTuru.NORMAL) if count > 3 else SandikTuru.NORMAL
    return str(_FIRST_BOX_NUMBER + number), kind
