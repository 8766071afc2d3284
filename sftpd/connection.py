"""Serves one client's connection in a child process: login, sandbox, channels."""

import errno
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count

import structlog
from paramiko.auth_handler import AuthHandler
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from config import layout
from config.party import Address
from config.scope import ALL
from config.settings import Settings
from config.site import TREES
from keys.credentials import admission, ring
from keys.credentials.admission import Admitted, Password, Proof, Reason, Refused, RingOf
from keys.credentials.ring import Credential
from sftpd.access.banner import banner
from sftpd.ipc.hash_slots import HashSlots
from sftpd.ipc.messages import LoginAnswer
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.sandbox import sandbox
from sftpd.sftp.budget import Budget
from sftpd.sftp.session import Session
from sftpd.sftp.view import NotFound, View
from sftpd.ssh import algorithms, exec_digests, hostkeys
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.exec_digests import Output
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.transport import Transport, is_client_fault
from sftpd.ssh.userauth import UserauthHandler

_MAX_CLIENT = 255  # characters of the client's version that go into a record
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
# The kernel gives up this much later than the packetizer, which records the right reason.
_USER_TIMEOUT_MARGIN = 5.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What all connections of a server share.

    `host_keys` are used in the key exchange; `announced` are these and the prepared ones. `ring_of`
    returns the ring that is in force for a party. A client has `grace` seconds to log in. `slots`
    limits how many passwords are hashed at the same time.
    """

    settings: Settings
    host_keys: Sequence[PKey]
    announced: Sequence[PKey]
    ring_of: RingOf
    clock: Callable[[], datetime]
    sandbox_policy: sandbox.SandboxPolicy
    grace: float
    slots: HashSlots


class Connection:
    """Serves one client. It is the transport's Application and the login's AuthPolicy."""

    def __init__(
        self, config: ChildConfig, peer: socket.socket, address: Address, monitor: MonitorClient
    ) -> None:
        self._config = config
        self._address = address
        self._monitor = monitor
        self._view: View | None = None
        self._now, self._decided_at = config.clock(), time.monotonic()
        self._stopped = False
        self._handle_numbers = count(1)
        self._budget = Budget()
        stall = config.settings.sftp.stall_seconds
        _set_socket_options(peer, stall + _USER_TIMEOUT_MARGIN)
        self._socket = ClientSocket(peer, config.grace)
        idle = config.settings.sftp.idle_seconds
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(idle / 4, 60.0)))
        # This process serves only this connection.
        Packetizer.STALL_SECONDS, Packetizer.IDLE_SECONDS = stall, idle
        self._transport = Transport(
            self._socket,
            config.host_keys,
            self,
            offer=algorithms.offer(config.settings.sftp),
            pace=monitor.pace,
            flush_due_closes=monitor.flush_due_closes,
        )

    def serve(self) -> str:
        """Serve until the connection ends, and return why it ended."""
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        signal.signal(signal.SIGTERM, self._stop)
        self._transport.run()
        failure = self._transport.saved_exception
        if self._stopped:
            return "server stopped"
        if self._socket.login_timed_out:
            return "no login in time"
        if self._transport.stalled or (
            isinstance(failure, OSError) and failure.errno == errno.ETIMEDOUT
        ):
            return "client stalled"
        if self._transport.packetizer.idle:
            return "idle"
        if failure is not None and not isinstance(failure, EOFError | OSError):
            address, cause = str(self._address), repr(failure)
            if is_client_fault(failure):
                _log.info("connection-broken", address=address, cause=cause)
                return "protocol error"
            _log.error("connection-broken", address=address, cause=cause)
            return "server error"
        return "closed"

    def report_no_login(self) -> None:
        """Have the record name the client, if it did not log in."""
        transport = self._transport
        if self._view is None and transport.remote_version:
            client = transport.remote_version[:_MAX_CLIENT]
            self._monitor.report_no_login(client, transport.nothing_in_common)

    def _stop(self, *_: object) -> None:
        self._stopped = True
        self._socket.hang_up()

    # AuthPolicy, for the UserauthHandler.

    def decide(self, user: str, proof: Proof) -> Admitted | Refused:
        """Decide on the credential that a client offers."""
        settings = self._config.settings
        self._now, self._decided_at = self._config.clock(), time.monotonic()
        with self._config.slots.acquire() if isinstance(proof, Password) else nullcontext():
            decision = admission.decide(
                settings,
                self._config.ring_of,
                user,
                proof,
                self._address,
                self._now,
            )
        if isinstance(decision, Refused) and decision.cause:
            _log.error("keys-unreadable", party=user, cause=decision.cause)
        return decision

    def admit(self, admitted: Admitted, method: str) -> LoginAnswer:
        """Have the login recorded, and restrict this process to the party's tree."""
        transport = self._transport
        party, credential = admitted.party.id, admitted.credential.fingerprint
        client = transport.remote_version[:_MAX_CLIENT]
        rehearsal = admitted.rehearsal
        name = rehearsal.id if rehearsal else ""
        answer = self._monitor.admit(
            party, method, credential, client, transport.local_cipher, transport.kex_name, name
        )
        if answer is not LoginAnswer.ADMITTED:
            return answer
        self._socket.lift_login_limits()
        self._config.slots.close()  # no password is hashed after the login
        try:
            scope = admitted.party.scope
            site = rehearsal.folder if rehearsal else self._config.settings.site
            self._view = View(
                site / TREES / party,
                None if scope == ALL else partial(layout.in_scope, scope=scope),
            )
            sandbox.restrict_to_tree(self._view.root, self._config.sandbox_policy)
        except OSError as error:
            # The login is recorded, but nothing is served without the sandbox.
            _log.error("sandbox-failed", party=party, cause=str(error))
            raise SSHException("sandbox failed") from error
        self._check_tree(self._view, party)
        return answer

    def _check_tree(self, view: View, party: str) -> None:
        # Without this check, a tree that the server may not read would look empty to the party.
        found = view.open_folder(b"/")
        if isinstance(found, NotFound):
            user = self._config.sandbox_policy.user
            advice = "make its folders 0755 and its files 0444"
            name = user.name if user else "the server's user"
            _log.error("tree-unreadable", party=party, user=name, advice=advice)
            raise SSHException("tree unreadable")
        found.close()

    def change_password(self, user: str, credential: Credential, text: str) -> bool:
        """Replace `credential` by a new password; only its hash leaves this process."""
        with self._config.slots.acquire():
            secret = ring.hash_password(text)
        return self._monitor.change_password(user, credential.fingerprint, secret)

    def after_login(self) -> None:
        """Announce the host keys, including the prepared ones."""
        self._transport.send_unasked(hostkeys.announcement(self._config.announced))

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""
        transport = self._transport
        client = transport.remote_version[:_MAX_CLIENT]
        how = (method, credential, client, transport.local_cipher, transport.kex_name)
        self._monitor.record_refusal(user, *how, reason, probe=probe)

    def banner(self) -> str:
        """Return the banner for a client that logs in before access opens."""
        settings = self._config.settings
        return banner(settings.election, settings.rehearsals, self._now)

    # Application, for the Transport.

    def new_auth_handler(self, transport: Transport) -> AuthHandler:
        """Make the handler of the user authentication."""
        interactive = self._config.settings.sftp.must_change_password
        return UserauthHandler(transport, self, interactive=interactive)

    def new_session(self) -> Session:
        """Start the SFTP session of a channel."""
        if self._view is None:
            raise AssertionError("a channel before the login")
        monitor = self._monitor
        return Session(
            self._view, monitor, self._local_time, self._handle_numbers, monitor, self._budget
        )

    def _local_time(self) -> datetime:
        # The time of the login and what has passed since: the configured clock may read files,
        # which the sandbox forbids.
        passed = timedelta(seconds=time.monotonic() - self._decided_at)
        return (self._now + passed).astimezone(self._config.settings.election.opens.tzinfo)

    def run_command(self, command: bytes) -> Output | None:
        """Return what a command prints, None to refuse it."""
        if self._view is None:
            raise AssertionError("a command before the login")
        return exec_digests.run(command, self._view, self._monitor)

    def record_denied(self, verb: str) -> None:
        """Record a refused request."""
        self._monitor.record_denied(verb, b"")

    def handle_global_request(self, name: str, data: bytes) -> bytes | None:
        """Prove the host keys that the client asks about; refuse everything else."""
        if name == hostkeys.PROVE:
            transport = self._transport
            return hostkeys.proofs(
                self._config.announced,
                data,
                transport.session_id or b"",
                transport.host_key_type or "",
            )
        if "forward" in name:
            self.record_denied(name)
        return None


def _set_socket_options(peer: socket.socket, timeout: float) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(timeout * 1000))


def _timeval(seconds: float) -> bytes:
    """Return a `struct timeval` for a socket option."""
    return struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))


def serve_in_child(
    config: ChildConfig,
    peer: socket.socket,
    address: Address,
    monitor: socket.socket,
    pending_closes: PendingCloses,
) -> None:
    """Serve one client and end this process; never returns."""
    status = 1
    try:
        sandbox.restrict_before_login(config.sandbox_policy)
        client = MonitorClient(monitor, pending_closes)
        connection = Connection(config, peer, address, client)
        reason = connection.serve()
        connection.report_no_login()
        client.end(reason)
        status = 0
    except BaseException:
        _log.exception("connection-failed", address=str(address))
    finally:
        os._exit(status)
