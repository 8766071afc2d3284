"""`ssps run`, `publish` and `serve`: start the daemons, together or each by itself.

`ssps run` also starts the portal (scripts/daemons/portal) and the staff site if the settings have
them. On SIGHUP it reads the settings again. If they are valid, server, portal and staff site reload
them without ending their sessions, and the publisher is restarted; if not, all continue with the
old ones.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import click
import structlog

from config import load
from config.fault import Faults
from config.settings import Settings
from config.site import FILING, RESULTS_LEDGER, TRANSFER, ledger_name
from keys.kernel import capabilities, process
from keys.operations import server_state, site_keys
from keys.server_keys import host
from scripts.daemons import obstacles, settings_record, starts
from scripts.daemons.results import running_results
from scripts.daemons.supervisor import KILL_MARGIN, Supervisor
from scripts.shared import console, signer_client
from scripts.shared.json_log import configure_logging
from scripts.shared.start_errors import json_option, start_errors
from sftpd.sandbox import sandbox

_RECORD_TIMEOUT = 10.0  # seconds; meanwhile the supervisor restarts no daemon
FORKER = (sys.executable, "-P", "-m", "scripts.daemons.sessions")
RELOAD_SIGNALS = {
    "publish": signal.SIGTERM,
    "serve": signal.SIGHUP,
    "portal": signal.SIGHUP,
    "staff": signal.SIGHUP,
}
DRAINING = (server_state.SERVE, server_state.PORTAL)  # they get SIGUSR1
_STOPS = (signal.SIGTERM, signal.SIGINT)


@click.command()
@json_option
@console.with_site
def run(as_json: bool, site: Path) -> None:
    """Run all daemons of the site, and restart them if they die.

    These are publisher and server, the portal if site.toml has [portal], and the staff site if it
    has [staff].

    Stops with exit code 1 if a restart could not help: a fault of the settings, no registry, an
    intake folder that does not exist, a port that is taken.

    SIGHUP reloads the settings, SIGUSR1 drains server and portal, SIGTERM stops
    all.
    """
    with process.holding_signals(), start_errors(server_state.RUN, as_json=as_json):
        _run(site, ["--json"] if as_json else [])


def _run(site: Path, options: list[str]) -> None:
    process.forbid_inspection()
    server_state.refuse_second(site, server_state.RUN, load.this_host())
    asked = server_state.ReloadRequests(site, server_state.RUN, load.this_host())
    settings = load_ready_settings(site)
    found = [
        *sandbox.faults(settings.sftp, sandbox.kernel(), os.geteuid()),
        *obstacles.publisher_faults(settings),
        *obstacles.port_faults(settings, privileged=True),
        *obstacles.web_faults(settings),
    ]
    if found:
        raise Faults(found)  # restarting the daemons again and again would not fix them
    configure_logging("run")
    starts.record_start(settings, server_state.RUN, starts.prepare(settings))
    log_warnings(settings)
    optional = {server_state.PORTAL: settings.portal, server_state.STAFF: settings.staff}
    absent = {part for part, stated in optional.items() if stated is None}
    commands = {
        part: [sys.executable, "-P", "-m", "scripts.ssps", part, "--site", str(site), *options]
        for part in RELOAD_SIGNALS
        if part not in absent
    }
    stop_timeout = settings.sftp.drain_seconds + KILL_MARGIN
    with server_state.claim(site, server_state.RUN, settings.host) as beat:

        def look_after() -> bool:
            beat()
            return asked.is_asked()

        sys.exit(
            Supervisor(
                commands,
                RELOAD_SIGNALS,
                lambda: _accept_new_settings(site),
                stop_timeout,
                look_after=look_after if settings.host else None,
                draining=DRAINING,
            ).run()
        )


@click.command()
@json_option
@console.with_site
def publish(as_json: bool, site: Path) -> None:
    """Run the publisher: read and file the pages in the intake."""
    with start_errors(server_state.PUBLISH, as_json=as_json):
        server_state.refuse_second(site, server_state.PUBLISH, load.this_host())
        settings = load_ready_settings(site)
        # A share that is late after a power cut must not keep the pages of the others waiting.
        if found := list(obstacles.publisher_faults(settings, every_folder=False)):
            raise Faults(found)
        configure_logging("publish")
        log_warnings(settings)
        run_publisher(settings)


def run_publisher(settings: Settings, **how: Any) -> None:
    """Run the publisher, with its lock, signer and signals, until SIGTERM.

    `how` is passed to publisher.publish: a rehearsal changes the clock or the reader with it.
    """
    from publisher.publish import publish as run

    process.forbid_inspection()
    site = settings.site
    filing = ledger_name(FILING, settings.host)
    # Folders in a tree must be readable by the sessions of the server from the first moment.
    # Whatever must not be readable is created with an explicit mode, or in a folder of mode 0700.
    os.umask(0o022)
    # Only the publisher itself needs CAP_LEASE (publisher/intake/lease).
    capabilities.clear_ambient()
    results = ledger_name(RESULTS_LEDGER, settings.host)
    # First of all: a second publisher would wait for the ledger of this one.
    with server_state.claim(site, server_state.PUBLISH, settings.host) as beat:
        marked = starts.prepare(settings, filing, results)
        starts.record_start(settings, server_state.PUBLISH, marked)
        with (
            signer_client.running_signer(site, filing, settings.ledger) as ledger_signer,
            running_results(site) as results_process,
            stop_on_signal() as stop,
        ):

            def poll() -> None:
                beat()
                ledger_signer.poll()
                results_process.poll()

            run(
                settings,
                stop=stop,
                signer=site_keys.signing_key(site),
                **{"poll_signer": poll, "client": mirror_script(), **how},
            )


def mirror_script() -> bytes:
    """Return the parties' reference client, which every tree shows."""
    return (resources.files("scripts") / "mirror").read_bytes()


@click.command()
@json_option
@console.with_site
def serve(as_json: bool, site: Path) -> None:
    """Run the SFTP server, which records every access.

    SIGHUP reloads the settings. SIGUSR1 drains it for maintenance: it accepts no connection and
    ends sessions that are idle. SIGTERM stops it.
    """
    with process.holding_signals(), start_errors(server_state.SERVE, as_json=as_json):
        settings = load_ready_settings(site)
        configure_logging("serve")
        log_warnings(settings)
        run_server(settings)


def run_server(settings: Settings, **how: Any) -> None:
    """Run the server with its signer until SIGTERM; `how` is passed to sftpd.server."""
    from sftpd.server import serve as run

    process.forbid_inspection()
    site = settings.site
    ledger = ledger_name(TRANSFER, settings.host)
    # First of all: a second server would wait for the ledger of this one.
    with server_state.claim(site, server_state.SERVE, settings.host) as beat:
        marked = starts.prepare(settings, ledger)
        with signer_client.running_signer(site, ledger, settings.ledger) as signer:
            # Another process signs these records: the server never has the key.
            starts.record_start(settings, server_state.SERVE, marked, signed=False)
            run(
                settings,
                poll_signer=signer.poll,
                record_new_settings=partial(record_loaded, server_state.SERVE),
                forker_command=FORKER,
                beat=beat,
                **how,
            )


def load_ready_settings(site: Path) -> Settings:
    """Return the site's settings; raise Faults if anything prevents the daemons from running."""
    settings, found = load.read(site)
    found += host.faults(site)
    if settings is None or found:
        raise Faults(found)
    return settings


def log_warnings(settings: Settings) -> None:
    """Log the settings of earlier versions that are not used any more."""
    for warning in settings.warnings:
        structlog.get_logger().warning("setting-ignored", cause=str(warning))


def record_loaded(part: str, settings: Settings) -> None:
    """Record the settings that a daemon has loaded again; its signer signs the record."""
    log_warnings(settings)
    settings_record.record_if_changed(
        settings, f"loaded by ssps {part}", wait_seconds=0, signed=False
    )


def _accept_new_settings(site: Path) -> bool:
    try:
        settings = load_ready_settings(site)
        if found := list(obstacles.intake_faults(settings)):
            raise Faults(found)
        settings_record.record_if_changed(
            settings, "loaded by ssps run", wait_seconds=_RECORD_TIMEOUT
        )
    except Faults as error:
        for fault in error.faults:
            structlog.get_logger().error("settings-rejected", cause=str(fault))
        return False
    except Exception:  # no error in the settings may stop the service
        structlog.get_logger().exception("settings-unreadable")
        return False
    return True


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set while the body runs."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in _STOPS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
