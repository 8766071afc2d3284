from collections.abc import Iterator
from dataclasses import replace

import pytest
import zxingcpp
from PIL import Image

from config.election import Election
from config.fault import Faults
from config.registry import RegistryEntry
from scripts.rehearsal.synthetic import election as synthetic
from scripts.rehearsal.synthetic import handwriting
from scripts.rehearsal.synthetic.sheets import print_sheet

QR_CODES = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)


def codes(page: Image.Image) -> list[zxingcpp.Barcode]:
    found = zxingcpp.read_barcodes(page.convert("L"), formats=QR_CODES)
    return sorted(found, key=lambda code: code.position.top_left.y)


def test_a_page_is_a4_at_200_dpi(entry: RegistryEntry, election: Election) -> None:
    assert print_sheet(entry, election, 1).size == (1654, 2339)


def test_the_karekod_is_printed_at_both_right_corners_13_mm_wide(
    entry: RegistryEntry, election: Election
) -> None:
    found = codes(print_sheet(entry, election, 1))
    assert [code.bytes for code in found] == [b"0093717526", b"0093717526"]
    for code, high in zip(found, (9.0, 266.0), strict=True):
        corner, across, down = (
            code.position.top_left,
            code.position.top_right,
            code.position.bottom_left,
        )
        assert (across.x - corner.x) / 200 * 25.4 == pytest.approx(13, abs=0.5)
        assert (down.y - corner.y) / 200 * 25.4 == pytest.approx(13, abs=0.5)
        assert corner.x / 200 * 25.4 == pytest.approx(187, abs=0.5)
        assert corner.y / 200 * 25.4 == pytest.approx(high, abs=0.5)


def test_the_karekod_is_version_1_level_l_with_a_quiet_zone(
    entry: RegistryEntry, election: Election
) -> None:
    page = print_sheet(entry, election, 1)
    upper, lower = codes(page)
    for code in (upper, lower):
        assert code.ec_level == "L"
        assert (code.position.top_right.x - code.position.top_left.x) / 21 == pytest.approx(
            102 / 21, abs=0.1
        )
        left, top = code.position.top_left.x, code.position.top_left.y
        around = page.convert("L").crop((left - 18, top - 18, left + 102 + 18, top - 2))
        assert around.getextrema() == (255, 255)


def test_the_digits_are_printed_under_both_copies(entry: RegistryEntry, election: Election) -> None:
    page = print_sheet(entry, election, 1).convert("L")
    upper, lower = codes(page)
    for code in (upper, lower):
        left, low = code.position.bottom_left.x, code.position.bottom_left.y
        under = page.crop((left, low + 18, left + 102, low + 40))
        assert min(under.tobytes()) < 60


def one_of_each_type() -> Iterator[RegistryEntry]:
    seen = set()
    for entry in synthetic.entries(4, 7):
        if entry.sheet.belge not in seen:
            seen.add(entry.sheet.belge)
            yield entry


def test_both_karekods_of_every_sheet_type_are_readable(election: Election) -> None:
    forms = list(one_of_each_type())
    assert len(forms) == 11
    for entry in forms:
        found = [code.text for code in codes(print_sheet(entry, election, 7))]
        assert found == [entry.karekod] * 2


def test_a_page_depends_only_on_entry_and_seed(entry: RegistryEntry, election: Election) -> None:
    first = print_sheet(entry, election, 1).tobytes()
    print_sheet(replace(entry, karekod="1093717526"), election, 1)
    assert print_sheet(entry, election, 1).tobytes() == first
    assert print_sheet(entry, election, 2).tobytes() != first


@pytest.mark.parametrize("letter", "ğışİŞĞçöüÇÖÜ")
def test_the_fonts_have_the_turkish_letters(letter: str) -> None:
    for name in (handwriting.SANS, handwriting.BOLD, handwriting.MONO):
        face = handwriting.font(name, 20)
        assert bytes(face.getmask(letter)) != bytes(face.getmask("\uffff"))


def test_the_error_for_a_missing_font_names_the_package() -> None:
    with pytest.raises(Faults, match="apt-get install fonts-dejavu-core"):
        handwriting.font("NoSuchFont.ttf", 20)
