"""Who is heard at all: a connection of anybody else is closed before a byte of SSH.

It has to come from an address that a party registered, which does not connect more often than any
client would and has not failed too often (sftpd/access/penalties), and there has to be room for
it. What
comes by way of a balancer waits in the lobby until it is known from where, and is judged by that.
A machine that has no descriptor or process left takes no connections for a moment.
"""

import socket
import time
from collections.abc import Callable, Iterable

import structlog

from config.party import Address
from config.party import parse_address as parse_address
from sftpd.access.penalties import ConnectionRates, Penalties
from sftpd.monitor.loop import Loop
from sftpd.monitor.proxy_wait import ProxyWait

PAUSE = 0.5  # seconds without accepting
_MAX_ACCEPTS = 32  # connections taken before the others get their turn

_log = structlog.get_logger()


class Listener:
    """Takes a listener's connections, of nobody before `admit_from` says whose.

    `welcome` serves one: the connection, its address, and the balancer if it came by way of one;
    it raises OSError if the machine has no room for it, `full` says whether the settings leave
    none. `refuse` is told of those that were closed unheard: address, reason, balancer.
    """

    def __init__(
        self,
        loop: Loop,
        start: Callable[[socket.socket, Address, Address | None], object],
        is_full: Callable[[], bool],
        refuse: Callable[[Address, str, Address | None], object],
        penalties: Penalties,
        rates: ConnectionRates,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._start = start
        self._is_full = is_full
        self._refuse = refuse
        self._penalties = penalties
        self._rates = rates
        self._monotonic = monotonic
        self.proxy_wait = ProxyWait(
            loop, self.dispatch, lambda balancer, why: refuse(balancer, why, None), monotonic
        )
        self._registered: set[Address] = set()
        self._balancers: set[Address] = set()
        self._listener: socket.socket | None = None
        self._paused_until: float | None = None

    def set_allowed(self, registered: Iterable[Address], balancers: Iterable[Address]) -> None:
        """From now on hear these addresses, and what these balancers pass on."""
        self._registered, self._balancers = set(registered), set(balancers)

    def open(self, listener: socket.socket) -> None:
        """Take the connections of `listener`, which is this one's to close from now on."""
        listener.setblocking(False)
        self._listener = listener
        self._loop.watch(listener, lambda: self._accept(listener))

    def close(self) -> None:
        """Take no more, and close those that wait in the lobby."""
        listener, self._listener = self._listener, None
        if listener is not None:
            self._loop.unwatch(listener)
            listener.close()
        self.proxy_wait.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                peer, name = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause(error)
                return
            address = parse_address(name[0])
            if address in self._balancers:
                self.proxy_wait.add(peer, address)
                continue
            with peer:
                self.dispatch(peer, address)

    def dispatch(self, peer: socket.socket, address: Address, via: Address | None = None) -> None:
        """Have a connection served, or not; the caller closes it."""
        reason = self._refusal_reason(address)
        if reason == "address" and address in self._balancers:
            return  # haproxy checks with a header of its own address
        if reason is not None:
            self._refuse(address, reason, via)
            return
        try:
            self._start(peer, address, via)
        except OSError as error:
            self._refuse(address, "resources", via)
            self._pause(error)

    def _refusal_reason(self, address: Address) -> str | None:
        if address not in self._registered:
            return "address"
        if not self._rates.allow(address):
            return "rate"
        if self._penalties.refused_for(address) > 0:
            return "penalty"
        if self._is_full():
            return "sessions"
        return None

    def _pause(self, error: OSError) -> None:
        _log.error("cannot take connections", cause=str(error))
        self._paused_until = self._monotonic() + PAUSE
        if self._listener is not None:
            self._loop.unwatch(self._listener)

    def next_due(self) -> float | None:
        """Return when connections are taken again, None while they are."""
        return self._paused_until

    def catch_up(self) -> None:
        """Take connections again, if it is time."""
        if self._paused_until is not None and self._monotonic() >= self._paused_until:
            self._paused_until = None
            if self._listener is not None:
                self.open(self._listener)
