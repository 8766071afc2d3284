"""The representatives' pages: who may come, what is kept and refused, what is on record."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import office
import pyotp
import pytest
import web_site
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from web_site import AWAY, HOME, PASSWORD, Client, Portal

from keys.access_requests import form, store
from keys.access_requests.store import State as RequestState
from keys.credentials.users import Role, State, User, Users
from keys.operations import user_files
from portal.access.gate import GatedRoute
from portal.party.sipport import fields
from portal.party.sipport.site import create_app as create_sipport

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NEW = "Galata-Kulesi-1348"
WRONG = "Kullanıcı adı veya parola yanlış."
KIMLIK = "10000000146"  # its check digits are right
SITE_TOML = web_site.SITE_TOML + "requests = true\n"
INVITED = """
[[party]]
id = "parti-d"
name = "Çınar <b>Partisi</b>"
kind = "party"
scope = "all"
invited = true
"""
EARLY = office.OPENS - timedelta(hours=12)
SSH2 = "---- BEGIN SSH2 PUBLIC KEY ----\nComment: m\nAAAA\n---- END SSH2 PUBLIC KEY ----"
PUBLIC = {"/giris", "/dosya/{digest}/{name}"}
FORM = {
    "hizmet": ["web", "service"],
    "adres-1": "192.0.2.40",
    "irtibat-ad": "Çağrı Işık",
    "irtibat-eposta": "bilgi@d.example",
    "irtibat-tel-1": "+90 312 000 00 00",
    "kullanici-1": "temsilci",
    "kullanici-2": "ayse",
    "kisi-2": "Ayşe Yılmaz",
    "irtibat": "1",
    "onaylayan": "Zeynep Onay",
    "tarih": "2023-04-20",
}


def ssh_key(seed: bytes) -> tuple[str, str]:
    """Return the public line and the private file of a key."""
    private = Ed25519PrivateKey.from_private_bytes(seed * 32)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    text = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return f"{public} mirror", text


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = web_site.make(tmp_path / "site", SITE_TOML, office.PARTIES_TOML + INVITED)
    chosen, initial = web_site.password(), web_site.password(False)
    held = user_files.load(site, "parti-a")
    users = tuple(replace(u, totp=SECRET) if u.name == "temsilci" else u for u in held.users)
    web_site.write_users(
        site,
        replace(held, users=users),
        Users("parti-d", (User("temsilci", Role.REPRESENTATIVE, (chosen,), totp=SECRET),)),
        Users("parti-b", (User("yeni", Role.REPRESENTATIVE, (initial,)),)),
    )
    return site


@pytest.fixture
def portal(site: Path) -> Iterator[Portal]:
    with web_site.running(site) as found:
        found.now = EARLY
        yield found


def log_in(browser: Client, login: str = "parti-d.temsilci", secret: str = PASSWORD) -> Any:
    return browser.post("/sipport/giris", kullanici=login, parola=secret)


def signed_in(portal: Portal, login: str = "parti-d.temsilci", address: str = AWAY) -> Client:
    browser = portal.client(address)
    assert log_in(browser, login).headers["location"] == "/sipport/dogrulama"
    portal.now += timedelta(seconds=90)  # a code is accepted once
    answer = browser.post("/sipport/dogrulama", kod=pyotp.TOTP(SECRET).at(portal.now))
    assert answer.headers["location"] == "/sipport/"
    return browser


def send(browser: Client, button: str = "gonder", **fields: Any) -> httpx.Response:
    shown = browser.get("/sipport/form")
    hidden = dict(re.findall(r'name="(form|surum)" value="([0-9a-f]+)"', shown.text))
    data = {**FORM, **{k.replace("_", "-"): v for k, v in fields.items()}}
    files = data.pop("anahtar-dosya", None)
    return browser.send(
        "POST",
        "/sipport/form",
        data={**hidden, "islem": button, **data},
        files=files or {"x": ("", b"")},
    )


def kept(portal: Portal) -> str:
    """Everything that the site has on the disk."""
    everything = (path.read_bytes() for path in portal.site.rglob("*") if path.is_file())
    return b"\n".join(everything).decode("utf-8", "replace")


def test_from_any_address_and_before_the_opening_only_these_pages_are_open(
    portal: Portal,
) -> None:
    browser = signed_in(portal)

    assert browser.get("/sipport/").status_code == 200
    for path in ("/", "/giris", "/arama", "/v1/summary", "/yardim", "/dosya/0/site.css"):
        answer = browser.get(path)
        assert (answer.status_code, "erişilemez" in answer.text) == (403, True), path
    near = portal.client(HOME)
    near.http.cookies.update(browser.http.cookies)
    assert near.get("/").headers["location"] == "/giris"  # its session opens nothing there


def test_a_session_of_the_web_site_opens_nothing_here(portal: Portal) -> None:
    portal.now = web_site.OPEN
    browser = portal.signed_in()
    token = browser.http.cookies["__Host-ssps"]
    other = portal.client(headers={"cookie": f"__Host-ssps-talep={token}"})
    assert other.get("/sipport/").headers["location"] == "/sipport/giris"


def test_if_the_site_does_not_open_them_they_do_not_exist(tmp_path: Path) -> None:
    with web_site.running(web_site.make(tmp_path / "site")) as closed:
        assert "erişilemez" in closed.client(AWAY).get("/sipport/giris").text
        assert closed.signed_in().get("/sipport/").status_code == 404


def test_every_page_here_passes_the_gate(portal: Portal) -> None:
    from portal.party.sipport.entrance import RequestsEntrance

    entrance = RequestsEntrance(portal.entrance)
    routes = create_sipport(entrance).routes
    entrance.sessions.close()
    stranger = portal.client(AWAY)
    for route in routes:
        assert isinstance(route, GatedRoute)
        assert route.is_public == (route.path in PUBLIC)
        if route.is_public:
            continue
        path = route.path.replace("{number}", "1")
        for method in route.methods or ():
            answer = stranger.send(method, f"/sipport{path}")
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sipport/giris"), path


def test_all_failed_logins_look_the_same(portal: Portal) -> None:
    parties = portal.site / "parties.toml"
    portal.entrance.settings.party("parti-a")
    held = user_files.load(portal.site, "parti-d")
    also = User("eski", Role.REPRESENTATIVE, (web_site.password(),), State.SUSPENDED)
    web_site.write_users(portal.site, replace(held, users=(*held.users, also)))
    tried = [
        ("parti-d.temsilci", "wrong"),
        ("parti-d.nobody", PASSWORD),
        ("nobody.temsilci", PASSWORD),
        ("parti-d.eski", PASSWORD),
        ("parti-a.ayse", PASSWORD),  # a web user with the right password
        ("parti-a.servis", PASSWORD),
        ("bagimsiz-c.x", PASSWORD),
        ("", ""),
        ("x" * 5000, PASSWORD),
    ]
    answers = [log_in(portal.client(AWAY), name[:150], secret) for name, secret in tried]

    assert {a.status_code for a in answers} == {403}
    texts = {re.sub(r'value="[0-9a-f]{64}"', "", a.text) for a in answers}
    assert len(texts) == 1 and WRONG in texts.pop()
    assert parties.exists()
    reasons = [d["reason"] for event, _, _, _, d in portal.records() if event == "login-refused"]
    assert reasons[:5] == [
        "wrong credential",
        "unknown user",
        "unknown user",
        "user suspended or passive",
        "credential of another service",
    ]


def test_the_first_login_sets_a_password_and_a_second_factor(portal: Portal) -> None:
    browser = portal.client(AWAY)
    assert log_in(browser, "parti-b.yeni").headers["location"] == "/sipport/parola"
    assert browser.get("/sipport/form").headers["location"] == "/sipport/parola"
    answer = browser.post("/sipport/parola", yeni=NEW, tekrar=NEW)
    assert answer.headers["location"] == "/sipport/ikinci-adim"
    assert browser.get("/sipport/").headers["location"] == "/sipport/ikinci-adim"
    shown = browser.get("/sipport/ikinci-adim").text
    secret = re.search(r"<code>([A-Z2-7]{32})</code>", shown)
    assert secret is not None and 'class="qr"' in shown

    code = pyotp.TOTP(secret[1]).at(portal.now)
    answer = browser.post("/sipport/ikinci-adim", gizli=secret[1], kod=code)

    assert answer.headers["location"] == "/sipport/"
    assert browser.get("/sipport/").status_code == 200
    assert (
        log_in(portal.client(AWAY), "parti-b.yeni", NEW).headers["location"].endswith("dogrulama")
    )


def test_a_code_is_accepted_once_here_or_on_the_web_site(portal: Portal) -> None:
    portal.now = web_site.OPEN
    near = portal.client(HOME)
    assert near.log_in("parti-a.temsilci").headers["location"] == "/dogrulama"
    code = pyotp.TOTP(SECRET).at(portal.now)
    assert near.post("/dogrulama", kod=code).headers["location"] == "/"
    far = portal.client(AWAY)
    log_in(far, "parti-a.temsilci")

    assert far.post("/sipport/dogrulama", kod=code).status_code == 403


def test_a_representative_cannot_remove_its_second_factor(portal: Portal) -> None:
    portal.now = web_site.OPEN
    browser = portal.client(HOME)
    browser.log_in("parti-a.temsilci")
    browser.post("/dogrulama", kod=pyotp.TOTP(SECRET).at(portal.now))
    portal.now += timedelta(minutes=2)
    code = pyotp.TOTP(SECRET).at(portal.now)

    answer = browser.post("/hesap/ikinci-adim", kod=code, kaldir="evet")

    assert answer.status_code == 403
    held = user_files.load(portal.site, "parti-a").named("temsilci")
    assert held is not None and held.totp == SECRET


def test_a_suspended_party_or_user_is_out_at_the_next_request(portal: Portal) -> None:
    browser, entrance = signed_in(portal), portal.entrance
    settings = entrance.settings
    parties = tuple(replace(p, suspended=p.id == "parti-d") for p in settings.parties)
    portal.requests.settings = replace(settings, parties=parties)

    assert browser.get("/sipport/").headers["location"] == "/sipport/giris"
    assert portal.records()[-1][4]["reason"] == "suspended"
    assert log_in(portal.client(AWAY)).status_code == 403


def test_a_form_that_is_sent_is_kept_in_the_format_of_the_command(portal: Portal) -> None:
    browser = signed_in(portal)
    line, _ = ssh_key(b"a")
    services = ["sftp", "web", "service"]

    answer = send(browser, hizmet=services, anahtar_yeni=line)

    assert answer.headers["location"] == "/sipport/talep/1", answer.text
    (request,) = store.requests_of(portal.site, "parti-d")
    assert (request.state, request.by) == (RequestState.SUBMITTED, "parti-d.temsilci")
    asked = form.parse(request.form, "form")
    assert asked.id == "parti-d"
    assert asked.users == (("temsilci", "representative"), ("ayse", "web"), ("servis", "service"))
    assert asked.party["contact"]["name"] == "Çağrı Işık"
    assert [(k.label, k.line) for k in asked.keys] == [("mirror", line.rpartition(" ")[0])]
    assert (asked.approver, str(asked.signed_on)) == ("Zeynep Onay", "2023-04-20")
    event, who, what, _, detail = portal.records()[-1]
    assert (event, who, what) == ("request", "parti-d", "form")
    assert (detail["state"], detail["sha256"]) == ("submitted", request.sha256)
    paper = browser.get("/sipport/talep/1").text
    assert request.sha256[:16] in paper and "Ayşe Yılmaz" in paper
    assert "T.C. kimlik no (elle)" in paper and "<b>Partisi" not in paper


@pytest.mark.parametrize(
    "name",
    ["adres-1", "irtibat-ad", "irtibat-eposta", "irtibat-tel-1", "kullanici-2", "kisi-2",
     "onaylayan", "tarih"],
)  # fmt: skip
@pytest.mark.parametrize("text", [KIMLIK, f"No {KIMLIK[:3]} {KIMLIK[3:6]} {KIMLIK[6:]}"])
def test_an_identity_number_is_refused_in_every_field_and_never_kept(
    portal: Portal, name: str, text: str
) -> None:
    browser = signed_in(portal)
    answer = send(browser, **{name: text})

    assert answer.status_code == 422
    assert "T.C. kimlik no buraya yazılmaz" in answer.text
    assert KIMLIK not in answer.text and KIMLIK not in kept(portal)
    assert text not in kept(portal)
    assert store.requests_of(portal.site, "parti-d") == ()


@pytest.mark.parametrize("where", ["anahtar-yeni", "anahtar-dosya", "irtibat-ad"])
def test_a_private_key_is_refused_and_neither_kept_nor_logged(
    portal: Portal, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    browser = signed_in(portal)
    _, private = ssh_key(b"p")
    body = private.splitlines()[2]
    sent: Any = {where: private}
    if where == "anahtar-dosya":
        sent = {where: {where: ("id_ed25519", private.encode())}}

    answer = send(browser, hizmet=["sftp", "web"], **sent)

    assert answer.status_code == 422
    assert "Bu bir özel anahtar" in answer.text
    assert body not in answer.text
    assert body not in kept(portal) and body not in "".join(capsys.readouterr())


def test_a_key_file_and_a_pasted_key_are_both_taken(portal: Portal) -> None:
    browser = signed_in(portal)
    (one, _), (two, _) = ssh_key(b"1"), ssh_key(b"2")
    files = {"anahtar-dosya": ("id.pub", two.encode())}

    answer = send(browser, "kaydet", hizmet=["sftp"], anahtar_yeni=one, anahtar_dosya=files)

    assert answer.status_code == 200
    draft = store.draft(portal.site, "parti-d")
    assert draft is not None and len(draft.fields["keys"]) == 2
    assert send(browser, "kaydet", anahtar_kaldir="0").status_code == 200
    left = store.draft(portal.site, "parti-d")
    assert left is not None and [k["line"] for k in left.fields["keys"]] == [two.rpartition(" ")[0]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hizmet": []}, "En az bir hizmet seçin"),
        ({"adres-1": "192.0.2.0/24"}, "Tek bir bilgisayarın"),
        ({"adres-1": ""}, "En az bir sabit adres"),
        ({"adres-2": "192.0.2.40"}, "Aynı adres iki kez"),
        ({"kullanici-2": "Ayşe"}, "Öneri: ayse"),
        ({"kullanici-2": "servis"}, "Bu ad alınmış"),
        ({"irtibat": ""}, "irtibat olarak işaretleyin"),
        ({"hizmet": ["service"]}, "web sitesi hizmetini seçmediniz"),
        ({"irtibat-eposta": "x"}, "E-posta adresini yazın"),
        ({"onaylayan": ""}, "Kâğıdı imzalayacak"),
        ({"tarih": "20.4.2023"}, "Kâğıttaki tarihi yazın"),
        ({"anahtar-yeni": "ssh-dss AAAA x"}, "anahtarı üretin"),
        ({"anahtar-yeni": "hello"}, "Bir satır açık anahtar değil"),
    ],
)
def test_what_is_missing_or_wrong_is_said_and_the_draft_is_kept(
    portal: Portal, change: dict[str, Any], said: str
) -> None:
    browser = signed_in(portal)
    answer = send(browser, **change)

    assert answer.status_code == 422
    assert said in answer.text
    assert store.requests_of(portal.site, "parti-d") == ()
    draft = store.draft(portal.site, "parti-d")
    assert draft is not None and draft.fields["contact"]["name"] == "Çağrı Işık"


def test_a_draft_is_there_again_after_the_browser_closed(portal: Portal) -> None:
    quiet = send(signed_in(portal), "taslak", kisi_2="<script>alert(1)</script>")
    assert quiet.json() == {"surum": 1, "sorunlar": {}}

    shown = signed_in(portal).get("/sipport/form").text

    assert 'value="Çağrı Işık"' in shown
    assert "<script>alert" not in shown and "&lt;script&gt;alert" in shown


def test_a_draft_that_was_saved_in_another_window_is_not_overwritten(portal: Portal) -> None:
    browser, other = signed_in(portal), signed_in(portal)
    token = re.search(r'name="form" value="([0-9a-f]+)"', other.get("/sipport/form").text)
    assert token is not None
    assert send(browser, "kaydet", onaylayan="Birinci").status_code == 200
    stale = {**FORM, "form": token[1], "surum": "0", "islem": "kaydet", "onaylayan": "İkinci"}

    answer = other.send("POST", "/sipport/form", data=stale, files={"x": ("", b"")})

    assert answer.status_code == 409
    assert "başka bir pencerede" in answer.text
    draft = store.draft(portal.site, "parti-d")
    assert draft is not None and draft.fields["approver"] == "Birinci"


def test_of_two_forms_that_are_sent_at_the_same_time_one_is_kept(portal: Portal) -> None:
    browser, other = signed_in(portal), signed_in(portal)
    token = re.search(r'name="form" value="([0-9a-f]+)"', other.get("/sipport/form").text)
    assert token is not None
    assert send(browser).status_code == 303
    late = {**FORM, "form": token[1], "surum": "0", "islem": "gonder"}

    answer = other.send("POST", "/sipport/form", data=late, files={"x": ("", b"")})

    assert answer.status_code == 409
    assert "karar bekliyor" in answer.text
    assert len(store.requests_of(portal.site, "parti-d")) == 1


def test_a_form_may_be_withdrawn_until_somebody_decides(portal: Portal) -> None:
    browser = signed_in(portal)
    send(browser)
    answer = browser.post("/sipport/talep/1/geri-cek", page="/sipport/")

    assert answer.headers["location"] == "/sipport/"
    (request,) = store.requests_of(portal.site, "parti-d")
    assert request.state is RequestState.WITHDRAWN
    assert "Geri çekildi" in browser.get("/sipport/").text
    again = browser.post("/sipport/talep/1/geri-cek", page="/sipport/")
    assert again.status_code == 409


def test_a_returned_form_shows_its_reason_and_can_be_sent_again(portal: Portal) -> None:
    browser = signed_in(portal)
    send(browser)
    (request,) = store.requests_of(portal.site, "parti-d")
    with store.locked(portal.site, "parti-d"):
        store.decide(portal.site, request, RequestState.RETURNED, "ayse", portal.now, "Mühür <yok>")

    shown = browser.get("/sipport/").text

    assert "Mühür &lt;yok&gt;" in shown
    assert send(browser).headers["location"] == "/sipport/talep/2"


def test_a_change_begins_with_what_is_in_force(portal: Portal) -> None:
    shown = signed_in(portal, "parti-a.temsilci").get("/sipport/form").text

    assert 'value="127.0.0.1"' in shown
    assert 'value="ayse"' in shown and 'value="temsilci"' in shown
    assert "sonuçlar kesinleşene kadar değişmez" in shown


def test_another_party_s_requests_do_not_exist(portal: Portal) -> None:
    send(signed_in(portal))
    assert signed_in(portal, "parti-a.temsilci").get("/sipport/talep/1").status_code == 404


def test_a_form_of_another_site_or_session_is_refused(portal: Portal) -> None:
    browser = signed_in(portal)
    assert browser.send("POST", "/sipport/form", data=FORM).status_code == 403
    data = {**FORM, "form": "0" * 64}
    assert browser.send("POST", "/sipport/form", data=data).status_code == 403
    headers = {"sec-fetch-site": "cross-site"}
    assert browser.send("POST", "/sipport/form", headers=headers).status_code == 403
    assert store.draft(portal.site, "parti-d") is None


def test_more_than_64_kib_are_refused(portal: Portal) -> None:
    browser = signed_in(portal)
    files = {"anahtar-dosya": ("big.pub", b"a" * 70_000)}
    answer = browser.send("POST", "/sipport/form", data=FORM, files=files)
    assert answer.status_code == 413


def test_too_many_attempts_have_to_wait_and_do_not_slow_the_web_site(tmp_path: Path) -> None:
    site = web_site.make(tmp_path / "site", SITE_TOML, office.PARTIES_TOML + INVITED)
    with web_site.running(site, limited=True, own_limits=True) as limited:
        answers = [
            log_in(limited.client(f"192.0.2.{n}"), "parti-d.temsilci", "wrong").status_code
            for n in range(60)
        ]
        assert answers[0] == 403 and answers[-1] == 429
        assert limited.client(HOME).log_in().status_code == 303


def test_each_line_of_pasted_keys_is_looked_at_once() -> None:
    begin, count = "---- BEGIN SSH2 PUBLIC KEY ----", 20_000
    lines = iter([begin] * count)  # what it has given, it cannot give again

    assert list(fields.key_texts(lines)) == [begin] * count


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\n\n b\n", ["a", " b"]),
        (f"a\n{SSH2}\nb", ["a", SSH2, "b"]),
        (f"{SSH2}\n{SSH2}", [SSH2, SSH2]),
        (f"{SSH2[:-1]}\n\nb", [*SSH2[:-1].split("\n"), "b"]),
    ],
)
def test_pasted_keys_are_lines_or_whole_files(text: str, found: list[str]) -> None:
    assert list(fields.key_texts(text.split("\n"))) == found


def test_one_stranger_locks_nobody_out(site: Path) -> None:
    with web_site.running(site, own_limits=True) as limited:
        limited.now = EARLY
        stranger = limited.client("203.0.113.9")
        for n in range(60):
            log_in(stranger, f"parti-d.x{n}", "wrong")
        assert log_in(stranger, "parti-d.temsilci", "wrong").status_code == 429

        assert log_in(limited.client(AWAY)).status_code == 303


def test_many_strangers_do_not_lock_out_who_has_logged_in_before_or_is_registered(
    site: Path,
) -> None:
    with web_site.running(site, own_limits=True) as limited:
        limited.now = EARLY
        assert log_in(limited.client(AWAY)).status_code == 303
        for n in range(60):
            last = log_in(limited.client(f"203.0.113.{n}"), "parti-d.temsilci", "wrong")
        assert last.status_code == 429

        assert log_in(limited.client(AWAY)).status_code == 303
        assert log_in(limited.client(HOME)).status_code == 303  # a party has registered it
        assert log_in(limited.client(HOME), secret="wrong").status_code == 403
