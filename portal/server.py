"""The portal's process: the web site and the web service, in one event loop behind one gate.

    SIGHUP             reload `site.toml`, `parties.toml` and the certificate; a file with a fault
                       changes nothing, and no connection is dropped
    SIGTERM, SIGINT    finish the requests that are running, and stop

It alone writes the access ledger, which another process signs. Once a second it syncs the ledger,
looks after the signer and publishes which settings and users it uses (`state/portal.json`).
"""

import asyncio
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import anyio.to_thread
import structlog
import uvicorn
import uvloop
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from config import load
from config.fault import Fault, Faults
from config.settings import PortalSettings, Settings
from config.site import ACCESS, LEDGER_NAMES, LEDGERS, SITE_TOML
from keys.credentials.ring import Ring
from keys.credentials.users import users_digest
from keys.kernel import allocator
from keys.ledger import writer
from keys.ledger.anchors import AnchorWriter
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import server_state
from keys.operations.server_state import PORTAL, ServerState
from portal import tls
from portal.access.entrance import Entrance
from portal.access.front import Front
from portal.access.gate import check_routes
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.connection_share import ConnectionShare
from portal.data.sites import Sites
from portal.http_protocol import sharing
from portal.party import site as party_site
from portal.party.errors import answer_error
from portal.pictures.pictures import Pictures
from portal.service import problem
from portal.service import site as service_site

_INTERVAL = 0.3  # seconds between two looks at the users
_SECOND = 1.0
_LOCK_TIMEOUT = 15.0  # seconds to wait for an old portal that is finishing its requests
_GRACE = 10  # seconds for running requests when the portal stops
_KEEP_ALIVE = 65  # seconds that an idle connection is kept
_BACKLOG = 1024
# Requests that compute at the same time only hold each other up. Those that wait for a process that
# makes a picture, or for a slow client of a file that is made, take a thread too.
_THREADS = 16
_SWITCH = 0.001  # seconds after which a thread that computes gives way to the event loop

_log = structlog.get_logger()


def create_app(entrance: Entrance) -> FastAPI:
    """Make the application with all routes; AssertionError if one does not pass the gate."""
    app = FastAPI(title="SSPS", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.entrance = entrance
    app.state.sites = Sites(lambda: entrance.settings.results.share_level)
    app.state.pictures = Pictures()
    party_site.include(app)
    service_site.include(app)
    app.add_exception_handler(HTTPException, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_error)
    app.add_exception_handler(Exception, _answer_error)
    check_routes(app)
    return app


def serve(
    settings: Settings,
    *,
    clock: writer.Clock = writer.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    limits: Limits | None = None,
    poll_signer: Callable[[], object] = lambda: None,
    record_new_settings: Callable[[Settings], object] = lambda settings: None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port when the portal listens.

    The other arguments are those of sftpd/server. Raises Faults if the certificate cannot be used.
    """
    if settings.portal is None:
        raise Faults([Fault(SITE_TOML, "portal.listen", "is missing: say where to listen")])
    policy = writer.write_policy(settings.ledger)
    with (
        Ledger(settings.site / LEDGERS / ACCESS, clock, _LOCK_TIMEOUT, policy) as ledger,
        server_state.claim(settings.site, PORTAL),
        _listen(settings.portal) as listening,
    ):
        Ring("").by_password("", clock())  # makes a dummy hash, for users that do not exist
        server = Server(settings, ledger, clock, limits, poll_signer, record_new_settings)
        allocator.return_large_blocks()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.run(listening, ready))


class Server:
    """The parts of a running portal."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        clock: writer.Clock,
        limits: Limits | None,
        poll_signer: Callable[[], object],
        record_new_settings: Callable[[Settings], object],
    ) -> None:
        self._recorder = Recorder(ledger)
        self._entrance = Entrance(settings, self._recorder, clock, limits=limits)
        self._poll_signer = poll_signer
        self._record_new_settings = record_new_settings
        self._anchors = AnchorWriter(settings.site / LEDGERS, ACCESS, LEDGER_NAMES)
        self._faults: tuple[str, ...] = ()
        self._published: ServerState | None = None
        self._context = tls.tls_context(self._entrance.portal)

    async def run(self, listening: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve on the socket `listening` until a signal says to stop."""
        made = create_app(self._entrance)
        app: ASGIApp = Front(made, self._entrance)
        sites: Sites = made.state.sites
        share = ConnectionShare(
            self._entrance.registered, lambda address: address in self._entrance.portal.proxies
        )
        config = uvicorn.Config(
            app,
            http=sharing(share),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        config.load()
        config.ssl = self._context
        server = uvicorn.Server(config)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        tasks = [
            asyncio.create_task(self._every(_INTERVAL, self._publish)),
            asyncio.create_task(self._every(_SECOND, self._look_after)),
            asyncio.create_task(self._every(_INTERVAL, self._stop_streams(server))),
            asyncio.create_task(sites.follow()),
            asyncio.create_task(self._read_first(sites)),
        ]
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        sys.setswitchinterval(_SWITCH)
        port = listening.getsockname()[1]
        _log.info("listening", address=listening.getsockname()[0], port=port)
        self._publish()
        ready(port)
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in tasks:
                task.cancel()
            with suppress(OSError):
                await self._recorder.sync()
            self._entrance.sessions.close()

    def _stop_streams(self, server: uvicorn.Server) -> Callable[[], object]:
        def check() -> None:
            if server.should_exit:
                self._entrance.stopping.set()

        return check

    async def _read_first(self, sites: Sites) -> None:
        """Read the data before the first user asks for it."""
        settings = self._entrance.settings
        stage = settings.stage(self._entrance.clock())
        folders = [r.folder for r in settings.rehearsals if r is stage] or [settings.site]
        with suppress(Faults):  # the first page says what is wrong
            await sites.live(folders[0])

    async def _every(self, seconds: float, work: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                found = work()
                if asyncio.iscoroutine(found):
                    await found
            except Exception:
                _log.exception("portal-task-failed")

    async def _look_after(self) -> None:
        self._poll_signer()
        self._entrance.sessions.remove_ended()
        try:
            if (event := self._anchors.next_event()) is not None:
                await self._recorder.record(event)
            await self._recorder.sync()
        except (OSError, Unwritable) as error:
            _log.error("ledger-not-synced", cause=str(error))

    def _publish(self) -> None:
        """Write `state/portal.json` if anything in it has changed."""
        settings = self._entrance.settings
        found = {p.id: self._entrance.accounts.look_up(p.id) for p in settings.parties if p.mirrors}
        state = ServerState(
            os.getpid(),
            {party: users_digest(held) for party, (held, _) in found.items() if held},
            tuple(party for party, (_, damaged) in found.items() if damaged),
            {party.id: server_state.party_digest(party) for party in settings.parties},
            faults=self._faults,
        )
        if state == self._published:
            return
        try:
            server_state.write(settings.site, state, PORTAL)
        except OSError as error:
            _log.error("status-file-not-written", cause=str(error))
        else:
            self._published = state

    def _reload(self) -> None:
        old = self._entrance.settings
        try:
            new, faults = load.read(old.site)
            if new is None:
                raise Faults(faults)
            if new.portal is None or old.portal is None:
                removed = "was removed: put it back, or stop the portal"
                raise Faults([Fault(SITE_TOML, "portal", removed)])
            if self._context is not None:
                tls.load_certificate(self._context, new.portal)
            self._record_new_settings(new)
        except writer.LedgerBusy:
            asyncio.get_running_loop().call_later(_INTERVAL, self._reload)
            return
        except Faults as error:
            for fault in error.faults:
                _log.error("settings-rejected", cause=str(fault))
            self._faults = tuple(map(str, error.faults))
            self._publish()
            return
        except Exception:
            _log.exception("settings-unreadable")
            return
        for key, before, after in _fixed(old, new):
            if before != after:
                _log.warning("restart-needed", key=key)
        kept = replace(new.portal, host=old.portal.host, port=old.portal.port)
        election = replace(new.election, id=old.election.id)
        self._entrance.settings = replace(new, portal=kept, ledger=old.ledger, election=election)
        _log.info("settings-reloaded", parties=len(new.parties))
        self._faults = ()
        self._publish()


def _fixed(old: Settings, new: Settings) -> list[tuple[str, object, object]]:
    """Return the settings that need a restart: key, old value, new value."""
    before, after = old.portal, new.portal
    if before is None or after is None:
        return []
    return [
        ("election.id", old.election.id, new.election.id),
        ("portal.listen", (before.host, before.port), (after.host, after.port)),
        ("portal.certificate", before.certificate is None, after.certificate is None),
        ("ledger", old.ledger, new.ledger),
    ]


def _listen(portal: PortalSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in portal.host else socket.AF_INET
    return socket.create_server(
        (portal.host, portal.port),
        family=family,
        backlog=_BACKLOG,
        dualstack_ipv6=portal.host == "::",
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    return problem.answer(error) if problem.is_call(request) else answer_error(request, error)
