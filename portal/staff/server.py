"""The staff site's process: an event loop behind one gate; listener and ledger are its own.

portal/daemon says what it does besides, and on which signals.
"""

import socket
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI

from config import load
from config.fault import Fault, Faults
from config.settings import Settings, StaffSettings, WebSettings
from config.site import LEDGERS, QUARANTINE, SITE_TOML, SNAPSHOTS, STATE, STORE
from config.site import STAFF as LEDGER
from keys.credentials.users import OPERATORS
from keys.ledger import writer
from keys.operations.server_state import STAFF
from portal import daemon, sandbox
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.daemon import Daemon
from portal.data.queries import databases
from portal.staff import metrics_port
from portal.staff.entrance import StaffEntrance
from portal.staff.site import create_app
from portal.staff.watch import Watch

_log = structlog.get_logger()


def serve(
    settings: Settings,
    *,
    clock: writer.Clock = writer.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    limits: Limits | None = None,
    command_line: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; the other arguments are those of portal/server.

    `command_line` starts scripts/staff_command.
    """
    if settings.staff is None:
        raise Faults([Fault(SITE_TOML, "staff", "is missing: add the table [staff]")])
    with ExitStack() as opened:
        ledger, listening = opened.enter_context(
            daemon.opened(settings, settings.staff, LEDGER, clock)
        )
        metrics = metrics_port.listen(settings.staff)
        if metrics is not None:
            opened.enter_context(metrics)
        opened.enter_context(databases.kept_open())
        exchange, recorder = daemon.exchange_of(settings), Recorder(ledger)
        entrance = StaffEntrance(settings, recorder, clock, limits=limits, exchange=exchange)
        server = Server(entrance, command_line, metrics)
        server.serve(listening, ready)


def confine(settings: Settings) -> None:
    """Let this process read what the staff site shows, and write only its ledger.

    It sees the names of all files, because a scanner's folder may be mounted later. It reads
    /proc for the figures of the daemons; the kernel shows it the memory of no other process.
    If catalog and results are in PostgreSQL, it has to connect to it, and is not confined.
    """
    site = settings.site
    if load.catalog(site).url:
        _log.warning("staff-not-confined", cause="catalog.url: it connects to PostgreSQL")
        return
    load.keep_catalog(site)
    shown = (STATE, LEDGERS, SNAPSHOTS, STORE, QUARANTINE)
    sandbox.confine(
        [*(site / folder for folder in shown), Path("/proc")],
        [site / LEDGERS / LEDGER, Path(tempfile.gettempdir())],
        listed=[Path("/")],
    )


class Server(Daemon):
    """A running staff site."""

    part, ledger = STAFF, LEDGER
    entrance: StaffEntrance

    def __init__(
        self,
        entrance: StaffEntrance,
        command_line: Sequence[str],
        metrics: socket.socket | None = None,
    ) -> None:
        """`metrics` is the socket at which Prometheus asks."""
        super().__init__(entrance)
        self._command_line, self._metrics = command_line, metrics

    def create_app(self) -> FastAPI:
        """Make the application."""
        return create_app(self.entrance, self._command_line)

    def confine(self) -> None:
        """Give up what the staff site does not need."""
        confine(self.entrance.settings)

    def tasks(self, app: FastAPI) -> Sequence[Coroutine[Any, Any, object]]:
        """Return what follows the site, and what answers Prometheus."""
        watch: Watch = app.state.watch
        followed = (app.state.sites.follow(), app.state.desk.follow(), watch.follow())
        if self._metrics is None:
            return followed
        return (*followed, metrics_port.serve(self._metrics, self.entrance, watch))

    def holders(self, settings: Settings) -> Sequence[str]:
        """Return the party of the operators."""
        return (OPERATORS,)

    def web_of(self, settings: Settings) -> WebSettings | None:
        """Return the settings of the staff site."""
        return settings.staff

    def with_web(self, settings: Settings, web: WebSettings) -> Settings:
        """Return settings with other ones of the staff site."""
        if not isinstance(web, StaffSettings):
            return settings
        return replace(settings, staff=replace(web, metrics=self.entrance.web.metrics))

    def fixed(
        self, old: Settings, new: Settings, before: WebSettings, after: WebSettings
    ) -> list[tuple[str, object, object]]:
        """Return the settings that need a restart, also the address for Prometheus."""
        fixed = super().fixed(old, new, before, after)
        fixed.append(("catalog.url", old.catalog.url, new.catalog.url))
        if isinstance(before, StaffSettings) and isinstance(after, StaffSettings):
            fixed.append(("staff.metrics", before.metrics, after.metrics))
        return fixed
