"""Masa in a real browser: two operators identify pages with the keyboard, and axe looks at it."""

from collections.abc import Iterator
from statistics import median

import pytest
from desk_night import DeskNight, desk_night, identify_all, signed_in
from playwright.sync_api import Browser, Page
from running_site import until
from web_browser import CHROMIUM, SIZES, chromium_browser, violations

from config.site import FILING

PAGES = 12

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed"),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskNight]:
    with desk_night(tmp_path_factory.mktemp("desk"), PAGES) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium_browser() as found:
        yield found


def identified(night: DeskNight) -> dict[str, list[str]]:
    """Return who identified each karekod that is filed."""
    found = {}
    for record in night.site.records(FILING):
        if by := record.event.detail.get("identified_by"):
            assert isinstance(by, list)
            found[str(record.event.detail["karekod"])] = sorted(by)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_screens_of_the_desk(
    night: DeskNight, browser: Browser, scheme: str
) -> None:
    account = night.kit["supervisor" if scheme == "dark" else "auditor"]
    page = signed_in(night, browser, account, color_scheme=scheme)
    page.goto("/masa?durum=hepsi")
    first = page.locator("a.entry").first.get_attribute("href") or ""
    chosen = f"{first}&secim=1:{next(iter(night.truth.values()))}&ara=1001"
    found: list[str] = []
    paths = ["/masa?durum=hepsi", first, chosen, "/masa/yeniden-tarama"]
    for path in [*paths, *(["/masa/toplu"] if scheme == "dark" else [])]:
        page.goto(path)
        for width, height in SIZES[1:]:  # nobody works here with a telephone
            page.set_viewport_size({"width": width, "height": height})
            found += violations(page, f"{path} {width} {scheme}")
    page.context.close()

    assert found == []


def test_two_operators_identify_every_page_with_the_keyboard_alone(
    night: DeskNight, browser: Browser
) -> None:
    errors: list[str] = []
    for account in night.kit["operators"]:
        page = signed_in(night, browser, account)
        watch(page, errors)
        until(lambda page=page: waiting(page) == PAGES, "the queue has every page")  # type: ignore[misc]
        done = identify_all(night, page, PAGES)
        assert {each.name for each in done} == set(night.truth)
        assert median(each.strokes for each in done) <= 6
        page.context.close()

    until(lambda: len(identified(night)) == PAGES, "every page is filed")
    assert identified(night) == {
        karekod: ["staff:operator-1", "staff:operator-2"] for karekod in night.truth.values()
    }
    assert errors == []


def waiting(page: Page) -> int:
    page.goto("/masa")
    return page.locator("a.entry").count()


def watch(page: Page, errors: list[str]) -> None:
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
