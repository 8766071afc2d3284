import io
from dataclasses import replace

import damaged_pages
import pytest
from PIL import Image
from slow_rest import slow_rest

from config.registry import is_karekod
from publisher.page import Reading, Reason
from publisher.reading.codes import decode
from publisher.reading.codes.agreement import agreement_on
from publisher.reading.codes.placing import Placed
from publisher.reading.worker import read_file

pytestmark = pytest.mark.slow


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


@pytest.fixture
def read_digits(monkeypatch: pytest.MonkeyPatch) -> list[Placed]:
    """The codes whose printed digits are read; none has any."""
    found: list[Placed] = []
    monkeypatch.setattr(decode, "digits_under", lambda grey, code: found.append(code))
    return found


def code_at(n: int, text: str) -> Reading:
    x, y = 100 * (n % 6), 100 * (n // 6)
    corners = ((x, y), (x + 50, y), (x + 50, y + 50), (x, y + 50))
    return Reading(text, "zxing-cpp", "whole", 1, corners)


CODES = [code_at(n, f"10000000{n:02}") for n in range(30)]


@pytest.mark.parametrize(("deadline", "read"), [(float("inf"), 30), (0.0, 1)])
def test_printed_digits_are_not_read_after_the_budget_is_used(
    read_digits: list[Placed], deadline: float, read: int
) -> None:
    page = Image.new("L", (640, 640), 255)

    assert decode._confirmed_by_digits(page, CODES, set(), deadline) == []

    assert len(read_digits) == read


def test_a_page_with_many_copies_of_its_code_is_held_when_the_budget_is_used(
    read_digits: list[Placed],
) -> None:
    copies = [replace(code, text="1000000000") for code in CODES]

    fault, _ = decode._fault(Image.new("L", (640, 640), 255), "1000000000", copies, 0.0)

    assert fault is Reason.CONFLICTING_KAREKODS
    assert copies[-1].text == "digits ??????????"
    assert len(read_digits) == 2


def test_what_an_operator_has_read_again_ends_with_the_budget(
    read_digits: list[Placed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_passes", lambda grey, found: iter([CODES]))

    assert len(decode.read_everything(Image.new("L", (640, 640), 255), budget=-1.0)) == 30

    assert len(read_digits) == 1


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
