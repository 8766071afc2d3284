"""Accepts connections. It closes a refused connection before a byte of SSH is sent.

A connection is served if all of this is true, checked in this order. If a line is not true, its
first word is the reason in the `connection-refused` record:

    address      a party registered the address
    rate         the address does not connect too often (keys/credentials/penalties)
    penalty      the address has not failed too often (keys/credentials/penalties)
    cpu          its logins have not cost too much processor time (keys/credentials/penalties)
    sessions     the server has fewer connections than `[sftp] max_sessions`
    unfinished   the address has its share of unfinished logins (sftpd/access/connection_shares)
    resources    the machine can start another process and open more descriptors

A connection from a balancer (`[sftp] proxies`) first waits for its PROXY header (proxy_wait), and
is then checked with the client's address. If the machine lacks resources, the listener pauses for
`PAUSE` seconds.
"""

import socket
from collections.abc import Callable, Iterable

import structlog

from config.party import Address, parse_address
from keys.credentials.penalties import ConnectionRates, LoginCpu, Penalties
from sftpd.listener.proxy_wait import ProxyWait, answer_check
from sftpd.monitor.loop import Loop

PAUSE = 0.5  # seconds without accepting
_MAX_ACCEPTS = 32  # in one turn of the loop, if all are refused

_log = structlog.get_logger()


class Listener:
    """Accepts connections of the listening socket; refuses all until `set_allowed`.

    `start` serves a connection: (socket, client's address, balancer or None); it raises OSError if
    the machine lacks resources. `lack_of_room` returns `sessions`, `unfinished` or None for an
    address. `on_refusal` gets every refused connection: (address, reason, balancer or None).
    """

    def __init__(
        self,
        loop: Loop,
        start: Callable[[socket.socket, Address, Address | None], object],
        lack_of_room: Callable[[Address], str | None],
        on_refusal: Callable[[Address, str, Address | None], object],
        penalties: Penalties,
        rates: ConnectionRates,
        login_cpu: LoginCpu,
    ) -> None:
        self._loop = loop
        self._start = start
        self._lack_of_room = lack_of_room
        self._on_refusal = on_refusal
        self._penalties = penalties
        self._rates = rates
        self._login_cpu = login_cpu
        self._proxy_wait = ProxyWait(
            loop, self.dispatch, lambda balancer, reason: on_refusal(balancer, reason, None)
        )
        self._registered: set[Address] = set()
        self._balancers: set[Address] = set()
        self._socket: socket.socket | None = None

    def set_allowed(self, registered: Iterable[Address], balancers: Iterable[Address]) -> None:
        """Replace the registered addresses and the balancers."""
        self._registered, self._balancers = set(registered), set(balancers)

    def open(self, listening: socket.socket) -> None:
        """Accept the connections of `listening`; the Listener closes it."""
        listening.setblocking(False)
        self._socket = listening
        self._loop.watch(listening, lambda: self._accept(listening))

    def close(self) -> None:
        """Stop accepting, and close the connections that wait for a PROXY header."""
        listening, self._socket = self._socket, None
        if listening is not None:
            self._loop.unwatch(listening)
            listening.close()
        self._proxy_wait.close()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                peer, name = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            address = parse_address(name[0])
            if address in self._balancers:
                self._proxy_wait.add(peer, address)
                continue
            with peer:
                if self.dispatch(peer, address):
                    # To start a process takes milliseconds. The messages of the others come first,
                    # so that a crowd of new connections delays no login and no open.
                    return

    def dispatch(self, peer: socket.socket, address: Address, via: Address | None = None) -> bool:
        """Serve or refuse a connection, and return which; the caller closes its copy of `peer`."""
        reason = self._refusal_reason(address)
        if reason == "address" and address in self._balancers:
            answer_check(peer)  # HAProxy's health check sends a header with its own address
            return False
        if reason is not None:
            self._on_refusal(address, reason, via)
            return False
        try:
            self._start(peer, address, via)
        except OSError as error:
            self.report_no_resources(address, via, error)
            return False
        return True

    def report_no_resources(self, address: Address, via: Address | None, error: OSError) -> None:
        """Record that a connection could not be served, and accept no others for a while."""
        self._on_refusal(address, "resources", via)
        self._pause(error)

    def _refusal_reason(self, address: Address) -> str | None:
        if address not in self._registered:
            return "address"
        if not self._rates.allow(address):
            return "rate"
        if self._penalties.refused_for(address) > 0:
            return "penalty"
        if self._login_cpu.exhausted(address):
            return "cpu"
        return self._lack_of_room(address)

    def _pause(self, error: OSError) -> None:
        _log.error("accept-paused", seconds=PAUSE, cause=str(error))
        if self._socket is not None and self._loop.is_watching(self._socket):
            self._loop.unwatch(self._socket)
            self._loop.call_at(self._loop.time() + PAUSE, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            self.open(self._socket)
