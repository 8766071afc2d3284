"""The one gate of all routes: who may ask, and that the answer is on record before it is sent.

A route belongs to a router of `gated_router`. Its function depends on `signed_in(service)`, which
returns the Identity of the user, and calls `record` once for what it is about to answer:

    router = gated_router()

    @router.get("/arama")
    def search(request: Request, who: Annotated[Identity, Depends(signed_in())]) -> Response:
        found = queries.search(who.site, who.scope, …)
        record(request, AccessEvent.QUERY, rows=len(found))
        return …

1. A request from an address that no party has registered is refused before any route
   (portal/access/front).
2. `signed_in` finds the session of the web site, or the password of a call, and checks it again
   with the settings and users that are in force now (portal/access/entrance).
3. A form needs the token of its page: `signed_in` compares it for every method that may change
   something.
4. After the function has returned its answer, and before the first byte of it is sent, the gate
   writes what the function has recorded. If that fails, the client gets 503 and no answer. A route
   that has recorded nothing is an error of ours, and its answer is not sent either.
5. A request that a function refuses is recorded as `denied`, with the status, instead of what the
   function has recorded so far. So a function that does something writes the record of it first,
   with `record_now`.
6. If PostgreSQL does not answer, the client gets 503 and is asked to try again in ten seconds; that
   too is recorded as `denied`.
7. What an answer has changed of the sessions is stored for the other portals of the site, if there
   are others, before the answer is recorded and sent; if it cannot be, the client gets 503.

`public` marks the few routes that need no user, such as the page of the login. `check_routes` is
called when the application is made: it refuses to start if a route has no gate, or was not added
with `add_routes`.
"""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable, Coroutine
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, TypeVar
from urllib.parse import quote

import anyio.from_thread
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from config import times
from config.event import AccessEvent, Event, Outcome, Value
from keys.credentials.admission import Reason, Refused
from keys.credentials.users import Role, Service, login_name
from keys.ledger.writer import Unwritable
from portal.access.direct import direct
from portal.access.entrance import Entrance
from portal.access.exchange import Unavailable
from portal.access.identity import Identity
from portal.access.sessions import Stage, is_form_token
from portal.access.site_entrance import SiteEntrance, Wait
from publisher.database import Unreachable

FORM_FIELD = "form"
LOGIN_PAGE = "/giris"
STAGE_PAGES = {
    Stage.PASSWORD: "/parola",
    Stage.TOTP: "/dogrulama",
    Stage.ENROL: "/ikinci-adim",
    Stage.TERMS: "/kosullar",
}
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_MAX_TARGET = 2000  # characters of a path and query in a record
_UNAVAILABLE = "Şu anda yanıt verilemiyor. Biraz sonra yeniden deneyin."
_MAX_CLIENT = 300  # characters of what a browser says it is
# What the page of the login says of a session that ended for that reason.
_TOLD = {Reason.NOT_YET_OPEN: "erken", Reason.CLOSED: "kapali", Reason.REHEARSAL: "prova"}
_PUBLIC, _SIGNED_IN, _ROLES = "__ssps_public__", "__ssps_service__", "__ssps_roles__"
F = TypeVar("F", bound=Callable[..., Any])

_log = structlog.get_logger()


class Refusal(HTTPException):
    """A request that is refused. `slug` names the kind of refusal for programs."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.slug = slug


class ToLogin(Refusal):
    """The page needs a login, or the next step of it: the browser is sent to `location`."""

    def __init__(self, location: str) -> None:
        super().__init__(303, "login", "giriş gerekli", {"Location": location})


def signed_in(
    service: Service = Service.WEB,
    stage: Stage = Stage.FULL,
    roles: frozenset[Role] | None = None,
) -> Callable[[Request], Awaitable[Identity]]:
    """Return the dependency that admits the users of one service, or those with one of `roles`.

    Of a web site, the session has to be in that stage of its login. For a user with another role
    the page does not exist.
    """

    async def identified(request: Request) -> Identity:
        if service is Service.API:
            identity = await _identify_call(request)
        else:
            identity = await _identify_session(request, stage)
        request.state.identity = identity
        if roles is not None and identity.role not in roles:
            raise Refusal(404, "role", "Böyle bir sayfa yok, ya da görme yetkiniz yok.")
        return identity

    setattr(identified, _SIGNED_IN, service)
    setattr(identified, _ROLES, roles)
    return identified


def record(request: Request, event: StrEnum, what: str | None = None, **detail: Value) -> None:
    """Have a record written before the answer to this request is sent.

    Without `what`, it is the path and the query that the client asked for. The gate adds the user.
    """
    request.state.records.append((event, what, detail))


async def record_now(
    request: Request, event: StrEnum, what: str | None = None, **detail: Value
) -> None:
    """Write a record at once, before the function does what the record says.

    If that fails, the client gets 503, and the function ends here.
    """
    record(request, event, what, **detail)
    await _write(request)
    request.state.records, request.state.recorded = [], True


def record_now_in_thread(
    request: Request, event: StrEnum, what: str | None = None, **detail: Value
) -> None:
    """Write a record at once as `record_now` does, from a function that runs in a thread."""
    anyio.from_thread.run(partial(record_now, request, event, what, **detail))


def when_recorded(request: Request, act: Callable[[int], None]) -> None:
    """Have `act` called with the number of the last record, before the answer is sent.

    It may still change the headers of the answer, and what a stream will yield.
    """
    request.state.when_recorded.append(act)


def public(route: F) -> F:
    """Mark a route that needs no user and that is not recorded."""
    setattr(route, _PUBLIC, True)
    return route


def gated_router(**options: Any) -> APIRouter:
    """Return a router whose routes all pass the gate."""
    return APIRouter(route_class=GatedRoute, **options)


class GatedRoute(APIRoute):
    """A route that passes the gate; see above."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Say whether a request is for this route, at once if its path begins in another way."""
        if not (scope.get("root_path") or scope["path"].startswith(self._beginning)):
            return Match.NONE, {}
        return super().matches(scope)

    @cached_property
    def _beginning(self) -> str:
        """What all paths of this route begin with."""
        return self.path.partition("{")[0]

    @property
    def is_public(self) -> bool:
        """Say whether it needs no user."""
        return bool(getattr(self.endpoint, _PUBLIC, False))

    @property
    def service(self) -> Service | None:
        """The service whose users it admits, None if it is public."""
        found: Service | None = _stated(self.dependant, _SIGNED_IN)
        return found

    @property
    def roles(self) -> frozenset[Role] | None:
        """The roles that it admits, None if it admits every user of its service."""
        found: frozenset[Role] | None = _stated(self.dependant, _ROLES)
        return found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request, inside the gate."""
        answer = None if self.dependencies else direct(self.endpoint, self.param_convertors)
        answer = answer or super().get_route_handler()
        is_public = self.is_public

        async def handler(request: Request) -> Response:
            request.state.records, request.state.identity = [], None
            request.state.when_recorded, request.state.recorded = [], False
            try:
                response = await _settled(request, answer)
            except ToLogin:
                raise
            except (HTTPException, RequestValidationError) as error:
                request.state.when_recorded = []
                await _record_denial(request, error)
                raise
            except Unreachable as error:
                request.state.when_recorded = []
                _log.error("database-unreachable", path=request.scope["path"], cause=error.strerror)
                refusal = Refusal(503, "unavailable", _UNAVAILABLE, {"Retry-After": "10"})
                await _record_denial(request, refusal)
                raise refusal from None
            finally:
                await request.close()  # files that were uploaded
            recorded = request.state.records or request.state.recorded
            if not recorded and not is_public:
                _log.error("answer-not-recorded", path=request.scope["path"])
                raise Refusal(500, "not-recorded", "yanıt kayda alınamadı")
            await _write(request)
            return response

        return handler


def gated_app(
    title: str, entrance: SiteEntrance, answer_error: Callable[[Request, Exception], Response]
) -> FastAPI:
    """Return an application without routes whose errors are answered by `answer_error`."""

    async def answer(request: Request, error: Exception) -> Response:
        return answer_error(request, error)

    # FastAPI would send `/arama/` on to `/arama` of the host that the client has named.
    app = FastAPI(
        title=title,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        # Otherwise a variable of the environment is enough for reports of each request elsewhere.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.entrance = entrance
    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)
    return app


def add_routes(app: FastAPI, *routers: APIRouter) -> None:
    """Add the routes of gated routers to the application, each as it is."""
    for router in routers:
        app.router.routes.extend(router.routes)


def check_routes(app: FastAPI, unrecorded: frozenset[str] = frozenset()) -> None:
    """Raise AssertionError if a route of the application has no gate.

    `unrecorded` are the paths of mounted applications that serve only what is public.
    """
    for route in app.routes:
        if isinstance(route, GatedRoute) and route.is_public != (route.service is not None):
            continue
        if getattr(route, "path", None) in unrecorded:
            continue
        raise AssertionError(f"{getattr(route, 'path', route)} does not pass the gate")


def entrance_of(request: Request) -> SiteEntrance:
    """Return the entrance of the site that answers this request."""
    found: SiteEntrance = request.app.state.entrance
    return found


def portal_entrance_of(request: Request) -> Entrance:
    """Return the entrance of the portal, for a call of its web service."""
    found: Entrance = request.app.state.entrance
    return found


def target_of(request: Request) -> str:
    """Return the path and the query that the client asked for, as it is recorded."""
    # As in `request.url`, which takes longer to make, and fails if the query is not UTF-8.
    path = request.scope["path"].replace("?", "%3F").replace("#", "%23").replace("\\", "%5C")
    query = request.scope["query_string"].decode(errors="replace")
    text = f"{path}?{query}" if query else path
    text = text[:_MAX_TARGET]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


async def _settled(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Return the answer when the other portals can know which sessions it has begun or ended."""
    exchange = entrance_of(request).exchange
    if exchange is None:
        return await answer(request)
    before = exchange.number
    try:
        response = await answer(request)
        if exchange.number != before:
            await exchange.settle()
    except Unavailable:
        raise _unavailable() from None
    return response


def _unavailable() -> Refusal:
    told = "Oturumlara şu anda ulaşılamıyor. Biraz sonra yeniden deneyin."
    return Refusal(503, "unavailable", told, {"Retry-After": "5"})


def _stated(dependant: Dependant, name: str) -> Any:
    """Return what `signed_in` has noted under that name, wherever a route depends on it."""
    for inner in dependant.dependencies:
        found = getattr(inner.call, name, None) or _stated(inner, name)
        if found is not None:
            return found
    return None


async def _identify_session(request: Request, stage: Stage) -> Identity:
    entrance = entrance_of(request)
    token = request.cookies.get(entrance.cookie, "")
    if entrance.exchange is not None and token:
        if not entrance.knows_the_others():
            raise _unavailable()
        await entrance.exchange.fetch(entrance.name, token)
    session = entrance.sessions.find(token, *_seen(request)) if token else None
    if session is None:
        raise ToLogin(_login_page(request))
    found = entrance.identify(session, request.state.address)
    if isinstance(found, Reason):
        await _end_session(request, token, found)
        raise ToLogin(_login_page(request, found))
    if seconds := entrance.limits.page_wait(found.login):
        headers = {"Retry-After": str(math.ceil(seconds))}
        raise Refusal(429, "too-many", "Çok fazla istek geldi. Biraz bekleyin.", headers)
    if session.stage is not stage:
        if session.stage is Stage.FULL:
            raise ToLogin(entrance.root + "/")
        raise ToLogin(entrance.root + STAGE_PAGES[session.stage])
    if request.method not in _SAFE_METHODS:
        form = await request.form()
        if not is_form_token(token, str(form.get(FORM_FIELD, ""))):
            request.state.identity = found
            raise Refusal(403, "form", "Form eskimiş. Sayfayı yenileyip yeniden gönderin.")
    request.state.session, request.state.token = session, token
    return found


def _seen(request: Request) -> tuple[str, str]:
    """Return the address of a request, and what its browser says it is."""
    return str(request.state.address), request.headers.get("user-agent", "")[:_MAX_CLIENT]


async def _end_session(request: Request, token: str, reason: Reason) -> None:
    entrance = entrance_of(request)
    session = entrance.sessions.find(token)
    if session is None:
        return
    entrance.sessions.end(token)
    detail: dict[str, Value] = {
        "user": login_name(session.party, session.user),
        "session": session.number,
        "reason": str(reason),
    }
    who, origin = session.party or session.user, str(request.state.address)
    await entrance.recorder.record(Event(AccessEvent.SESSION_END, who, origin, "", detail=detail))


async def _identify_call(request: Request) -> Identity:
    entrance = portal_entrance_of(request)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    login, password = _basic(value) if scheme.lower() == "basic" else ("", "")
    if scheme.lower() == "bearer":
        # The same name and password, for clients that can only send a token.
        login, password = _basic(value)
    if not login:
        raise unauthorized("Kullanıcı adı ve parola gerekli (HTTP Basic).")
    found = await entrance.identify_call(login, password, request.state.address)
    if isinstance(found, Identity):
        return found
    if isinstance(found, Wait):
        headers = {"Retry-After": str(max(1, round(found.seconds)))}
        raise Refusal(429, "too-many", "Çok fazla istek. Retry-After kadar bekleyin.", headers)
    raise _refused_call(entrance, found)


def _refused_call(entrance: Entrance, found: Refused) -> Refusal:
    # Only a client with the right credential at a registered address learns why (as over SFTP).
    if found.credential is None:
        return unauthorized("Kullanıcı adı veya parola yanlış.")
    match found.reason:
        case Reason.MUST_CHANGE:
            return Refusal(
                403, "must-change", f"Önce {LOGIN_PAGE} sayfasında parolanızı belirleyin."
            )
        case Reason.NOT_YET_OPEN:
            opens = times.format_time(entrance.settings.election.opens)
            return Refusal(403, "not-yet-open", f"Erişim {opens} itibarıyla açılır.")
        case Reason.CLOSED:
            return Refusal(403, "closed", "Erişim kapanmıştır.")
    return unauthorized("Kullanıcı adı veya parola yanlış.")


def unauthorized(detail: str) -> Refusal:
    """Return the refusal of a call without a name and password that are valid now."""
    return Refusal(
        401, "unauthorized", detail, {"WWW-Authenticate": 'Basic realm="SSPS", charset="UTF-8"'}
    )


def _basic(value: str) -> tuple[str, str]:
    try:
        login, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return "", ""
    return (login, password) if colon else ("", "")


def _login_page(request: Request, reason: Reason | None = None) -> str:
    root = entrance_of(request).root
    back = target_of(request) if request.method in _SAFE_METHODS else root + "/"
    told = _TOLD.get(reason) if reason else None
    parts = [f"sonra={quote(back, safe='/')}"] if back != root + "/" else []
    parts += [f"durum={told}"] if told else []
    return root + LOGIN_PAGE + ("?" + "&".join(parts) if parts else "")


async def _record_denial(request: Request, error: HTTPException | RequestValidationError) -> None:
    identity: Identity | None = request.state.identity
    if identity is None:
        return  # not signed in: the entrance has recorded why, or the page does not exist
    status = error.status_code if isinstance(error, HTTPException) else 422
    request.state.records = [(AccessEvent.DENIED, None, {"status": status})]
    await _write(request)


async def _write(request: Request) -> None:
    identity: Identity | None = request.state.identity
    origin, target = str(request.state.address), target_of(request)
    events = []
    for event, what, detail in request.state.records:
        who = "" if identity is None else identity.party or identity.user
        user: dict[str, Value] = {}
        if identity is not None:
            user = {"user": identity.login, "session": identity.session}
        outcome = Outcome.REFUSED if event is AccessEvent.DENIED else Outcome.OK
        events.append(Event(event, who, origin, what or target, outcome, {**user, **detail}))
    if not events:
        return
    try:
        number = await entrance_of(request).recorder.record(*events)
    except Unwritable as error:
        names = [str(event.event) for event in events]
        _log.error("record-not-written", event_names=names, records=len(events), cause=str(error))
        raise Refusal(503, "not-recorded", "Kayıt yazılamadığı için yanıt verilmedi.") from None
    for act in request.state.when_recorded:
        act(number)
