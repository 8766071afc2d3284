"""A rehearsal election with a portal, and a real browser that looks at it.

Debian's Chromium is driven by Playwright. The site is a rehearsal's, run by `ssps run`.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from running_site import RunningSite, free_port, running_rehearsal, until

from config.scope import ALL
from config.settings import ShareLevel
from config.sheet import Secim
from portal.data.answers.boxes import BoxRow
from portal.data.criteria import Criteria, Status
from portal.data.live import LiveData
from scripts.rehearsal.synthetic.result_batches import deliver_batch

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
STANDARDS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")
OF_COLOURS = ("color-contrast", "link-in-text-block")  # all that a colour scheme can change
SIZES = ((360, 740), (768, 1024), (1440, 900))  # of a telephone, a tablet, a desk


@contextmanager
def counted_night(folder: Path) -> Iterator[RunningSite]:
    """Run a small election with a portal, all of it filed and counted."""
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


def violations(page: Page, where: str, *, colours_only: bool = False) -> list[str]:
    """Return what axe finds on a page, a line for each rule that it does not keep."""
    only = ("rule", OF_COLOURS) if colours_only else ("tag", STANDARDS)
    options = {"type": only[0], "values": list(only[1])}
    if not page.evaluate("'axe' in window"):  # half a megabyte of script: once for all sizes
        page.evaluate(AXE_SCRIPT)
    found = page.evaluate(
        "async options => (await axe.run(options)).violations",
        {"runOnly": options, "resultTypes": ["violations"]},
    )
    return [
        f"{where}: {each['impact']} {each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found
    ]


@contextmanager
def chromium_browser() -> Iterator[Browser]:
    """Start Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield browser
        browser.close()


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


def check_width(page: Page, picture: Path) -> None:
    """Nothing is wider than the window; each size is kept as a picture to look at."""
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        wide = page.evaluate("document.documentElement.scrollWidth")
        page.screenshot(path=picture.with_name(f"{picture.name}-{width}.png"), full_page=True)
        assert wide <= width, (picture.name, width)


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
