"""A user of the web site, in a real browser: from the first login to the logout."""

import re
import ssl
from datetime import datetime
from pathlib import Path

import httpx
import openpyxl
import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route
from running_site import RunningSite, until
from web_browser import CHROMIUM, check_width, correct, first_box, kit, log_in, watched

from config.site import ACCESS

NEW_PASSWORD = "Galata-Kulesi-1348"
PAGES = ("/", "/arama", "/degisiklikler", "/eksikler", "/uyarilar", "/birlestirme", "/hesap")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


def test_a_first_login_sets_a_password_a_second_factor_and_accepts_the_terms(
    night: RunningSite, context: BrowserContext
) -> None:
    page, errors = watched(context)
    user = kit(night)["new_user"]
    log_in(page, user["name"], user["password"])
    page.wait_for_url("**/parola")
    page.goto("/arama")
    assert page.url.endswith("/parola")  # nothing else is open yet
    page.fill("#yeni", NEW_PASSWORD)
    page.fill("#tekrar", NEW_PASSWORD)
    page.click("text=Kaydet")
    page.wait_for_url("**/kosullar")
    page.check("input[name=kabul]")
    page.click("text=Devam et")
    page.wait_for_url(lambda url: url.endswith("/"))
    assert page.locator("h1").inner_text() == "Genel durum"

    page.goto("/hesap/ikinci-adim")
    secret = page.locator("code").inner_text()
    page.fill("#kod", pyotp.TOTP(secret).now())
    page.click("main button")
    page.wait_for_selector("text=İki adımlı giriş açık")
    page.click("text=Çıkış")
    page.wait_for_url("**/giris")
    page.goto("/arama")
    assert "/giris" in page.url
    log_in(page, user["name"], NEW_PASSWORD)
    page.wait_for_url("**/dogrulama")
    assert errors == []


def test_a_search_goes_down_to_a_mahalle_and_its_address_can_be_shared(
    night: RunningSite, context: BrowserContext
) -> None:
    page, errors, user = logged_in(night, context)
    page.click("nav >> text=Arama")
    page.wait_for_url("**/arama")
    page.wait_for_load_state()  # the script of the page runs
    for name in ("cevre", "kurul", "mahalle"):
        choices = page.locator(f"#f-{name} option")
        value = choices.nth(1).get_attribute("value")
        with page.expect_navigation():
            page.select_option(f"#f-{name}", value)
        assert f"{name}=" in page.url
    shared = page.url
    rows = page.locator("table.boxes tbody tr").count()
    assert rows >= 1
    page.go_back()
    assert "mahalle=" not in page.url
    other = context.new_page()
    other.goto(shared)
    assert other.locator("table.boxes tbody tr").count() == rows

    with other.expect_download() as saving:
        other.click("text=Excel")
    assert user in saving.value.suggested_filename
    check_excel(Path(saving.value.path()), other, user)
    assert errors == []


def logged_in(night: RunningSite, context: BrowserContext) -> tuple[Page, list[str], str]:
    """Return a page on which a user is logged in, its errors, and the name of the user."""
    page, errors = watched(context)
    user = kit(night)["users"][0]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    return page, errors, user["name"]


def check_excel(file: Path, page: Page, user: str) -> None:
    """Read a file with openpyxl, and compare it with the table on the page."""
    with file.open("rb") as content:  # the browser keeps it under a name without .xlsx
        book = openpyxl.load_workbook(content)
    headings, *lines = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
    shown = page.locator("table.boxes tbody tr")

    assert [line[headings.index("Sandık No")] for line in lines[:-1]] == [
        text.split()[0] for text in shown.locator("th").all_inner_texts()
    ]
    voters = [line[headings.index("Kayıtlı Seçmen")] for line in lines]
    assert all(type(number) is int for number in voters)
    assert voters[-1] == sum(voters[:-1])
    total = page.locator("tfoot td").first.inner_text()
    assert total == f"{voters[-1]:,}".replace(",", ".")
    assert all(isinstance(line[headings.index("İşlem Zamanı")], datetime) for line in lines[:-1])
    assert {line[-1] for line in lines} == {"GEÇİCİ SONUÇ"}
    info = dict(book.worksheets[-1].iter_rows(values_only=True))
    assert book.sheetnames[-1] == "Bilgi" and info["Kullanıcı"] == user
    assert str(info["Kayıt"]).startswith("access/")
    assert book.properties.creator == user


def test_a_box_is_beside_its_signed_sheet_and_a_correction_appears_by_itself(
    night: RunningSite, context: BrowserContext
) -> None:
    page, errors, _ = logged_in(night, context)
    row = first_box(night)
    page.goto(f"/sandik/{'/'.join(row.place)}?secim=mv")
    picture = page.locator(".viewer img")
    until(lambda: picture.evaluate("image => image.naturalWidth") > 500, "the sheet is shown")
    page.keyboard.press("+")
    assert "150%" in (picture.get_attribute("style") or "")
    page.keyboard.press("r")
    assert "rotate(90deg)" in (picture.get_attribute("style") or "")
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: row.place.sandik not in url.rpartition("/")[2])
    page.go_back()

    before = page.locator("#sayilar small").inner_text()
    page.evaluate("window.stillTheSamePage = true")
    page.click("text=Bütün sayılar")
    correct(night, row)
    page.wait_for_selector("#sayilar >> text=2. sürüm", timeout=90_000)
    assert page.locator(".timeline details").evaluate_all("all => all.map(each => each.open)") == [
        True,
        False,
    ]
    assert page.evaluate("document.activeElement.textContent") == "Bütün sayılar"
    assert before != page.locator("#sayilar small").inner_text()
    assert page.evaluate("window.stillTheSamePage")
    page.goto("/degisiklikler?secim=mv")
    assert "itiraz" in page.locator("main").inner_text()
    assert errors == []


def test_the_first_scan_of_a_box_comes_with_the_tools_of_the_viewer(
    night: RunningSite, context: BrowserContext
) -> None:
    page, errors, _ = logged_in(night, context)
    row = first_box(night)
    address = f"/sandik/{'/'.join(row.place)}?secim=mv"
    page.route(f"**{address}", without_a_scan)
    page.goto(address)
    assert page.locator(".viewer").count() == 0
    page.unroute(f"**{address}")

    correct(night, row)

    page.click("text=Sığdır", timeout=90_000)
    page.click("[data-do=buyut]")
    picture = page.locator(".viewer img")
    assert "150%" in (picture.get_attribute("style") or "")
    page.keyboard.press("r")
    assert "rotate(90deg)" in (picture.get_attribute("style") or "")
    assert errors == []


def without_a_scan(route: Route) -> None:
    """Answer with the page of a box as it was before its first scan."""
    answer = route.fetch()
    shown = re.sub('<nav class="tabs noprint" aria-label="Tutanaklar".*?</dl>', "", answer.text(),
                   flags=re.DOTALL)  # fmt: skip
    route.fulfill(response=answer, body=shown)


def test_a_page_says_when_it_is_no_longer_updated(
    night: RunningSite, context: BrowserContext
) -> None:
    page, _ = watched(context)
    user = kit(night)["users"][0]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    page.route("**/canli", lambda route: route.abort())
    page.goto("/arama?secim=mv")
    page.wait_for_selector("text=Bağlantı yok", timeout=90_000)
    page.unroute("**/canli")
    page.wait_for_selector("text=Bağlantı yok", state="detached", timeout=90_000)

    context.clear_cookies()  # as when the session has ended
    correct(night, first_box(night))

    page.wait_for_selector("text=Bu sayfa artık yenilenmiyor", timeout=90_000)
    page.click("text=Yeniden açın")
    page.wait_for_url("**/giris?sonra=**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_telephone_and_a_wide_screen(
    night: RunningSite, chromium: Browser, tmp_path: Path, scheme: str
) -> None:
    context = chromium.new_context(
        base_url=kit(night)["site"],
        ignore_https_errors=True,
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    context.set_default_timeout(60_000)
    page, errors = watched(context)
    user = kit(night)["users"][1]
    page.goto("/giris")
    check_width(page, tmp_path / f"giris-{scheme}")
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    for path in (*PAGES, f"/sandik/{'/'.join(first_box(night).place)}"):
        page.goto(path)
        check_width(page, tmp_path / f"{path.strip('/').replace('/', '-') or 'ana'}-{scheme}")
    context.close()
    assert errors == []


def test_an_address_that_is_not_registered_sees_nothing(night: RunningSite) -> None:
    trusted = ssl.create_default_context(cafile=kit(night)["ca"])
    transport = httpx.HTTPTransport(verify=trusted, local_address="127.0.0.77")
    with httpx.Client(transport=transport, base_url=kit(night)["site"], timeout=60) as client:
        answers = {client.get(path).status_code for path in ("/", "/giris", "/arama")}

    assert answers == {403}
    events = [record.event for record in night.records(ACCESS)]
    assert ("connection-refused", "127.0.0.77") in [(e.event, e.origin) for e in events]
