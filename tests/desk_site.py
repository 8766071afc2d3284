"""A staff site with a board's pile in quarantine and in the trees, and the publisher beside it.

The pile of `kadikoy/` is that of board 34-istanbul-1/kadikoy-2: boxes 101 to 104, each with the
result sheets `cb` and `mv`. Scanned in order; those of QUARANTINED could not be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import office
import staff_site
from staff_site import Staff
from unit.publisher.filing.test_filer import drop, open_context, run
from web_site import Client

from config import load, registry
from config.settings import Settings
from config.site import FILING, LEDGERS, REGISTRY_INDEX
from keys.ledger.record import Record
from keys.ledger.segments import read_records
from publisher.filing.filer import Filer
from publisher.filing.recovery import Recovery
from publisher.page import Reading, ReadResult
from publisher.reading.protocol import format_result
from publisher.requests import queue
from publisher.requests.handler import RequestHandler
from publisher.requests.queue import Answer, Request

BOARD = "34-istanbul-1/kadikoy-2"
BOXES = ("101", "102", "103", "104")
SERIALS = {
    (box, secim): f"{1_093_717_000 + number * 20 + offset:010}"
    for number, box in enumerate(BOXES)
    for offset, secim in ((0, "cb"), (9, "mv"))
}
ROWS = tuple(
    f"{serial},{secim},sandik-sonuc,34-istanbul-1,kadikoy-2,normal,{box},Caferağa,1"
    for (box, secim), serial in SERIALS.items()
)
PILE = {
    "kadikoy/001.png": SERIALS["101", "cb"],
    "kadikoy/002.png": SERIALS["101", "mv"],
    "kadikoy/003.png": "%PDF-1; nothing could be read",
    "kadikoy/004.png": SERIALS["102", "mv"],
    "kadikoy/005.png": f"%PDF-1 {SERIALS['103', 'cb'][:-1]}5; one digit was misread",
    "konak/<b>007.png": "%PDF-1; from another scanner",
}


@dataclass
class DeskSite:
    """A staff site, and what its publisher does when it is asked to."""

    staff: Staff
    settings: Settings
    console_requests: list[str] = field(default_factory=list)

    def handle(self) -> None:
        """Have the publisher carry out what waits."""
        with open_context(self.settings, lambda step: None) as context:
            filer = Filer(context)
            Recovery(context, filer).recover()
            RequestHandler(context, filer).handle_pending()

    def answer_reread(self, text: str) -> None:
        """Answer the request to read a page again: one engine has read `text`."""
        (request,) = queue.pending(self.settings.site)
        corners = ((10, 20), (30, 20), (30, 40), (10, 40))
        seen = ReadResult("PNG", 900, 1500, (Reading(text, "zxing-cpp", "crop", 3, corners),), 9)
        queue.write_answer(
            self.settings.site, request.id, Answer(True, format_result(seen).decode())
        )

    def console(self, login: str, file: str, karekod: str) -> None:
        """Identify a page as `ssps desk identify` does."""
        detail = {"file": file, "sheets": f"1:{karekod}"}
        identity = f"20230514T190000000000-{len(self.console_requests):08x}"
        self.console_requests.append(identity)
        request = Request(identity, queue.IDENTIFY, (login,), "ysk-1", "by eye", detail)
        queue.submit(self.settings.site, request)
        self.handle()

    def file(self, name: str) -> str:
        """Return the name in quarantine of a page that the scanner called `name`."""
        (found,) = (
            path.name
            for path in (self.settings.site / "quarantine").iterdir()
            if path.name.endswith(name) and path.suffix != ".json"
        )
        return found

    def filed(self) -> list[Record]:
        """Return the records of pages that operators identified."""
        found = read_records(self.settings.site / LEDGERS / FILING)
        return [r for r in found if "identified_by" in r.event.detail]


@contextmanager
def running(folder: Path) -> Iterator[DeskSite]:
    """Run the staff site of a folder, with a pile that is filed as far as it could be read."""
    site = staff_site.make(folder)
    (site / "intake" / "kadikoy").mkdir(parents=True)
    (site / "intake" / "konak").mkdir()
    (site / "registry.csv").write_text(office.registry_csv(*ROWS, *office.ROWS[2:]), "utf-8")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    settings = load.load(site)
    drop(settings, PILE)
    run(settings, batch=20)
    with staff_site.running(site) as staff:
        yield DeskSite(staff, settings)


def act(browser: Client, file: str, what: str, **fields: str) -> httpx.Response:
    """Send a form of a page of the desk, made when the page is as it is now."""
    return browser.post(
        f"/masa/sayfa/{file}/{what}",
        f"/masa/sayfa/{file}",
        **{"adim": step(browser, file), "gerekce": "gözle okundu", **fields},
    )


def step(browser: Client, file: str) -> str:
    """Return the step that the forms of a page of the desk name now."""
    text = browser.get(f"/masa/sayfa/{file}?secim=1:{SERIALS['102', 'cb']}").text
    found = text.partition('name="adim" value="')[2].partition('"')[0]
    return found.replace("&#39;", "'")
