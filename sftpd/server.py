"""The SFTP server's main process: start, reload, drain, and what it does periodically.

It is one thread around one event loop (monitor/loop), and runs no SSH code. Three other processes
belong to it (processes/): one starts a child for each connection and knows no secret, one has the
private host keys, and one compares passwords and verifies signatures. The server alone writes the
transfer ledger: a child asks for each record (ipc/messages), and what cannot be recorded is not
served.

    SIGHUP             reload `site.toml` and `parties.toml`; a file with a fault changes nothing
    SIGUSR1            drain for maintenance: accept no connection, end each session that is idle
                       for `_MAINTENANCE_IDLE` seconds, and wait for SIGTERM
    SIGTERM, SIGINT    drain: accept no connection, end idle sessions, and let running transfers
                       continue for `[sftp] drain_seconds`
    a second of these  end all sessions now

Every `_CHECK_INTERVAL` the live sessions are checked against settings and keys
(monitor/session_checks): a suspended party, a revoked key or a withdrawn address ends them.
"""

import gc
import os
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

import structlog

from config.fault import Faults
from config.party import Address
from config.settings import Settings
from config.site import LEDGERS, TRANSFER, ledger_name
from keys.credentials.penalties import ConnectionRates, LoginCpu, Penalties
from keys.credentials.ratelimit import BandwidthLimits
from keys.kernel import memory_groups
from keys.kernel.memory_groups import MemoryGroups
from keys.ledger import writer
from keys.ledger.anchors import AnchorWriter
from keys.ledger.writer import Ledger
from keys.operations import publisher_state, server_state, site_keys
from keys.operations.server_state import ReloadRequests
from sftpd.access import gateways
from sftpd.access.connection_shares import ConnectionShares
from sftpd.access.gateways import Gateways
from sftpd.access.revalidate import Revalidator, Rings
from sftpd.ipc.session_messages import SessionSettings
from sftpd.listener.listener import Listener
from sftpd.monitor import cpu_shares
from sftpd.monitor.answers.logins import Logins, trees_for
from sftpd.monitor.answers.password_change import PasswordChanges
from sftpd.monitor.answers.witnesses import Witnesses
from sftpd.monitor.children import Children
from sftpd.monitor.cpu_shares import CpuShares
from sftpd.monitor.loop import Loop
from sftpd.monitor.metrics import Gauges, MetricsPage
from sftpd.monitor.metrics_server import MetricsServer
from sftpd.monitor.monitor import Monitor, first_record
from sftpd.monitor.records import recovery
from sftpd.monitor.records.recovery import LiveFile
from sftpd.monitor.records.stamps import StampChecker
from sftpd.monitor.session_checks import SessionChecks
from sftpd.monitor.signals import Signals
from sftpd.monitor.status_file import StatusFile
from sftpd.processes import host_keys
from sftpd.processes.forker import COMMAND as FORKER
from sftpd.processes.forker import Forker
from sftpd.processes.host_keys import HostKeySigner
from sftpd.processes.judge import Judge
from sftpd.sandbox import sandbox
from sftpd.settings_reload import reload_settings
from sftpd.ssh import algorithms

# All in seconds.
_SYNC_INTERVAL = 1.0
_CHECK_INTERVAL = 0.3
_MEMORY_INTERVAL = 2.0
_STOP_TIMEOUT = 2.0  # from SIGTERM to SIGKILL while the server stops; enough to close the handles
_IDLE_TIME = 1.0  # since the last message: a session without open files is then idle (drain)
_MAINTENANCE_IDLE = 10.0  # the same, during a drain for maintenance
_PASSWORD_CHANGE_GRACE = 180.0  # the grace time on a site where a new password must be set

_BACKLOG = 1024
_SPARE_DESCRIPTORS = 512  # beyond four a child: connections that wait, metrics, ledger
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
    penalties: Penalties | None = None,
    rates: ConnectionRates | None = None,
    login_cpu: LoginCpu | None = None,
    poll_signer: Callable[[], object] = lambda: None,
    record_new_settings: Callable[[Settings], object] = lambda settings: None,
    forker_command: Sequence[str] = FORKER,
    beat: Callable[[], object] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises Faults if the kernel lacks what the settings require.

    `ready` is called with the port when the server listens. `clock` is the time for opening hours,
    credentials and records. `drain` and `grace` replace `drain_seconds` and `login_grace_seconds`
    of the settings; `kernel`, `penalties`, `rates` and `login_cpu` replace the defaults.
    `poll_signer` is called once a second. `forker_command` starts the process that forks sessions.
    `record_new_settings` is called at a reload before the settings are applied: if it raises
    Faults, they are rejected; if it raises LedgerBusy, the reload is tried again. `beat` is that of
    the caller's claim on this part of the site (server_state); without it, it is claimed here.
    """
    kernel = kernel or sandbox.kernel()
    policy = sandbox.policy(settings.sftp, kernel, os.geteuid())
    own_nice = os.getpriority(os.PRIO_PROCESS, 0)
    cpu_shares.set_share(0, own_nice, cpu_shares.Rank.FIRST)
    rings = Rings(settings.site)
    folder = settings.site / LEDGERS / ledger_name(TRANSFER, settings.host)
    # An old server that still drains holds the ledger for this long at most.
    lock_timeout = _STOP_TIMEOUT + (settings.sftp.drain_seconds if drain is None else drain)
    with (
        closing(Loop()) as loop,
        ExitStack() as processes,
        Ledger(folder, clock, lock_timeout, writer.write_policy(settings.ledger)) as ledger,
        LiveFile(folder) as live,
        _claim(settings) if beat is None else nullcontext(beat) as beat,
        _listen(settings.sftp.host, settings.sftp.port) as listening,
    ):
        revalidator = Revalidator(settings, clock, rings)
        forker = Forker(
            loop, lambda address: trees_for(revalidator.settings, address), forker_command
        )
        judge = Judge(loop, lambda: sandbox.restrict_responder(policy))
        groups = _find_memory_groups()
        if groups is not None:
            processes.callback(groups.remove)
        processes.callback(forker.stop)
        processes.callback(judge.stop)
        forker.start_process()  # it takes the longest
        judge.start()
        recovery.close_unfinished(folder, ledger, live)
        if not (kernel.landlock and kernel.seccomp):
            _log.warning("sandbox-incomplete", kernel=str(kernel))
        _warn_of_algorithms(settings)
        server = Server(
            settings,
            ledger,
            live,
            Parts(loop, forker, judge, revalidator, rings, groups),
            kernel=kernel,
            clock=clock,
            grace=grace,
            penalties=Penalties() if penalties is None else penalties,
            rates=ConnectionRates() if rates is None else rates,
            login_cpu=LoginCpu() if login_cpu is None else login_cpu,
            drain=drain,
            beat=beat,
            poll_signer=poll_signer,
            record_new_settings=record_new_settings,
        )
        processes.callback(server.stop_signing)
        forker.wait_until_ready()
        server.run(listening, ready)


@dataclass(frozen=True, slots=True)
class Config:
    """What the settings mean for the sessions that start from now on."""

    settings: Settings
    sessions: SessionSettings
    host_keys: HostKeySigner


@dataclass(frozen=True, slots=True)
class Parts:
    """What the server works with: its loop, its processes, the rings, and cgroups for parties."""

    loop: Loop
    forker: Forker
    judge: Judge
    revalidator: Revalidator
    rings: Rings
    memory_groups: MemoryGroups | None


class Server:
    """Puts the monitor's parts together and runs them."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        live: LiveFile,
        parts: Parts,
        *,
        kernel: sandbox.KernelFeatures,
        clock: writer.Clock,
        grace: float | None,
        penalties: Penalties,
        rates: ConnectionRates,
        login_cpu: LoginCpu,
        drain: float | None,
        beat: Callable[[], object],
        poll_signer: Callable[[], object],
        record_new_settings: Callable[[Settings], object],
    ) -> None:
        self._kernel = kernel
        self._grace = grace
        self._ledger = ledger
        self._live = live
        self._drain_seconds = drain
        self._beat = beat
        self._poll_signer = poll_signer
        self._record_new_settings = record_new_settings
        self._anchors = AnchorWriter(settings.site / LEDGERS, ledger_name(TRANSFER, settings.host))
        self._shares = ConnectionShares()
        self._loop = parts.loop
        self._forker = parts.forker
        self._judge = parts.judge
        self._memory_groups = parts.memory_groups
        self._revalidator = parts.revalidator
        self._signals = Signals()
        self._is_draining = False
        self._status_file = StatusFile(settings.site, parts.rings, settings.host)
        self._reload_requests = ReloadRequests(settings.site, server_state.SERVE, settings.host)
        self._faults: tuple[str, ...] = ()  # of the last reload
        self._started = clock().timestamp()
        self._party_rates: dict[str, float] = {}  # Mbit/s, of the parties with their own limit
        self._signers: list[HostKeySigner] = []
        self._stamp_keys = {"": site_keys.stamp_key_on_record(settings.site, create=True)}
        self._monitor = Monitor(
            self._loop,
            ledger,
            settings.sftp.max_sessions_per_party,
            charge=penalties.charge,
        )
        self._monitor.stamps = StampChecker(self._stamp_key)
        self._monitor.holder_of = self._shares.holder
        shares = CpuShares(may_lower=cpu_shares.may_lower(os.getpriority(os.PRIO_PROCESS, 0)))
        self._logins = Logins(
            self._monitor,
            parts.judge,
            parts.revalidator,
            PasswordChanges(self._loop, settings.site, clock),
            lambda party: self._rate_limit(party) is not None,
            login_cpu.charge,
            Witnesses(self._monitor.group_commit.append).answer,
            shares.add_other_work,
        )
        self._children = Children(
            self._loop,
            self._monitor,
            parts.forker,
            self._rate_limit,
            BandwidthLimits(),
            self._logins,
            login_cpu.charge,
            self._report_no_resources,
            shares,
            parts.memory_groups,
        )
        self._listener = Listener(
            self._loop,
            self._children.start,
            self._lack_of_room,
            self._monitor.refuse_connection,
            penalties,
            rates,
            login_cpu,
        )
        self._gateways: Gateways | None = None
        if settings.host:
            limits = penalties, rates, login_cpu
            self._gateways = Gateways(settings.site, settings.host, limits)
        self._session_checks = SessionChecks(
            settings,
            self._loop,
            self._children,
            self._monitor,
            parts.revalidator,
            self._gateways,
        )
        self._config = self._config_for(settings)
        site_keys.require_recorded(settings.site, self._config.host_keys.files)
        self._apply_config(self._config)

    def _config_for(self, settings: Settings) -> Config:
        """Load the host keys of these settings; raise Faults if they cannot be used."""
        policy = sandbox.policy(settings.sftp, self._kernel, os.geteuid())
        offer = algorithms.offer(settings.sftp)
        signer = host_keys.start(
            settings.site, self._loop, lambda: sandbox.restrict_responder(policy)
        )
        if self._signers and signer.loaded == self._signers[-1].loaded:
            signer.responder.stop()
            signer = self._signers[-1]  # the keys are the same
        else:
            self._signers.append(signer)
        sessions = SessionSettings(
            signer.in_use,
            signer.announced,
            tuple(offer.kex),
            tuple(offer.macs),
            tuple(offer.host_keys),
            tuple(offer.public_keys),
            settings.sftp.stall_seconds,
            settings.sftp.idle_seconds,
            _grace_seconds(settings) if self._grace is None else self._grace,
            settings.sftp.must_change_password,
            policy,
        )
        return Config(settings, sessions, signer)

    def _stamp_key(self, rehearsal: str) -> bytes | None:
        """Return the stamp key of the site of a rehearsal, or of this site."""
        if rehearsal not in self._stamp_keys:
            folders = {known.id: known.folder for known in self._config.settings.rehearsals}
            try:
                key = site_keys.stamp_key_on_record(folders[rehearsal])
            except (KeyError, OSError, Faults):
                key = None
            if key is None:
                return None  # its publisher has not started yet
            self._stamp_keys[rehearsal] = key
        return self._stamp_keys[rehearsal]

    def stop_signing(self) -> None:
        """End the processes that have the host keys."""
        for signer in self._signers:
            signer.responder.stop()

    def run(self, listening: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve on the socket `listening` until a signal says to stop, then drain."""
        with self._signals.handled(self._loop):
            metrics_server = self._open_metrics()
            self._start_timers()
            # The processes that it forks share its memory until one of them writes to it. The
            # garbage collector writes to every object that is not frozen.
            gc.collect()
            gc.freeze()
            address, port = listening.getsockname()[:2]
            _log.info("listening", address=address, port=port)
            self._update_status_file()
            ready(port)
            try:
                self._listener.open(listening)
                while not self._signals.stop_count:
                    self._run_once()
                    if self._signals.drain and not self._is_draining:
                        self._begin_to_drain()
                _log.info("stopping", sessions=len(self._children))
                self._listener.close()
                self._drain()
            finally:
                self._children.kill_all()
                self._monitor.flush_refusals()
                self._monitor.group_commit.flush_pending()
                self._monitor.group_commit.commit()
                self._update_live_file()
                if metrics_server is not None:
                    metrics_server.close()
                gc.unfreeze()

    def _start_timers(self) -> None:
        for check in (
            self._session_checks.end_revoked_sessions,
            self._children.enforce_open_limit,
            self._children.share_processors,
            self._update_status_file,
            self._look_for_reload,
        ):
            self._loop.call_every(_CHECK_INTERVAL, partial(_attempt, check))
        for task in (
            self._sync,
            self._monitor.group_commit.flush_pending,
            self._end_stuck_logins,
            self._replace_stuck_processes,
            self._update_live_file,
            self._session_checks.update_sessions_file,
            self._poll_signer,
            self._beat,
            self._record_anchors,
        ):
            self._loop.call_every(_SYNC_INTERVAL, partial(_attempt, task))
        if self._gateways is not None:
            exchange = partial(_attempt, self._session_checks.exchange_with_gateways)
            self._loop.call_every(gateways.INTERVAL, exchange)
        self._loop.call_every(_MEMORY_INTERVAL, self._enforce_memory_limit)

    def _begin_to_drain(self) -> None:
        """Stop listening, so that the balancer sends new connections elsewhere."""
        self._is_draining = True
        _log.info("draining", sessions=len(self._children))
        self._listener.close()
        self._loop.call_every(_CHECK_INTERVAL, partial(_attempt, self._end_idle_sessions))

    def _end_idle_sessions(self) -> None:
        latest = self._loop.time() - _MAINTENANCE_IDLE
        for child in self._children:
            state = child.state
            if not state.open_files and state.last_message_at < latest and state.party is not None:
                self._children.terminate(child, _STOPPED, _STOP_TIMEOUT)

    def _run_once(self, until: float | None = None) -> None:
        self._loop.run_once(until)
        if self._signals.reload:
            self._signals.reload = False
            self._reload()

    def _drain(self) -> None:
        """End the idle sessions at once, and the others when the drain time is over."""
        drain = self._drain_seconds
        end = self._loop.time() + (
            self._config.settings.sftp.drain_seconds if drain is None else drain
        )
        while self._children and self._signals.stop_count < 2 and (now := self._loop.time()) < end:
            for child in self._children:
                state = child.state
                idle = state.party is None or now >= state.last_message_at + _IDLE_TIME
                if idle and not state.open_files:
                    self._children.terminate(child, _STOPPED, _STOP_TIMEOUT)
            self._run_once(min(end, now + 0.1))
        for child in self._children:
            self._children.terminate(child, _STOPPED, _STOP_TIMEOUT)
        while self._children:
            self._run_once()

    # Settings.

    def _look_for_reload(self) -> None:
        if self._reload_requests.is_asked():
            self._signals.reload = True

    def _reload(self) -> None:
        try:
            result = reload_settings(self._config.settings)
            if result.settings is None:
                raise Faults(result.faults)
            config = self._config_for(result.settings)
            try:
                self._record_new_settings(result.settings)
                site_keys.require_recorded(result.settings.site, config.host_keys.files)
            except BaseException:
                if config.host_keys is not self._config.host_keys:
                    config.host_keys.retire()
                raise
        except writer.LedgerBusy:
            self._signals.reload = True  # try again in the next turn
            return
        except Faults as faults:
            for fault in faults.faults:
                _log.error("settings-rejected", cause=str(fault))
            self._faults = tuple(map(str, faults.faults))
            self._update_status_file()
            return
        except Exception:
            _log.exception("settings-unreadable")
            return
        before = algorithms.weaknesses(self._config.settings.sftp)
        self._apply_config(config)
        if algorithms.weaknesses(config.settings.sftp) != before:
            _warn_of_algorithms(config.settings)
        for key in result.restart:
            _log.warning("restart-needed", key=key)
        _log.info("settings-reloaded", parties=len(config.settings.parties))
        self._faults = ()
        self._session_checks.end_revoked_sessions()
        self._update_status_file()

    def _apply_config(self, config: Config) -> None:
        settings = config.settings
        if self._config.host_keys is not config.host_keys:
            self._config.host_keys.retire()
        self._signers = [each for each in self._signers if each.sessions or not each.retired]
        self._config = config
        self._forker.configure(config.sessions)
        self._logins.public_keys = frozenset(config.sessions.public_keys)
        self._monitor.host_keys = config.host_keys
        self._revalidator.settings = settings
        self._monitor.max_sessions_per_party = settings.sftp.max_sessions_per_party
        _attempt(self._limit_memory_groups)
        self._monitor.settings = settings
        self._listener.set_allowed(
            (a for p in settings.parties for a in p.static_ips), settings.sftp.proxies
        )
        self._shares.set_parties(settings.parties, settings.sftp.max_sessions)
        self._children.opens_per_second = settings.sftp.opens_per_second
        self._party_rates = {p.id: p.rate_mbit for p in settings.parties if p.rate_mbit is not None}
        _raise_descriptor_limit(4 * settings.sftp.max_sessions + _SPARE_DESCRIPTORS)

    def _update_status_file(self) -> None:
        config, signer = self._config, self._config.host_keys
        self._status_file.update(config.settings, signer.in_use, signer.announced, self._faults)

    # Sessions.

    def _report_no_resources(self, address: Address, via: Address | None, error: OSError) -> None:
        self._listener.report_no_resources(address, via, error)

    def _lack_of_room(self, address: Address) -> str | None:
        if len(self._children) >= self._config.settings.sftp.max_sessions:
            return "sessions"
        states = self._children.states()
        connections = ((state.address, state.party is not None) for state in states)
        return "unfinished" if self._shares.refuses(address, connections) else None

    def _limit_memory_groups(self) -> None:
        if self._memory_groups is not None:
            limit = self._config.settings.sftp.memory_mb_per_party << 20
            self._memory_groups.set_limit(limit)

    def _enforce_memory_limit(self) -> None:
        self._children.enforce_memory_limit(self._config.settings.sftp.memory_mb_per_party << 20)

    def _rate_limit(self, party_id: str) -> float | None:
        return self._party_rates.get(party_id, self._config.settings.sftp.rate_mbit)

    def _end_stuck_logins(self) -> None:
        self._session_checks.end_stuck_logins(self._config.sessions.grace)

    def _replace_stuck_processes(self) -> None:
        self._forker.replace_if_stuck()
        self._judge.replace_if_stuck()
        for signer in self._signers:
            signer.responder.replace_if_stuck()

    # Ledger.

    def _sync(self) -> None:
        if not self._monitor.group_commit.unsynced:
            return
        try:
            self._ledger.sync()
        except OSError as error:
            _log.error("ledger-not-synced", cause=str(error))
        else:
            self._monitor.group_commit.mark_synced()

    def _record_anchors(self) -> None:
        if (event := self._anchors.next_event()) is not None:
            self._monitor.group_commit.append(event)

    def _update_live_file(self) -> None:
        """Write the live file: no connected client has a record before the number in it."""
        self._children.commit()
        if self._monitor.group_commit.pending:
            return  # the next server must also look for the records that are pending
        oldest = min((child.state.session for child in self._children), default=None)
        self._live.write(self._ledger.next_seq if oldest is None else first_record(oldest))

    # Metrics.

    def _open_metrics(self) -> MetricsServer | None:
        if self._config.settings.sftp.metrics is None:
            return None
        name, port = self._config.settings.sftp.metrics
        if not ip_address(name).is_loopback:
            _log.warning("metrics-exposed", address=name)
        try:
            listening = _listen(name, port)
        except OSError as error:
            # The parties can mirror without metrics.
            _log.error("metrics-unavailable", address=name, port=port, cause=str(error))
            return None
        _log.info("metrics-listening", address=name, port=listening.getsockname()[1])
        return MetricsServer(
            self._loop, listening, MetricsPage(self._monitor.counters, self._gauges)
        )

    def _gauges(self) -> Gauges:
        monitor = self._monitor
        lag, unsynced = monitor.group_commit.lag(), monitor.group_commit.unsynced
        left, damaged = self._revalidator.credential_lifetimes()
        return Gauges(
            monitor.sessions,
            len(self._children),
            lag,
            unsynced,
            self._started,
            left,
            damaged,
            publisher_state.read(self._config.settings.site, self._config.settings.host),
        )


def _claim(settings: Settings) -> AbstractContextManager[Callable[[], object]]:
    return server_state.claim(settings.site, server_state.SERVE, settings.host)


def _find_memory_groups() -> MemoryGroups | None:
    try:
        return memory_groups.find()
    except (OSError, ValueError) as error:
        # The server still adds up what a party's sessions take (Children.enforce_memory_limit).
        _log.warning("memory-groups-unavailable", cause=str(error))
        return None


def _warn_of_algorithms(settings: Settings) -> None:
    for name, cause in algorithms.weaknesses(settings.sftp).items():
        _log.warning("weak-algorithm", name=name, cause=cause)


def _attempt(task: Callable[[], object]) -> None:
    """Do a periodic task; what the machine lacks now, it may have the next time."""
    try:
        task()
    except OSError as error:
        _log.error("task-failed", name=getattr(task, "__name__", ""), cause=str(error))


def _grace_seconds(settings: Settings) -> float:
    # A person needs time to think of a password, and to type it twice.
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
