"""The staff site's screens in a real browser; flow/test_desk.py has those of the desk.

A page that arrives is counted on the wall without a reload, a session of the web site is ended, and
axe looks at every screen. With SSPS_PICTURES=FOLDER it also makes pictures of them, to look at.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyotp
import pytest
import web_browser
from playwright.sync_api import Browser, Page
from running_site import RunningSite, free_port, running_rehearsal, until
from web_browser import CHROMIUM, chromium_browser, violations, watched

from config.site import STAFF
from keys.access_requests import store
from keys.operations import live_sessions, server_state

# Every width, and both schemes; at the second look at a width only the colours are another.
# flow/test_a_party_asks.py also looks at the requests.
LOOKS = (
    (360, 740, "light", False),
    (768, 1024, "dark", False),
    (1440, 900, "light", False),
    (1440, 900, "dark", True),
)
PICTURES = os.environ.get("SSPS_PICTURES", "")
FORM = """id = "parti-a"
party = "A Partisi"
services = ["sftp", "web"]
static_ips = ["127.0.0.1", "192.0.2.40"]
[contact]
name = "Çağrı Işık"
email = "bilgi@a-partisi.example"
phones = ["+90 312 000 00 00"]
[[user]]
name = "zehra"
contact = true
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("staff-screens")
    ports = {"web_port": free_port(), "staff_port": free_port()}
    with running_rehearsal(folder, boxes=4, parties=2, **ports) as found:
        until(
            lambda: server_state.read(found.site, server_state.STAFF) is not None,
            "the staff site listens",
        )
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with chromium_browser() as found:
        yield found


def kit(night: RunningSite) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((night.site / "clients/staff.json").read_text())
    return found


def log_in(page: Page, account: dict[str, str]) -> None:
    page.goto("/giris")
    page.fill("#kullanici", account["name"])
    page.fill("#parola", account["password"])
    page.click("text=Giriş yap")
    page.wait_for_url("**/dogrulama")
    code, moment = pyotp.TOTP(account["totp"]), int(time.time())
    page.fill("input[name=kod]", code.at(moment))
    page.click("main button")
    page.wait_for_load_state()
    if page.url.endswith("/dogrulama"):  # a code is accepted once
        page.fill("input[name=kod]", code.at(moment + 30))
        page.click("main button")
    page.wait_for_url(lambda url: url.endswith("/"))


def test_the_wall_counts_a_page_that_arrives_without_a_reload(
    night: RunningSite, chromium: Browser
) -> None:
    context = chromium.new_context(base_url=kit(night)["site"], ignore_https_errors=True)
    context.set_default_timeout(60_000)
    page, errors = watched(context)
    log_in(page, kit(night)["operators"][0])
    here = page.locator("dt:text-is('Gelen tutanak') + dd")
    assert here.inner_text().startswith("0")
    page.evaluate("window.same = true")

    night.scan()

    done = night.status()["filed"]
    page.wait_for_function(
        "done => document.querySelector('#canli').innerText.includes(`Gelen tutanak\\n${done}`)",
        arg=done,
    )
    assert page.evaluate("window.same"), "the page was loaded again"
    seen = [r.event.event for r in night.records(STAFF) if r.event.who == "operator-1"]
    assert seen.count("stream") == 1
    context.close()
    assert errors == []


@contextmanager
def staff_page(night: RunningSite, chromium: Browser, account: dict[str, str]) -> Iterator[Page]:
    context = chromium.new_context(base_url=kit(night)["site"], ignore_https_errors=True)
    context.set_default_timeout(60_000)
    page, errors = watched(context)
    log_in(page, account)
    errors.clear()  # the browser reports a code that was used before
    yield page
    context.close()
    assert errors == []


@contextmanager
def visitor(night: RunningSite, chromium: Browser) -> Iterator[Page]:
    """A user of parti-a on the web site."""
    made = web_browser.kit(night)
    context = chromium.new_context(base_url=made["site"], ignore_https_errors=True)
    context.set_default_timeout(60_000)
    page, user = context.new_page(), made["users"][0]
    web_browser.log_in(page, user["name"], user["password"])
    page.wait_for_url(lambda url: url.endswith("/"))
    yield page
    context.close()


def test_a_supervisor_ends_a_session_of_the_web_site(night: RunningSite, chromium: Browser) -> None:
    with (
        visitor(night, chromium) as guest,
        staff_page(night, chromium, kit(night)["supervisor"]) as page,
    ):
        page.goto("/partiler")
        page.wait_for_selector("table:has-text('HeadlessChrome')")
        page.click("text=A Partisi")
        row = page.locator("tr", has_text="web-1")
        number = row.locator("input[name=oturum]").get_attribute("value")
        row.locator("input[name=neden]").fill("ortak bilgisayar")
        row.locator("button").click()

        page.wait_for_selector("text=Oturum sonlandırıldı.")
        assert page.locator("tr", has_text="web-1").count() == 0
        guest.goto("/hesap")
        assert "/giris" in guest.url

    ended = [r.event for r in night.records("access") if r.event.event == "session-end"]
    assert [(e.who, str(e.detail["session"]), e.detail["reason"]) for e in ended] == [
        ("parti-a", number, "ended by operator")
    ]
    why = [r.event.detail for r in night.records("operations") if "end-session" in r.event.event]
    assert [(d["service"], d["why"]) for d in why] == [("web", "ortak bilgisayar")]


@pytest.fixture(scope="module")
def busy(night: RunningSite, chromium: Browser) -> Iterator[RunningSite]:
    """The night with something to see on every screen: sessions, forms, a party that may not in."""
    if not night.status()["filed"]:
        night.scan()
    for number in (1, 2):
        store.submit(
            night.site, "parti-a", FORM.encode(), number - 1, {}, "parti-a.zehra", datetime.now(UTC)
        )
        if number == 1:
            night.ssps("party", "requests", "return", "parti-a", "1", "--why", "mühür eksik")
    night.ssps("party", "suspend", "parti-b", "--why", "adres belirsiz")
    command = ["sftp", *night.ssh_options("parti-a"), "parti-a@127.0.0.1"]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as client,
        visitor(night, chromium),
    ):
        until(
            lambda: {each.service for each in live_sessions.read(night.site)} == {"sftp", "web"},
            "both are listed",
        )
        yield night
        client.communicate(timeout=60)


@pytest.mark.slow
def test_axe_finds_nothing_on_the_wall_the_parties_the_requests_and_the_record(
    busy: RunningSite, chromium: Browser
) -> None:
    tree = busy.site / "trees/parti-a/prova-cb-mv"
    cevre, kurul, sandik = next(tree.glob("*/*/sandik-*")).relative_to(tree).parts
    box = f"{cevre}/{kurul}/{sandik.removeprefix('sandik-')}"
    screens = {
        "supervisor": {
            "durum": "/",
            "duvar": "/?duvar=1",
            "cevre": f"/durum/{cevre}",
            "sandik": f"/durum/{box}",
            "partiler": "/partiler",
            "parti": "/partiler/parti-a",
            "talepler": "/talepler",
            "talep": "/talepler/parti-a/2",
        },
        "auditor": {
            "kayit": "/kayit?kayit=operations",
            "iz": f"/kayit/izle?ne={quote(box)}",
        },
    }
    found: list[str] = []
    for role, shown in screens.items():
        with staff_page(busy, chromium, kit(busy)[role]) as page:
            for name, path in shown.items():
                page.goto(path)
                for width, height, scheme, colours_only in LOOKS:
                    page.set_viewport_size({"width": width, "height": height})
                    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    where = f"{path} {width} {scheme}"
                    found += violations(page, where, colours_only=colours_only)
                    if page.evaluate("document.documentElement.scrollWidth") > width:
                        found.append(f"{path} {width}: it is wider than the screen")
                    if PICTURES:
                        file = Path(PICTURES) / f"{name}-{width}-{scheme}.png"
                        page.screenshot(path=file, full_page=True)

    assert found == []
