"""Prints a sheet that looks like the real form, filled in and signed, with the watermark PROVA.

It is A4 portrait. As in 2023, the karekod is printed twice, top right and bottom right: version 1,
level L, ten digits, 13 mm wide, with a quiet zone and the digits underneath. The numbers on it are
those of the rehearsal's results (scripts/rehearsal/synthetic/results): a box's sheet shows the
result of the box, an aggregate sheet one line for each place below it, if they are given.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import qrcode
from PIL import Image

from config.cevre import ABROAD, CUSTOMS
from config.election import Election
from config.registry import RegistryEntry
from config.sheet import Belge, Level, SandikTuru
from scripts.rehearsal.synthetic.handwriting import (
    BLACK,
    BOLD,
    GREY,
    INKS,
    MONO,
    SANS,
    Colour,
    PrintedPage,
)
from scripts.rehearsal.synthetic.places import turkish_name, turkish_upper
from scripts.rehearsal.synthetic.results import (
    NO_RESULT,
    BoxResult,
    box_result,
    number_in_words,
    options,
)
from scripts.rehearsal.synthetic.seeded_random import seeded_rng

KAREKOD_MM = 13.0
KAREKOD_POSITIONS = ((187.0, 9.0), (187.0, 266.0))  # left and top edge of each copy, in mm
_MODULES = 21  # width of a version 1 code
_LEFT, _RIGHT, _TOP, _BOTTOM = 12.0, 198.0, 66.0, 228.0  # the form's body
_SANDIK_TURU_NAMES = {
    SandikTuru.NORMAL: "Normal",
    SandikTuru.CEZAEVI: "Cezaevi",
    SandikTuru.SEYYAR: "Seyyar",
    SandikTuru.GUMRUK: "Gümrük",
    SandikTuru.YURT_DISI: "Yurt dışı",
}
_MEMBERS = ("Başkan", "Üye", "Üye", "Üye", "Üye", "Üye", "Üye")


@dataclass(frozen=True, slots=True)
class SheetNumbers:
    """What is written on a sheet: a box's result, or the lines of an aggregate sheet's page."""

    box: BoxResult | None = None
    lines: Sequence[BoxResult] = ()
    first_line: int = 1
    total: BoxResult | None = None


def print_sheet(
    entry: RegistryEntry,
    election: Election,
    seed: int,
    dpi: int = 200,
    numbers: SheetNumbers | None = None,
) -> Image.Image:
    """Print and fill in one sheet as an RGB image; the same arguments give the same page.

    Without `numbers` a box's sheet shows the first version of its result, and an aggregate sheet
    an empty table.
    """
    if numbers is None:
        at_box = entry.sheet.belge.level is Level.BOX
        numbers = SheetNumbers(box=box_result(seed, entry) if at_box else None)
    rng = seeded_rng(seed, "sheet", entry.karekod)
    ink = rng.choice(INKS)
    page = PrintedPage(dpi, "PROVA")
    _heading(page, entry, election)
    _place_table(page, entry)
    if entry.sheet.belge is Belge.SANDIK_SONUC:
        _result_table(page, entry, numbers.box or NO_RESULT, ink, rng)
    elif entry.sheet.belge is Belge.SAYIM_DOKUM_CETVELI:
        _tally_table(page, entry, numbers.box or NO_RESULT, ink, rng)
    else:
        _aggregate_table(page, entry, numbers)
    _signatures(page, entry, ink, rng)
    _karekod(page, entry.karekod)
    return page.image


def _heading(page: PrintedPage, entry: RegistryEntry, election: Election) -> None:
    sheet = entry.sheet
    page.text(105, 11, "T.C.", 9, name=BOLD, anchor="mm")
    page.text(105, 15.5, "YÜKSEK SEÇİM KURULU", 11, name=BOLD, anchor="mm")
    page.text(105, 20.5, election.title, 8, anchor="mm")
    page.text(105, 25, turkish_upper(sheet.secim.turkish), 9, name=BOLD, anchor="mm")
    page.text(105, 31.5, turkish_upper(sheet.belge.turkish), 13, name=BOLD, anchor="mm")
    page.text(105, 37.5, "PROVADIR, GERÇEK BİR SEÇİMİN BELGESİ DEĞİLDİR", 8, anchor="mm")
    page.text(_LEFT, 11, "PROVA", 16, name=BOLD)
    page.text(_LEFT, 292, "Prova tutanağıdır; hiçbir sayı, imza ve mühür gerçek değildir.", 6.5)
    page.text(105, 287, f"Sayfa {sheet.page}", 8, anchor="mm")


def _place_table(page: PrintedPage, entry: RegistryEntry) -> None:
    sheet = entry.sheet
    board = {ABROAD: "ÜLKE", CUSTOMS: "GÜMRÜK KAPISI"}.get(sheet.cevre or "", "İLÇE SEÇİM KURULU")
    fields = [
        ("SEÇİM ÇEVRESİ", turkish_name(sheet.cevre) if sheet.cevre else "Yurt Dışı ve Gümrükler"),
        (board, turkish_name(sheet.kurul) if sheet.kurul else "-"),
        ("MAHALLE / KÖY", entry.mahalle or "-"),
        ("SANDIK TÜRÜ", _SANDIK_TURU_NAMES[entry.sandik_turu] if entry.sandik_turu else "-"),
    ]
    rows = [42.0, 47.5, 53.0, 58.5, 64.0]
    page.shade(_LEFT, rows[0], 50, rows[-1])
    page.grid([_LEFT, 50, 145], rows)
    for (label, value), top in zip(fields, rows, strict=False):
        page.text(_LEFT + 1.5, top + 2.9, label, 7, name=BOLD)
        page.text(52, top + 2.9, value, 8.5)
    page.shade(149, rows[0], _RIGHT, rows[1])
    page.grid([149, _RIGHT], [rows[0], rows[1], rows[-1]])
    label = "RUMUZ" if sheet.cevre == CUSTOMS else "SANDIK NO"
    page.text(173.5, rows[0] + 2.9, label, 7, name=BOLD, anchor="mm")
    page.text(173.5, 56, sheet.sandik or "-", 24, name=BOLD, anchor="mm")


def _result_table(
    page: PrintedPage, entry: RegistryEntry, count: BoxResult, ink: Colour, rng: random.Random
) -> None:
    ballot = options(entry.sheet.secim, entry.sheet.cevre)
    lines = [
        ("Sandık seçmen listesinde yazılı seçmen sayısı", count.registered),
        ("Listede yazılı olup oy kullanan seçmen sayısı", count.listed),
        ("Liste dışı oy kullanan seçmen sayısı", count.unlisted),
        ("Sandıktan çıkan zarf sayısı", count.voted),
        ("Geçersiz oy pusulası sayısı", count.invalid),
        ("İtirazlı geçerli oy pusulası sayısı", count.disputed),
        ("Geçerli oy pusulası sayısı", count.valid),
        *((option.title, count.votes.get(option.id, 0)) for option in ballot),
        ("TOPLAM GEÇERLİ OY", sum(count.votes.values())),
    ]
    height = min(11.0, (_BOTTOM - _TOP - 6) / len(lines))
    columns = [_LEFT, 20, 92, 118, _RIGHT]
    rows = [_TOP, _TOP + 6, *(_TOP + 6 + height * n for n in range(1, len(lines) + 1))]
    page.shade(_LEFT, rows[0], _RIGHT, rows[1])
    page.grid(columns, rows)
    for x, title in zip(columns, ("SIRA", "", "RAKAMLA", "YAZIYLA"), strict=False):
        page.text(x + 1, _TOP + 3, title, 6, name=BOLD)
    for number, (label, value) in enumerate(lines):
        middle = rows[number + 1] + height / 2
        page.text(16, middle, str(number + 1), 7, anchor="mm")
        page.text(22, middle, label, 7.5, name=BOLD if number > 6 else SANS)
        page.digits(97, middle, value, min(4.6, height * 0.68), ink, rng)
        page.words(120, middle, number_in_words(value), min(10, height * 1.7), ink, rng)


def _tally_table(
    page: PrintedPage, entry: RegistryEntry, count: BoxResult, ink: Colour, rng: random.Random
) -> None:
    """Draw the tally: one stroke for each vote, every fifth across; five in a cell."""
    ballot = options(entry.sheet.secim, entry.sheet.cevre)
    strips = 26 // len(ballot) or 1
    height = (_BOTTOM - _TOP - 6) / (len(ballot) * strips)
    cells, width = 19, 7.0
    first = _LEFT + 34
    rows = [_TOP + 6 + height * n for n in range(len(ballot) * strips + 1)]
    page.shade(_LEFT, _TOP, first + cells * width, _TOP + 6)
    page.grid([first + width * n for n in range(cells + 1)], rows)
    page.grid([_LEFT, first, first + cells * width, _RIGHT], [_TOP, *rows[::strips]])
    page.text(_LEFT + 1, _TOP + 3, "ADAY / PARTİ", 6, name=BOLD)
    page.text(first + 1, _TOP + 3, "OY İŞARETLERİ (beşer beşer)", 6, name=BOLD)
    page.text(first + cells * width + 1, _TOP + 3, "TOPLAM", 6, name=BOLD)
    for number, option in enumerate(ballot):
        name, votes = option.title, count.votes.get(option.id, 0)
        top = rows[number * strips]
        shown = min(votes, cells * 5 * strips)
        page.text(_LEFT + 2, top + height * strips / 2, name, 8, name=BOLD)
        page.digits(_RIGHT - 15, top + height * strips / 2, shown, 4, ink, rng)
        for cell in range(-(-shown // 5)):
            strip, column = divmod(cell, cells)
            x, y = first + column * width + 1.2, top + strip * height + 1
            low = y + height - 2
            for stroke in range(min(4, shown - cell * 5)):
                at = x + stroke * 1.3 + rng.uniform(-0.2, 0.2)
                page.stroke([(at + 0.3, y), (at, low)], ink, 0.3)
            if shown - cell * 5 >= 5:
                page.stroke([(x - 0.5, low - 0.6), (x + 4.9, y + 0.6)], ink, 0.3)


def _aggregate_table(page: PrintedPage, entry: RegistryEntry, numbers: SheetNumbers) -> None:
    """Draw the table of an aggregate sheet: one typed line for each box or place."""
    ballot = options(entry.sheet.secim, entry.sheet.cevre)[:8]
    names = [option.title.split()[0] for option in ballot]
    titles = ["SIRA", "SEÇMEN", "OY KUL.", "GEÇERLİ", "GEÇSZ.", *names]
    lines = numbers.lines
    height, width = 4.0, (_RIGHT - _LEFT) / len(titles)
    columns = [_LEFT + width * n for n in range(len(titles) + 1)]
    rows = [_TOP, *(_TOP + 5 + height * n for n in range(len(lines) + 2))]
    page.shade(_LEFT, _TOP, _RIGHT, rows[1])
    page.shade(_LEFT, rows[-2], _RIGHT, rows[-1])
    page.grid(columns, rows)
    for x, title in zip(columns, titles, strict=False):
        page.text(x + width / 2, _TOP + 2.5, title, 6, name=BOLD, anchor="mm")

    def values(count: BoxResult) -> list[str]:
        shown = (count.registered, count.voted, count.valid, count.invalid)
        return [*map(str, shown), *(str(count.votes.get(option.id, 0)) for option in ballot)]

    for line, count in enumerate(lines):
        number = str(numbers.first_line + line)
        _typed(page, columns, rows[line + 1] + height / 2, [number, *values(count)])
    if numbers.total is not None:
        _typed(page, columns, rows[-2] + height / 2, ["", *values(numbers.total)])
    page.text(_LEFT + 1, rows[-2] + height / 2, "TOPLAM", 6, name=BOLD)


def _typed(page: PrintedPage, columns: list[float], y: float, values: list[str]) -> None:
    for right, value in zip(columns[1:], values, strict=True):
        page.text(right - 1, y, value, 7, name=MONO, anchor="rm")


def _signatures(page: PrintedPage, entry: RegistryEntry, ink: Colour, rng: random.Random) -> None:
    at_box = entry.sheet.belge.level is Level.BOX
    board = "SANDIK KURULU" if at_box else "SEÇİM KURULU"
    page.text(_LEFT, 233, f"{board}: yukarıdaki sonuçlar birlikte tespit edilmiştir.", 7)
    width, top = 23.5, 237.0
    page.grid([_LEFT + width * n for n in range(8)], [top, top + 6, top + 26])
    for number, title in enumerate(_MEMBERS):
        middle = _LEFT + width * (number + 0.5)
        page.text(middle, top + 3, title, 7, name=BOLD, anchor="mm")
        page.text(middle, top + 24, "imza", 5.5, anchor="mm", colour=GREY)
        own = rng.choice(INKS) if number else ink
        page.signature(middle, top + 14 + rng.uniform(-2, 2), rng.uniform(12, 18), own, rng)
    page.seal(_LEFT + 26 + rng.uniform(-6, 6), 273 + rng.uniform(-2, 2), "PROVA", rng)


def _karekod(page: PrintedPage, digits: str) -> None:
    side = page.px(KAREKOD_MM)
    code = karekod_image(digits, side)
    quiet = page.px(KAREKOD_MM * 4 / _MODULES)
    for left, top in KAREKOD_POSITIONS:
        x, y = page.px(left), page.px(top)
        page.draw.rectangle(
            (x - quiet, y - quiet, x + side + quiet, y + side + quiet), (255, 255, 255)
        )
        page.image.paste(code, (x, y))
        below = top + KAREKOD_MM + KAREKOD_MM * 4 / _MODULES + 0.8
        page.text(left + KAREKOD_MM / 2, below, digits, 7.5, name=MONO, anchor="mm")


@lru_cache(maxsize=64)
def karekod_image(digits: str, side: int) -> Image.Image:
    """Return the image of a karekod, `side` pixels wide, without its quiet zone."""
    code = qrcode.QRCode(version=1, error_correction=qrcode.ERROR_CORRECT_L, border=0)
    code.add_data(digits)
    code.make(fit=False)
    bits = Image.new("L", (_MODULES, _MODULES))
    dark, light = BLACK[0], 255
    bits.putdata([dark if module else light for row in code.get_matrix() for module in row])
    # A module is not a whole number of pixels, so enlarge exactly and then average down.
    fine = bits.resize((_MODULES * 16, _MODULES * 16), Image.Resampling.NEAREST)
    return fine.resize((side, side), Image.Resampling.BOX)
