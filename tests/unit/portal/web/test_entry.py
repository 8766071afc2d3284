"""The login and its steps, as a browser sees them."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import office
import pyotp
import pytest
import web_site
from web_site import PASSWORD, Portal

from config import load
from config.site import HOST_KEYS, LEDGERS
from keys.credentials import user_changes
from keys.credentials.users import State, User
from keys.ledger import segments
from keys.operations import announcements, user_files
from keys.server_keys import host
from portal.access.entrance import Entrance
from portal.access.sessions import Stage

NEW = "Galata-Kulesi-1348"
WRONG = "Kullanıcı adı veya parola yanlış."
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def change(portal: Portal, name: str, **fields: object) -> None:
    """Change a user of parti-a, on record."""
    held = user_files.load(portal.site, "parti-a")
    users = tuple(
        replace(user, **fields) if user.name == name else user  # type: ignore[arg-type]
        for user in held.users
    )
    web_site.write_users(portal.site, replace(held, users=users))


def operations(portal: Portal) -> list[str]:
    return [r.event.event for r in segments.read_records(portal.site / LEDGERS / "operations")]


def test_a_login_is_recorded_and_leads_to_the_page_that_was_asked_for(portal: Portal) -> None:
    browser = portal.client()
    asked = browser.get("/?a=1")
    assert asked.headers["location"] == "/giris?sonra=/%3Fa%3D1"
    shown = browser.get(asked.headers["location"])
    assert 'name="sonra" value="/?a=1"' in shown.text

    answer = browser.post("/giris", kullanici=" Parti-A.AYSE ", parola=PASSWORD, sonra="/?a=1")

    assert (answer.status_code, answer.headers["location"]) == (303, "/?a=1")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-ssps="))
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(cookie.split("; "))
    event, who, _, outcome, detail = portal.records()[-1]
    assert (event, who, outcome) == ("login", "parti-a", "ok")
    assert (detail["user"], detail["service"]) == ("parti-a.ayse", "web")
    assert detail["credential"] == web_site.password().fingerprint
    assert "Genel durum" in browser.get("/").text


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/a\nb"]
)
def test_a_login_never_leads_to_another_site(portal: Portal, target: str) -> None:
    answer = portal.client().post("/giris", kullanici="parti-a.ayse", parola=PASSWORD, sonra=target)
    assert answer.headers["location"] == "/"


def test_all_failed_logins_look_the_same(portal: Portal) -> None:
    change(portal, "temsilci", state=State.SUSPENDED)
    answers = [
        portal.client().log_in(login, secret)
        for login, secret in (
            ("parti-a.ayse", "wrong"),
            ("parti-a.nobody", PASSWORD),
            ("nobody.ayse", PASSWORD),
            ("nobody", PASSWORD),
            ("bagimsiz-c.x", PASSWORD),
            ("parti-a.temsilci", PASSWORD),
            ("", ""),
            ("x" * 150, "y" * 1500),
        )
    ]

    assert {a.status_code for a in answers} == {403}
    texts = {re.sub(r'value="[0-9a-f]{64}"', "", a.text) for a in answers}
    assert len(texts) == 1
    assert WRONG in texts.pop()
    refused = [(who, d["reason"]) for e, who, _, _, d in portal.records() if e == "login-refused"]
    assert refused[:6] == [
        ("parti-a", "wrong credential"),
        ("parti-a", "unknown user"),
        ("nobody.ayse", "unknown user"),
        ("nobody", "unknown user"),
        ("bagimsiz-c", "receives an export, has no login"),
        ("parti-a", "user suspended or passive"),
    ]
    assert PASSWORD not in str(portal.records())


def test_an_address_of_another_party_opens_nothing(tmp_path: Path) -> None:
    parties = office.PARTIES_TOML.replace('["127.0.0.1"]', '["192.0.2.50"]')
    with web_site.running(web_site.make(tmp_path / "site", parties_toml=parties)) as portal:
        answer = portal.client().log_in()

        assert answer.status_code == 403
        assert WRONG in answer.text
        assert portal.records()[-1][4]["reason"] == "wrong address"


def test_an_initial_password_opens_only_the_page_that_replaces_it(portal: Portal) -> None:
    browser = portal.signed_in("parti-b.banu")
    for path in ("/", "/kosullar", "/hesap/parola", "/dogrulama"):
        assert browser.get(path).headers["location"] == "/parola"
    short = browser.post("/parola", yeni="kisa", tekrar="kisa")
    unequal = browser.post("/parola", yeni=NEW, tekrar=NEW + "x")
    same = browser.post("/parola", yeni=PASSWORD, tekrar=PASSWORD)
    named = browser.post("/parola", yeni="parti-b-uzun-parola", tekrar="parti-b-uzun-parola")
    assert [a.status_code for a in (short, unequal, same, named)] == [422] * 4
    assert "en az 12 karakter" in short.text
    assert "aynı değil" in unequal.text
    assert "eskisinden farklı" in same.text and "eskisinden farklı" in named.text
    before = browser.http.cookies["__Host-ssps"]

    answer = browser.post("/parola", yeni=NEW, tekrar=NEW)

    assert answer.headers["location"] == "/kosullar"
    assert browser.http.cookies["__Host-ssps"] != before
    assert operations(portal)[-1] == "user password"
    assert portal.client().log_in("parti-b.banu", PASSWORD).status_code == 403
    assert portal.client().log_in("parti-b.banu", NEW).headers["location"] == "/kosullar"
    told = str([r.event for r in segments.read_records(portal.site / LEDGERS / "operations")])
    assert NEW not in told and "argon2" not in told


def test_the_terms_are_accepted_once_and_on_record(portal: Portal) -> None:
    change(portal, "ayse", terms=None)
    browser = portal.signed_in()
    shown = browser.get("/kosullar")
    assert "geçicidir" in shown.text and "md. 6/e" in shown.text
    assert browser.get("/").headers["location"] == "/kosullar"
    assert browser.post("/kosullar").status_code == 422
    assert browser.post("/kosullar", kabul="other").status_code == 422

    answer = browser.post("/kosullar", kabul="2026-1")

    assert answer.headers["location"] == "/"
    assert portal.records()[-1][:3] == ("terms", "parti-a", "2026-1")
    assert operations(portal)[-1] == "user terms"
    assert browser.get("/").status_code == 200
    assert portal.client().log_in().headers["location"] == "/"


def test_before_the_opening_only_a_right_password_learns_when_it_is(portal: Portal) -> None:
    portal.now = office.OPENS - timedelta(minutes=1)
    right = portal.client().log_in()
    wrong = portal.client().log_in(secret="wrong")
    assert (right.status_code, wrong.status_code) == (403, 403)
    assert "Erişim 2023-05-14T17:00:00+03:00 itibarıyla açılır" in right.text
    assert WRONG in wrong.text and "Parolanız doğru" not in wrong.text

    fresh = portal.client()
    assert fresh.log_in("parti-b.banu").headers["location"] == "/parola"
    done = fresh.post("/parola", yeni=NEW, tekrar=NEW)
    assert done.headers["location"] == "/giris?durum=degisti"
    assert fresh.get("/").headers["location"] == "/giris"
    portal.now = office.OPENS
    assert portal.client().log_in("parti-b.banu", NEW).headers["location"] == "/kosullar"
    assert portal.client().log_in().headers["location"] == "/"


def test_a_session_ends_when_the_access_closes(tmp_path: Path) -> None:
    toml = web_site.SITE_TOML.replace("[sftp]", "closes = 2023-05-14T20:00:00+03:00\n[sftp]")
    with web_site.running(web_site.make(tmp_path / "site", toml)) as portal:
        portal.now = office.OPENS + timedelta(hours=2, minutes=59)
        browser = portal.signed_in()
        assert browser.get("/").status_code == 200
        portal.now = office.OPENS + timedelta(hours=3)

        assert browser.get("/").headers["location"] == "/giris?durum=kapali"
        assert portal.records()[-1][0] == "session-end"
        assert portal.records()[-1][4]["reason"] == "closed"
        assert "Erişim kapanmıştır" in portal.client().log_in().text


def test_a_user_who_is_suspended_removed_or_reset_is_out_at_the_next_request(
    portal: Portal,
) -> None:
    browser = portal.signed_in()
    change(portal, "ayse", state=State.SUSPENDED)
    assert browser.get("/").headers["location"] == "/giris"
    assert portal.records()[-1][4]["reason"] == "user suspended or passive"

    change(portal, "ayse", state=State.ACTIVE)
    browser = portal.signed_in()
    held = user_files.load(portal.site, "parti-a")
    web_site.write_users(portal.site, user_changes.remove(held, "ayse"))
    assert browser.get("/").headers["location"] == "/giris"
    assert portal.records()[-1][4]["reason"] == "unknown user"


def test_a_party_that_is_suspended_is_out_at_the_next_request(portal: Portal) -> None:
    browser = portal.signed_in()
    file = portal.site / "parties.toml"
    file.write_text(file.read_text().replace('kind = "party"', 'kind = "party"\nsuspended = true'))
    portal.entrance.settings = load.load(portal.site)

    assert browser.get("/").headers["location"] == "/giris"
    assert portal.records()[-1][4]["reason"] == "suspended"


def test_a_session_ends_without_requests_and_after_some_hours(portal: Portal) -> None:
    browser = portal.signed_in()
    portal.now += timedelta(minutes=29)
    assert browser.get("/").status_code == 200
    portal.now += timedelta(minutes=30)
    assert browser.get("/").status_code == 303

    browser = portal.signed_in()
    for _ in range(30):
        portal.now += timedelta(minutes=24)
        if browser.get("/").status_code == 303:
            break
    assert portal.now == web_site.OPEN + timedelta(minutes=59) + timedelta(hours=12)


def test_a_logout_ends_the_session_on_the_server(portal: Portal) -> None:
    browser = portal.signed_in()
    stolen = browser.http.cookies["__Host-ssps"]

    answer = browser.post("/cikis", page="/")

    assert answer.headers["location"] == "/giris"
    assert portal.records()[-1][0] == "session-end"
    thief = portal.client(headers={"cookie": f"__Host-ssps={stolen}"})
    assert thief.get("/").status_code == 303


def test_a_token_that_is_known_before_the_login_is_worth_nothing(portal: Portal) -> None:
    browser = portal.client(cookies={"__Host-ssps": "fixed-by-somebody-else"})
    answer = browser.log_in()

    cookies = answer.headers.get_list("set-cookie")
    assert not any("fixed-by-somebody-else" in each for each in cookies)
    thief = portal.client(headers={"cookie": "__Host-ssps=fixed-by-somebody-else"})
    assert thief.get("/").status_code == 303


def test_sessions_outlive_a_restart_and_their_file_holds_no_token(portal: Portal) -> None:
    browser = portal.signed_in()
    token = browser.http.cookies["__Host-ssps"]
    before = portal.entrance
    before.sessions.close()
    stored = b"".join(
        path.read_bytes() for path in (portal.site / "state").glob("portal-sessions*")
    )
    assert token.encode() not in stored

    fresh = Entrance(before.settings, before.recorder, before.clock)
    session = fresh.sessions.find(token)
    portal.entrance.sessions = fresh.sessions

    assert session is not None
    assert (session.user, session.stage) == ("ayse", Stage.FULL)
    assert browser.get("/").status_code == 200


def test_a_damaged_file_of_sessions_logs_everybody_out_and_nothing_else(
    portal: Portal,
) -> None:
    portal.entrance.sessions.close()
    for path in (portal.site / "state").glob("portal-sessions*"):
        path.write_bytes(b"not a database" * 100)
    before = portal.entrance
    portal.entrance.sessions = Entrance(before.settings, before.recorder, before.clock).sessions

    assert portal.signed_in().get("/").status_code == 200


def test_the_second_factor_is_asked_for_after_the_password(portal: Portal) -> None:
    change(portal, "ayse", totp=SECRET)
    browser = portal.client()
    assert browser.log_in().headers["location"] == "/dogrulama"
    assert browser.get("/").headers["location"] == "/dogrulama"
    assert browser.post("/dogrulama", kod="000000").status_code == 403
    code = pyotp.TOTP(SECRET).at(portal.now)

    answer = browser.post("/dogrulama", kod=code)

    assert answer.headers["location"] == "/"
    assert portal.records()[-1][0] == "totp"
    again = portal.client()
    again.log_in()
    assert again.post("/dogrulama", kod=code).status_code == 403  # each code opens once
    portal.now += timedelta(seconds=30)
    fresh = pyotp.TOTP(SECRET).at(portal.now)
    assert again.post("/dogrulama", kod=f"{fresh[:3]} {fresh[3:]}").status_code == 303


def test_a_user_sets_up_a_second_factor_and_removes_it(portal: Portal) -> None:
    browser = portal.signed_in()
    shown = browser.get("/hesap/ikinci-adim").text
    found = re.search(r'name="gizli" value="([A-Z2-7]{32})"', shown)
    assert found is not None and "<svg" in shown
    assert browser.post("/hesap/ikinci-adim", gizli=found[1], kod="1").status_code == 422
    code = pyotp.TOTP(found[1]).at(portal.now)
    assert browser.post("/hesap/ikinci-adim", gizli=found[1], kod=code).status_code == 303
    user = user_files.load(portal.site, "parti-a").named("ayse")
    assert user is not None and user.totp == found[1]
    assert operations(portal)[-1] == "user totp"
    told = str([r.event for r in segments.read_records(portal.site / LEDGERS / "operations")])
    assert found[1] not in told

    portal.now += timedelta(minutes=1)
    code = pyotp.TOTP(found[1]).at(portal.now)
    assert browser.post("/hesap/ikinci-adim", kaldir="evet", kod=code).status_code == 303
    user = user_files.load(portal.site, "parti-a").named("ayse")
    assert user is not None and user.totp == ""


def test_a_party_may_require_a_second_factor(tmp_path: Path) -> None:
    parties = office.PARTIES_TOML.replace('name = "A Partisi"', 'name = "A"\ntotp = "required"')
    with web_site.running(web_site.make(tmp_path / "site", parties_toml=parties)) as portal:
        browser = portal.client()
        assert browser.log_in().headers["location"] == "/ikinci-adim"
        assert browser.get("/").headers["location"] == "/ikinci-adim"
        found = re.search(r'name="gizli" value="([A-Z2-7]{32})"', browser.get("/ikinci-adim").text)
        assert found is not None
        code = pyotp.TOTP(found[1]).at(portal.now)
        answer = browser.post("/ikinci-adim", gizli=found[1], kod=code)
        assert answer.headers["location"] == "/"
        assert browser.get("/").status_code == 200


def test_a_new_password_ends_the_other_sessions(portal: Portal) -> None:
    browser, other = portal.signed_in(), portal.signed_in()
    assert browser.post("/hesap/parola", eski="x", yeni=NEW, tekrar=NEW).status_code == 422

    answer = browser.post("/hesap/parola", eski=PASSWORD, yeni=NEW, tekrar=NEW)

    assert answer.status_code == 303
    assert browser.get("/").status_code == 200
    assert other.get("/").status_code == 303
    assert portal.client().log_in().status_code == 403
    assert portal.client().log_in(secret=NEW).status_code == 303


def test_too_many_attempts_have_to_wait_and_a_user_elsewhere_does_not(tmp_path: Path) -> None:
    parties = office.PARTIES_TOML.replace('["127.0.0.1"]', '["127.0.0.1", "192.0.2.50"]')
    site = web_site.make(tmp_path / "site", parties_toml=parties)
    with web_site.running(site, limited=True) as portal:
        known = [portal.client().log_in(secret="wrong").status_code for _ in range(12)]
        unknown = [portal.client().log_in("parti-a.x", "wrong").status_code for _ in range(3)]
        last = portal.client().log_in()

        assert known[:10] == [403] * 10
        assert known[10:] == [429] * 2
        assert last.status_code == 429 and int(last.headers["retry-after"]) >= 1
        assert "saniye sonra" in last.text
        assert set(unknown) <= {403, 429}
        assert portal.client("192.0.2.50").log_in().status_code == 303


def test_a_service_user_sets_its_password_on_the_site_and_sees_nothing_else(
    portal: Portal,
) -> None:
    change(portal, "servis", credentials=(web_site.password(False),))
    browser = portal.client()
    assert browser.log_in("parti-a.servis").headers["location"] == "/parola"
    assert browser.get("/").headers["location"] == "/parola"

    done = browser.post("/parola", yeni=NEW, tekrar=NEW)

    assert done.headers["location"] == "/giris?durum=servis"
    assert "yalnız web servisi" in browser.get("/giris?durum=servis").text
    assert browser.get("/").headers["location"] == "/giris"
    refused = portal.client().log_in("parti-a.servis", NEW)
    assert (refused.status_code, "yalnız web servisi" in refused.text) == (403, True)


def test_names_and_errors_are_escaped(portal: Portal) -> None:
    answer = portal.client().get("/giris?sonra=/%22%3E%3Cscript%3Ealert(1)%3C/script%3E")

    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_a_user_is_shown_by_its_name_and_never_with_a_secret(portal: Portal) -> None:
    user = User("ayse", web_site.users()[0].users[0].role, (web_site.password(),), totp=SECRET)

    assert SECRET not in repr(user) and "argon2" not in repr(user)


def test_announcements_are_shown_at_once_escaped_and_before_any_login(portal: Portal) -> None:
    browser, other = portal.client(), portal.signed_in()
    now = office.OPENS - timedelta(days=1)
    held = announcements.added((), "<script>alert(1)</script> Prova", now)
    announcements.write(portal.site, announcements.added(held, "İkinci duyuru", now))

    entry, home = browser.get("/giris").text, other.get("/").text

    for page in (entry, home):
        assert "&lt;script&gt;alert(1)&lt;/script&gt; Prova" in page
        assert "<script>alert" not in page
        assert page.index("İkinci duyuru") < page.index("Prova")
        assert "2023-05-13T17:00:00+03:00" in page
    announcements.write(portal.site, announcements.withdrawn(held, 1, now))
    assert "Prova" not in browser.get("/giris").text


def test_a_damaged_file_of_announcements_does_not_close_the_entry(portal: Portal) -> None:
    (portal.site / "state/announcements.json").write_text("{")

    assert portal.client().get("/giris").status_code == 200


@pytest.mark.parametrize(
    ("hours", "said"),
    [(-1, "Erişim henüz açılmadı."), (1, "Erişim şu anda açık."), (999, "Erişim kapanmıştır.")],
)
def test_the_entry_page_says_what_is_open_and_where_the_services_are(
    portal: Portal, hours: int, said: str
) -> None:
    portal.now = office.OPENS + timedelta(hours=hours)
    settings = portal.entrance.settings
    closes = office.OPENS + timedelta(hours=99)
    address = replace(settings.sftp, address=("sftp.ssps.example", 2222))
    portal.entrance.settings = replace(
        settings, election=replace(settings.election, closes=closes), sftp=address
    )
    host.create_key(portal.site / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    (key,) = host.public_host_keys(portal.site)

    page = portal.client().get("/giris").text

    assert said in page
    times = re.sub(r"</?span[^>]*>", "", page)
    assert "2023-05-14T17:00:00+03:00 itibarıyla, 2023-05-18T20:00:00+03:00 anına kadar" in times
    assert "sftp.ssps.example, port 2222" in page
    assert f"<small>ssh-ed25519</small> <code>{key.fingerprint}</code>" in page
    assert "/v1</dd>" in page
