"""A rehearsal with pages in quarantine between pages that were filed, and browsers at its desk.

The pile is scanned in the order of the registry, into one folder. Every third page has the karekod
of no sheet, so it goes to quarantine; the pages beside it are filed.
"""

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyotp
from playwright.sync_api import Browser, BrowserContext, Page
from running_site import RunningSite, free_port, running_rehearsal, until
from web_browser import log_in

from config import load
from config.registry import Registry
from config.site import REGISTRY_INDEX, STAFF_CLIENTS
from scripts.rehearsal.synthetic.election import unregistered_karekod
from scripts.rehearsal.synthetic.sheets import print_sheet

FOLDER = "tarayici-1"
_PAGES_OF_A_BOX = 5  # fewer than there are: boxes abroad and at customs have four, others six
_EVERY = 3
_DPI = 150


@dataclass(frozen=True)
class DeskNight:
    """A running rehearsal; `truth` has the karekod of each page in quarantine, by its name."""

    site: RunningSite
    truth: dict[str, str]

    @property
    def kit(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.site.site / STAFF_CLIENTS).read_text())
        return found


@contextmanager
def desk_night(folder: Path, quarantined: int) -> Iterator[DeskNight]:
    """Run a rehearsal with so many pages in quarantine."""
    boxes = quarantined * _EVERY // _PAGES_OF_A_BOX + 4
    with running_rehearsal(folder, boxes=boxes, parties=1, staff_port=free_port()) as site:
        truth = _scan(site, quarantined)
        settled = quarantined * _EVERY
        until(lambda: site.done() >= settled, f"{settled} pages settled", seconds=1200)
        yield DeskNight(site, truth)


def _scan(site: RunningSite, quarantined: int) -> dict[str, str]:
    settings, index = load.load(site.site), Registry(site.site / REGISTRY_INDEX)
    entries = list(islice((e for e in index.entries() if e.sheet.sandik), quarantined * _EVERY))
    index.close()
    assert len(entries) == quarantined * _EVERY, "too few boxes"
    intake = site.site / "intake" / FOLDER
    intake.mkdir(parents=True)
    truth = {}
    for number, entry in enumerate(entries):
        name = f"{number:04}.jpg"
        printed = entry
        if number % _EVERY == 1:
            truth[f"{FOLDER}/{name}"] = entry.karekod
            printed = replace(entry, karekod=unregistered_karekod(1, number))
        content = io.BytesIO()
        print_sheet(printed, settings.election, 1, _DPI).save(content, "JPEG", quality=60)
        hidden = intake / f".{name}"
        hidden.write_bytes(content.getvalue())
        hidden.rename(intake / name)
    return truth


def signed_in(night: DeskNight, browser: Browser, account: dict[str, str], **how: Any) -> Page:
    """Return a page of a browser in which an operator is logged in."""
    context: BrowserContext = browser.new_context(
        base_url=night.kit["site"], ignore_https_errors=True, **how
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    log_in(page, account["name"], account["password"])
    page.wait_for_url("**/dogrulama")
    deadline = time.monotonic() + 120
    while page.url.endswith("/dogrulama") and time.monotonic() < deadline:
        page.fill("#kod", pyotp.TOTP(account["totp"]).now())  # it is accepted once
        with page.expect_navigation():
            page.keyboard.press("Enter")
        page.wait_for_timeout(500)
    return page


@dataclass(frozen=True)
class Done:
    """What one page took: key strokes, and the seconds of the site without those of a person."""

    name: str
    strokes: int
    seconds: float


def identify_all(night: DeskNight, page: Page, most: int) -> list[Done]:
    """Identify pages with the keyboard alone, from the queue on; return what each took."""
    page.goto("/masa")
    page.wait_for_load_state()
    done: list[Done] = []
    begun = time.monotonic()
    with page.expect_navigation():
        page.keyboard.press("Enter")  # the first entry of the queue has the focus
    strokes = 1
    while len(done) < most and "/masa/sayfa/" in page.url:
        page.wait_for_selector("#masa-resim img")
        name = page.locator("h1").evaluate("h => h.firstChild.textContent.trim()")
        strokes += choose(page, night.truth[name])
        page.wait_for_selector("#onayla:focus")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        done.append(Done(name, strokes + 1, time.monotonic() - begun))
        begun, strokes = time.monotonic(), 0
    return done


def choose(page: Page, karekod: str) -> int:
    """Choose a sheet as a person does who has read the page; return the key strokes."""
    link = page.locator(f'.suggestions a[data-key][href*="{karekod}"]')
    if link.count():
        page.keyboard.press(str(link.first.get_attribute("data-key")))
        return 1
    page.keyboard.press("/")
    page.keyboard.type(karekod)
    page.keyboard.press("Enter")
    return len(karekod) + 2
