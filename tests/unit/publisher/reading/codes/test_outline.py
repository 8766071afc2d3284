import io

import damaged_pages
import pytest
from PIL import Image, ImageDraw

from publisher.page import Reason
from publisher.reading.codes.outline import Extent, print_around
from publisher.reading.codes.placing import Placed
from publisher.reading.worker import read_file
from scripts.rehearsal.synthetic.sheets import karekod_image

pytestmark = pytest.mark.slow

A4 = (1654, 2339)
CODE = "1093717526"


def sheet(*copies: int, strip: int = 0, turn: int = 0, glass: bool = False) -> Image.Image:
    """Draw a sheet with its code at these heights; `strip` pixels of another lie to its left."""
    image = Image.new("L", A4, 248)
    draw = ImageDraw.Draw(image)
    for y in range(400, 1900, 46):
        draw.line((95, y, 1400, y), 60, 3)
    draw.text((95, 60), "T.C.", 20)
    draw.rectangle((95, 2250, 600, 2260), 40)
    for y in copies:
        image.paste(karekod_image(CODE, 102), (1473, y))
    if strip:
        wide = Image.new("L", (A4[0] + strip, A4[1]), 248)
        wide.paste(image, (0, 0))
        wide.paste(image, (strip, 0))
        ImageDraw.Draw(wide).rectangle((0, 0, strip, A4[1]), 248)
        wide.paste(image.crop((0, 0, strip, A4[1])), (0, 0))
        image = wide
    if glass:
        larger = Image.new("L", (2400, 3400), 120)
        larger.paste(image, (500, 700))
        image = larger
    return image.rotate(turn, expand=True, fillcolor=248)


def fault(image: Image.Image) -> Reason | None:
    file = io.BytesIO()
    image.save(file, "PNG")
    seen = read_file(file.getvalue())
    assert CODE in seen.texts
    return seen.fault


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("copy", [71, 2095])
@pytest.mark.parametrize("glass", [False, True])
def test_a_sheet_with_one_readable_copy_is_in_place(copy: int, turn: int, glass: bool) -> None:
    assert fault(sheet(copy, turn=turn, glass=glass)) is None


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("strip", [210, 300])
def test_a_code_beside_the_print_of_another_sheet_is_out_of_place(strip: int, turn: int) -> None:
    """The other sheet's own codes are covered, so that nothing says where they are."""
    assert fault(sheet(71, strip=strip, turn=turn)) is Reason.CODE_OUT_OF_PLACE


def test_how_far_print_reaches_is_measured_in_widths_of_the_code() -> None:
    code = Placed.of(((1473, 71), (1575, 71), (1575, 173), (1473, 173)))
    assert code

    measured = print_around(sheet(71).reduce(2), code)

    assert measured
    found, print_map = measured
    assert print_map is None, "there is no second copy"
    assert found.copy == "upper"
    assert found == pytest.approx((14.0, 0.5, 0.5, 21.0), abs=0.3)
    assert Extent.parse(str(found)) == pytest.approx(found, abs=0.06)
    assert Extent.parse("print 1 2 3") is None
    assert Extent.parse(CODE) is None


def test_an_extent_is_that_of_a_sheet_or_of_more() -> None:
    assert Extent(14.0, 0.6, 0.5, 21.4).is_on_a_sheet()
    assert Extent(14.0, 0.6, 20.3, 1.5).is_on_a_sheet()
    assert not Extent(16.0, 0.6, 0.5, 21.4).is_on_a_sheet()
    assert not Extent(14.0, 4.0, 0.5, 21.4).is_on_a_sheet(), "too far to the right"
    assert not Extent(14.6, 3.0, 0.5, 21.4).is_on_a_sheet(), "too wide"
    assert not Extent(14.0, 0.6, 3.0, 21.4).is_on_a_sheet(), "too high"
    assert not Extent(14.0, 0.6, 9.0, 14.0).is_on_a_sheet(), "in the middle of the sheet"
    assert not Extent(13.8, 1.0, 0.5, 23.2).is_on_a_sheet(), "longer than from the code to the end"
    assert not Extent(23.2, 0.5, 0.7, 21.2).is_on_a_sheet(), "too wide for A4, too low for A3"
    assert Extent(20.9, 0.5, 0.7, 14.8).is_on_a_sheet(), "A4, sideways"
    assert Extent(30.2, 0.6, 0.5, 21.4).is_on_a_sheet(), "A3, sideways"
    assert Extent(21.0, 0.6, 0.5, 31.0).is_on_a_sheet(), "A3"


@pytest.mark.parametrize("number", [24, 37])
def test_the_edge_of_a_tilted_sheet_on_a_dark_lid_is_not_print(number: int) -> None:
    kind = next(kind for kind in damaged_pages.KINDS if kind.name == "tilted")
    content, karekod = damaged_pages.page(kind, number, 3)

    seen = read_file(content)

    assert (seen.fault, seen.texts) == (None, (karekod,))
