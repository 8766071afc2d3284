"""The users' handbook: a page for each screen, which anybody at a registered address may read."""

import io
import re

import pytest
from PIL import Image
from web_site import AWAY, Portal

from portal.access.gate import GatedRoute
from portal.party import site
from portal.party.look import HELP_FOLDER, HELP_OF, HELP_PAGES, PAGES, PARTY_ASSETS
from portal.party.pages.help import labels

# What a browser does not show as a screen of its own.
FILES = (
    "/dosya/",
    "/kaydet/",
    "/tutanak/",
    "/kanit/",
    "/yardim",
    "/canli",
    "/degisiklikler.atom",
)


def test_every_screen_has_a_page_in_the_handbook() -> None:
    routes = [route for router in site.ROUTERS for route in router.routes]
    screens = {
        route.path
        for route in routes
        if isinstance(route, GatedRoute)
        and "GET" in (route.methods or ())
        and not route.path.startswith(FILES)
    }

    assert screens == set(HELP_OF)
    assert set(HELP_OF.values()) | {"kaydet"} == set(HELP_PAGES)
    assert {path for path, _ in PAGES} <= screens


def test_every_picture_is_small_and_used() -> None:
    pictures = {path.stem: path for path in HELP_FOLDER.glob("*.webp")}
    templates = (HELP_FOLDER.parent / "templates").glob("yardim-*.html")
    used = re.findall(r'picture\("([^"]+)"', "".join(path.read_text("utf-8") for path in templates))

    assert set(used) == set(pictures) == set(labels(HELP_FOLDER))
    assert sum(path.stat().st_size for path in pictures.values()) < 600_000
    for name, path in pictures.items():
        with Image.open(path) as picture:
            assert list(picture.size) == labels(HELP_FOLDER)[name]["size"]


@pytest.mark.parametrize("slug", ["", *HELP_PAGES])
def test_a_page_of_the_handbook_is_read_before_the_login(portal: Portal, slug: str) -> None:
    browser = portal.client()
    answer = browser.get(f"/yardim/{slug}".rstrip("/"))
    shown = re.findall(r'<img src="([^"]+)"', answer.text)

    assert answer.status_code == 200
    assert "<h1>" in answer.text and "<nav" in answer.text
    for picture in shown:
        found = browser.get(picture)
        assert found.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(found.content)) as image:
            assert image.format == "WEBP"


def test_each_screen_links_to_its_page(portal: Portal) -> None:
    browser = portal.signed_in()

    assert 'href="/yardim/giris">Yardım' in portal.client().get("/giris").text
    assert 'href="/yardim/arama">Yardım' in browser.get("/arama").text
    assert 'href="/yardim/genel-durum">Yardım' in browser.get("/").text
    assert browser.get("/yardim/yok").status_code == 404
    assert portal.client(AWAY).get("/yardim").status_code == 403
    assert PARTY_ASSETS.address("sandik.webp").endswith("/sandik.webp")
