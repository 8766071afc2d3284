"""Every screen: for people who use the keyboard or a screen reader, and in the users' handbook.

The pictures of the handbook are drawn by this test. After a change of the screens,

    SSPS_DRAW_HELP=1 .venv/bin/pytest -n0 tests/flow/test_screens.py -k handbook

draws them again and writes down what is on each screen; commit what it has written.
"""

import io
import json
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page
from running_site import RunningSite, until
from web_browser import CHROMIUM, SIZES, correct, first_box, kit, log_in, violations, watched

from portal.data.numbers.boxes import BoxPlace
from portal.party.look import HELP_FOLDER, HELP_PAGES
from portal.party.pages.help import LABELS, labels

NEW_PASSWORD = "Galata-Kulesi-1348"
DRAW = os.environ.get("SSPS_DRAW_HELP") == "1"
PICTURE = {"width": 1000, "height": 720}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def box(night: RunningSite) -> BoxPlace:
    """A box with a correction; with an announcement, every screen has something to show."""
    night.ssps("portal", "announce", "add", "Prova 14.00'te başlar.", "--why", "test")
    row = first_box(night)
    number = int((night.site / "snapshots/latest").read_text().split()[0])
    correct(night, row)
    until(lambda: (night.site / f"snapshots/{number + 1:08}").exists(), "the next snapshot")
    return row.place


def screens(box: BoxPlace) -> dict[str, str]:
    """Name and address of every screen of a user who is logged in."""
    return {
        "genel-durum": "/?secim=mv",
        "arama": "/arama?secim=mv",
        "sandik": f"/sandik/{'/'.join(box)}?secim=mv",
        "degisiklikler": "/degisiklikler?secim=mv",
        "eksikler": "/eksikler?secim=mv",
        "uyarilar": "/uyarilar?secim=mv",
        "birlestirme": f"/birlestirme?secim=mv&cevre={box.cevre}",
        "hesap": "/hesap",
        "hesap-parola": "/hesap/parola",
        "ikinci-adim": "/hesap/ikinci-adim",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_screen_at_any_size(
    night: RunningSite, chromium: Browser, box: BoxPlace, scheme: str
) -> None:
    context = chromium.new_context(
        base_url=kit(night)["site"],
        ignore_https_errors=True,
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    found: list[str] = []
    colours_only = scheme == "dark"
    helps = [f"/yardim/{slug}" for slug in HELP_PAGES]
    for path in ("/giris", "/yardim", *helps):
        page.goto(path)
        found += violations(page, path, colours_only=colours_only)
    user = kit(night)["users"][1]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    for path in (*screens(box).values(), "/yok"):
        page.goto(path)
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            found += violations(page, f"{path} {width}", colours_only=colours_only)
            wide = page.evaluate("document.documentElement.scrollWidth")
            found += [f"{path} {width}: it is {wide} pixels wide"] if wide > width else []
    context.close()

    assert found == []


def test_search_and_box_are_used_with_the_keyboard_alone(
    night: RunningSite, context: BrowserContext, box: BoxPlace
) -> None:
    page, errors = watched(context)
    user = kit(night)["users"][0]
    page.goto("/giris?sonra=/arama%3Fsecim%3Dmv")
    focus(page, "kullanici")
    page.keyboard.type(user["name"])
    page.keyboard.press("Tab")
    page.keyboard.type(user["password"])
    page.keyboard.press("Enter")
    page.wait_for_url("**/arama?secim=mv")
    page.wait_for_load_state()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    focus(page, "f-ilk")
    page.keyboard.type(box.sandik)
    page.keyboard.press("Tab")
    page.keyboard.type(box.sandik)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert f"ilk={box.sandik}&son={box.sandik}" in page.url
    seen = focus(page, f"/sandik/{'/'.join(box)}?")
    assert all(visible for visible in seen), "the focus is always to be seen"
    with page.expect_navigation():
        page.keyboard.press("Enter")
    focus(page, "Büyüt")
    page.keyboard.press("Enter")
    assert "150%" in (page.locator("#goruntuleyici img").get_attribute("style") or "")
    page.keyboard.press("0")
    page.keyboard.press("r")
    assert "rotate(90deg)" in (page.locator("#goruntuleyici img").get_attribute("style") or "")
    page.go_back()
    assert f"ilk={box.sandik}&son={box.sandik}" in page.url
    assert errors == []


def focus(page: Page, wanted: str) -> list[bool]:
    """Press Tab until the focus is on an element with that id, address or text."""
    seen = []
    for _ in range(120):
        page.keyboard.press("Tab")
        script = """() => {
            const e = document.activeElement, s = getComputedStyle(e);
            return [e.id || e.name || "", e.getAttribute("href") || "", e.innerText || "",
                    s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2];
        }"""
        name, address, text, visible = page.evaluate(script)
        seen.append(visible)
        if name == wanted or address.startswith(wanted) or wanted in text.splitlines():
            return seen
        if wanted in text and len(text) < 40:
            return seen
    raise AssertionError(f"the focus never came to {wanted}")


def test_a_printed_page_says_who_printed_it_and_has_every_column(
    night: RunningSite, context: BrowserContext, box: BoxPlace
) -> None:
    page = context.new_page()
    user = kit(night)["users"][0]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    page.goto("/arama?secim=mv")
    last = page.locator("table.boxes thead th").nth(-2).inner_text()
    overview = printed(page)
    page.goto(f"/sandik/{'/'.join(box)}?secim=mv")
    sheet = printed(page)

    assert " ".join(last.split()) in " ".join(overview.split())  # the last option's column
    for text in (overview, sheet):
        assert f"Yazdıran: {user['name']}" in text
        assert "geçici sonuç" in text
        assert "Çıkış" not in text and "Döndür" not in text
    assert "Kaydet" not in overview and "Sandık türü" not in overview  # neither form nor links
    assert overview.count("Toplam") >= 2 and "Tutanak" in overview
    assert "SHA-256" in sheet and "itiraz" in sheet


def printed(page: Page) -> str:
    """Print a page on A4 paper, across; return its text."""
    page.emulate_media(media="print")
    with closing(pypdfium2.PdfDocument(page.pdf(format="A4", landscape=True))) as document:
        text = "\n".join(sheet.get_textpage().get_text_range() for sheet in document)
    page.emulate_media(media="screen")
    return text


def test_the_handbook_shows_the_screens_as_they_are(
    night: RunningSite, context: BrowserContext, box: BoxPlace, tmp_path: Path
) -> None:
    folder = HELP_FOLDER if DRAW else tmp_path
    page = context.new_page()
    page.set_viewport_size(PICTURE)  # type: ignore[arg-type]
    drawn: dict[str, dict[str, Any]] = {}
    new, user = kit(night)["new_user"], kit(night)["users"][0]

    page.goto("/giris")
    draw(page, folder, "giris", drawn)
    log_in(page, new["name"], new["password"])
    page.wait_for_url("**/parola")
    draw(page, folder, "parola", drawn)
    page.fill("#yeni", NEW_PASSWORD)
    page.fill("#tekrar", NEW_PASSWORD)
    page.click("text=Kaydet")
    page.wait_for_url("**/kosullar")
    draw(page, folder, "kosullar", drawn)
    context.clear_cookies()
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    for name, path in screens(box).items():
        if name != "hesap-parola":
            page.goto(path, wait_until="networkidle" if name != "genel-durum" else "load")
            draw(page, folder, name, drawn)
    if DRAW:
        text = json.dumps(drawn, ensure_ascii=False, indent=1) + "\n"
        (folder / LABELS).write_text(text, encoding="utf-8")

    today = {name: each["labels"] for name, each in drawn.items()}
    assert today == {name: each["labels"] for name, each in labels(HELP_FOLDER).items()}, (
        "the screens have changed: draw the pictures again, see the top of this file"
    )


def draw(page: Page, folder: Path, name: str, drawn: dict[str, dict[str, Any]]) -> None:
    """Draw a screen, and write down its headings and labels."""
    file = folder / f"{name}.webp"
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(file, "WEBP", quality=60, method=6)
        size = list(picture.size)
    texts = page.locator("h1, h2, label, button, main th[scope=col], main dt").all_inner_texts()
    said = (re.sub(r"\d+", "#", " ".join(text.split())) for text in texts)
    drawn[name] = {"size": size, "labels": list(dict.fromkeys(filter(None, said)))}
