"""One client's connection, served in a child process of its own: login, cage, channels."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import count

import structlog
from paramiko.channel import Channel
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from config import layout
from config.party import Address
from config.scope import ALL
from config.settings import Algorithms, PacketLayer, Settings
from config.site import TREES
from keys.credentials import ring
from keys.credentials.ring import Credential
from sftpd.access import authorize
from sftpd.access.authorize import Admitted, Password, Proof, Reason, Refused, RingOf
from sftpd.ipc.hash_slots import HashSlots
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.sandbox import sandbox as cage
from sftpd.sftp.session import Session
from sftpd.sftp.view import NotFound, View
from sftpd.ssh import exec_digests, hostkeys
from sftpd.ssh.channel_policy import ChannelPolicy
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.direct import Direct
from sftpd.ssh.exec_digests import Answer
from sftpd.ssh.transport import KEX, MACS, PLAIN_MACS, PQ_KEX, Transport, is_client_fault
from sftpd.ssh.userauth import UserauthHandler

_JOIN_TIMEOUT = 5.0
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
_UNANSWERED_MS = 60_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What all connections of a server share.

    `host_keys` exchange keys, `announced` are they and the next ones; `ring_of` gives a party's
    ring in force; `grace` is the seconds that a client has to log in, in `slots` passwords are
    hashed.
    """

    settings: Settings
    host_keys: Sequence[PKey]
    announced: Sequence[PKey]
    ring_of: RingOf
    clock: Callable[[], datetime]
    sandbox_policy: cage.SandboxPolicy
    grace: float
    slots: HashSlots


class Connection:
    """Serves one client; it is what UserauthHandler calls the door."""

    def __init__(
        self, config: ChildConfig, peer: socket.socket, address: Address, reporter: MonitorClient
    ) -> None:
        self._config = config
        self._address = address
        self._reporter = reporter
        self._view: View | None = None
        self._now = config.clock()
        self._stopped = False
        self._numbers = count(1)
        _set_socket_options(peer)
        self._wire = ClientSocket(peer, config.grace)
        algorithms = config.settings.sftp.algorithms
        fast = config.settings.sftp.packet_layer is PacketLayer.FAST
        self._channels = ChannelPolicy(
            self._record_denied,
            self._new_session,
            lambda: self._transport.channels,
            serve_channel=self._serve_channel if fast else None,
            pace=reporter.pace,
            command=self._exec,
            call_after_reply=lambda what: self._transport.call_after_reply(what),
        )
        transport: Callable[..., Transport] = (
            partial(Direct, pace=reporter.pace, flush_due_closes=reporter.flush_due_closes)
            if fast
            else Transport
        )
        self._transport = transport(
            self._wire,
            config.host_keys,
            self._channels,
            lambda transport: UserauthHandler(
                transport, self, interactive=config.settings.sftp.must_change_password
            ),
            self._global_request,
            PQ_KEX if algorithms is Algorithms.PQ_ONLY else KEX,
            (*MACS, *PLAIN_MACS) if algorithms is Algorithms.COMPATIBLE else MACS,
        )

    def serve(self) -> str:
        """Serve until the client is gone, and return why it ended."""
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        signal.signal(signal.SIGTERM, self._stop)
        self._transport.run()
        self._channels.join(_JOIN_TIMEOUT)
        failure = self._transport.saved_exception
        if self._stopped:
            return "server stopped"
        if self._wire.login_timed_out:
            return "no login in time"
        if isinstance(self._transport, Direct) and self._transport.stalled:
            return "client stalled"
        if failure is not None and not isinstance(failure, EOFError | OSError):
            theirs = is_client_fault(failure)
            (_log.info if theirs else _log.error)(
                "connection broken", address=str(self._address), cause=repr(failure)
            )
            return "protocol error" if theirs else "server error"
        return "closed"

    def _stop(self, *_: object) -> None:
        self._stopped = True
        self._wire.hang_up()

    # What UserauthHandler asks.

    def decide(self, user: str, proof: Proof) -> Admitted | Refused:
        """Decide on what is offered."""
        settings = self._config.settings
        self._now = self._config.clock()
        with self._config.slots.acquire() if isinstance(proof, Password) else nullcontext():
            verdict = authorize.decide(
                settings,
                self._config.ring_of,
                user,
                proof,
                self._address,
                self._now,
            )
        if isinstance(verdict, Refused) and verdict.cause:
            _log.error("keys unreadable", user=user, cause=verdict.cause)
        return verdict

    def admit(self, admitted: Admitted, method: str) -> bool:
        """Let a proven party in, and shut this process in with its tree."""
        ssh = self._transport
        party, credential = admitted.party.id, admitted.credential.fingerprint
        client = ssh.remote_version[:255]
        rehearsal = admitted.rehearsal
        name = rehearsal.id if rehearsal else ""
        if not self._reporter.admit(
            party, method, credential, client, ssh.local_cipher, ssh.kex_name, name
        ):
            return False
        self._wire.lift_login_limits()
        self._config.slots.close()  # nothing is hashed in the cage
        try:
            scope = admitted.party.scope
            site = rehearsal.folder if rehearsal else self._config.settings.site
            self._view = View(
                site / TREES / party,
                None if scope == ALL else partial(layout.in_scope, scope=scope),
            )
            cage.restrict_to_tree(self._view.root, self._config.sandbox_policy)
        except OSError as error:
            # Admitted, but not to be served without its cage: this connection is over.
            _log.error("no cage", party=party, cause=str(error))
            raise SSHException("no cage") from error
        self._check_tree(self._view, party)
        return True

    def _check_tree(self, view: View, party: str) -> None:
        # An empty listing would tell the party that there is nothing, and nobody else anything.
        found = view.open_folder(b"/")
        if isinstance(found, NotFound):
            user = self._config.sandbox_policy.user
            advice = "make its folders 0755 and its files 0444"
            name = user.name if user else "the server's user"
            _log.error("tree not readable", party=party, user=name, advice=advice)
            raise SSHException("tree not readable")
        found.close()

    def change_password(self, user: str, credential: Credential, text: str) -> bool:
        """Have a new password set in place of `credential`; the parent learns its hash alone."""
        with self._config.slots.acquire():
            secret = ring.hash_password(text)
        return self._reporter.change_password(user, credential.fingerprint, secret)

    def after_login(self) -> None:
        """Tell a client that has just come in which host keys it may meet here."""
        self._transport.send_unasked(hostkeys.announcement(self._config.announced))

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""
        ssh = self._transport
        client = ssh.remote_version[:255]
        how = (method, credential, client, ssh.local_cipher, ssh.kex_name)
        self._reporter.record_refusal(user, *how, reason, probe=probe)

    def banner(self) -> str:
        """Return what an early client is told."""
        settings = self._config.settings
        return authorize.banner(settings.election, settings.rehearsals, self._now)

    # What the channels ask.

    def _new_session(self) -> Session:
        if self._view is None:
            raise AssertionError("no channel is opened before the login")
        zone = self._config.settings.election.opens.tzinfo
        now = self._now.astimezone(zone)
        return Session(self._view, self._reporter, now, self._numbers, self._reporter)

    def _serve_channel(self, channel: Channel, session: Session) -> None:
        if isinstance(self._transport, Direct):
            self._transport.serve(channel, session)

    def _exec(self, command: bytes) -> Answer | None:
        if self._view is None:
            raise AssertionError("no command is heard before the login")
        return exec_digests.answer(command, self._view, self._reporter)

    def _record_denied(self, verb: str) -> None:
        self._reporter.record_denied(verb, b"")

    # What the transport asks.

    def _global_request(self, kind: str, what: bytes) -> bytes | None:
        if kind == hostkeys.PROVE:
            ssh = self._transport
            return hostkeys.proofs(
                self._config.announced, what, ssh.session_id or b"", ssh.host_key_type or ""
            )
        if "forward" in kind:
            self._record_denied(kind)
        return None


def _set_socket_options(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)


def serve_in_child(
    config: ChildConfig,
    peer: socket.socket,
    address: Address,
    parent: socket.socket,
    slate: PendingCloses,
) -> None:
    """Serve one client and end this process; never returns."""
    status = 1
    try:
        cage.restrict_before_login(config.sandbox_policy)
        fast = config.settings.sftp.packet_layer is PacketLayer.FAST
        reporter = MonitorClient(parent, slate if fast else None)
        reporter.end(Connection(config, peer, address, reporter).serve())
        status = 0
    except BaseException:
        _log.exception("connection failed", address=str(address))
    finally:
        os._exit(status)
