"""The portal's process: the web site and the web service, in one event loop behind one gate.

portal/daemon says what it does besides, and on which signals.
"""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from config import load, times
from config.event import AccessEvent, Event, Value
from config.fault import Fault, Faults
from config.settings import PortalSettings, Settings, WebSettings
from config.site import (
    ACCESS,
    LEDGERS,
    SITE_TOML,
    SNAPSHOTS,
    STATE,
    STORE,
    ledger_name,
)
from keys.credentials.users import login_name
from keys.ledger import writer
from keys.ledger.writer import Unwritable
from keys.operations import live_sessions
from keys.operations.live_sessions import EndedSessions, LiveSession
from keys.operations.server_state import PORTAL
from portal import broker_client, daemon, problem, sandbox
from portal.access.entrance import Entrance
from portal.access.front import Front
from portal.access.gate import check_routes, gated_app
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.access.sessions import Session
from portal.access.site_entrance import SiteEntrance
from portal.daemon import Daemon
from portal.data.queries import databases
from portal.data.sites import Sites
from portal.party import site as party_site
from portal.party.look import PARTY_LOOK
from portal.party.sipport import site as sipport_site
from portal.party.sipport.entrance import ROOT, RequestsEntrance
from portal.pictures.pictures import Pictures
from portal.service import errors as service_errors
from portal.service import site as service_site
from portal.web import errors
from publisher import database

_PUBLISH_EVERY = 2.0  # seconds between two times that the sessions are published

_log = structlog.get_logger()


def create_app(entrance: Entrance) -> FastAPI:
    """Make the application with all routes; AssertionError if one does not pass the gate."""
    app = gated_app("SSPS", entrance, _answer_error)
    app.state.sites = Sites(lambda: entrance.settings.results.share_level)
    app.state.pictures = Pictures()
    app.state.look = PARTY_LOOK
    service_site.include(app)  # first: to find a route takes a while beside a short call
    party_site.include(app)
    check_routes(app)
    return app


def put_beside(portal: ASGIApp, entrance: Entrance, requests: RequestsEntrance) -> ASGIApp:
    """Put the representatives' pages, below /sipport, beside the front of the portal.

    Each part has a front and an entrance of its own (portal/party/sipport). If the site does not
    open the representatives' pages, they do not exist: the portal answers for their paths.
    """
    pages = Front(sipport_site.create_app(requests), requests)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        ours = path == ROOT or path.startswith(f"{ROOT}/")
        if not (ours and entrance.portal.requests):
            await portal(scope, receive, send)
        elif path == ROOT:
            await RedirectResponse(f"{ROOT}/", 308)(scope, receive, send)
        else:
            await pages({**scope, "root_path": ROOT}, receive, send)

    return front


def confine(settings: Settings) -> None:
    """Let this process read only what the web site shows, and write only its ledger.

    If catalog and results are in PostgreSQL, it may connect to it through the broker.
    """
    sites = [settings.site, *(rehearsal.folder for rehearsal in settings.rehearsals)]
    stated = [found for site in sites if (found := load.catalog(site)).url]
    readable = [site / folder for site in sites for folder in (STATE, SNAPSHOTS, STORE)]
    ledger = settings.site / LEDGERS / ledger_name(ACCESS, settings.host)
    writable = [ledger, Path(tempfile.gettempdir())]
    if not stated:
        sandbox.confine(readable, writable)
        return
    import publisher.postgresql  # noqa: F401 - before there is a thread: it loads libraries

    if not all(each.reader_url for each in stated):
        _log.warning("portal-may-write-catalog", cause="catalog.reader_url is not stated")
    files = [file for each in stated for file in database.files_to_connect(each.for_reading)]
    sandbox.confine(readable, writable, files, broker_client.hand_over_connections)


def serve(
    settings: Settings,
    *,
    clock: writer.Clock = writer.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    limits: Limits | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port when the portal listens.

    Call it in a process that has a broker. Raises Faults if the certificate cannot be used.
    """
    if settings.portal is None:
        raise Faults([Fault(SITE_TOML, "portal.listen", "is missing: say where to listen")])
    with (
        daemon.opened(settings, settings.portal, ACCESS, clock) as (ledger, listening),
        databases.kept_open(),
    ):
        exchange = daemon.exchange_of(settings)
        entrance = Entrance(settings, Recorder(ledger), clock, limits=limits, exchange=exchange)
        requests = RequestsEntrance(entrance)
        server = Server(entrance, requests)
        try:
            server.serve(listening, ready)
        finally:
            requests.sessions.close()


class Server(Daemon):
    """A running portal."""

    part, ledger = PORTAL, ACCESS
    entrance: Entrance

    def __init__(self, entrance: Entrance, requests: RequestsEntrance) -> None:
        super().__init__(entrance)
        self._requests = requests
        site = entrance.settings.site
        self._ended = EndedSessions(site, None)
        self._sessions_published = float("-inf")

    @property
    def entrances(self) -> Sequence[SiteEntrance]:
        """The entrances of the web site and of the representatives' pages."""
        return (self.entrance, self._requests)

    def create_app(self) -> FastAPI:
        """Make the application."""
        return create_app(self.entrance)

    def beside(self, front: ASGIApp) -> ASGIApp:
        """Put the representatives' pages beside the portal."""
        return put_beside(front, self.entrance, self._requests)

    def fixed(
        self, old: Settings, new: Settings, before: WebSettings, after: WebSettings
    ) -> list[tuple[str, object, object]]:
        """Return the settings that need a restart: a confined process opens no connection."""
        fixed = super().fixed(old, new, before, after)
        return [*fixed, ("catalog.url", old.catalog.url, new.catalog.url)]

    def confine(self) -> None:
        """Give up what the portal does not need."""
        confine(self.entrance.settings)

    def use(self, settings: Settings) -> None:
        """Use other settings from now on, for the representatives' pages too."""
        super().use(settings)
        self._requests.settings = settings

    def tasks(self, app: FastAPI) -> Sequence[Coroutine[Any, Any, object]]:
        """Follow the data of the sites, and forget sessions of representatives that ended."""
        sites: Sites = app.state.sites
        ended = daemon.every(daemon.SECOND, self._requests.sessions.remove_ended)
        sessions = daemon.every(daemon.INTERVAL, self._look_at_sessions)
        return (sites.follow(), self._read_first(sites), ended, sessions)

    def holders(self, settings: Settings) -> Sequence[str]:
        """Return the parties whose users log in here."""
        return [party.id for party in settings.parties if party.has_users]

    def web_of(self, settings: Settings) -> WebSettings | None:
        """Return the settings of the portal."""
        return settings.portal

    def with_web(self, settings: Settings, web: WebSettings) -> Settings:
        """Return settings with other ones of the portal."""
        return replace(settings, portal=web) if isinstance(web, PortalSettings) else settings

    async def _look_at_sessions(self) -> None:
        """End the sessions that an operator has ended, and publish who is logged in."""
        sessions, now = self.entrance.sessions, asyncio.get_running_loop().time()
        found, exchange = sessions.end_numbers(self._ended.numbers()), self.entrance.exchange
        ended = list(found.values())
        if ended and exchange is not None:
            ended = await exchange.ended_here(found)
        for each in ended:
            detail: dict[str, Value] = {
                "user": login_name(each.party, each.user),
                "session": each.number,
                "reason": live_sessions.REASON,
            }
            event = Event(AccessEvent.SESSION_END, each.party, each.origin, "", detail=detail)
            try:
                await self.entrance.recorder.record(event)
            except Unwritable as error:
                names = [str(event.event)]
                _log.error("record-not-written", event_names=names, records=1, cause=str(error))
        if found or now >= self._sessions_published + _PUBLISH_EVERY:
            self._sessions_published = now
            await asyncio.to_thread(self._publish_sessions, sessions.live())

    def _publish_sessions(self, sessions: Sequence[Session]) -> None:
        broker_client.ask("publish_sessions", [asdict(_live_session(each)) for each in sessions])

    async def _read_first(self, sites: Sites) -> None:
        """Read the data before the first user asks for it."""
        settings = self.entrance.settings
        stage = settings.stage(self.entrance.clock())
        folders = [r.folder for r in settings.rehearsals if r is stage] or [settings.site]
        with suppress(Faults):  # the first page says what is wrong
            await sites.live(folders[0])


def _live_session(session: Session) -> LiveSession:
    return LiveSession(
        session.number,
        session.party,
        session.origin,
        session.client,
        times.format_time(session.began),
        session.rehearsal,
        service=live_sessions.WEB,
        user=session.user,
        used=times.format_time(session.used),
    )


def _answer_error(request: Request, error: Exception) -> Response:
    if problem.is_call(request.scope["path"]):
        return service_errors.answer_error(error)
    return errors.answer_error(request, error)
