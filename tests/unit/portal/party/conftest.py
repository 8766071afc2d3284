"""A portal with results and scans, for a party that sees everything and one that sees a board."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import office
import pytest
import web_site
from PIL import Image
from unit.portal.portal_site import PortalSite, every_result, result
from web_site import Client, Portal

from config.site import original_file
from keys.credentials.users import Role, User, Users

PARTIES = """
[[party]]
id = "parti-a"
name = "A Partisi"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]

[[party]]
id = "parti-b"
name = "B Partisi"
kind = "party"
scope = ["34-istanbul-1/kadikoy-2"]
static_ips = ["127.0.0.1"]
"""
BOX = ("34-istanbul-1", "kadikoy-2", "1001")
OTHER = ("35-izmir-2", "konak", "1001")


@dataclass
class Night:
    """A portal with the results of portal_site: one correction, and three scans."""

    portal: Portal
    results: PortalSite
    sheet: str
    tiff: str
    other: str

    def whole(self) -> Client:
        return self.portal.signed_in()

    def board(self) -> Client:
        """A browser of the party that may see one board."""
        return self.portal.signed_in("parti-b.banu")


def stored(site: Path, kind: str) -> str:
    """Put an original into the store; return its digest."""
    file = io.BytesIO()
    Image.new("L", (600, 800), 200).save(file, kind)
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    path = site / original_file(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())
    return digest


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("night") / "site"
    results = PortalSite(folder)
    results.publish(*every_result())
    results.publish(result(BOX, surum=2, neden="itiraz", gecersiz=1234, oy_kullanan=1441))
    sheet = results.file_sheet(BOX, digest=stored(folder, "JPEG"))
    tiff = results.file_sheet(BOX, version=2, digest=stored(folder, "TIFF"))
    other = results.file_sheet(OTHER, digest=stored(folder, "PNG"))
    web_site.make(folder, parties_toml=PARTIES)
    accepted = office.OPENS
    banu = User("banu", Role.WEB, (web_site.password(),), terms=accepted)
    web_site.write_users(folder, Users("parti-b", (banu,)))
    with web_site.running(folder) as portal:
        yield Night(portal, results, sheet, tiff, other)
