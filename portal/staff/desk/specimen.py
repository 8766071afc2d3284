"""Draws a specimen of a form as SVG, to compare with a scan: where what is printed on an A4 page.

As on the forms of 2023: the heading in the middle, the table of the place below it, the body by the
kind of the form, the signatures, and the karekod with its digits top right and bottom right. The
lengths are in millimetres. There is no karekod in it, only its place: a specimen that somebody
prints and scans must not be filed as the sheet.
"""

from html import escape

from config.cevre import ABROAD, CUSTOMS
from config.sheet import Belge, Level
from config.turkish import upper
from portal.staff.desk.sheets import SheetWords

_KAREKOD_MM = 13.0
_KAREKODS = ((187.0, 9.0), (187.0, 266.0))  # left and top edge of each copy
_LEFT, _RIGHT, _TOP, _BOTTOM = 12.0, 198.0, 66.0, 228.0  # of the form's body
_MEMBERS = ("Başkan", *("Üye",) * 6)
_RESULT_LINES = (
    "Sandık seçmen listesinde yazılı seçmen sayısı",
    "Oy kullanan seçmen sayısı",
    "Sandıktan çıkan zarf sayısı",
    "Geçersiz oy pusulası sayısı",
    "Geçerli oy pusulası sayısı",
)


def svg(words: SheetWords) -> bytes:
    """Return a specimen of the form of a sheet."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 210 297" font-family="DejaVu Sans, '
        'sans-serif">',
        '<rect width="210" height="297" fill="#fff"/>',
        *_heading(words),
        *_place(words),
        *_body(words),
        *_signatures(words),
        *(_karekod(words.entry.karekod, x, y) for x, y in _KAREKODS),
        '<text x="105" y="160" font-size="26" fill="#b00020" fill-opacity=".14" '
        'text-anchor="middle" transform="rotate(-35 105 160)">ÖRNEK FORM</text>',
        "</svg>",
    ]
    return "".join(parts).encode()


def _text(
    x: float, y: float, text: str, size: float, anchor: str = "start", weight: str = "400"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="#222" stroke-width=".3"/>'


def _grid(xs: list[float], ys: list[float]) -> list[str]:
    rows = [_line(xs[0], y, xs[-1], y) for y in ys]
    return [*rows, *(_line(x, ys[0], x, ys[-1]) for x in xs)]


def _heading(words: SheetWords) -> list[str]:
    return [
        _text(105, 12, "T.C. YÜKSEK SEÇİM KURULU", 4, "middle", "700"),
        _text(105, 21, upper(words.contest), 4.4, "middle", "700"),
        _text(105, 31, upper(words.form), 5.4, "middle", "700"),
        _text(105, 288, f"Sayfa {words.page} / {words.pages}", 3.2, "middle"),
    ]


def _place(words: SheetWords) -> list[str]:
    sheet = words.entry.sheet
    board = {ABROAD: "ÜLKE", CUSTOMS: "GÜMRÜK KAPISI"}.get(sheet.cevre or "", "İLÇE SEÇİM KURULU")
    rows = [
        ("SEÇİM ÇEVRESİ", words.district),
        (board, words.board or "-"),
        ("MAHALLE / KÖY", words.entry.mahalle or "-"),
    ]
    found = _grid([_LEFT, 50, 145], [42 + 7 * n for n in range(4)])
    for number, (label, value) in enumerate(rows):
        y = 46.6 + 7 * number
        found += [_text(_LEFT + 1.5, y, label, 2.6, weight="700"), _text(52, y, value, 3.6)]
    label = "RUMUZ" if sheet.cevre == CUSTOMS else "SANDIK NO"
    found += _grid([149, 182], [42, 48, 63])
    found.append(_text(165.5, 46.4, label, 2.8, "middle", "700"))
    found.append(_text(165.5, 59, sheet.sandik or "-", 9, "middle", "700"))
    return found


def _body(words: SheetWords) -> list[str]:
    belge = words.entry.sheet.belge
    if belge is Belge.SANDIK_SONUC:
        ys = [_TOP + 8 + 9 * n for n in range(17)]
        found = _grid([_LEFT, 20, 92, 118, _RIGHT], [_TOP, *ys])
        for x, title in ((21.0, "SAYI"), (94.0, "RAKAMLA"), (120.0, "YAZIYLA")):
            found.append(_text(x, _TOP + 5.4, title, 2.8, weight="700"))
        for number, label in enumerate(_RESULT_LINES):
            found.append(_text(21, _TOP + 14 + 9 * number, label, 2.9))
        found.append(_text(21, ys[-1] - 3, "TOPLAM GEÇERLİ OY", 3, weight="700"))
        return found
    if belge is Belge.SAYIM_DOKUM_CETVELI:
        first, columns = _LEFT + 34, 19
        ys = [_TOP + 6 + 12 * n for n in range(13)]
        xs = [first + 7 * n for n in range(columns + 1)]
        found = [*_grid(xs, ys), *_grid([_LEFT, first, xs[-1], _RIGHT], [_TOP, *ys])]
        found.append(_text(_LEFT + 1, _TOP + 4, "ADAY / PARTİ", 2.6, weight="700"))
        found.append(_text(first + 1, _TOP + 4, "OY İŞARETLERİ (beşer beşer)", 2.6, weight="700"))
        found.append(_text(xs[-1] + 1, _TOP + 4, "TOPLAM", 2.6, weight="700"))
        return found
    width = (_RIGHT - _LEFT) / 10
    xs = [_LEFT + width * n for n in range(11)]
    found = _grid(xs, [_TOP, *(_TOP + 6 + 5 * n for n in range(25))])
    for x, title in zip(xs, ("SIRA", "SEÇMEN", "OY KUL.", "GEÇERLİ", "GEÇSZ."), strict=False):
        found.append(_text(x + width / 2, _TOP + 4, title, 2.4, "middle", "700"))
    return found


def _signatures(words: SheetWords) -> list[str]:
    at_box = words.entry.sheet.belge.level is Level.BOX
    board = "SANDIK KURULU" if at_box else "SEÇİM KURULU"
    width, top = 23.5, 237.0
    found = [_text(_LEFT, top - 3, f"{board} İMZALARI", 2.8, weight="700")]
    found += _grid([_LEFT + width * n for n in range(8)], [top, top + 6, top + 26])
    for number, title in enumerate(_MEMBERS):
        found.append(_text(_LEFT + width * (number + 0.5), top + 4.2, title, 2.6, "middle", "700"))
    return found


def _karekod(digits: str, left: float, top: float) -> str:
    side = _KAREKOD_MM
    below = _text(left + side / 2, top + side + 4.4, digits, 2.7, "middle")
    return (
        f'<path d="M{left:g} {top:g}h{side:g}v{side:g}h-{side:g}zl{side:g} {side:g}'
        f'm-{side:g} 0l{side:g} -{side:g}" fill="#ddd" stroke="#222" stroke-width=".4"/>{below}'
    )
