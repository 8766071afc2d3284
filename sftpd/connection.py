"""Serves one client's connection in a child process: login, sandbox, channels."""

import errno
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count

import structlog
from paramiko.auth_handler import AuthHandler
from paramiko.ssh_exception import SSHException

from config import layout
from config.scope import ALL
from keys.credentials.admission import Reason
from sftpd.ipc.messages import LoginAnswer
from sftpd.ipc.monitor_client import LoginReply, MonitorClient, send_memory_file
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.ipc.session_messages import SessionSettings
from sftpd.monitor import memory
from sftpd.sandbox import sandbox
from sftpd.sandbox.sandbox import SandboxPolicy
from sftpd.sftp.budget import Budget
from sftpd.sftp.session import Session
from sftpd.sftp.view import NotFound, View
from sftpd.ssh import exec_digests, exec_witness, hostkeys
from sftpd.ssh.algorithms import Offer
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.exec_digests import Output
from sftpd.ssh.hostkeys import RemoteHostKey
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.transport import Transport, is_client_fault
from sftpd.ssh.userauth import UserauthHandler

_MAX_CLIENT = 255  # characters of the client's version that go into a record
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
# The kernel gives up this much later than the packetizer, which records the right reason.
_USER_TIMEOUT_MARGIN = 5.0
_OPENSSH = "SSH-2.0-OpenSSH_"  # the program that lftp too connects with
_MAX_PROOFS = 64  # of host keys, for one client

_log = structlog.get_logger()


class Connection:
    """Serves one client. It is the transport's Application and the login's AuthPolicy."""

    def __init__(
        self,
        settings: SessionSettings,
        restrict: Callable[[int | None, SandboxPolicy], object] = sandbox.restrict_to_tree,
    ) -> None:
        """Prepare a connection, whose client is not there yet.

        The forker does this, once for all sessions: each of them has a copy. `restrict` leaves this
        process only the tree, after the login.
        """
        self._settings = settings
        self._restrict = restrict
        self._address: str
        self._monitor: MonitorClient
        self._trees: Collection[tuple[int, int]] | None
        self._view: View | None = None
        self._party = ""
        self._proofs = 0
        self._now, self._decided_at = datetime.now(UTC), time.monotonic()
        self._stopped = False
        self._handle_numbers = count(1)
        self._budget = Budget()
        self._socket = ClientSocket()
        self._transport = Transport(
            self._socket,
            [RemoteHostKey(blob, self._sign) for blob in settings.host_keys],
            self,
            offer=Offer(
                settings.kex, settings.macs, settings.host_key_algorithms, settings.public_keys
            ),
        )

    def take(
        self,
        peer: socket.socket,
        address: str,
        monitor: MonitorClient,
        trees: Collection[tuple[int, int]] | None = None,
    ) -> None:
        """Take the client.

        `trees` are device and inode of the trees that may be opened, None if any may.
        """
        self._address = address
        self._monitor = monitor
        self._trees = trees
        stall, idle = self._settings.stall_seconds, self._settings.idle_seconds
        _set_socket_options(peer, stall + _USER_TIMEOUT_MARGIN)
        self._socket.start(peer, self._settings.grace)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(idle / 4, 60.0)))
        # This process serves only this connection.
        Packetizer.STALL_SECONDS, Packetizer.IDLE_SECONDS = stall, idle

    def serve(self) -> str:
        """Serve until the connection ends, and return why it ended."""
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        signal.signal(signal.SIGTERM, self._stop)
        self._transport.serve(self._monitor.pace, self._monitor.flush_due_closes)
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
            address, cause = self._address, repr(failure)
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

    def close(self) -> None:
        """Close the tree; not needed in a process that ends."""
        if self._view is not None:
            self._view.close()

    def _stop(self, *_: object) -> None:
        self._stopped = True
        self._socket.hang_up()

    def _sign(self, algorithm: str, exchange_hash: bytes) -> bytes | None:
        transport = self._transport
        client = transport.remote_version[:_MAX_CLIENT]
        how = client, transport.local_cipher, transport.kex_name
        return self._monitor.sign(algorithm, exchange_hash, *how)

    # AuthPolicy, for the UserauthHandler.

    def probe_key(self, user: str, algorithm: str, blob: bytes) -> bool:
        """Ask whether a signature by this key would be accepted."""
        return self._monitor.probe_key(user, algorithm, blob)

    def check_key(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> LoginReply:
        """Log a user in with a public key."""
        return self._begin(self._monitor.check_key(user, algorithm, blob, signature))

    def check_password(self, user: str, method: str, text: str) -> LoginReply:
        """Log a user in with a password."""
        return self._begin(self._monitor.check_password(user, method, text))

    def _begin(self, reply: LoginReply) -> LoginReply:
        """Restrict this process to the party's tree, if the reply is that it is logged in."""
        if reply.answer is not LoginAnswer.ADMITTED or reply.grant is None:
            return reply
        self._socket.lift_login_limits()
        self._now, self._decided_at = reply.grant.now, time.monotonic()
        scope, self._party = reply.grant.scope, reply.user
        try:
            self._view = View(
                reply.tree, None if scope == ALL else partial(layout.in_scope, scope=scope)
            )
            if reply.tree is not None and self._trees is not None:
                status = os.fstat(reply.tree)
                if (status.st_dev, status.st_ino) not in self._trees:
                    # Landlock allows the folders that were there when the client connected.
                    _log.warning("tree-replaced", address=self._address)
                    raise SSHException("the tree was made during the login")
            self._restrict(self._view.root, self._settings.policy)
        except PermissionError as error:
            self._log_unreadable(str(error))
            raise SSHException("tree unreadable") from error
        except OSError as error:
            # The login is recorded, but nothing is served without the sandbox.
            _log.error("sandbox-failed", address=self._address, cause=str(error))
            raise SSHException("sandbox failed") from error
        self._check_tree(self._view)
        return reply

    def _check_tree(self, view: View) -> None:
        # Without this check, a tree that the server may not read would look empty to the party.
        found = view.open_folder(b"/")
        if isinstance(found, NotFound):
            self._log_unreadable("the root of the tree cannot be opened")
            raise SSHException("tree unreadable")
        found.close()

    def _log_unreadable(self, cause: str) -> None:
        user = self._settings.policy.user
        advice = "make its folders 0755 and its files 0444"
        name = user.name if user else "the server's user"
        _log.error("tree-unreadable", party=self._party, user=name, advice=advice, cause=cause)

    def change_password(self, text: str) -> bool:
        """Replace the initial password, which the client has just proven, by a new one."""
        return self._monitor.change_password(text)

    def after_login(self) -> None:
        """Announce the host keys, including the prepared ones."""
        self._transport.send_unasked(hostkeys.announcement(self._settings.announced))

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""
        self._monitor.record_refusal(user, method, credential, reason, probe=probe)

    # Application, for the Transport.

    def new_auth_handler(self, transport: Transport) -> AuthHandler:
        """Make the handler of the user authentication."""
        return UserauthHandler(transport, self, interactive=self._settings.interactive)

    def new_session(self) -> Session:
        """Start the SFTP session of a channel."""
        if self._view is None:
            raise AssertionError("a channel before the login")
        monitor = self._monitor
        return Session(
            self._view,
            monitor,
            self._local_time,
            self._handle_numbers,
            monitor,
            self._budget,
            marks_end=self._transport.remote_version.startswith(_OPENSSH),
        )

    def _local_time(self) -> datetime:
        # In the time zone of the election, as the monitor has sent it.
        return self._now + timedelta(seconds=time.monotonic() - self._decided_at)

    def run_command(self, command: bytes) -> Output | None:
        """Return what a command prints, None to refuse it."""
        if self._view is None:
            raise AssertionError("a command before the login")
        found = exec_witness.run(command, self._monitor)
        return found or exec_digests.run(command, self._view, self._monitor)

    def record_denied(self, verb: str) -> None:
        """Record a refused request."""
        self._monitor.record_denied(verb, b"")

    def handle_global_request(self, name: str, data: bytes) -> bytes | None:
        """Prove the host keys that the client asks about; refuse everything else."""
        if name == hostkeys.PROVE:
            numbers = hostkeys.requested(self._settings.announced, data)
            algorithm = hostkeys.rsa_algorithm(self._transport.host_key_type or "")
            self._proofs += len(numbers)
            if not numbers or self._proofs > _MAX_PROOFS:
                return None
            return self._monitor.prove(algorithm, numbers)
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
    connection: Connection,
    policy: SandboxPolicy,
    descriptors: Sequence[int],
    address: str,
    trees: Iterable[str],
    empty: int,
) -> None:
    """Serve one client and end this process; never returns.

    `descriptors` are the client's connection, the socket to the monitor, and the page of pending
    closes. `trees` are the folders that a login may open, `empty` is an empty folder.
    """
    status = 1
    try:
        peer, monitor = (socket.socket(fileno=number) for number in descriptors[:2])
        page = PendingCloses(descriptors[2])
        page.close_descriptor()
        with suppress(OSError):  # without it the monitor looks in /proc
            send_memory_file(monitor, memory.open_own())
        readable = list(_opened(trees))
        sandbox.restrict_before_login(policy, readable, empty)
        known = {(found.st_dev, found.st_ino) for found in map(os.fstat, readable)}
        for folder in (*readable, empty):
            os.close(folder)
        client = MonitorClient(monitor, page)
        connection.take(peer, address, client, known if policy.kernel.landlock else None)
        reason = connection.serve()
        connection.report_no_login()
        client.end(reason)
        status = 0
    except BaseException:
        _log.exception("connection-failed", address=address)
    finally:
        os._exit(status)


def _opened(folders: Iterable[str]) -> Iterator[int]:
    for path in folders:
        with suppress(FileNotFoundError):  # nothing was filed for that party yet
            yield os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
