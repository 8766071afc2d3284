"""Every route passes the gate: these tests enumerate them, so a new route is tested at once."""

from collections.abc import Iterator
from typing import Annotated

import pytest
import web_site
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from web_site import AWAY, Portal

from config.event import AccessEvent
from keys.credentials.users import Service
from keys.ledger.writer import Unwritable
from portal.access.front import Front
from portal.access.gate import (
    GatedRoute,
    add_routes,
    check_routes,
    gated_router,
    public,
    record,
    signed_in,
)
from portal.access.identity import Identity
from portal.access.limits import Buckets
from portal.server import create_app

PUBLIC = {
    "/giris",
    "/yardim",
    "/yardim/{slug}",
    "/dosya/{digest}/{name}",
    "/v1/health",
    "/v1/openapi.json",
}


def routes(portal: Portal) -> Iterator[tuple[str, GatedRoute, str]]:
    """Yield method, route, and a path that matches it."""
    for route in create_app(portal.entrance).routes:
        assert isinstance(route, GatedRoute)
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", "1").replace(f"{{{name}:path}}", "1")
        for method in sorted(route.methods or ()):
            yield method, route, path


def test_the_public_routes_are_few_and_known(portal: Portal) -> None:
    assert {route.path for _, route, _ in routes(portal) if route.is_public} == PUBLIC


def test_nobody_who_is_not_signed_in_gets_an_answer(portal: Portal) -> None:
    client = portal.client()
    for method, route, path in routes(portal):
        if route.is_public:
            continue
        answer = client.send(method, path)

        if route.service is Service.API:
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/giris"), path
        assert len(answer.content) < 1000


def test_an_address_that_no_party_has_registered_gets_nothing(portal: Portal) -> None:
    client = portal.client(AWAY)
    answers: dict[str, set[str]] = {}
    for method, _, path in routes(portal):
        if method != "HEAD":
            answer = client.send(method, path)
            answers.setdefault(answer.headers["content-type"], set()).add(answer.text)

    assert set(answers) == {"application/problem+json", "text/plain; charset=utf-8"}
    assert [len(each) for each in answers.values()] == [1, 1]
    assert all("Bu adresten SSPS'ye erişilemez" in text for (text,) in answers.values())
    assert set(portal.events()) == {"connection-refused"}


def test_the_credential_of_one_service_opens_no_door_of_the_other(portal: Portal) -> None:
    browser = portal.signed_in()
    program = portal.client(auth=("parti-a.servis", web_site.PASSWORD))
    web_as_program = portal.client(auth=("parti-a.ayse", web_site.PASSWORD))
    for method, route, path in routes(portal):
        if route.service is Service.API:
            assert browser.send(method, path).status_code == 401, path
            # After ten attempts with a wrong name or password, a user has to wait.
            assert web_as_program.send(method, path).status_code in (401, 429), path
        elif route.service is Service.WEB:
            assert program.send(method, path).status_code == 303, path
    assert portal.client().log_in("parti-a.servis").status_code == 403


def test_every_form_needs_the_token_of_its_page(portal: Portal) -> None:
    browser = portal.signed_in()
    for method, route, path in routes(portal):
        if method in ("GET", "HEAD") or route.service is not Service.WEB:
            continue
        answer = browser.send(method, path, data={"form": "0" * 64})

        # A page of another step of the login leads away from itself.
        assert answer.status_code in (303, 403), path
        if answer.status_code == 303:
            assert answer.headers["location"] == "/", path
    assert browser.get("/").status_code == 200  # the session is still there


BODIES = {
    "application/json": b'{"form": ["x"], "kullanici": null, "parola": {"a": 1}}',
    "application/json; charset=utf-16": b"[",
    "text/plain": b"form=x&kullanici=parti-a.ayse",
    "application/xml": b"<form/>",
    "multipart/form-data": b"x",
    "multipart/form-data; boundary=": b"x",
    "multipart/form-data; boundary=b; charset=none": b"--b\r\n"
    b'Content-Disposition: form-data; name="form"\r\n\r\n\xff\r\n--b--\r\n',
    "multipart/form-data; boundary=b": b"--b\r\n"
    b'Content-Disposition: form-data; name="kullanici"; filename="f"\r\n\r\nx\r\n--b--\r\n',
    "application/x-www-form-urlencoded": b"&".join(b"a=%d" % n for n in range(2000)),
    "application/x-www-form-urlencoded; charset=x": b"form=%ff%00&kullanici=%00&parola=%ed%a0%80",
    "": b"form=x",
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_of_another_type_does_nothing(portal: Portal, kind: str) -> None:
    browser, stranger = portal.signed_in(), portal.client()
    before = portal.events().count("session-end")
    for method, route, path in routes(portal):
        if method in ("GET", "HEAD") or route.service is Service.API:
            continue
        for client in (browser, stranger):
            answer = client.send(method, path, content=BODIES[kind], headers={"content-type": kind})
            assert answer.status_code in (303, 400, 403, 422), (path, answer.status_code)
    assert browser.get("/").status_code == 200
    assert portal.events().count("session-end") == before


def test_no_page_is_answered_without_its_record(portal: Portal) -> None:
    browser = portal.signed_in()
    portal.entrance.stopping.set()  # a stream ends after its head
    for method, route, path in routes(portal):
        if method != "GET" or route.service is not Service.WEB or route.is_public:
            continue
        before = len(portal.records())
        answer = browser.get(path)

        if answer.headers.get("location") == "/":
            continue  # a step of the login that is over
        assert len(portal.records()) > before, path
        event, who, _, _, detail = portal.records()[-1]
        assert (who, detail["user"]) == ("parti-a", "parti-a.ayse")
        assert detail["session"] is not None
        assert event != "denied" or answer.status_code >= 400


def test_an_answer_that_cannot_be_recorded_is_not_sent(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = portal.signed_in()
    assert "Genel durum" in browser.get("/").text

    async def full(*_: object) -> None:
        raise Unwritable("no room")

    monkeypatch.setattr(portal.entrance.recorder, "record", full)
    answer = browser.get("/")

    assert answer.status_code == 503
    assert "Kayıt yazılamadığı için" in answer.text
    assert portal.client().log_in().status_code >= 500


def with_route(portal: Portal, add: APIRouter) -> Portal:
    app = create_app(portal.entrance)
    add_routes(app, add)
    portal.app = Front(app, portal.entrance)
    return portal


def test_a_route_that_records_nothing_is_not_answered(portal: Portal) -> None:
    router = gated_router()

    @router.get("/silent")
    def silent(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
        return Response("secret")

    answer = with_route(portal, router).signed_in().get("/silent")

    assert answer.status_code == 500
    assert "secret" not in answer.text


def test_a_refusal_of_a_route_is_on_record(portal: Portal) -> None:
    router = gated_router()

    @router.get("/only/{number}")
    def only(
        request: Request, number: int, who: Annotated[Identity, Depends(signed_in())]
    ) -> Response:
        record(request, AccessEvent.QUERY, rows=1)
        return Response("one")

    browser = with_route(portal, router).signed_in()

    assert browser.get("/only/1?a=%C4%B0").status_code == 200
    assert browser.get("/only/x").status_code == 422
    (first, _, what, _, detail), (second, _, _, outcome, status) = portal.records()[-2:]
    assert (first, what, detail["rows"]) == ("query", "/only/1?a=%C4%B0", 1)
    assert (second, outcome, status["status"]) == ("denied", "refused", 422)


def test_an_application_with_a_route_that_has_no_gate_does_not_start() -> None:
    def plain() -> None: ...

    @public
    def both(who: Annotated[Identity, Depends(signed_in())]) -> None: ...

    ungated, forgotten, contradictory, included = (
        APIRouter(),
        gated_router(),
        gated_router(),
        gated_router(),
    )
    ungated.add_api_route("/a", plain)
    forgotten.add_api_route("/b", plain)
    contradictory.add_api_route("/c", both)
    for router, path in ((ungated, "/a"), (forgotten, "/b"), (contradictory, "/c")):
        app = bare()
        add_routes(app, router)
        with pytest.raises(AssertionError, match=f"{path} does not pass the gate"):
            check_routes(app)
    app = bare()
    app.include_router(included)
    app.include_router(ungated)
    with pytest.raises(AssertionError, match="does not pass the gate"):
        check_routes(app)


def bare() -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


def test_a_user_has_a_number_of_pages_a_minute_and_no_record_of_one_too_many(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = portal.signed_in()
    limits = portal.entrance.limits
    monkeypatch.setattr(limits, "_pages", Buckets(lambda: 0.0))
    while limits.page_wait("parti-a.ayse") == 0.0:
        pass
    before = portal.events()

    many = browser.get("/")

    assert (many.status_code, many.headers["retry-after"]) == (429, "1")
    assert portal.events() == before
    assert portal.signed_in("parti-a.temsilci").get("/").status_code == 200
