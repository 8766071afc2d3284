"""The server: listens, turns strangers away, forks a child a connection, and keeps the record.

The parent is one single-threaded loop and runs no SSH code. It alone writes the transfer
ledger: children ask it over a socket pair each (sftpd/ipc/messages), and what cannot be recorded is
not served. It forks warm, with everything imported and frozen, so that a child costs little.

SIGHUP has it read the site's files anew (sftpd/reload). Live sessions are judged again and
again (sftpd/access/revalidate), and end when their party, credential or address no longer stands.
SIGTERM or SIGINT drains: no new connections, sessions that have a file open may finish within
`drain_seconds`, the others end; a second one ends them all. Start, reload and drain stand in one
piece because each has to take every part along, in an order that is to be seen at a glance.
"""

import gc
import os
import resource
import socket
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import ip_address

import structlog

from config.fault import Faults
from config.party import Address
from config.settings import Settings
from config.site import LEDGERS, TRANSFER
from keys.credentials.ring import Ring
from keys.ledger import writer
from keys.ledger.writer import Ledger
from keys.operations import server_state
from keys.server_keys import host
from sftpd import reload, signals
from sftpd.access.penalties import ConnectionRates, Penalties
from sftpd.access.ratelimit import Pacer
from sftpd.access.revalidate import Revalidator, Rings
from sftpd.connection import ChildConfig, serve_in_child
from sftpd.ipc.hash_slots import HashSlots
from sftpd.monitor import recovery
from sftpd.monitor.children import Children
from sftpd.monitor.listener import Listener
from sftpd.monitor.loop import Loop, Recurring, Timed
from sftpd.monitor.metrics import Gauges, MetricsPage
from sftpd.monitor.metrics_server import MetricsServer
from sftpd.monitor.monitor import Monitor, first_record
from sftpd.monitor.password_change import PasswordChanges
from sftpd.monitor.recovery import LiveFile
from sftpd.monitor.status_file import StatusFile
from sftpd.sandbox import sandbox
from sftpd.signals import PendingSignals
from sftpd.ssh import hostkeys

_BACKLOG = 1024
_SYNC_INTERVAL = 1.0
_CHECK_INTERVAL = 0.3  # seconds between two looks at the live sessions
_EVICTION_TIMEOUT = 0.3  # seconds that a session has to end once it has lost its standing
_PASSWORD_CHANGE_GRACE = 180.0  # seconds for a login in which a new password is set
_STUCK_AFTER = 2.0  # seconds beyond the grace time after which a child must be stuck
_IDLE_SECONDS = (
    1.0  # seconds without a file open after which a session ends while the server drains
)
_CLOSE_TIMEOUT = 2.0  # seconds that children have to close their handles when told to end
_SPARE_DESCRIPTORS = 512  # beyond two a child: lobby, metrics, ledger
_STOPPED = "server stopped"

_log = structlog.get_logger()


def serve(
    settings: Settings,
    *,
    clock: writer.Clock = writer.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    drain: float | None = None,
    grace: float | None = None,
    kernel: sandbox.KernelFeatures | None = None,
    poll_signer: Callable[[], object] = lambda: None,
    record_new_settings: Callable[[Settings], object] = lambda settings: None,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once it listens.

    `clock` is what opening time, credentials and the record go by; running transfers have
    `drain` seconds to finish, a client `grace` seconds to log in (or as the settings say);
    `kernel` is what this machine's can do; `poll_signer` is called once a second, and
    `record_new_settings` with new settings before they are put in force: its Faults reject
    them, ledger.Busy makes them wait. Raises Faults where the kernel is not what the settings ask.
    """
    kernel = kernel or sandbox.kernel()
    hash_slots = HashSlots()
    rings = Rings(settings.site)

    def config_for(settings: Settings) -> ChildConfig:
        return ChildConfig(
            settings,
            hostkeys.load(host.host_key_files(settings.site)),
            hostkeys.load(host.announced_host_key_files(settings.site)),
            rings.in_force,
            clock,
            sandbox.policy(settings.sftp, kernel, os.geteuid()),
            _grace_seconds(settings) if grace is None else grace,
            hash_slots,
        )

    config = config_for(settings)
    folder = settings.site / LEDGERS / TRANSFER
    # A server that still drains holds the ledger.
    patience = _CLOSE_TIMEOUT + (settings.sftp.drain_seconds if drain is None else drain)
    with (
        closing(hash_slots),
        Ledger(folder, clock, patience, writer.write_policy(settings.ledger)) as ledger,
        LiveFile(folder) as live,
        server_state.claim(settings.site, server_state.SERVE),
        _listen(settings.sftp.host, settings.sftp.port) as listener,
    ):
        recovery.close_unfinished(folder, ledger, live)
        if not (kernel.landlock and kernel.seccomp):
            _log.warning("children are not caged in full", kernel=str(kernel))
        Ring("").by_password("", clock())  # so that no child pays for the first
        Server(
            config, config_for, ledger, live, rings, drain, poll_signer, record_new_settings
        ).run(listener, ready)


class Server:
    """The parent's loop over its listener, its children and its signals."""

    def __init__(
        self,
        config: ChildConfig,
        config_for: Callable[[Settings], ChildConfig],
        ledger: Ledger,
        live: LiveFile,
        rings: Rings,
        drain: float | None = None,
        poll_signer: Callable[[], object] = lambda: None,
        record_new_settings: Callable[[Settings], object] = lambda settings: None,
    ) -> None:
        self._config = config
        self._config_for = config_for
        self._ledger = ledger
        self._live = live
        self._drain_seconds = drain
        self._approve = record_new_settings
        self._loop = Loop()
        self._revalidator = Revalidator(config.settings, config.clock, rings)
        self._status_file = StatusFile(config.settings.site, rings)
        self._faults: tuple[str, ...] = ()
        penalties = Penalties()
        self._monitor = Monitor(
            ledger,
            config.settings.sftp.max_sessions_per_party,
            check_admission=self._revalidator.reason_to_refuse,
            may_change=self._revalidator.may_change,
            charge=penalties.charge,
        )
        self._children = Children(
            self._loop,
            self._monitor,
            self._rate_limit,
            Pacer(),
            PasswordChanges(self._loop, config.settings.site, config.clock),
        )
        self._listener = Listener(
            self._loop,
            self._start_child,
            self._is_full,
            self._monitor.refuse_connection,
            penalties,
            ConnectionRates(),
        )
        self._timed: list[Timed] = [
            self._monitor,
            self._children,
            self._listener,
            self._listener.proxy_wait,
            Recurring(_SYNC_INTERVAL, self._sync, lambda: self._monitor.group_commit.unsynced),
            Recurring(
                _SYNC_INTERVAL,
                self._monitor.group_commit.flush_pending,
                lambda: self._monitor.group_commit.pending,
            ),
            Recurring(_CHECK_INTERVAL, self._revalidate_sessions, lambda: self._monitor.sessions),
            Recurring(
                _CHECK_INTERVAL, self._children.enforce_open_limit, lambda: self._monitor.sessions
            ),
            Recurring(_CHECK_INTERVAL, self._update_status_file, lambda: True),
            Recurring(_SYNC_INTERVAL, self._end_stuck_logins, lambda: len(self._children)),
            Recurring(_SYNC_INTERVAL, self._update_live_file, lambda: len(self._children)),
            Recurring(_SYNC_INTERVAL, poll_signer, lambda: True),
        ]
        self._started = config.clock().timestamp()
        self._signals = PendingSignals()
        self._party_rates: dict[str, float] = {}  # the parties with a cap of their own
        self._apply_config(config)

    def run(self, listener: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve on `listener` until a signal says to stop, then end in good order."""
        with closing(self._loop), signals.capture(self._signals, self._loop):
            metrics_server = self._open_metrics()
            gc.collect()
            gc.freeze()
            address, port = listener.getsockname()[:2]
            _log.info("listening", address=address, port=port)
            self._update_status_file()
            ready(port)
            try:
                self._listener.open(listener)
                while not self._signals.stop_count:
                    self._run_once(None)
                _log.info("stopping", sessions=len(self._children))
                self._listener.close()
                self._drain()
            finally:
                self._children.kill()
                self._monitor.catch_up(everything=True)
                self._monitor.group_commit.flush_pending()
                self._monitor.group_commit.commit()
                self._update_live_file()
                if metrics_server is not None:
                    metrics_server.close()
                gc.unfreeze()

    def _run_once(self, until: float | None) -> None:
        self._loop.run_once(self._timed, until)
        if self._signals.reload:
            self._signals.reload = False
            self._reload()

    def _drain(self) -> None:
        """End the sessions: the idle ones at once, the others when their time is up."""
        settings = self._drain_seconds
        drain = self._config.settings.sftp.drain_seconds if settings is None else settings
        end = time.monotonic() + drain
        while self._children and self._signals.stop_count < 2 and (now := time.monotonic()) < end:
            for child in self._children:
                state = child.state
                if not state.open_files and (
                    state.party is None or now >= state.last_message_at + _IDLE_SECONDS
                ):
                    self._children.end(child, _STOPPED, _CLOSE_TIMEOUT)
            self._run_once(min(end, now + 0.1))
        for child in self._children:
            self._children.end(child, _STOPPED, _CLOSE_TIMEOUT)
        while self._children:
            self._run_once(None)

    # Settings, and who they let stay.

    def _reload(self) -> None:
        try:
            found = reload.read(self._config.settings)
            if found.settings is None:
                raise Faults(found.faults)
            config = self._config_for(found.settings)
            self._approve(found.settings)
        except writer.LedgerBusy:
            self._signals.reload = True  # once more, at the next turn
            return
        except Faults as faults:
            for fault in faults.faults:
                _log.error("not reloaded, the old settings stay", fault=str(fault))
            self._faults = tuple(map(str, faults.faults))
            self._update_status_file()
            return
        except Exception:
            _log.exception("not reloaded, the old settings stay")
            return
        self._apply_config(config)
        for key in found.restart:
            _log.warning("waits for a restart", key=key)
        _log.info("reloaded", parties=len(config.settings.parties))
        self._faults = ()
        self._revalidate_sessions()
        self._update_status_file()

    def _apply_config(self, config: ChildConfig) -> None:
        settings = config.settings
        self._config = config
        self._revalidator.settings = settings
        self._monitor.max_sessions_per_party = settings.sftp.max_sessions_per_party
        self._monitor.settings = settings
        self._listener.set_allowed(
            (a for p in settings.parties for a in p.static_ips), settings.sftp.proxies
        )
        self._party_rates = {p.id: p.rate_mbit for p in settings.parties if p.rate_mbit is not None}
        _raise_descriptor_limit(2 * settings.sftp.max_sessions + _SPARE_DESCRIPTORS)

    def _update_status_file(self) -> None:
        config = self._config
        self._status_file.update(config.settings, config.host_keys, config.announced, self._faults)

    def _revalidate_sessions(self) -> None:
        for child in self._children:
            state = child.state
            if state.party is None or state.termination_reason is not None:
                continue
            reason = self._revalidator.reason_to_end(
                state.party, state.credential, state.address, state.rehearsal, state.settings
            )
            if reason is not None:
                _log.info("session ended", session=state.session, party=state.party, reason=reason)
                self._children.end(child, reason, _EVICTION_TIMEOUT)

    def _end_stuck_logins(self) -> None:
        # A child keeps its client's grace time itself, unless something in it never returns.
        end = time.monotonic() - self._config.grace - _STUCK_AFTER
        for child in self._children:
            state = child.state
            if state.party is None and state.termination_reason is None and state.started < end:
                _log.error("child stuck before the login", session=state.session)
                self._children.end(child, "no login in time", _EVICTION_TIMEOUT)

    def _rate_limit(self, party_id: str) -> float | None:
        return self._party_rates.get(party_id, self._config.settings.sftp.rate_mbit)

    def _update_live_file(self) -> None:
        self._children.commit()  # what the disk does not take now is owed
        if self._monitor.group_commit.pending:
            return  # whoever comes after us has to look for those too
        oldest = min((child.state.session for child in self._children), default=None)
        first = self._ledger.next_seq if oldest is None else first_record(oldest)
        self._live.write(first)

    def _sync(self) -> None:
        try:
            self._ledger.sync()
        except OSError as error:
            _log.error("record not synced", cause=str(error))
        else:
            self._monitor.group_commit.mark_synced()

    # Connections.

    def _start_child(self, peer: socket.socket, address: Address, via: Address | None) -> None:
        self._children.begin(
            peer,
            address,
            via,
            lambda *parent: serve_in_child(self._config, peer, address, *parent),
            kept=[self._config.slots.descriptor],
        )

    def _is_full(self) -> bool:
        return len(self._children) >= self._config.settings.sftp.max_sessions

    # Metrics.

    def _open_metrics(self) -> MetricsServer | None:
        wanted = self._config.settings.sftp.metrics
        if wanted is None:
            return None
        name, port = wanted
        if not ip_address(name).is_loopback:
            _log.warning("metrics are not for strangers: listen on loopback", address=name)
        try:
            listener = _listen(name, port)
        except OSError as error:
            # Nobody's mirror has to wait for that.
            _log.error("no metrics", address=name, port=port, cause=str(error))
            return None
        _log.info("metrics", address=name, port=listener.getsockname()[1])
        metrics_server = MetricsServer(
            self._loop, listener, MetricsPage(self._monitor.counters, self._now)
        )
        self._timed.append(metrics_server)
        return metrics_server

    def _now(self) -> Gauges:
        monitor = self._monitor
        lag, unsynced = monitor.group_commit.lag(), monitor.group_commit.unsynced
        left, damaged = self._revalidator.credentials()
        return Gauges(
            monitor.sessions, len(self._children), lag, unsynced, self._started, left, damaged
        )


def _grace_seconds(settings: Settings) -> float:
    # Somebody has to think of a password, and to type it twice.
    grace = settings.sftp.login_grace_seconds
    return max(grace, _PASSWORD_CHANGE_GRACE) if settings.sftp.must_change_password else grace


def _listen(name: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    return socket.create_server(
        (name, port), family=family, backlog=_BACKLOG, dualstack_ipv6=name == "::"
    )


def _raise_descriptor_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
