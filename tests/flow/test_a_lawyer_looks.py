"""A user of the web site, in a real browser: from the first login to the logout.

Debian's Chromium is driven by Playwright. The site is a rehearsal's, run by `ssps run`.
"""

import io
import json
import shutil
import ssl
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from running_site import RunningSite, free_port, running_rehearsal, until

from config.scope import ALL
from config.settings import ShareLevel
from config.sheet import Secim
from config.site import ACCESS
from portal.data.criteria import Criteria, Status
from portal.data.live import LiveData
from portal.data.scoped import BoxRow
from scripts.rehearsal.synthetic.result_batches import deliver_batch

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = ((360, 740), (768, 1024), (1440, 900))
NEW_PASSWORD = "Galata-Kulesi-1348"
PAGES = ("/", "/arama", "/degisiklikler", "/eksikler", "/uyarilar", "/birlestirme", "/hesap")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A small election with a portal, all of it filed and counted."""
    folder = tmp_path_factory.mktemp("web")
    with running_rehearsal(folder, boxes=8, parties=2, web_port=free_port()) as found:
        found.scan()
        until(lambda: any((found.site / "snapshots").glob("0*")), "a snapshot is closed")
        until(lambda: opened(found) == 8, "all boxes have a result")
        yield found


def opened(night: RunningSite) -> int:
    live = LiveData(night.site, ShareLevel.CEVRE)
    return live.scoped(ALL).summary(Criteria(Secim.MV)).opened


def kit(night: RunningSite, party: str = "parti-a") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((night.site / "clients" / party / "web.json").read_text())
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def context(night: RunningSite, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser without cookies. The test's authority is in no store of the system."""
    made = chromium.new_context(
        base_url=kit(night)["site"], ignore_https_errors=True, accept_downloads=True
    )
    made.set_default_timeout(60_000)
    yield made
    made.close()


def watched(context: BrowserContext) -> tuple[Page, list[str]]:
    """Open a page; every error that the browser reports is collected."""
    page, errors = context.new_page(), list[str]()
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page, errors


def log_in(page: Page, name: str, password: str) -> None:
    page.goto("/giris")
    page.fill("#kullanici", name)
    page.fill("#parola", password)
    page.click("text=Giriş yap")


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
    page, errors = watched(context)
    user = kit(night)["users"][0]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
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
    assert user["name"] in saving.value.suggested_filename
    with zipfile.ZipFile(io.BytesIO(Path(saving.value.path()).read_bytes())) as book:
        assert "GEÇİCİ SONUÇ" in book.read("xl/worksheets/sheet1.xml").decode() or any(
            "GEÇİCİ SONUÇ" in book.read(name).decode()
            for name in book.namelist()
            if name.endswith(".xml")
        )
    assert errors == []


def test_a_box_is_beside_its_signed_sheet_and_a_correction_appears_by_itself(
    night: RunningSite, context: BrowserContext
) -> None:
    page, errors = watched(context)
    user = kit(night)["users"][0]
    log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
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
    correct(night, row)
    page.wait_for_selector("text=2. sürüm", timeout=90_000)
    assert before != page.locator("#sayilar small").inner_text()
    assert page.evaluate("window.stillTheSamePage")
    page.goto("/degisiklikler?secim=mv")
    assert "itiraz" in page.locator("main").inner_text()
    assert errors == []


def first_box(night: RunningSite) -> BoxRow:
    data = LiveData(night.site, ShareLevel.CEVRE).scoped(ALL)
    wanted = Criteria(Secim.MV, status=Status.OPENED)
    return next(r for r in data.rows(wanted) if r.sheets and r.version == 1)


def correct(night: RunningSite, row: BoxRow) -> None:
    """Deliver a second version of a box's numbers, as after an objection."""
    numbers = {name: number for name, number in row.numbers.items() if number is not None}
    votes = dict(row.votes)
    most = max(votes, key=lambda option: votes[option])
    votes[most] -= 1
    changed = {
        "secim": "mv",
        **row.place._asdict(),
        "sandik_turu": row.kind.value,
        "surum": 2,
        "neden": "itiraz",
        "zaman": "2026-11-30T23:00:00+03:00",
        **numbers,
        "gecersiz": numbers["gecersiz"] + 1,
        "gecerli": numbers["gecerli"] - 1,
        "itirazsiz_gecerli": numbers["itirazsiz_gecerli"] - 1,
        "oylar": votes,
    }
    deliver_batch(night.site, "itiraz.ndjson", [changed])


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


def check_width(page: Page, picture: Path) -> None:
    """Nothing is wider than the window; each size is kept as a picture to look at."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("document.documentElement.scrollWidth")
        page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"), full_page=True)
        assert wide <= width, (picture.name, width)


def test_an_address_that_is_not_registered_sees_nothing(night: RunningSite) -> None:
    trusted = ssl.create_default_context(cafile=kit(night)["ca"])
    transport = httpx.HTTPTransport(verify=trusted, local_address="127.0.0.77")
    with httpx.Client(transport=transport, base_url=kit(night)["site"], timeout=60) as client:
        answers = {client.get(path).status_code for path in ("/", "/giris", "/arama")}

    assert answers == {403}
    events = [record.event for record in night.records(ACCESS)]
    assert ("connection-refused", "127.0.0.77") in [(e.event, e.origin) for e in events]
