"""Talepler: a party's form beside what is in force; an operator accepts or returns it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import staff_site
from staff_site import Staff
from web_site import Client

from config import load
from keys.access_requests import store
from keys.access_requests.comparison import Topic
from keys.access_requests.store import State
from keys.ledger import segments
from keys.operations import user_files
from keys.server_keys import host

INVITED = """
[[party]]
id = "d-partisi"
name = "D <i>Partisi</i>"
kind = "party"
scope = "all"
invited = true
"""
FORM = """\
id = "d-partisi"
party = "D Partisi"
services = ["web"]
static_ips = ["192.0.2.7"]
approver = "=HYPERLINK(1)"
date = 2023-05-02
[contact]
name = "<script>alert(1)</script>"
email = "bilgi@d.example"
phones = ["+90 312 000 00 00"]
[[user]]
name = "ayse"
person = "Ayşe <b>Yılmaz</b>"
contact = true
"""
TICKS = {f"ayni-{n}": "evet" for n in range(len(Topic))}


@pytest.fixture
def staff(tmp_path: Path) -> Iterator[Staff]:
    """A staff site beside an invited party."""
    parties = staff_site.PARTIES_TOML + INVITED
    site = staff_site.make(tmp_path / "site", parties_toml=parties)

    with staff_site.running(site) as found:
        yield found


def send(staff: Staff, form: str = FORM) -> store.AccessRequest:
    before = store.draft(staff.site, "d-partisi")
    version = before.version if before else 0
    now = datetime(2023, 5, 2, 11, tzinfo=UTC)
    return store.submit(staff.site, "d-partisi", form.encode(), version, {}, "d-partisi.x", now)


def decide(browser: Client, what: str, request: store.AccessRequest, **fields: str) -> int:
    path = f"/talepler/d-partisi/{request.number}"
    sent = {"sha256": request.sha256, "neden": "paper 7", **fields}
    answer = browser.post(f"{path}/{what}", page=path, **sent)
    browser.last = answer  # type: ignore[attr-defined]
    return answer.status_code


def test_the_form_is_shown_beside_what_is_in_force(staff: Staff) -> None:
    request = send(staff)
    browser = staff.signed_in("denetci")

    listed, shown = browser.get("/talepler").text, browser.get("/talepler/d-partisi/1").text

    assert "D &lt;i&gt;Partisi" in listed and request.sha256[:16] in listed
    assert "<ins>192.0.2.7</ins>" in shown
    assert "<ins>ayse (temsilci, irtibat)</ins>" in shown
    assert "<script>" not in shown and "<b>Yılmaz" not in shown
    assert "başka bir parti için de kayıtlı: parti-a" in shown
    assert "Kabul et" not in shown and "İade et" not in shown  # an auditor only reads


def test_accepting_needs_every_tick_a_reason_and_the_same_form(staff: Staff) -> None:
    request, browser = send(staff), staff.signed_in()

    assert decide(browser, "kabul", request) == 422
    assert decide(browser, "kabul", request, **{**TICKS, "neden": " "}) == 422
    assert decide(browser, "kabul", request, **{**TICKS, "sha256": "0" * 64}) == 422
    (left,) = store.requests_of(staff.site, "d-partisi")
    assert left.state is State.SUBMITTED
    assert staff.records()[-1][0] == "denied"


@pytest.mark.slow
def test_an_accepted_form_is_in_force_and_on_record_as_the_operator_s(staff: Staff) -> None:
    request, browser = send(staff), staff.signed_in()

    assert decide(browser, "kabul", request, **TICKS) == 200

    page = browser.last.text  # type: ignore[attr-defined]
    (password,) = re.findall(r"<code>((?:[a-z0-9]{5}-){4}[a-z0-9]{5})</code>", page)
    user = user_files.load(staff.site, "d-partisi").named("ayse")
    assert user is not None and user.by_password(password, datetime.now(UTC)) is not None
    party = load.load(staff.site).party("d-partisi")
    assert party is not None and not party.invited
    changes = [r.event for r in segments.read_records(staff.site / "ledgers/operations")]
    last = changes[-1]
    assert (last.event, last.who, last.origin) == (
        "party requests accept",
        "staff:ayse",
        "127.0.0.1",
    )
    assert last.detail["why"] == "paper 7"
    assert {e.who for e in changes if e.event in ("party add", "user add") and e.detail.get(
        "request")} == {"staff:ayse"}  # fmt: skip
    _, who, what, _, detail = next(r for r in staff.records() if r[0] == "request")
    assert (who, what, detail["state"]) == ("ayse", "d-partisi/1", "accepted")
    assert password not in str(staff.records()) + str(changes)
    assert decide(browser, "kabul", request, **TICKS) == 409  # a second time


@pytest.mark.slow
def test_a_form_that_is_accepted_in_part_shows_the_passwords_and_what_to_do(
    staff: Staff, tmp_path: Path
) -> None:
    host.create_key(tmp_path / "mirror", "mirror")
    line = (tmp_path / "mirror.pub").read_text().strip()
    form = FORM.replace('["web"]', '["sftp", "web"]') + f'[[key]]\npublic_key = "{line}"\n'
    request, browser = send(staff, form), staff.signed_in()
    (staff.site / "keys/parties/.d-partisi.toml.next").mkdir(parents=True)  # no ring can be written

    assert decide(browser, "kabul", request, **TICKS) == 409

    page = browser.last.text  # type: ignore[attr-defined]
    assert "Kabul edildi" not in page and "kabul edildi<" not in page
    assert "yeniden kabul edin" in page and "NOT accepted" in page
    (password,) = re.findall(r"<code>((?:[a-z0-9]{5}-){4}[a-z0-9]{5})</code>", page)
    user = user_files.load(staff.site, "d-partisi").named("ayse")
    assert user is not None and user.by_password(password, datetime.now(UTC)) is not None
    assert "<ins>ssh-ed25519" in page or "<ins>SHA256:" in page  # the key is left
    assert "<ins>192.0.2.7</ins>" not in page and "<ins>ayse" not in page
    (left,) = store.requests_of(staff.site, "d-partisi")
    assert left.state is State.SUBMITTED


@pytest.mark.slow
def test_a_returned_form_has_the_reason_that_the_representative_sees(staff: Staff) -> None:
    request, browser = send(staff), staff.signed_in("amir")

    assert decide(browser, "iade", request, neden="--yes") == 303

    (left,) = store.requests_of(staff.site, "d-partisi")
    assert (left.state, left.reason, left.decided_by) == (State.RETURNED, "--yes", "staff:amir")


@pytest.mark.slow
def test_the_saved_table_runs_nothing(staff: Staff) -> None:
    request, browser = send(staff), staff.signed_in()
    decide(browser, "iade", request, neden='=HYPERLINK("http://evil")')

    table = browser.get("/talepler.csv").content.decode("utf-8-sig")

    assert "'=HYPERLINK" in table and ";=HYPERLINK" not in table


def test_a_damaged_form_is_shown_as_damaged_and_hides_no_other(staff: Staff) -> None:
    other = store.submit(
        staff.site, "parti-a", b"x", 0, {}, "parti-a.x", datetime(2023, 5, 2, 11, tzinfo=UTC)
    )
    send(staff)
    (staff.site / "state/requests/d-partisi/1.toml").write_text(FORM + "# x")

    browser = staff.signed_in()

    listed = browser.get("/talepler").text
    assert "d-partisi/1.json: is damaged" in listed and other.sha256[:16] in listed
    assert other.sha256 in browser.get("/talepler.csv").text
    event, _, what, _, detail = staff.records()[-1]
    assert (event, what, detail["rows"]) == ("download", "/talepler.csv", 1)
    assert browser.get("/talepler/d-partisi/1").status_code == 503


@pytest.mark.parametrize("path", ["/talepler/nobody/1", "/talepler/d-partisi/9", "/talepler/../1"])
def test_an_unknown_request_does_not_exist(staff: Staff, path: str) -> None:
    send(staff)
    assert staff.signed_in().get(path).status_code == 404
