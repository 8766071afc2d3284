import io

import damaged_pages
import pytest
from PIL import Image
from slow_rest import slow_rest

from config.registry import is_karekod
from publisher.page import Reason
from publisher.reading.codes.decode import UNREAD
from publisher.reading.codes.locate import unread_codes
from publisher.reading.codes.placing import Placed
from publisher.reading.worker import read_file
from scripts.rehearsal.synthetic.sheets import karekod_image


def kind(name: str) -> damaged_pages.Damage:
    return next(kind for kind in damaged_pages.KINDS if kind.name == name)


@pytest.mark.parametrize("name", ["neighbour", "neighbour-part"])
@pytest.mark.parametrize("number", slow_rest(range(6), 1))
def test_a_page_with_damaged_codes_is_never_filed_under_its_neighbour(
    name: str, number: int
) -> None:
    content, karekod = damaged_pages.page(kind(name), number, 2)

    seen = read_file(content)

    karekods = {text for text in seen.texts if is_karekod(text)}
    assert karekod in karekods or seen.fault or not karekods


def page(*codes: tuple[str, int, int]) -> Image.Image:
    image = Image.new("L", (1654, 2339), 250)
    for text, x, y in codes:
        image.paste(karekod_image(text, 102), (x, y))
    return image


def spoiled(image: Image.Image, x: int, y: int) -> Image.Image:
    """Paint over the lower right of a code, where most of its data are."""
    image.paste(60, (x + 40, y + 40, x + 72, y + 102))
    return image


def faults(image: Image.Image) -> tuple[Reason | None, tuple[str, ...]]:
    file = io.BytesIO()
    image.save(file, "PNG")
    seen = read_file(file.getvalue())
    return seen.fault, seen.texts


def test_a_code_that_cannot_be_read_is_a_conflict_with_one_that_can() -> None:
    image = spoiled(page(("2000000001", 1480, 60), ("1093717526", 1300, 160)), 1300, 160)

    assert faults(image) == (Reason.CONFLICTING_KAREKODS, ("2000000001", UNREAD))


def test_the_damaged_second_copy_is_not_a_conflict() -> None:
    image = spoiled(page(("1093717526", 1480, 60), ("1093717526", 1484, 2110)), 1484, 2110)

    assert faults(image) == (None, ("1093717526",))


def test_a_code_at_the_left_edge_is_out_of_place() -> None:
    assert faults(page(("1093717526", 60, 60)))[0] is Reason.CODE_OUT_OF_PLACE


def test_a_located_code_is_where_the_unread_code_is() -> None:
    image = spoiled(page(("2000000001", 1480, 60), ("1093717526", 900, 700)), 900, 700)
    read = Placed.of(((1480, 60), (1582, 60), (1582, 162), (1480, 162)))
    assert read

    (corners,) = unread_codes(image, [read], [])

    assert all(abs(x - 951) < 100 and abs(y - 751) < 100 for x, y in corners)
    found = Placed.of(corners)
    assert found
    assert unread_codes(image, [read], [found]) == []
