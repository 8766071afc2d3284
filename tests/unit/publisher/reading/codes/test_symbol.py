import damaged_pages
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps
from qrcode.util import MODE_NUMBER
from slow_rest import slow_rest

from publisher.reading.codes import symbol
from publisher.reading.codes.decode import read_codes
from publisher.reading.codes.symbol import Symbol, symbol_of
from scripts.rehearsal.synthetic.sheets import karekod_image

CODE = "1093717526"
SQUARE = ((0.0, 0.0), (105.0, 0.0), (105.0, 105.0), (0.0, 105.0))


def texts_on(code: Image.Image) -> set[str]:
    page = Image.new("L", (1654, 2339), 255)
    for top in (60, 2100):
        page.paste(code, (1450, top))
    return {reading.text for reading in read_codes(page).readings}


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_printed_code_is_recognised_in_all_four_turns_without_its_mask(turn: int) -> None:
    turned = karekod_image(CODE, 105).rotate(90 * turn)

    found, corner = symbol_of(turned, SQUARE, CODE)

    assert found is Symbol.PRINTED
    assert corner == -turn % 4  # rotated anticlockwise, the top left corner is the last one


@pytest.mark.parametrize("text", ["0000000000", CODE, "9999999999", "0100200304"])
@pytest.mark.parametrize("level", list(symbol.LEVELS))
def test_the_modules_of_a_text_are_added_up_from_its_bits(text: str, level: str) -> None:
    for mask in range(8):
        expected = symbol._drawn(text, level, mask, MODE_NUMBER)

        assert np.array_equal(symbol._expected(text, level, mask, MODE_NUMBER), expected)


@pytest.mark.parametrize("blur", [0.0, 1.0, 2.0])
def test_a_mirrored_code_does_not_count_as_printed(blur: float) -> None:
    mirrored = ImageOps.mirror(karekod_image(CODE, 105)).filter(ImageFilter.GaussianBlur(blur))

    assert symbol_of(mirrored, SQUARE, CODE)[0] is Symbol.MIRRORED
    assert symbol_of(mirrored, SQUARE, "1093717527")[0] is Symbol.OTHER


@pytest.mark.parametrize("what", slow_rest(["gs1", "part", "version"], 1))
def test_a_code_of_another_kind_with_ten_digits_is_not_a_karekod(what: str) -> None:
    assert texts_on(damaged_pages.foreign_code(CODE, what)) == {f"other {CODE}"}


@pytest.mark.slow
def test_a_code_shining_through_from_the_other_side_is_not_a_karekod() -> None:
    faint = karekod_image(CODE, 105).point([245 - (255 - value) // 12 for value in range(256)])

    assert texts_on(ImageOps.mirror(faint)) == {f"mirrored {CODE}"}


def test_the_same_digits_in_a_plain_code_are_a_karekod() -> None:
    assert texts_on(ImageOps.expand(karekod_image(CODE, 105), 20, 255)) == {CODE}
