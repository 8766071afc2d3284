"""Who may come to the staff site, and what each role may see there."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest
import staff_site
import web_site
from staff_site import ROLES, SECRET, Staff
from web_site import AWAY, PASSWORD

from config.site import LEDGERS
from keys.credentials.users import OPERATORS, Role, State, User
from keys.ledger import segments
from keys.operations import user_files
from portal.access.gate import GatedRoute
from portal.staff.site import create_app

NEW = "Galata-Kulesi-1348"
WRONG = "Kullanıcı adı veya parola yanlış."
ANYONE = {Role.OPERATOR, Role.SUPERVISOR, Role.AUDITOR}
DESK = {Role.OPERATOR, Role.SUPERVISOR}
SUPERVISOR, AUDITOR = {Role.SUPERVISOR}, {Role.AUDITOR}
PUBLIC = {"/dosya/{digest}/{name}", "/giris"}
OWN_ACCOUNT = {"/cikis", "/parola", "/hesap/parola", "/dogrulama", "/ikinci-adim"}
PAGES: dict[str, set[Role]] = {
    "/": ANYONE,
    "/canli": ANYONE,
    "/canli/{cevre}": ANYONE,
    "/canli/{cevre}/{kurul}": ANYONE,
    "/durum/{cevre}": ANYONE,
    "/durum/{cevre}/{kurul}": ANYONE,
    "/durum/{cevre}/{kurul}/{sandik}": ANYONE,
    "/hesap": ANYONE,
    "/partiler": ANYONE,
    "/partiler/canli": ANYONE,
    "/partiler/{party_id}": ANYONE,
    "/partiler/{party_id}/mektup": ANYONE,
    "/partiler/{party_id}/durdur": SUPERVISOR,
    "/partiler/{party_id}/ac": SUPERVISOR,
    "/partiler/{party_id}/oturum": SUPERVISOR,
    "/kayit": AUDITOR,
    "/kayit/dogrula": AUDITOR,
    "/kayit/izle": AUDITOR,
    "/kayit/rapor/{party_id}": AUDITOR,
    "/kayit/rapor/{party_id}/pdf": AUDITOR,
    "/masa": ANYONE,
    "/masa/sonraki": ANYONE,
    "/masa/toplu": DESK,
    "/masa/yeniden-tarama": ANYONE,
    "/masa/sayfa/{file}": ANYONE,
    "/masa/resim/{file}/{frame}": ANYONE,
    "/masa/form/{karekod}": ANYONE,
    "/masa/sayfa/{file}/tanimla": DESK,
    "/masa/sayfa/{file}/reddet": DESK,
    "/masa/sayfa/{file}/yeniden-tarama": DESK,
    "/masa/sayfa/{file}/yeniden-oku": DESK,
    "/masa/sayfa/{file}/karar": {Role.SUPERVISOR},
    "/talepler": ANYONE,
    "/talepler.csv": ANYONE,
    "/talepler/{party}/{number}": ANYONE,
    "/talepler/{party}/{number}/kabul": DESK,
    "/talepler/{party}/{number}/iade": DESK,
}


def change(staff: Staff, name: str, **fields: object) -> None:
    """Change an account, on record."""
    held = user_files.load(staff.site, OPERATORS)
    users = tuple(
        replace(user, **fields) if user.name == name else user  # type: ignore[arg-type]
        for user in held.users
    )
    web_site.write_users(staff.site, replace(held, users=users))


def routes(staff: Staff) -> list[GatedRoute]:
    made = create_app(staff.entrance)
    return [route for route in made.routes if isinstance(route, GatedRoute)]


def test_every_page_names_its_roles(staff: Staff) -> None:
    found: dict[str, set[Role] | None] = {}
    for route in routes(staff):
        roles = None if route.roles is None else set(route.roles)
        assert found.setdefault(route.path, roles) == roles, route.path

    assert {path for path, roles in found.items() if roles is None} == PUBLIC | OWN_ACCOUNT
    assert {p: roles for p, roles in found.items() if roles is not None} == PAGES


def test_a_page_of_another_role_does_not_exist_and_that_is_on_record(staff: Staff) -> None:
    """Each role asks for each page in each way; what is not its own looks like no page."""
    browsers = {name: staff.signed_in(name) for name in ROLES}
    tokens = {name: form_token(browser.get("/hesap").text) for name, browser in browsers.items()}
    tried = 0
    for route in routes(staff):
        if route.roles is None:
            continue
        path = re.sub(r"{[a-z_]+}", "yok", route.path)
        for method in methods_of(route):
            for name, role in ROLES.items():
                if role in route.roles:
                    continue
                data = {"form": tokens[name]} if method == "POST" else None
                answer = browsers[name].send(method, path, data=data)
                assert answer.status_code == 404, (method, path, name)
                assert staff.records()[-1][:2] == ("denied", name)
                assert staff.records()[-1][4]["status"] == 404
                tried += 1
    assert tried >= 20


def test_every_form_of_every_page_needs_the_token_of_its_page(staff: Staff) -> None:
    browsers = {role: staff.signed_in(name) for name, role in ROLES.items()}
    for route in routes(staff):
        if "POST" not in methods_of(route) or route.roles is None:
            continue
        path = re.sub(r"{[a-z_]+}", "parti-a", route.path)
        browser = browsers[sorted(route.roles)[0]]
        for data in ({}, {"form": "0" * 64}, {"form": "", "neden": "x"}):
            answer = browser.send("POST", path, data=data)
            assert answer.status_code == 403, (path, data)
        cross = browser.send("POST", path, headers={"origin": "https://evil.example"})
        assert cross.status_code == 403
    assert not staff.site.joinpath("ledgers/operations").exists() or "party" not in {
        r.event.event.split()[0] for r in segments.read_records(staff.site / LEDGERS / "operations")
    }


def test_nobody_gets_a_page_without_a_login(staff: Staff) -> None:
    for route in routes(staff):
        if route.roles is None:
            continue
        path = re.sub(r"{[a-z_]+}", "parti-a", route.path)
        for method in methods_of(route):
            answer = staff.client().send(method, path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/giris")


def methods_of(route: GatedRoute) -> list[str]:
    return sorted((route.methods or set()) - {"HEAD"})


def form_token(page: str) -> str:
    found = re.search(r'name="form" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_a_login_needs_password_and_code_and_both_are_on_record(staff: Staff) -> None:
    browser = staff.client()
    asked = browser.get("/")
    assert asked.headers["location"] == "/giris"
    answer = browser.log_in("Ayse ")
    assert answer.headers["location"] == "/dogrulama"
    for path in ("/", "/hesap", "/parola", "/ikinci-adim"):
        assert browser.get(path).headers["location"] == "/dogrulama"
    before = browser.http.cookies["__Host-ssps-staff"]
    wrong = browser.post("/dogrulama", kod="000000")
    assert wrong.status_code == 403

    answer = browser.post("/dogrulama", kod=pyotp.TOTP(SECRET).at(staff.now))

    assert answer.headers["location"] == "/"
    assert browser.http.cookies["__Host-ssps-staff"] != before
    assert browser.get("/").status_code == 200
    recorded = [(event, who) for event, who, *_ in staff.records()]
    assert recorded[0] == ("login", "ayse")
    assert ("denied", "ayse") in recorded and ("totp", "ayse") in recorded
    assert recorded[-1] == ("page", "ayse")
    assert PASSWORD not in str(staff.records()) and SECRET not in str(staff.records())


def test_a_code_is_accepted_once(staff: Staff) -> None:
    staff.signed_in()
    other = staff.client()
    other.log_in("ayse")
    assert other.post("/dogrulama", kod=pyotp.TOTP(SECRET).at(staff.now)).status_code == 403


def test_the_first_login_sets_a_password_and_a_second_factor(staff: Staff) -> None:
    browser = staff.client()
    assert browser.log_in("yeni").headers["location"] == "/parola"
    for path in ("/", "/hesap", "/hesap/parola", "/dogrulama", "/ikinci-adim"):
        assert browser.get(path).headers["location"] == "/parola"
    assert browser.post("/parola", yeni=NEW, tekrar=NEW).headers["location"] == "/ikinci-adim"
    for path in ("/", "/hesap"):
        assert browser.get(path).headers["location"] == "/ikinci-adim"
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", browser.get("/ikinci-adim").text)
    assert secret is not None
    code = pyotp.TOTP(secret[1]).at(staff.now)

    answer = browser.post("/ikinci-adim", gizli=secret[1], kod=code)

    assert answer.headers["location"] == "/"
    assert browser.get("/").status_code == 200
    changes = segments.read_records(staff.site / LEDGERS / "operations")
    recorded = [(r.event.event, r.event.who) for r in changes][-2:]
    assert recorded == [("operator password", "staff:yeni"), ("operator totp", "staff:yeni")]
    assert staff.client().log_in("yeni", PASSWORD).status_code == 403
    assert staff.client().log_in("yeni", NEW).headers["location"] == "/dogrulama"


def test_all_failed_logins_look_the_same(staff: Staff) -> None:
    change(staff, "mehmet", state=State.SUSPENDED)
    tried = [
        ("ayse", "wrong"),
        ("nobody", PASSWORD),
        ("mehmet", PASSWORD),
        ("parti-a.ayse", PASSWORD),
    ]
    answers = [staff.client().log_in(name, secret) for name, secret in (*tried, ("", ""))]

    assert {a.status_code for a in answers} == {403}
    texts = {re.sub(r'value="[0-9a-f]{64}"', "", a.text) for a in answers}
    assert len(texts) == 1 and WRONG in texts.pop()
    reasons = [d["reason"] for event, _, _, _, d in staff.records() if event == "login-refused"]
    assert reasons[:3] == ["wrong credential", "unknown user", "user suspended or passive"]


def test_a_suspended_operator_is_out_at_the_next_request(staff: Staff) -> None:
    browser = staff.signed_in()
    assert browser.get("/").status_code == 200

    change(staff, "ayse", state=State.SUSPENDED)

    assert browser.get("/").headers["location"] == "/giris"
    assert staff.records()[-1][0] == "session-end"
    assert staff.records()[-1][4]["reason"] == "user suspended or passive"


def test_another_password_or_role_counts_at_once(staff: Staff) -> None:
    browser, other = staff.signed_in(), staff.signed_in("denetci")
    change(staff, "ayse", credentials=())
    assert browser.get("/").headers["location"] == "/giris"
    change(staff, "denetci", role=Role.OPERATOR)
    assert "Operatör" in other.get("/hesap").text


def test_a_session_ends_after_a_while_without_requests(staff: Staff) -> None:
    browser = staff.signed_in()
    staff.now += timedelta(minutes=31)
    assert browser.get("/").headers["location"] == "/giris"


def test_a_form_of_another_site_or_session_is_refused(staff: Staff) -> None:
    browser = staff.signed_in()
    assert browser.send("POST", "/cikis", data={}).status_code == 403
    assert browser.send("POST", "/cikis", data={"form": "0" * 64}).status_code == 403
    cross = browser.send("POST", "/cikis", headers={"sec-fetch-site": "cross-site"})
    assert cross.status_code == 403
    assert browser.get("/").status_code == 200


def test_a_session_of_the_portal_opens_nothing(staff: Staff) -> None:
    """A browser sends the cookies of a host to all its ports."""
    browser = staff.signed_in()
    token = browser.http.cookies["__Host-ssps-staff"]
    other = staff.client(headers={"cookie": f"__Host-ssps={token}"})
    assert other.get("/").headers["location"] == "/giris"


def test_a_token_from_before_the_login_is_worth_nothing(staff: Staff) -> None:
    browser = staff.client()
    browser.http.cookies.set("__Host-ssps-staff", "chosen-by-somebody-else")
    browser.log_in("ayse")
    stale = staff.client(headers={"cookie": "__Host-ssps-staff=chosen-by-somebody-else"})
    assert stale.get("/").headers["location"] == "/giris"


def test_addresses_of_parties_are_refused(staff: Staff) -> None:
    assert staff.client("192.0.2.7").get("/giris").status_code == 403
    assert staff.client(AWAY).get("/giris").status_code == 200
    assert staff.records()[-1][0] == "connection-refused"


def test_with_networks_only_they_may_come(tmp_path: Path) -> None:
    toml = staff_site.SITE_TOML + 'networks = ["10.20.0.0/16"]\n'
    with staff_site.running(staff_site.make(tmp_path / "site", toml)) as staff:
        assert staff.client("10.20.3.4").get("/giris").status_code == 200
        assert staff.client("10.21.3.4").get("/giris").status_code == 403
        assert staff.client(AWAY).get("/giris").status_code == 403


def test_too_many_attempts_have_to_wait(tmp_path: Path) -> None:
    with staff_site.running(staff_site.make(tmp_path / "site"), limited=True) as staff:
        answers = [staff.client().log_in("ayse", "wrong").status_code for _ in range(14)]
    assert answers[0] == 403 and answers[-1] == 429


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "ayse' OR 1=1", "../../etc"])
def test_what_somebody_types_is_never_html(staff: Staff, name: str) -> None:
    answer = staff.client().log_in(name)
    assert name not in answer.text or "<" not in name
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_a_user_of_a_party_is_no_operator() -> None:
    with pytest.raises(ValueError, match="does not belong in this file"):
        staff_site.parse(User("ayse", Role.WEB))
