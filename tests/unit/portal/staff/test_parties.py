"""Partiler: who is connected, what was refused and what to say, and what supervisors may do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from staff_site import Staff
from web_site import HOME

from config.event import Event, Outcome, TransferEvent
from config.site import LEDGERS, LIVE_SESSIONS, OPERATIONS, TRANSFER, WEB_SESSIONS
from keys.ledger import segments
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import live_sessions, server_state
from keys.operations.live_sessions import LiveSession, SessionsFile
from portal.staff.commands import Done

EVIL = "SSH-2.0-<script>alert(1)</script>\x1b[2J"
SESSION = LiveSession(90, "parti-a", "192.0.2.7", EVIL, "2023-05-14T18:04:10+00:00", "", 12, 500)


WEB_SESSION = replace(SESSION, session=1 << 47, service="web", user="zeynep", used="21:07")


@contextmanager
def served(site: Path, *sessions: LiveSession, web: bool = False) -> Iterator[SessionsFile]:
    """Let this process be the SFTP server, or the portal, with these sessions."""
    with server_state.claim(site, server_state.PORTAL if web else server_state.SERVE):
        file = SessionsFile(site, WEB_SESSIONS if web else LIVE_SESSIONS)
        file.update(sessions)
        yield file


def changes(staff: Staff) -> list[tuple[str, str, str, str, object]]:
    """Return event, who, from, what and why of each change."""
    found = segments.read_records(staff.site / LEDGERS / OPERATIONS)
    return [
        (r.event.event, r.event.who, r.event.origin, r.event.what, r.event.detail.get("why"))
        for r in found
        if r.event.event.startswith("party")
    ]


@pytest.mark.slow
def test_who_is_connected_is_shown_and_a_client_cannot_write_html(staff: Staff) -> None:
    with served(staff.site, SESSION):
        for path in ("/partiler", "/partiler/parti-a"):
            page = staff.signed_in("denetci").get(path).text

            assert "192.0.2.7" in page and "2023-05-14T18:04:10+00:00" in page
            assert "SSH-2.0-&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J" in page
            assert "<script>alert" not in page and "\x1b" not in page


@pytest.mark.slow
def test_who_is_logged_in_to_the_web_site_is_shown_beside(staff: Staff) -> None:
    with served(staff.site, SESSION), served(staff.site, WEB_SESSION, web=True):
        listed = staff.signed_in("denetci").get("/partiler").text
        page = staff.signed_in("amir").get("/partiler/parti-a").text

    for text in (listed, page):
        assert all(word in text for word in ("zeynep", f">{1 << 47}<", "21:07", ">90<"))
        assert "<script>alert" not in text and "\x1b" not in text
    assert '<td class="num">1</td><td class="num">1</td>' in listed  # one of each
    assert f'name="oturum" value="{1 << 47}"' in page


@pytest.mark.slow
def test_only_a_supervisor_sees_the_forms(staff: Staff) -> None:
    with served(staff.site, SESSION):
        pages = {n: staff.signed_in(n).get("/partiler/parti-a").text for n in ("ayse", "amir")}
    assert "durdur" not in pages["ayse"] and "Sonlandır" not in pages["ayse"]
    assert "/partiler/parti-a/durdur" in pages["amir"] and "Sonlandır" in pages["amir"]


@pytest.mark.slow
def test_a_refused_attempt_comes_with_what_to_say_on_the_telephone(staff: Staff) -> None:
    with Ledger(staff.site / LEDGERS / TRANSFER) as ledger:
        detail = {"reason": "wrong credential", "client": EVIL, "credential": "SHA256:x"}
        refused = TransferEvent.LOGIN_REFUSED
        ledger.append(Event(refused, "parti-a", "127.0.0.1", "", Outcome.REFUSED, detail))

    page = staff.signed_in().get("/partiler/parti-a").text

    assert "Reddedildi: wrong credential" in page
    assert "Telefonda söyleyin: <q>Anahtariniz kayitli degil" in page
    assert "<script>alert" not in page and "\x1b" not in page
    listed = staff.signed_in().get("/partiler").text
    assert '<td class="num">1</td></tr>' in listed


@pytest.mark.slow
def test_a_supervisor_suspends_and_resumes_with_why_on_the_same_record(staff: Staff) -> None:
    browser = staff.signed_in("amir")

    without = browser.post("/partiler/parti-a/durdur", "/partiler/parti-a", neden=" ")
    suspended = browser.post("/partiler/parti-a/durdur", "/partiler/parti-a", neden="çok istek")
    again = browser.post("/partiler/parti-a/durdur", "/partiler/parti-a", neden="çok istek")
    resumed = browser.post("/partiler/parti-a/ac", "/partiler/parti-a", neden="--why=x")

    assert (without.status_code, suspended.status_code, resumed.status_code) == (422, 200, 200)
    assert "Parti durduruldu." in suspended.text
    assert "zaten öyleydi" in again.text
    assert "suspended = true" not in (staff.site / "parties.toml").read_text()
    assert changes(staff) == [
        ("party suspend", "staff:amir", HOME, "parti-a", "çok istek"),
        ("party resume", "staff:amir", HOME, "parti-a", "--why=x"),
    ]
    assert ("page", "amir", "/partiler/parti-a/durdur", "ok") in [r[:4] for r in staff.records()]


@pytest.mark.slow
@pytest.mark.parametrize("session", [SESSION, WEB_SESSION], ids=["sftp", "web"])
def test_a_supervisor_ends_a_session_with_why(staff: Staff, session: LiveSession) -> None:
    number = session.session
    with served(staff.site, session, web=session.service == "web") as file:
        browser = staff.signed_in("amir")
        stop = threading.Event()

        def serve() -> None:
            while not stop.wait(0.02):
                if number in live_sessions.ended(staff.site):
                    file.update(())

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            done = browser.post(
                "/partiler/parti-a/oturum",
                "/partiler/parti-a",
                oturum=str(number),
                neden="eski istemci",
            )
            unknown = browser.post(
                "/partiler/parti-a/oturum", "/partiler/parti-a", oturum="91", neden="x"
            )
        finally:
            stop.set()
            thread.join()

    assert "Oturum sonlandırıldı." in done.text
    assert unknown.status_code == 409 and "has no session 91" in unknown.text
    assert changes(staff)[0] == ("party end-session", "staff:amir", HOME, "parti-a", "eski istemci")


@pytest.mark.slow
def test_the_letter_is_printed_again_without_a_secret(staff: Staff) -> None:
    answer = staff.signed_in().get("/partiler/parti-a/mektup")

    assert answer.status_code in (200, 409)
    if answer.status_code == 200:
        assert answer.content.startswith(b"%PDF-")


def test_an_unknown_party_has_no_page(staff: Staff) -> None:
    browser = staff.signed_in()
    for name in ("yok", "--help", "..%2f..", "parti-a%00"):
        assert browser.get(f"/partiler/{name}").status_code == 404


@pytest.mark.slow
def test_nothing_is_done_that_cannot_be_recorded(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    amir, denetci = staff.signed_in("amir"), staff.signed_in("denetci")
    tokens = [
        re.findall(r'name="form" value="([0-9a-f]+)"', browser.get(path).text)[0]
        for browser, path in ((amir, "/partiler/parti-a"), (denetci, "/kayit"))
    ]
    commands = staff.app._app.state.commands  # type: ignore[attr-defined]
    ran: list[object] = []

    async def full(*events: object) -> int:
        raise Unwritable("the disk is full")

    async def run(*words: object, **options: object) -> Done:
        ran.append(words)
        return Done(0, "", "")

    monkeypatch.setattr(staff.entrance.recorder, "record", full)
    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(commands, "run_told", run)
    statuses = [
        browser.send("POST", path, data={"form": token, "neden": "x"}).status_code
        for browser, token, path in (
            (amir, tokens[0], "/partiler/parti-a/durdur"),
            (denetci, tokens[1], "/kayit/dogrula"),
            (denetci, tokens[1], "/kayit/rapor/parti-a"),
        )
    ]

    assert statuses == [503, 503, 503]
    assert ran == []
