import io

import damaged_pages
import pytest
from PIL import Image, ImageDraw

from publisher.page import Reason
from publisher.reading.codes.digits import Digits, digits_under
from publisher.reading.codes.placing import Placed
from publisher.reading.worker import read_file
from scripts.rehearsal.synthetic.handwriting import MONO, SANS, font
from scripts.rehearsal.synthetic.sheets import karekod_image

CODE, OTHER = "1093717526", "2840651937"


def page(printed: str, *, face: str = MONO, x: int = 1480, turn: int = 0) -> Image.Image:
    """Draw a page with two copies of CODE, and other digits printed under them."""
    image = Image.new("L", (1654, 2339), 248)
    draw = ImageDraw.Draw(image)
    for y in (80, 2080):
        image.paste(karekod_image(CODE, 102), (x, y))
        draw.text((x + 51, y + 128), printed, 30, font(face, 21), "mm")
    return image.rotate(turn, expand=True, fillcolor=248)


def upper(image: Image.Image, x: int = 1480) -> Digits | None:
    code = Placed.of(((x, 80), (x + 102, 80), (x + 102, 182), (x, 182)))
    assert code
    return digits_under(image, code)


@pytest.mark.parametrize("face", [MONO, SANS])
@pytest.mark.parametrize("number", [CODE, OTHER, "0000000000", "1111111111", "8888888888"])
def test_the_digits_under_a_code_are_read(face: str, number: str) -> None:
    found = upper(page(number, face=face))

    assert found
    assert found.confirm(number)
    assert not found.contradict(number)


def test_nothing_is_read_where_nothing_is_printed() -> None:
    assert upper(page("")) is None


@pytest.mark.parametrize("printed", ["TUTANAK NO", "----------", "PROVA PROVA"])
def test_words_are_no_digits(printed: str) -> None:
    found = upper(page(printed))

    assert found is None or not (found.confirm(CODE) or found.contradict(CODE))


def test_one_digit_that_is_not_sure_is_enough_for_neither() -> None:
    assert Digits("109371752?").confirm(CODE)
    assert not Digits("10937175??").confirm(CODE)
    assert not Digits("1093717527").confirm(CODE)
    assert not Digits("1093717527").contradict(CODE), "one digit may have been misread"
    assert Digits("10937?7549").contradict(CODE)
    assert not Digits("10937???49").contradict(CODE), "too few were read"
    assert not Digits("?109371752").contradict(CODE), "the cells were one place beside the digits"
    assert not Digits("93717526??").contradict(CODE)
    assert not Digits("?109371752").confirm(CODE)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_page_whose_printed_digits_are_another_number_is_not_filed(turn: int) -> None:
    file = io.BytesIO()
    page(OTHER, turn=turn).save(file, "PNG")

    seen = read_file(file.getvalue())

    assert seen.fault is Reason.CONFLICTING_KAREKODS
    assert next(text for text in seen.texts if text != CODE).startswith("digits ")


def test_the_digits_are_the_second_reading_of_a_code_that_was_read_once() -> None:
    """Most of the lower code is gone, and only one pass reads the upper one."""
    kind = next(kind for kind in damaged_pages.KINDS if kind.name == "clean")
    content, karekod = damaged_pages.page(kind, 0, 9)
    assert karekod
    image = Image.open(io.BytesIO(content)).convert("L")
    seen = read_file(content)
    copies = [Placed.of(reading.corners) for reading in seen.readings if reading.text == karekod]

    found = [digits_under(image, copy) for copy in copies if copy]

    assert len(found) >= 2
    assert all(one is not None and one.confirm(karekod) for one in found)
