"""What holds for every answer, whatever its route."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import web_site
from structlog.testing import capture_logs
from web_site import AWAY, HOME, Portal

BALANCER = "192.0.2.1"


def test_every_answer_has_the_headers_that_protect_it(portal: Portal) -> None:
    browser = portal.signed_in()
    for answer in (
        browser.get("/"),
        browser.get("/giris"),
        browser.get("/no-such-page"),
        portal.client(AWAY).get("/"),
        portal.client().get("/"),
    ):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    assert browser.get("/").headers["strict-transport-security"].startswith("max-age=")


def test_pages_have_no_inline_script_or_style(portal: Portal) -> None:
    browser = portal.signed_in()
    for path in ("/", "/giris", "/hesap/parola", "/hesap/ikinci-adim"):
        text = browser.get(path).text
        assert "<script>" not in text and "<style" not in text and " style=" not in text
        assert not re.search(r"<[^>]+ on[a-z]+=", text)


def test_files_of_the_site_may_be_kept_and_are_named_by_their_content(portal: Portal) -> None:
    browser = portal.client()
    shown = browser.get("/giris").text
    address = shown.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = browser.get(address)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    assert browser.get("/dosya/0000000000000000/site.css").status_code == 404
    assert browser.get("/dosya/0000000000000000/..%2Fsite.py").status_code == 404


def test_an_unregistered_address_is_recorded_once_a_second(portal: Portal) -> None:
    client = portal.client(AWAY)
    for _ in range(5):
        assert client.get("/giris").status_code == 403

    assert portal.events() == ["connection-refused"]
    _, who, _, outcome, detail = portal.records()[0]
    assert (who, outcome, detail["reason"]) == ("", "refused", "address")


def test_forwarded_addresses_count_only_from_the_balancer(tmp_path: Path) -> None:
    toml = f'{web_site.SITE_TOML}proxies = ["{BALANCER}"]\n'
    with web_site.running(web_site.make(tmp_path / "site", toml)) as portal:
        balancer = portal.client(BALANCER)
        liar = portal.client(AWAY)
        forwarded = "x-forwarded-for"

        assert balancer.get("/giris", headers={forwarded: HOME}).status_code == 200
        assert balancer.get("/giris", headers={forwarded: f"{AWAY}, {HOME}"}).status_code == 200
        assert balancer.get("/giris", headers={forwarded: f"{HOME}, {AWAY}"}).status_code == 403
        assert balancer.get("/giris", headers={forwarded: "nonsense"}).status_code == 403
        assert balancer.get("/giris").status_code == 403
        assert liar.get("/giris", headers={forwarded: HOME}).status_code == 403
        own = portal.client(HOME).get("/giris", headers={forwarded: AWAY})
        assert own.status_code == 200


def test_a_balancer_learns_whether_to_send_clients_here(tmp_path: Path) -> None:
    toml = f'{web_site.SITE_TOML}proxies = ["{BALANCER}"]\n'
    with web_site.running(web_site.make(tmp_path / "site", toml)) as portal:
        balancer, browser = portal.client(BALANCER), portal.signed_in()
        ready = balancer.get("/health")
        assert (ready.status_code, ready.text) == (200, "ready\n")
        assert balancer.get("/health", headers={"x-forwarded-for": HOME}).status_code == 404
        assert portal.client(AWAY).get("/health").status_code == 403
        assert "connection" not in browser.get("/hesap").headers

        portal.entrance.draining = True

        drained = balancer.get("/health")
        assert (drained.status_code, drained.text) == (404, "draining\n")
        assert browser.get("/hesap").headers["connection"] == "close"
        assert browser.get("/hesap").status_code == 200  # nobody is turned away
    assert [event for event in portal.events() if event == "connection-refused"] == [
        "connection-refused"
    ]


def test_a_form_that_another_site_sends_is_refused(portal: Portal) -> None:
    browser = portal.signed_in()
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "https://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = browser.send("POST", "/cikis", headers=headers)
        assert answer.status_code == 403, headers
    assert browser.get("/").status_code == 200
    same = {"origin": "https://ssps.test", "sec-fetch-site": "same-origin"}
    assert browser.send("POST", "/cikis", headers=same, data={"form": ""}).status_code == 403


def test_a_login_form_needs_the_token_of_its_page(portal: Portal) -> None:
    fields = {"kullanici": "parti-a.ayse", "parola": web_site.PASSWORD, "form": "0" * 64}
    assert portal.client().send("POST", "/giris", data=fields).status_code == 403
    assert portal.events() == []


@pytest.mark.parametrize("length", ["70000", "-1", "1e3", "3x", "9" * 5000])
def test_a_body_that_is_too_large_is_refused(portal: Portal, length: str) -> None:
    headers = {"content-length": length, "content-type": "application/x-www-form-urlencoded"}
    answer = portal.client().send("POST", "/giris", headers=headers, content=b"x")
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/giris", "/cikis"])
def test_a_body_without_a_length_is_refused_where_it_becomes_too_large(
    portal: Portal, path: str
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 4096

    headers = {"content-type": "application/x-www-form-urlencoded"}
    answer = portal.signed_in().send("POST", path, headers=headers, content=chunks())

    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/canli", "/v1/changes?wait=50", "/giris", "/yok"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("header", [("transfer-encoding", "chunked"), ("content-length", "1")])
def test_a_request_that_only_reads_has_no_body(
    portal: Portal, path: str, method: str, header: tuple[str, str]
) -> None:
    """Otherwise its client could make a stream fail, with a trace in the log each time."""
    browser = portal.signed_in()
    before = portal.events()
    with capture_logs() as logs:
        answer = browser.send(method, path, headers=dict([header]), content=b"x")

    assert (answer.status_code, answer.headers["connection"]) == (400, "close")
    assert (logs, portal.events()) == ([], before)


@pytest.mark.parametrize(
    "path", ["/", "/giris", "/arama/", "/v1/summary/", "//evil.example/arama/"]
)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:99999", "[", "@evil", "evİl"])
def test_a_host_that_a_client_makes_up_is_never_repeated(
    portal: Portal, path: str, host: str
) -> None:
    headers = {"host": host.encode()}
    answer = portal.client().get(f"https://ssps.test{path}", headers=headers)

    assert answer.status_code == {"/": 303, "/giris": 200}.get(path, 404)
    assert answer.headers.get("location", "/giris") == "/giris"
    random = re.compile("__Host-[a-z-]+=[A-Za-z0-9_-]+")  # in which the letters can be by chance
    assert "ev" not in random.sub("", str(answer.headers))
    assert "evil" not in answer.text and "evİl" not in answer.text


def test_programs_get_every_refusal_as_a_problem(portal: Portal) -> None:
    long = {"content-length": "70000"}
    for client, path, headers, status in (
        (portal.client(AWAY), "/v1/summary", {}, 403),
        (portal.client(AWAY), "/api/ssps/getIlList", {}, 403),
        (portal.client(), "/v1/summary", {"origin": "https://evil.example"}, 403),
        (portal.client(), "/v1/summary", long, 413),
        (portal.client(), "/api/ssps/getIlList", long, 413),
        (portal.client(), "/v1/summary", {}, 405),
        (portal.client(), "/v1/yok", {}, 404),
        (portal.client(), "/api", {}, 404),
    ):
        answer = client.send("POST", path, headers=headers)

        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json", path
        told = answer.json()
        assert (told["status"], bool(told["detail"]), bool(told["code"])) == (status, True, True)


def test_a_damaged_file_of_users_keeps_the_last_good_ones(portal: Portal) -> None:
    browser = portal.signed_in()
    file = portal.site / "keys/users/parti-a.toml"
    good = file.read_bytes()
    file.write_bytes(good.replace(b'name = "ayse"', b'name = "ayce"'))

    with capture_logs() as logs:
        assert browser.get("/").status_code == 200
        assert portal.client().log_in("parti-a.ayce").status_code == 403

    assert [log["event"] for log in logs] == ["users-unreadable"]
