import io

import damaged_pages
import pytest
from PIL import Image

from publisher.reading import decode
from publisher.reading.agreement import agreement_on
from publisher.reading.worker import read_file


@pytest.mark.parametrize("kind", damaged_pages.KINDS, ids=lambda kind: kind.name)
def test_a_damaged_page_is_read_by_two_witnesses(kind: damaged_pages.Damage) -> None:
    """One page of each kind; tests/bench/reading.py reads thousands."""
    content, karekod = damaged_pages.page(kind, 0, 1)

    seen = read_file(content)

    assert seen.texts == (karekod,)
    assert agreement_on(karekod, seen.readings).agreeing >= 2


def test_a_damaged_page_comes_out_the_same_each_time() -> None:
    kind = damaged_pages.KINDS[0]

    assert damaged_pages.page(kind, 3, 1) == damaged_pages.page(kind, 3, 1)
    assert damaged_pages.page(kind, 3, 1) != damaged_pages.page(kind, 4, 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 1), (1, 900), (64, 64)])
def test_a_page_that_is_hardly_one_has_no_code(size: tuple[int, int]) -> None:
    assert decode.read(Image.new("L", size, 255)) == []


def test_what_zbar_chokes_on_is_left_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def choke(*_: object, **__: object) -> None:
        raise ValueError("structured append")

    monkeypatch.setattr(decode, "zbar_decode", choke)

    assert decode.read(Image.new("L", (300, 200), 255)) == []


def test_a_page_without_a_code_is_given_up_within_its_budget() -> None:
    content, _ = damaged_pages.page(damaged_pages.KINDS[0], 0, 1)
    page = Image.open(io.BytesIO(content)).convert("L")
    passes: list[None] = []
    for _ in decode._passes(page.crop((0, 400, 1200, 1800)), []):
        passes.append(None)
        if len(passes) > 5:
            break

    assert len(passes) == 6, "it goes on as long as there is time"
    assert decode.read(page.crop((0, 400, 1200, 1800)), budget=0) == []
