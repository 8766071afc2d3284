import io

import damaged_pages
import pytest
from PIL import Image
from slow_rest import slow_rest

from config.registry import is_karekod
from publisher.reading.codes import decode
from publisher.reading.codes.agreement import agreement_on
from publisher.reading.worker import read_file


@pytest.mark.parametrize("kind", slow_rest(damaged_pages.OWN_CODES, 10), ids=lambda kind: kind.name)
def test_two_readings_of_a_damaged_page_agree(kind: damaged_pages.Damage) -> None:
    """One page of each kind of damage; tests/bench/reading.py reads thousands."""
    content, karekod = damaged_pages.page(kind, 0, 1)

    seen = read_file(content)

    assert karekod
    assert [text for text in seen.texts if is_karekod(text)] == [karekod]
    assert seen.fault is None
    assert agreement_on(karekod, seen.readings).agreeing >= 2


def test_the_same_seed_makes_the_same_damaged_page() -> None:
    kind = damaged_pages.KINDS[0]

    assert damaged_pages.page(kind, 3, 1) == damaged_pages.page(kind, 3, 1)
    assert damaged_pages.page(kind, 3, 1) != damaged_pages.page(kind, 4, 1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 1), (1, 900), (64, 64)])
def test_a_tiny_page_has_no_code(size: tuple[int, int]) -> None:
    assert decode.read_codes(Image.new("L", size, 255)).readings == []


def test_an_error_of_zbar_does_not_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("structured append")

    monkeypatch.setattr(decode, "zbar_decode", fail)

    assert decode.read_codes(Image.new("L", (300, 200), 255)).readings == []


def test_a_page_without_a_code_is_given_up_when_the_budget_is_used() -> None:
    content, _ = damaged_pages.page(damaged_pages.KINDS[0], 0, 1)
    page = Image.open(io.BytesIO(content)).convert("L")
    passes: list[None] = []
    for _ in decode._passes(page.crop((0, 400, 1200, 1800)), []):
        passes.append(None)
        if len(passes) > 5:
            break

    assert len(passes) == 6, "passes go on as long as there is time"
    assert decode.read_codes(page.crop((0, 400, 1200, 1800)), budget=0).readings == []
