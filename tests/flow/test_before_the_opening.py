"""A user of the web site before 17.00, in a rehearsal, in a new season, or at a strange address.

The portal is a process of its own, whose time the tests set; each sets the time of its story. The
browser says from which address it comes as a balancer does.
"""

import io
import json
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import office
import openpyxl
import pypdfium2
import pytest
import web_site
from playwright.sync_api import Browser, BrowserContext, Page
from running_site import SSPS, free_port, until
from unit.portal.portal_site import PortalSite, every_result, result
from web_browser import CHROMIUM, check_width, log_in, watched
from web_site import AWAY, HOME, PASSWORD

from config import times
from config.site import ACCESS, LEDGERS
from keys.ledger import segments
from keys.operations import server_state
from scripts.rehearsal.web_clients import make_certificate, portal_toml

# Passwords that the commands set are valid from the real time on, so the election comes after it.
OPENS = (datetime.now(UTC) + timedelta(days=3)).replace(hour=14, minute=0, second=0, microsecond=0)
REHEARSAL = OPENS - timedelta(days=1)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
NEW_PASSWORD = "Galata-Kulesi-1348"
BOX = ("34-istanbul-1", "kadikoy-2", "1001")
MARK = "PROVA: Bu sayfadaki sayılar ve tutanaklar gerçek değildir."
PAGES: tuple[str, ...] = (
    "/",
    "/arama?secim=mv",
    f"/sandik/{'/'.join(BOX)}?secim=mv",
    "/degisiklikler?secim=mv",
)
PAGES += ("/eksikler?secim=mv", "/uyarilar?secim=mv", "/birlestirme?secim=mv", "/hesap")

_PORTAL = """\
import sys
from datetime import datetime
from pathlib import Path
from config import load
from scripts.daemons.portal import run_portal
site = Path(sys.argv[1])
now = site / "state" / "now"  # where the confined process may read
run_portal(load.load(site), clock=lambda: datetime.fromisoformat(now.read_text()))
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@dataclass
class Site:
    """A site with a rehearsal and an election, each with results, and its portal."""

    path: Path
    address: str

    def set_time(self, now: datetime) -> None:
        fresh = self.path / "state" / "now.new"
        fresh.write_text(now.isoformat())
        fresh.replace(self.path / "state" / "now")

    def ssps(self, *words: str) -> str:
        command = [*SSPS, *words, "--site", str(self.path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def records(self, event: str) -> list[dict[str, object]]:
        """Return origin, who and detail of each record of that event."""
        found = segments.read_records(self.path / LEDGERS / ACCESS)
        chosen = (r.event for r in found if r.event.event == event)
        return [{"origin": e.origin, "who": e.who, **e.detail} for e in chosen]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("opening") / "site", free_port()
    election, rehearsal = PortalSite(folder), PortalSite(folder / "rehearsals/prova-1")
    election.publish(*every_result())
    rehearsal.publish(result(BOX, secmen=999))
    rehearsal.publish(result(BOX, surum=2, neden="itiraz", secmen=998))
    opens = office.SITE_TOML.replace("2023-05-14T17:00:00+03:00", times.format_time(OPENS))
    window = (
        f'[[rehearsal]]\nid = "prova-1"\ntitle = "Birinci prova"\n'
        f"opens = {times.format_time(REHEARSAL)}\ncloses = {times.format_time(REHEARSAL + HOUR)}\n"
    )
    parties = office.PARTIES_TOML.replace('["35-izmir-2/konak-1", "06-ankara-1"]', '"all"')
    web_site.make(folder, f'{opens}{portal_toml(port)}proxies = ["{HOME}"]\n{window}', parties)
    make_certificate(folder)
    made = Site(folder, f"https://{HOME}:{port}")
    made.set_time(REHEARSAL - HOUR)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PORTAL, str(folder)], stdout=log, stderr=log
        )

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return server_state.read(folder, server_state.PORTAL) is not None

    try:
        until(listens, "the portal listens")
        yield made
        process.terminate()
        assert process.wait(40) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


Visit = Callable[..., BrowserContext]


@pytest.fixture
def visit(site: Site, chromium: Browser) -> Iterator[Visit]:
    """Open browsers without cookies, each at its address."""
    made: list[BrowserContext] = []

    def opened(address: str = HOME) -> BrowserContext:
        found = chromium.new_context(
            base_url=site.address,
            ignore_https_errors=True,
            locale="tr-TR",
            extra_http_headers={"X-Forwarded-For": address},
        )
        found.set_default_timeout(60_000)
        made.append(found)
        return found

    yield opened
    for each in made:
        each.close()


def look(page: Page, picture: Path) -> None:
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        check_width(page, picture.with_name(f"{picture.name}-{scheme}"))


def submit(page: Page, name: str, password: str) -> None:
    page.fill("#kullanici", name)
    page.fill("#parola", password)
    page.click("main form button")


def refused(errors: list[str]) -> list[str]:
    """Return the errors of a browser without those of a user who is refused.

    A login is answered with 403. The stream of an open page whose session has ended is tried again
    after three seconds, and sent to the login.
    """
    expected = ("status of 403", "EventSource's response has a MIME type")
    return [error for error in errors if not any(text in error for text in expected)]


def test_who_comes_early_learns_when_it_opens_and_goes_on_from_the_same_page(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.set_time(REHEARSAL - MINUTE)
    page, errors = watched(visit())
    page.goto("/arama?secim=mv")
    assert page.url.endswith("/giris?sonra=/arama%3Fsecim%3Dmv")
    text = page.locator("main").inner_text()
    assert "Erişim henüz açılmadı." in text
    assert f"{times.format_time(OPENS)} itibarıyla" in text
    assert "Prova: Birinci prova" in text
    look(page, tmp_path / "early")

    submit(page, "parti-a.ayse", "wrong")
    page.wait_for_selector("text=Kullanıcı adı veya parola yanlış.")
    submit(page, "parti-a.ayse", PASSWORD)
    told = f"Parolanız doğru. Erişim prova için {times.format_time(REHEARSAL)} itibarıyla açılır."
    page.wait_for_selector(f"text={told}")
    look(page, tmp_path / "early-right")
    site.set_time(REHEARSAL + HOUR)
    submit(page, "parti-a.ayse", PASSWORD)
    told = f"Parolanız doğru. Erişim {times.format_time(OPENS)} itibarıyla açılır."
    page.wait_for_selector(f"text={told}")
    reasons = [r["reason"] for r in site.records("login-refused")]
    assert reasons == ["wrong credential", "not yet open", "not yet open"]

    site.set_time(OPENS)
    submit(page, "parti-a.ayse", PASSWORD)
    page.wait_for_url("**/arama?secim=mv")
    assert MARK not in page.locator("body").inner_text()
    assert "8.400" in page.locator("tfoot").inner_text()  # 21 boxes of 400 voters
    assert refused(errors) == []


def test_an_initial_password_is_replaced_before_the_opening(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.set_time(OPENS - MINUTE)
    page, errors = watched(visit())
    log_in(page, "parti-b.banu", PASSWORD)
    page.wait_for_url("**/parola")
    page.fill("#yeni", NEW_PASSWORD)
    page.fill("#tekrar", NEW_PASSWORD)
    page.click("text=Kaydet")
    page.wait_for_url("**/giris?durum=degisti")
    told = f"Parolanız değişti. Erişim {times.format_time(OPENS)} itibarıyla açılır."
    page.wait_for_selector(f"text={told}")
    look(page, tmp_path / "changed")

    site.set_time(OPENS)
    page.reload()
    page.wait_for_selector("text=Parolanız değişti. Giriş yapabilirsiniz.")
    submit(page, "parti-b.banu", NEW_PASSWORD)
    page.wait_for_url("**/kosullar")
    assert errors == []


def test_a_rehearsal_shows_only_its_own_data_and_says_so_on_every_page_and_in_every_file(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.set_time(REHEARSAL + HOUR - MINUTE)
    page, errors = watched(visit())
    page.goto("/giris")
    page.wait_for_selector("text=Prova şu anda açık (Birinci prova).")
    look(page, tmp_path / "rehearsal-giris")
    submit(page, "parti-a.ayse", PASSWORD)
    page.wait_for_url(lambda url: url.endswith("/"))
    for path in PAGES:
        page.goto(path)
        assert page.locator("[role=note]").inner_text() == MARK, path
        assert "8.400" not in page.locator("main").inner_text(), path  # of the election
    page.goto("/")
    look(page, tmp_path / "rehearsal")
    page.goto("/arama?secim=mv")
    assert page.locator("tfoot td").first.inner_text() == "998"
    assert MARK in printed(page)
    assert "PROVA" in page.request.get("/degisiklikler.atom?secim=mv").text()
    service = b64encode(f"parti-a.servis:{PASSWORD}".encode()).decode()
    for call in ("/v1/results?secim=mv", "/v1/snapshots/1?secim=mv", "/api/ssps/getIlList"):
        answer = page.request.get(call, headers={"authorization": f"Basic {service}"})
        assert (answer.status, answer.headers.get("ssps-rehearsal")) == (200, "prova-1"), call

    csv = saved(page, "CSV").decode("utf-8-sig")
    assert {line.rpartition(";")[2] for line in csv.splitlines()[1:]} == {"PROVA, GERÇEK DEĞİL"}
    book = openpyxl.load_workbook(io.BytesIO(saved(page, "Excel")))
    rows = list(book.worksheets[0].iter_rows(values_only=True))
    assert {row[-1] for row in rows[1:]} == {"PROVA, GERÇEK DEĞİL"}
    about = dict(book.worksheets[-1].iter_rows(values_only=True))
    assert str(about["Durum"]).startswith("PROVA, GERÇEK DEĞİL")
    assert "PROVA" in book.properties.title
    with zipfile.ZipFile(io.BytesIO(saved(page, "Tutanaklar (ZIP)"))) as packed:
        assert "PROVA, GERÇEK DEĞİL" in packed.read("BILGI.txt").decode()

    site.set_time(REHEARSAL + HOUR)
    page.goto("/arama?secim=mv")
    told = f"Prova sona erdi. Erişim {times.format_time(OPENS)} itibarıyla açılır."
    page.wait_for_selector(f"text={told}")
    look(page, tmp_path / "rehearsal-over")
    assert errors == []


def saved(page: Page, link: str) -> bytes:
    """Save a file of the page; its name says that it is a rehearsal's.

    A download of the browser itself would not say from which address it comes.
    """
    address = page.locator("main a").filter(has_text=link).first.get_attribute("href")
    answer = page.request.get(str(address))
    assert 'filename="PROVA_' in answer.headers["content-disposition"]
    return answer.body()


def printed(page: Page) -> str:
    with closing(pypdfium2.PdfDocument(page.pdf(format="A4", landscape=True))) as document:
        return "\n".join(sheet.get_textpage().get_text_range() for sheet in document)


def test_an_address_that_no_party_has_registered_reads_why_and_is_on_record(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    page = visit(AWAY).new_page()
    answer = page.goto("/giris")
    assert answer is not None and answer.status == 403
    assert page.locator("body").inner_text().strip() == (
        "Bu adresten SSPS'ye erişilemez. "
        "Erişim yalnız partinizin bildirdiği sabit adreslerden açıktır."
    )
    look(page, tmp_path / "stranger")
    (found, *_) = site.records("connection-refused")
    assert (found["origin"], found["reason"], found["via"]) == (AWAY, "address", HOME)


def test_after_a_season_only_the_representative_and_users_defined_again_come_in(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    site.set_time(OPENS + HOUR)
    page, errors = watched(visit())
    log_in(page, "parti-a.ayse", PASSWORD)
    page.wait_for_url(lambda url: url.endswith("/"))

    site.ssps("user", "season", "--why", "election is over")
    listed = json.loads(site.ssps("user", "list", "parti-a", "--json"))
    assert {user["user"]: user["state"] for user in listed} == {
        "parti-a.ayse": "passive",
        "parti-a.temsilci": "active",
        "parti-a.servis": "active",
    }
    page.goto("/arama")  # its session ends, too
    submit(page, "parti-a.ayse", PASSWORD)
    page.wait_for_selector("text=Kullanıcı adı veya parola yanlış.")
    look(page, tmp_path / "passive")
    assert site.records("login-refused")[-1]["reason"] == "wrong credential"  # it is removed

    submit(page, "parti-a.temsilci", PASSWORD)
    page.wait_for_url("**/arama")
    page.click("text=Çıkış")
    page.wait_for_url("**/giris")
    initial = site.ssps("user", "add", "parti-a", "ayse", "--why", "form 12").strip()
    log_in(page, "parti-a.ayse", initial)
    page.wait_for_url("**/parola")
    page.fill("#yeni", NEW_PASSWORD)
    page.fill("#tekrar", NEW_PASSWORD)
    page.click("text=Kaydet")
    page.wait_for_url("**/kosullar")
    look(page, tmp_path / "defined-again")
    page.check("input[name=kabul]")
    page.click("text=Devam et")
    page.wait_for_url(lambda url: url.endswith("/"))
    assert page.locator("h1").inner_text() == "Genel durum"
    assert refused(errors) == []
