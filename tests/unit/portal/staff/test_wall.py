"""Durum: what is expected and here, from the country down to a box, live and on the wall."""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
import staff_site
from fastapi import Response
from staff_site import Staff
from unit.portal.portal_site import BOXES, PortalSite, every_result
from unit.portal.staff.test_access import PAGES
from web_site import OPEN

from config import load
from portal.access.entrance import Entrance
from portal.server import create_app as create_portal
from portal.staff.pages import wall
from publisher.catalog import catalog, tables
from publisher.catalog.catalog import Catalog
from publisher.source import Source

PARTIES = """
[[party]]
id = "parti-a"
name = "A Partisi"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]
"""


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Staff]:
    """A staff site with a result of every box."""
    folder = tmp_path / "site"
    results = PortalSite(folder)
    results.publish(*every_result())
    with staff_site.running(staff_site.make(folder, parties_toml=PARTIES)) as found:
        yield found


def figures(page: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]+)</dt><dd>([\d.]+)", page))


def test_the_figures_are_those_of_the_whole_country(night: Staff) -> None:
    page = night.signed_in("denetci").get("/").text

    found = figures(page)
    count = len(BOXES)
    assert found["Beklenen sonuç"] == found["Gelen sonuç"] == str(2 * count)
    assert found["Eksik sonuç"] == "0"
    assert found["Gelen tutanak"] == "0"
    assert found["Eksik tutanak"] == found["Beklenen tutanak"] == "110"
    assert page.count('<g class="tile l10">') == 3  # Adana, İstanbul, İzmir
    assert "Yayıncı çalışmıyor." in page
    assert 'http-equiv="refresh"' in page and "duvar=1" in page


def test_a_click_leads_from_the_country_to_a_sheet(night: Staff) -> None:
    browser = night.signed_in()
    country, district = browser.get("/").text, browser.get("/durum/34-istanbul-1").text
    board = browser.get("/durum/34-istanbul-1/kadikoy-1").text
    box = browser.get("/durum/34-istanbul-1/kadikoy-1/1001").text

    assert 'href="/durum/34-istanbul-1"' in country
    assert 'href="/durum/34-istanbul-1/kadikoy-1"' in district
    assert figures(district)["Beklenen sonuç"] == "20"
    assert 'href="/durum/34-istanbul-1/kadikoy-1/1001"' in board
    assert figures(board)["Beklenen sonuç"] == "12"
    assert "Sandık Sonuç Tutanağı" in box and "Eksik" in box
    assert [what for event, _, what, *_ in night.records() if event == "page"][-1].endswith("/1001")
    for path in ("/durum/yok", "/durum/34-istanbul-1/yok", "/durum/34-istanbul-1/kadikoy-1/9"):
        assert browser.get(path).status_code == 404


def test_the_wall_is_large_and_lists_what_lacks_most(night: Staff) -> None:
    page = night.signed_in().get("/?duvar=1").text

    assert '<body class="duvar">' in page
    assert "En çok eksiği olanlar" in page and "Tarama klasörleri" not in page
    first = re.search(r'<tbody>\s*<tr><th scope="row" class="place">([^<]+)', page)
    assert first is not None and first[1] == "İstanbul 1"


def test_an_open_page_gets_what_is_new_without_a_reload(night: Staff) -> None:
    browser = night.signed_in("denetci")
    browser.get("/")
    token = browser.http.cookies["__Host-ssps-staff"]

    events = night.runner.run(stream(night, "/canli", token, 1))

    event, data = events[0]
    assert event == "durum"
    assert figures(json.loads(data)["html"])["Gelen sonuç"] == str(2 * len(BOXES))
    assert night.records()[-1][:3] == ("stream", "denetci", "/canli")


@pytest.mark.parametrize(
    ("name", "address", "keeps"),
    [
        ("denetci", "/canli?duvar=1", True),
        ("denetci", "/canli", False),
        ("ayse", "/canli?duvar=1", False),
    ],
)
def test_only_the_screen_on_the_wall_of_an_account_that_changes_nothing_stays_logged_in(
    night: Staff, name: str, address: str, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def stream(*_: object, keeps_session: bool) -> Response:
        asked.append(keeps_session)
        return Response()

    monkeypatch.setattr(wall, "stream", stream)

    night.signed_in(name).get(address)

    assert asked == [keeps]


async def stream(night: Staff, path: str, token: str, count: int) -> list[tuple[str, str]]:
    """Return the first events of a stream."""
    sent: list[bytes] = []
    done = asyncio.Event()
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "https",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("ssps.test", 443),
        "headers": [(b"host", b"ssps.test"), (b"cookie", f"__Host-ssps-staff={token}".encode())],
    }

    async def receive() -> dict[str, object]:
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message.get("body", b""))
        if b"".join(sent).count(b"event: ") >= count:
            done.set()

    follow = asyncio.create_task(night.app._app.state.watch.follow())  # type: ignore[attr-defined]
    try:
        async with asyncio.timeout(60):
            await night.app(scope, receive, send)
    finally:
        follow.cancel()
    text = b"".join(sent).decode()
    return re.findall(r"event: (\w+)\nid: \d+\ndata: (.*)\n", text)


def test_the_name_of_a_scanner_folder_is_never_html(night: Staff) -> None:
    """Whoever may write to the intake chooses it."""
    evil = "<img src=x onerror=alert(1)>\x1b[31m\udcff"
    source = bytes(Source(str(night.site / "intake"), f"{evil}/1.jpg"))
    row = {
        "id": "20230514T140000000001-00000000",
        "name": "1.jpg",
        "source": source,
        "source_stamp": "-",
        "received_at": "2023-05-14T15:59:00+00:00",
        "decided_at": "2023-05-14T15:59:00+00:00",
        "state": "duplicate",
        "outcome": "duplicate",
        "seq": 500,
    }
    with Catalog(catalog.url(night.site)) as opened:
        opened.connection.execute(sa.insert(tables.arrival), [row])
        opened.commit()
    (night.site / "intake" / evil).mkdir(parents=True)
    (night.site / "intake" / evil / "2.jpg").write_bytes(b"a page")

    page = night.signed_in().get("/").text

    assert "&lt;img src=x onerror=alert(1)&gt;\\x1b[31m\\udcff" in page
    assert "<img" not in page and "\x1b" not in page


def test_the_parties_listener_has_no_page_of_the_staff(night: Staff) -> None:
    ours = {path for path in PAGES if path.startswith(("/durum", "/partiler", "/kayit"))}
    entrance = Entrance(load.load(night.site), night.entrance.recorder, lambda: OPEN)
    with closing(entrance.sessions):
        theirs = {getattr(route, "path", "") for route in create_portal(entrance).routes}
    assert ours and not ours & theirs


def test_a_site_without_registry_says_what_to_do(staff: Staff) -> None:
    answer = staff.signed_in().get("/")

    assert answer.status_code == 200
    assert "ssps registry import" in answer.text
