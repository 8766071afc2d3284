"""A party asks for access: form in the browser, paper, the operator's decision, the first login."""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyotp
import pypdfium2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from running_site import RunningSite, free_port, running_rehearsal
from web_browser import CHROMIUM, kit, log_in, violations

from scripts.rehearsal import staff_clients

NEW_PASSWORD = "Galata-Kulesi-1348"
PICTURES = os.environ.get("SSPS_PICTURES", "")  # a folder for pictures of the screens, to look at

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A small election with a portal and a staff site."""
    with running_rehearsal(
        tmp_path_factory.mktemp("asks"),
        boxes=2,
        parties=1,
        web_port=free_port(),
        staff_port=free_port(),
    ) as found:
        yield found


def browser_at(chromium: Browser, address: str) -> BrowserContext:
    made = chromium.new_context(base_url=address, ignore_https_errors=True, locale="tr-TR")
    made.set_default_timeout(90_000)
    return made


class Looking:
    """What axe finds on the screens, and their pictures."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def at(self, page: Page, name: str) -> None:
        for width, height, scheme in ((360, 740, "light"), (1440, 900, "dark"), (1000, 800, None)):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            self.found += violations(page, f"{name} {width}")
            if PICTURES:
                page.screenshot(path=Path(PICTURES) / f"{name}-{width}.png", full_page=True)


def operator(chromium: Browser, site: RunningSite) -> Page:
    """Log an operator in at the staff site."""
    accounts = json.loads(staff_clients.kit_file(site.site).read_text())
    page = browser_at(chromium, accounts["site"]).new_page()
    account = accounts["operators"][0]
    log_in(page, account["name"], account["password"])
    page.wait_for_url("**/dogrulama")
    page.fill("#kod", pyotp.TOTP(account["totp"]).now())
    page.click("text=Doğrula")
    page.wait_for_url(lambda url: url.endswith("/"))
    return page


def test_a_form_from_the_browser_opens_the_web_site_to_its_user(
    site: RunningSite, chromium: Browser
) -> None:
    looking = Looking()
    address = kit(site)["site"]
    initial = site.ssps("party", "invite", "Çınar Partisi", "temsilci", "--why", "test").strip()
    context = browser_at(chromium, address)
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))

    # The first login.
    page.goto("/sipport")
    looking.at(page, "giris")
    page.fill("#kullanici", "cinar-partisi.temsilci")
    page.fill("#parola", initial.splitlines()[-1])
    page.click("text=Giriş yap")
    page.wait_for_url("**/sipport/parola")
    page.fill("#yeni", NEW_PASSWORD)
    page.fill("#tekrar", NEW_PASSWORD)
    page.click("text=Kaydet")
    page.wait_for_url("**/sipport/ikinci-adim")
    secret = page.locator("code").inner_text()
    page.fill("#kod", pyotp.TOTP(secret).now())
    page.click("button:has-text('Aç')")
    page.wait_for_url("**/sipport/")
    looking.at(page, "ozet")

    # What is typed is there in the next window.
    page.click("text=Formu doldur")
    page.check("input[value=web]")
    page.fill("#adres-1", "127.0.0.1")
    page.fill("#irtibat-ad", "Çağrı Işık")
    page.wait_for_selector("#kayit:has-text('kaydedildi')")
    page.close()
    page = context.new_page()
    page.goto("/sipport/form")
    assert page.input_value("#irtibat-ad") == "Çağrı Işık"
    page.fill("#irtibat-eposta", "bilgi@cinar.example")
    page.fill("#irtibat-tel-1", "+90 312 000 00 00")
    page.fill("[name=kullanici-2]", "ayse")
    page.fill("[name=kisi-2]", "Ayşe Yılmaz")
    page.fill("#onaylayan", "Zeynep Onay")
    page.fill("#tarih", "2026-11-30")
    looking.at(page, "form")
    page.fill("#anahtar-yeni", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA")
    page.click("button:has-text('Gönder')")
    page.wait_for_selector("text=Bu bir özel anahtar")
    looking.at(page, "form-sorunlu")
    assert page.input_value("#anahtar-yeni") == ""
    page.click("button:has-text('Gönder')")
    page.wait_for_url("**/sipport/talep/1")
    looking.at(page, "kagit")
    with closing(pypdfium2.PdfDocument(page.pdf(format="A4"))) as printed:
        paper = "\n".join(sheet.get_textpage().get_text_range() for sheet in printed)
        sheets = len(printed)
    if PICTURES:
        (Path(PICTURES) / "kagit.pdf").write_bytes(page.pdf(format="A4"))
    assert sheets == 1
    for text in ("Çınar Partisi", "Ayşe Yılmaz", "Zeynep Onay", "T.C. kimlik no", "İmza"):
        assert text in paper
    assert "Parola değiştir" not in paper and "Ctrl+P" not in paper

    # The operator returns it, the representative mends it, the operator accepts.
    desk = operator(chromium, site)
    desk.click("text=Talepler")
    looking.at(desk, "talepler")
    desk.click("text=Çınar Partisi")
    looking.at(desk, "talep")
    desk.fill("#neden-iade", "Mühür eksik")
    desk.click("button:has-text('İade et')")
    desk.wait_for_url("**/talepler")
    page.goto("/sipport/")
    assert page.locator(".wrong").inner_text() == "Mühür eksik"
    page.click("text=Taslağa devam et")
    page.fill("#onaylayan", "Zeynep Onay Kaya")
    page.click("button:has-text('Gönder')")
    page.wait_for_url("**/sipport/talep/2")
    desk.goto("/talepler/cinar-partisi/2")
    for tick in desk.locator("input[name^=ayni-]").all():
        tick.check()
    desk.fill("#neden-kabul", "kâğıt geldi, evrak 7")
    desk.click("button:has-text('Kabul et')")
    desk.wait_for_selector("text=talep 2 kabul edildi")
    looking.at(desk, "talep-kabul")
    row = desk.locator("tr", has_text="cinar-partisi.ayse")
    password = row.locator("code").inner_text()

    # The new user.
    web = browser_at(chromium, address).new_page()
    log_in(web, "cinar-partisi.ayse", password)
    web.wait_for_url("**/parola")

    assert looking.found == []
    assert errors == []
    records = [r.event.event for r in site.records("access") if r.event.who == "cinar-partisi"]
    assert records.count("request") >= 3 and "password" in records and "totp" in records
    accepted = [
        r.event for r in site.records("operations") if r.event.event == "party requests accept"
    ]
    assert [each.who for each in accepted] == ["staff:operator-1"]


def test_the_kit_has_a_representative_that_can_log_in(site: RunningSite, chromium: Browser) -> None:
    account = kit(site)["representative"]
    page = browser_at(chromium, account["site"]).new_page()
    page.goto(account["site"])
    page.fill("#kullanici", account["name"])
    page.fill("#parola", account["password"])
    page.click("text=Giriş yap")
    page.wait_for_url("**/sipport/dogrulama")
    page.fill("#kod", pyotp.TOTP(account["totp"]).now())
    page.click("text=Doğrula")
    page.wait_for_url("**/sipport/")
