"""A web daemon: one event loop that serves an application, and what it does besides.

    SIGHUP             reload `site.toml`, `parties.toml` and the certificate; a file with a fault
                       changes nothing, and no connection is dropped
    SIGUSR1            drain: go on, but let a balancer send its clients to other portals; streams
                       end, and each connection is closed after its answer
    SIGTERM, SIGINT    finish the requests that are running, and stop

It alone writes its ledger, which another process signs, and syncs it once a second. It is a child
of its broker (portal/broker), which forwards the signals and does what this process may not do:
for example, it looks after the signer, and publishes which settings and users are in use. The
portal (portal/server) and the staff site (portal/staff/server) are such daemons.
"""

import asyncio
import gc
import resource
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import anyio.to_thread
import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp

from config.fault import Faults
from config.settings import Settings, WebSettings
from config.site import LEDGERS, ledger_name
from keys.credentials.ring import Ring
from keys.credentials.users import users_digest
from keys.kernel import allocator, process
from keys.ledger import writer
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import server_state
from portal import broker_client, tls
from portal.access.exchange import Exchange, Unavailable
from portal.access.front import Front
from portal.access.site_entrance import SiteEntrance
from portal.connection_share import ConnectionShare
from portal.listener import Listener, WebServer

INTERVAL = 0.3  # seconds between two looks at the users
SECOND = 1.0
_TIDY = 10.0  # seconds between two times that free memory is given back
_LOCK_TIMEOUT = 15.0  # seconds to wait for an old process that is finishing its requests
_GRACE = 10  # seconds for running requests when the daemon stops
_KEEP_ALIVE = 65  # seconds that an idle connection is kept
_BACKLOG = 1024
# Requests that compute at the same time only hold each other up. Those that wait for a process that
# makes a picture, or for a slow client of a file that is made, take a thread too.
_THREADS = 16
_SWITCH = 0.001  # seconds after which a thread that computes gives way to the event loop

_log = structlog.get_logger()
Work = Callable[[], object]
T = TypeVar("T")


class Digests(Generic[T]):
    """Digests of immutable values, each computed once.

    To compute all of them takes milliseconds in which no request is answered.
    """

    def __init__(self, compute: Callable[[T], str]) -> None:
        self._compute = compute
        self._known: dict[str, tuple[T, str]] = {}

    def of(self, name: str, value: T) -> str:
        """Return the digest of the value that has this name now."""
        known = self._known.get(name)
        if known is None or known[0] is not value:
            known = self._known[name] = value, self._compute(value)
        return known[1]


class Daemon(ABC):
    """One daemon; `part` is its name, of its table in site.toml and of its lock."""

    part: str
    ledger: str

    def __init__(self, entrance: SiteEntrance) -> None:
        self.entrance = entrance
        self._recorder = entrance.recorder
        self._faults: tuple[str, ...] = ()
        self._published: Mapping[str, Any] | None = None
        self._users, self._parties = Digests(users_digest), Digests(server_state.party_digest)
        self._context = tls.tls_context(entrance.web)

    @property
    def entrances(self) -> Sequence[SiteEntrance]:
        """The entrances of the daemon."""
        return (self.entrance,)

    @abstractmethod
    def create_app(self) -> FastAPI:
        """Make the application that answers all requests."""

    def beside(self, front: ASGIApp) -> ASGIApp:
        """Put other applications beside the one that `front` serves."""
        return front

    def use(self, settings: Settings) -> None:
        """Apply new settings."""
        self.entrance.settings = settings

    @abstractmethod
    def confine(self) -> None:
        """Give up what this process does not need (portal/sandbox)."""

    @abstractmethod
    def tasks(self, app: FastAPI) -> Sequence[Coroutine[Any, Any, object]]:
        """Return what else runs while the daemon does."""

    @abstractmethod
    def holders(self, settings: Settings) -> Sequence[str]:
        """Return the parties whose users log in here."""

    @abstractmethod
    def web_of(self, settings: Settings) -> WebSettings | None:
        """Return the daemon's own settings."""

    @abstractmethod
    def with_web(self, settings: Settings, web: WebSettings) -> Settings:
        """Return settings with other ones of the daemon's own."""

    def serve(self, listening: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve in an event loop of its own; see `run`."""
        allocator.return_large_blocks()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.confine()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.run(listening, ready))

    async def run(self, listening: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve on the socket `listening` until a signal says to stop."""
        made = self.create_app()
        entrance = self.entrance
        share = ConnectionShare(
            entrance.registered, lambda address: address in entrance.web.proxies
        )
        exchanging: list[Coroutine[Any, Any, object]] = []
        if entrance.exchange is not None:
            entrance.exchange.follow_connections(share)
            await entrance.exchange.exchange()
            exchanging.append(entrance.exchange.run())
        front = Front(made, self.entrance)
        listener = Listener(
            listening, self._context, share, lambda: entrance.web, front.refuse_header
        )
        config = uvicorn.Config(
            self.beside(front),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",  # any client can send what is no HTTP
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        config.load()
        server = WebServer(config, listener)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._drain)
        process.release_signals()
        tasks = [
            asyncio.create_task(every(INTERVAL, self._publish)),
            asyncio.create_task(every(SECOND, self._look_after)),
            asyncio.create_task(every(_TIDY, allocator.return_free_memory)),
            asyncio.create_task(every(INTERVAL, self._stop_streams(server))),
            *map(asyncio.create_task, exchanging),
            *map(asyncio.create_task, self.tasks(made)),
        ]
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        sys.setswitchinterval(_SWITCH)
        port = listening.getsockname()[1]
        _log.info("listening", address=listening.getsockname()[0], port=port)
        self._publish()
        # The garbage collector looks at everything that was imported now and then, and no request
        # is answered meanwhile: 30 ms on an idle machine.
        gc.collect()
        gc.freeze()
        ready(port)
        try:
            await server.serve(sockets=[listening])
        finally:
            for task in tasks:
                task.cancel()
            with suppress(OSError):
                await self._recorder.sync()
            if entrance.exchange is not None:
                with suppress(Unavailable):
                    await entrance.exchange.settle()
            self.entrance.sessions.close()

    def _drain(self) -> None:
        _log.info("draining")
        for entrance in self.entrances:
            entrance.draining = True
            entrance.stopping.set()

    def _stop_streams(self, server: uvicorn.Server) -> Work:
        def check() -> None:
            if server.should_exit:
                self.entrance.stopping.set()

        return check

    async def _look_after(self) -> None:
        self.entrance.sessions.remove_ended()
        try:
            if (event := broker_client.ask("anchor")) is not None:
                await self._recorder.record(event)
            await self._recorder.sync()
        except (OSError, Unwritable) as error:
            _log.error("ledger-not-synced", cause=str(error))

    def _publish(self) -> None:
        """Write the daemon's state file if anything in it has changed."""
        settings = self.entrance.settings
        found = {p: self.entrance.accounts.look_up(p) for p in self.holders(settings)}
        state = {
            "rings": {p: self._users.of(p, held) for p, (held, _) in found.items() if held},
            "damaged": [party for party, (_, damaged) in found.items() if damaged],
            "parties": {p.id: self._parties.of(p.id, p) for p in settings.parties},
            "faults": self._faults,
        }
        if state == self._published:
            return
        try:
            broker_client.ask("publish", state)
        except OSError as error:
            _log.error("status-file-not-written", cause=str(error))
        else:
            self._published = state

    def _reload(self) -> None:
        old = self.entrance.settings
        try:
            new, pair = broker_client.ask("settings", self._context is not None)
            web, before = self.web_of(new), self.web_of(old)
            if web is None or before is None:
                raise AssertionError("the broker refuses settings without this daemon")
            if self._context is not None and pair is not None:
                tls.load_pair(self._context, pair)
        except writer.LedgerBusy:
            asyncio.get_running_loop().call_later(INTERVAL, self._reload)
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
        for key, was, now in self.fixed(old, new, before, web):
            if was != now:
                _log.warning("restart-needed", key=key)
        kept = replace(web, host=before.host, port=before.port)
        election = replace(new.election, id=old.election.id)
        changed = replace(new, ledger=old.ledger, election=election)
        self.use(self.with_web(changed, kept))
        _log.info("settings-reloaded", parties=len(new.parties))
        self._faults = ()
        self._publish()

    def fixed(
        self, old: Settings, new: Settings, before: WebSettings, after: WebSettings
    ) -> list[tuple[str, object, object]]:
        """Return the settings that need a restart: key, old value, new value."""
        part = self.part
        return [
            ("election.id", old.election.id, new.election.id),
            (f"{part}.listen", (before.host, before.port), (after.host, after.port)),
            ("rehearsal.folder", _folders(old), _folders(new)),
            (f"{part}.certificate", before.certificate is None, after.certificate is None),
            ("ledger", old.ledger, new.ledger),
        ]


@contextmanager
def opened(
    settings: Settings, web: WebSettings, ledger: str, clock: writer.Clock
) -> Iterator[tuple[Ledger, socket.socket]]:
    """Open the ledger and the socket of a daemon."""
    policy = writer.write_policy(settings.ledger)
    folder = settings.site / LEDGERS / ledger_name(ledger, settings.host)
    with (
        Ledger(folder, clock, _LOCK_TIMEOUT, policy) as opened_ledger,
        _listen(web) as listening,
    ):
        Ring("").by_password("", clock())  # makes a dummy hash, for users that do not exist
        yield opened_ledger, listening


def exchange_of(settings: Settings) -> Exchange | None:
    """Return the exchange with the other portals of a site, None if it can have no others."""
    return Exchange() if settings.catalog.url else None


async def every(seconds: float, work: Work) -> None:
    """Do some work again and again, and log what fails."""
    while True:
        await asyncio.sleep(seconds)
        try:
            found = work()
            if asyncio.iscoroutine(found):
                await found
        except Exception:
            _log.exception("portal-task-failed")


def _folders(settings: Settings) -> set[Path]:
    return {rehearsal.folder for rehearsal in settings.rehearsals}


def _listen(web: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    return socket.create_server(
        (web.host, web.port), family=family, backlog=_BACKLOG, dualstack_ipv6=web.host == "::"
    )
