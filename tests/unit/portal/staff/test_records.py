"""Kayıt: verified first, searched with the filters of the command, timelines and reports."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import staff_site
from staff_site import Staff
from unit.keys.ledger.signed_ledgers import KEY
from unit.scripts.audit import recorded_night

from config.site import LEDGERS, STAFF
from keys.ledger.signer import Signer
from keys.operations import verified

pytestmark = pytest.mark.slow
DEADLINE = 90  # seconds; each command starts a process


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Staff]:
    """A staff site whose ledgers have a night on record."""
    site = staff_site.make(tmp_path / "site")
    recorded_night.make(site)
    with staff_site.running(site) as found:
        yield found


def until(night: Staff, path: str, pattern: str) -> str:
    """Ask for a page of the auditor until it shows something."""
    browser = night.signed_in("denetci")
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        page = browser.get(path).text
        if re.search(pattern, page):
            return page
        time.sleep(0.1)
    raise AssertionError(page)


def test_the_state_of_verification_comes_first_and_a_button_verifies(night: Staff) -> None:
    browser = night.signed_in("denetci")
    before = browser.get("/kayit").text
    assert "henüz doğrulama yapılmadı" in before
    assert before.index('id="dogrulama"') < before.index('id="arama"')

    answer = browser.post("/kayit/dogrula", "/kayit")

    assert answer.status_code == 303
    page = until(night, "/kayit", "denetci, [0-9.]+ sn")
    found = verified.read(night.site)
    assert found is not None and found.by == "staff:denetci"
    assert {ledger.name for ledger in found.ledgers} >= {"transfer", "filing"}
    assert ("Kayıtlar doğrulandı" in page) is found.ok


def test_records_are_searched_with_the_filters_of_the_command(night: Staff) -> None:
    browser = night.signed_in("denetci")

    filed = browser.get("/kayit?kayit=filing&olay=filed").text
    nothing = browser.get("/kayit?parti=yok").text
    wrong = browser.get("/kayit?baslangic=gestern").text

    assert "filed</td>" in filed and "denied</td>" not in filed
    assert "Böyle bir kayıt yok." in nothing
    assert "Aranamadı" in wrong
    assert night.records()[-1][0] == "query"


def test_a_filter_is_a_value_and_never_an_option_or_html(night: Staff) -> None:
    browser = night.signed_in("denetci")
    for text in ("--rebuild", "-n1", "<script>alert(1)</script>", "'; drop table record; --"):
        page = browser.get("/kayit", params={"parti": text}).text
        assert "Böyle bir kayıt yok." in page
        assert "<script>alert" not in page


def test_the_timeline_of_a_sheet_and_of_a_box(night: Staff) -> None:
    browser = night.signed_in("denetci")

    sheet = browser.get("/kayit/izle?ne=1093717526").text
    box = browser.get("/kayit/izle?ne=34-istanbul-1/kadikoy-2/1234").text
    unknown = browser.get("/kayit/izle?ne=--json").text

    for page in (sheet, box):
        assert "filed</th>" in page and "fetched</th>" in page
    assert "Kayıtta böyle bir tutanak ya da sandık yok." in unknown


def test_the_report_on_a_party_is_read_in_the_browser_where_nothing_of_it_may_run(
    night: Staff,
) -> None:
    browser = night.signed_in("denetci")
    assert browser.get("/kayit/rapor/parti-a").status_code == 404
    with Signer(night.site / LEDGERS / STAFF, KEY) as signer:
        signer.sign(last=True)

    browser.post("/kayit/rapor/parti-a", "/kayit", dil="en")
    page = until(night, "/kayit", "yazılamadı|/kayit/rapor/parti-a/pdf")

    report = browser.get("/kayit/rapor/parti-a")
    assert "yazılamadı" not in page
    assert report.status_code == 200
    policy = report.headers["content-security-policy"]
    assert "sandbox" in policy and "default-src 'none'" in policy and "unsafe" not in policy
    assert browser.get("/kayit/rapor/parti-a/pdf").content.startswith(b"%PDF-")
    assert night.records()[-1][0] == "download"
