"""The outermost layer of a site: addresses, sizes, other sites' requests, and headers.

It runs before any route, so it also covers pages that do not exist, and files such as the style
sheet:

0. HEALTH is for a balancer's checks: 200 if it may send clients here, 404 while the portal drains,
   else 503, and why. It is answered on a connection that the balancer makes for itself
   (portal/listener), or to a request of a balancer that names no client, and is not recorded. With
   `http-check disable-on-404` HAProxy keeps the connections to a server that answers 404, and with
   `on-marked-down shutdown-sessions` it ends those to one that answers 503.
1. The client's address is that of its connection, or what a balancer's PROXY header says of it
   (portal/listener). If the connection is that of a balancer of `[portal] proxies`, it is the last
   address of X-Forwarded-For, which the balancer added; the header of anybody else is ignored.
2. An address that may not come gets a short refusal, the same text for every path. At the portal
   that is one that no party has registered (Genelge md. 4/b-2). It is recorded, at most once a
   second for each address.
3. A body may have MAX_BODY bytes. No page takes more. A request that only reads has no body: the
   client of a stream or of a call that waits would send it meanwhile.
4. A browser that says that another site made it send a form is refused.
5. Every answer gets the headers that keep a browser from running anything but our own files, and
   from keeping pages in a cache that other people may read.
"""

import re
import time
from collections.abc import Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.event import AccessEvent, Event, Outcome, Value
from config.party import Address, parse_address
from keys.credentials.penalties import Source, source_of
from keys.ledger.writer import Unwritable
from portal import problem
from portal.access.gate import Refusal
from portal.access.site_entrance import SiteEntrance

MAX_BODY = 64 * 1024  # bytes
HEALTH = "/health"
_TOO_LARGE = f"Bir isteğin gövdesi en çok {MAX_BODY} bayt olabilir."
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_MAX_SOURCES = 1024
_LENGTH = re.compile(r"[0-9]{1,15}", re.ASCII)
_CONTENT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_STATED = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in _STATED.items()]
_HSTS = (b"strict-transport-security", b"max-age=31536000")

_log = structlog.get_logger()


class Front:
    """The outermost ASGI application; it serves `app` behind the rules above."""

    def __init__(
        self, app: ASGIApp, entrance: SiteEntrance, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._refusals = _Refusals(entrance, monotonic)
        self._entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        if self._is_check(scope, headers):
            obstacle = self._entrance.obstacle() if scope["path"] == HEALTH else "no such page"
            status = 404 if self._entrance.draining else 503 if obstacle else 200
            await _answer(send, scope, status, obstacle or "ready")
            return
        address, via = self._address(scope, headers)
        if address is None or not self._entrance.registered(address):
            await self._refusals.note(address, via)
            await _answer(send, scope, 403, self._entrance.refusal_text)
            return
        scope.setdefault("state", {})["address"] = address
        if scope["method"] not in _SAFE_METHODS and _from_another_site(headers):
            await _answer(send, scope, 403, "Bu istek başka bir siteden geliyor.")
            return
        length = headers.get("content-length", "0")
        if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY:
            await _answer(send, scope, 413, _TOO_LARGE)
            return
        if scope["method"] in _SAFE_METHODS and (int(length) or "transfer-encoding" in headers):
            await _answer(send, scope, 400, f"{scope['method']} isteğinin gövdesi olamaz.")
            return
        secure, closing = scope["scheme"] == "https", self._entrance.draining
        sending = _with_headers(send, secure=secure, closing=closing)
        await self._app(scope, _limited(receive), sending)

    def _is_check(self, scope: MutableMapping[str, Any], headers: Headers) -> bool:
        if scope.get("state", {}).get("check"):
            return True
        unnamed = scope["path"] == HEALTH and "x-forwarded-for" not in headers
        return unnamed and parse_address(scope["client"][0]) in self._entrance.web.proxies

    async def refuse_header(self, balancer: Address) -> None:
        """Record a connection of a balancer that did not say who its client is."""
        await self._refusals.note(None, balancer)

    def _address(
        self, scope: MutableMapping[str, Any], headers: Headers
    ) -> tuple[Address | None, Address | None]:
        """Return the client's address, and the balancer that passed the request on, if any."""
        peer = parse_address(scope["client"][0])
        via: Address | None = scope.get("state", {}).get("via")
        if via is not None or peer not in self._entrance.web.proxies:
            return peer, via
        stated = headers.getlist("x-forwarded-for")
        try:
            return parse_address(stated[-1].rpartition(",")[2].strip()), peer
        except (IndexError, ValueError):
            return None, peer


class _Refusals:
    """Records refused addresses, at most once a second each."""

    def __init__(self, entrance: SiteEntrance, monotonic: Callable[[], float]) -> None:
        self._entrance = entrance
        self._monotonic = monotonic
        self._last: dict[Source | None, tuple[float, int]] = {}

    async def note(self, address: Address | None, via: Address | None) -> None:
        source = None if address is None else source_of(address)
        now = self._monotonic()
        last, count = self._last.pop(source, (float("-inf"), 0))
        if len(self._last) >= _MAX_SOURCES:
            del self._last[next(iter(self._last))]
        if now < last + 1:
            self._last[source] = last, count + 1
            return
        self._last[source] = now, 0
        reason = "address" if address is not None else "proxy header"
        detail: dict[str, Value] = {"reason": reason, "count": count + 1}
        if via is not None:
            detail["via"] = str(via)
        event = Event(
            AccessEvent.CONNECTION_REFUSED, "", str(address or via), "", Outcome.REFUSED, detail
        )
        try:
            await self._entrance.recorder.record(event)
        except Unwritable as error:
            names = [str(event.event)]
            _log.error("record-not-written", event_names=names, records=1, cause=str(error))


def _from_another_site(headers: Headers) -> bool:
    """Say whether a browser states that a page of another site made this request."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:
        return True


def _limited(receive: Receive) -> Receive:
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise Refusal(413, "too-large", _TOO_LARGE, {"Connection": "close"})
        return message

    return limited


def _with_headers(send: Send, *, secure: bool, closing: bool = False) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message["headers"] = list(message.get("headers", ()))
            stated = {name.lower() for name, _ in headers}
            headers += [each for each in _HEADERS if each[0] not in stated]
            if secure:
                headers.append(_HSTS)
            if closing and b"connection" not in stated:
                headers.append((b"connection", b"close"))  # the next one goes to another portal
        await send(message)

    return sending


async def _answer(send: Send, scope: Scope, status: int, text: str) -> None:
    kind, body = "text/plain; charset=utf-8", f"{text}\n".encode()
    if status >= 400 and problem.is_call(scope["path"]):
        kind, body = problem.MEDIA_TYPE, problem.content(status, text)
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    sending = _with_headers(send, secure=False)
    await sending({"type": "http.response.start", "status": status, "headers": headers})
    await sending({"type": "http.response.body", "body": body})
