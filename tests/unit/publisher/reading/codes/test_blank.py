import io

import damaged_pages
import pytest
from PIL import Image, ImageOps
from slow_rest import slow_rest

from publisher.page import Reason
from publisher.reading.codes.blank import MOST_INK, ink_share
from publisher.reading.worker import read_file
from scripts.rehearsal.synthetic.scan_damage import expose
from scripts.rehearsal.synthetic.seeded_random import seeded_rng


@pytest.mark.parametrize("number", slow_rest(range(6), 2))
def test_a_blank_page_with_dust_and_shadow_is_blank(number: int) -> None:
    page = expose(Image.new("L", (1654, 2339), 255), seeded_rng(1, "blank", number))
    file = io.BytesIO()
    page.save(file, "JPEG", quality=70)

    seen = read_file(file.getvalue())

    assert seen.fault is Reason.BLANK_BACK
    assert [reading.text[:4] for reading in seen.readings] == ["ink "], "the measure is on record"


@pytest.mark.parametrize("kind", slow_rest(damaged_pages.OWN_CODES, 4), ids=lambda kind: kind.name)
def test_no_page_of_a_form_is_blank(kind: damaged_pages.Damage) -> None:
    content, _ = damaged_pages.page(kind, 1, 3)

    assert ink_share(Image.open(io.BytesIO(content)).convert("L")) > 10 * MOST_INK


def test_a_faint_form_without_its_codes_is_not_blank() -> None:
    content, _ = damaged_pages.page(damaged_pages.KINDS[0], 2, 3)
    page = Image.open(io.BytesIO(content)).convert("L")
    faint = page.crop((0, 500, 1400, 2000)).point([215 + value // 8 for value in range(256)])

    assert ink_share(ImageOps.expand(faint, 100, 246)) > MOST_INK


def test_a_small_picture_is_not_a_blank_page() -> None:
    assert ink_share(Image.new("L", (300, 200), 255)) == 1


def test_a_scan_without_light_is_not_a_blank_page() -> None:
    """A black picture, and one of 12 bits that is shown as if it had 16."""
    for level in (0, 15, 90):
        assert ink_share(Image.new("L", (1654, 2339), level)) == 1
    assert ink_share(Image.new("L", (1654, 2339), 130)) == 0
