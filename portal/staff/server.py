"""The staff site's process: an event loop behind one gate; listener and ledger are its own.

portal/daemon says what it does besides, and on which signals.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from config.fault import Fault, Faults
from config.settings import Settings, StaffSettings, WebSettings
from config.site import SITE_TOML
from config.site import STAFF as LEDGER
from keys.credentials.users import OPERATORS
from keys.ledger import writer
from keys.operations.server_state import STAFF
from portal import daemon
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.daemon import Daemon
from portal.staff import metrics_port
from portal.staff.entrance import StaffEntrance
from portal.staff.site import create_app
from portal.staff.watch import Watch


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
    with daemon.opened(settings, settings.staff, LEDGER, clock) as (ledger, listening):
        exchange = daemon.exchange_of(settings)
        recorder = Recorder(ledger)
        entrance = StaffEntrance(settings, recorder, clock, limits=limits, exchange=exchange)
        server = Server(entrance, command_line)
        server.serve(listening, ready)


class Server(Daemon):
    """A running staff site."""

    part, ledger = STAFF, LEDGER
    entrance: StaffEntrance

    def __init__(self, entrance: StaffEntrance, command_line: Sequence[str]) -> None:
        super().__init__(entrance)
        self._command_line = command_line

    def create_app(self) -> FastAPI:
        """Make the application."""
        return create_app(self.entrance, self._command_line)

    def confine(self) -> None:
        """Give up nothing."""

    def tasks(self, app: FastAPI) -> Sequence[Coroutine[Any, Any, object]]:
        """Return what follows the site, and what answers Prometheus."""
        watch: Watch = app.state.watch
        metrics = metrics_port.serve(self.entrance, watch)
        return (app.state.sites.follow(), app.state.desk.follow(), watch.follow(), metrics)

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
        """Return the settings that need a restart, that of the address for Prometheus too."""
        fixed = super().fixed(old, new, before, after)
        if isinstance(before, StaffSettings) and isinstance(after, StaffSettings):
            fixed.append(("staff.metrics", before.metrics, after.metrics))
        return fixed
