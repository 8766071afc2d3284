"""Durum: what is here of the whole country."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import staff_site
from staff_site import Staff
from unit.portal.portal_site import BOXES, PortalSite, every_result

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
    """A staff site with a result of every box and one scan."""
    folder = tmp_path / "site"
    results = PortalSite(folder)
    results.publish(*every_result())
    results.file_sheet(BOXES[0])
    with staff_site.running(staff_site.make(folder, parties_toml=PARTIES)) as found:
        yield found


def test_the_coverage_is_that_of_the_whole_country(night: Staff) -> None:
    page = night.signed_in("denetci").get("/").text

    figures = re.findall(r"<dt>([^<]+)</dt><dd>([\d.]+)", page)
    count = len(BOXES)
    assert figures == [
        ("Sandık", str(count)),
        ("Sonucu gelen", str(count)),
        ("Tutanağı gelen", "1"),
        ("Tutanağı eksik", str(count - 1)),
    ]
    assert re.search(r"Adana.*?</tr>", page, re.DOTALL)
    assert page.count('<g class="tile l10">') == 3  # Adana, İstanbul, İzmir


def test_a_site_without_registry_says_what_to_do(staff: Staff) -> None:
    answer = staff.signed_in().get("/")

    assert answer.status_code == 200
    assert "ssps registry import" in answer.text
