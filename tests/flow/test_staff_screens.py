"""The coverage wall in a real browser: a page that arrives is counted without a reload."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pyotp
import pytest
from playwright.sync_api import Browser, Page
from running_site import RunningSite, free_port, running_rehearsal, until
from web_browser import CHROMIUM, chromium_browser, watched

from config.site import STAFF
from keys.operations import server_state

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("staff-screens")
    with running_rehearsal(folder, boxes=4, parties=2, staff_port=free_port()) as found:
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
    code = pyotp.TOTP(account["totp"])
    page.fill("input[name=kod]", code.at(int(time.time())))
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
