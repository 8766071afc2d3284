"""One client's connection, served in a child process of its own: login, cage, channels."""

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

import structlog
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from config.load import Settings
from config.party import Address
from keys import ring
from sftpd import cage, login
from sftpd.channels import Channels
from sftpd.login import Admitted, Proof, Reason, Refused
from sftpd.recorder import Reporter
from sftpd.session import Session
from sftpd.transport import Transport, Wire
from sftpd.userauth import Userauth
from sftpd.view import View

TREES = Path("trees")
GRACE = 30.0  # seconds to log in
_JOIN = 5.0
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
_UNANSWERED_MS = 60_000

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Offer:
    """What all connections of a server share."""

    settings: Settings
    host_keys: Sequence[PKey]
    clock: Callable[[], datetime]
    grace: float = GRACE


class Connection:
    """Serves one client; it is what Userauth calls the door."""

    def __init__(
        self, offer: Offer, peer: socket.socket, address: Address, reporter: Reporter
    ) -> None:
        self._offer = offer
        self._address = address
        self._reporter = reporter
        self._view: View | None = None
        self._now = offer.clock()
        self._stopped = False
        self._numbers = count(1)
        _prepare(peer)
        self._wire = Wire(peer, offer.grace)
        self._channels = Channels(self._denied, self._session, lambda: self._transport.channels)
        self._transport = Transport(
            self._wire,
            offer.host_keys,
            self._channels,
            lambda transport: Userauth(transport, self),
            self._denied,
        )

    def serve(self) -> str:
        """Serve until the client is gone, and return why it ended."""
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)
        signal.signal(signal.SIGTERM, self._stop)
        self._transport.run()
        self._channels.join(_JOIN)
        failure = self._transport.saved_exception
        if self._stopped:
            return "server stopped"
        if self._wire.late:
            return "no login in time"
        if failure is not None and not isinstance(failure, EOFError | OSError):
            known = isinstance(failure, SSHException)
            (_log.info if known else _log.error)(
                "connection broken", address=str(self._address), cause=repr(failure)
            )
            return "protocol error" if known else "server error"
        return "closed"

    def _stop(self, *_: object) -> None:
        self._stopped = True
        self._wire.hang_up()

    # What Userauth asks.

    def judge(self, user: str, proof: Proof) -> Admitted | Refused:
        """Decide on what is offered."""
        settings = self._offer.settings
        self._now = self._offer.clock()
        verdict = login.decide(
            settings,
            lambda party: ring.load(settings.site, party),
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
        if not self._reporter.admit(
            party, method, credential, client, ssh.local_cipher, ssh.kex_name
        ):
            return False
        self._wire.trusted()
        try:
            self._view = View(self._offer.settings.site / TREES / party)
            cage.enter(self._view.root)
        except OSError as error:
            # Admitted, but not to be served without its cage: this connection is over.
            _log.error("no cage", party=party, cause=str(error))
            raise SSHException("no cage") from error
        return True

    def refuse(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""
        client = self._transport.remote_version[:255]
        self._reporter.refuse(user, method, credential, client, reason, probe=probe)

    def banner(self) -> str:
        """Return what an early client is told."""
        return login.banner(self._offer.settings.election)

    # What the channels ask.

    def _session(self) -> Session:
        if self._view is None:
            raise AssertionError("no channel is opened before the login")
        zone = self._offer.settings.election.opens.tzinfo
        return Session(self._view, self._reporter, self._now.astimezone(zone), self._numbers)

    def _denied(self, verb: str) -> None:
        self._reporter.denied(verb, b"")


def _prepare(peer: socket.socket) -> None:
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        peer.setsockopt(socket.IPPROTO_TCP, option, value)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNANSWERED_MS)


def serve_in_child(
    offer: Offer, peer: socket.socket, address: Address, parent: socket.socket
) -> None:
    """Serve one client and end this process; never returns."""
    status = 1
    try:
        reporter = Reporter(parent)
        reporter.end(Connection(offer, peer, address, reporter).serve())
        status = 0
    except BaseException:
        _log.exception("connection failed", address=str(address))
    finally:
        os._exit(status)
