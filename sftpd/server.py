"""The server: listens, turns strangers away, forks a child a connection, and keeps the record.

The parent is one single-threaded loop and runs no SSH code. It alone writes the transfer
ledger: children ask it over a socket pair each (sftpd/recorder), and what cannot be recorded is
not served. It forks warm, with everything imported and frozen, so that a child costs little.
"""

import ctypes
import gc
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from paramiko.ed25519key import Ed25519Key
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey

from config.load import Settings
from config.party import Address
from config.party import address as parse_address
from keys import host, ledger
from keys.ledger import Ledger
from keys.ring import Ring
from sftpd import cage
from sftpd.book import Book, Entry, Liar
from sftpd.connection import GRACE, Offer, serve_in_child
from sftpd.recorder import LONGEST, NO, YES, unpack

DRAIN = 5.0  # seconds that running sessions have to finish
_BACKLOG = 1024
_BURST = 32  # messages or connections taken before the others get their turn
_BREATH = 0.5  # seconds without accepting when the machine has no descriptor or process left
_SYNC = 1.0
_LAST_WORDS = 2.0  # seconds that children have to close their handles when told to end
_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger()


@dataclass(slots=True)
class _Child:
    pid: int
    process: int  # pidfd
    channel: socket.socket
    entry: Entry


def serve(
    settings: Settings,
    *,
    clock: ledger.Clock = ledger.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    drain: float = DRAIN,
    grace: float = GRACE,
) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once it listens.

    `clock` is what opening time, credentials and the record go by; running sessions have
    `drain` seconds to finish, a client `grace` seconds to log in.
    """
    offer = Offer(settings, _host_keys(settings), clock, grace)
    folder = settings.site / ledger.FOLDER / ledger.TRANSFER
    with Ledger(folder, clock, patience=drain) as written, _listening(settings) as listener:
        if not cage.landlock_abi():
            _log.warning("no Landlock in this kernel: children are not caged in the file system")
        Ring("").by_password("", clock())  # so that no child pays for the first
        server = Server(offer, Book(written, settings.sftp.max_sessions_per_party), written)
        server.run(listener, ready, drain)


class Server:
    """The parent's loop over its listener, its children and its signals."""

    def __init__(self, offer: Offer, book: Book, written: Ledger) -> None:
        self._offer = offer
        self._book = book
        self._ledger = written
        self._registered = {a for p in offer.settings.parties for a in p.static_ips}
        self._children: dict[int, _Child] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._accept_from = 0.0
        self._synced = 0.0

    def run(self, listener: socket.socket, ready: Callable[[int], None], drain: float) -> None:
        """Serve on `listener` until a signal says to stop, then end in good order."""
        _raise_descriptors(2 * self._offer.settings.sftp.max_sessions + 64)
        wake, woken = socket.socketpair()
        for end in (wake, woken, listener):
            end.setblocking(False)
        before = {number: signal.signal(number, self._stop) for number in _STOPS}
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, lambda: _emptied(wake))
        gc.collect()
        gc.freeze()
        address, port = listener.getsockname()[:2]
        _log.info("listening", address=address, port=port)
        ready(port)
        try:
            self._loop(listener)
            _log.info("stopping", sessions=len(self._children))
            listener.close()
            self._wait(drain)
            self._signal_all(signal.SIGTERM)
            self._wait(_LAST_WORDS)
        finally:
            self._signal_all(signal.SIGKILL)
            for child in list(self._children.values()):
                self._bury(child, "killed")
            self._book.catch_up(everything=True)
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            gc.unfreeze()
            self._selector.close()
            wake.close()
            woken.close()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _loop(self, listener: socket.socket) -> None:
        accepting = False
        while not self._stopping:
            now = time.monotonic()
            if not accepting and now >= self._accept_from:
                self._selector.register(
                    listener, selectors.EVENT_READ, lambda: self._accept(listener)
                )
            elif accepting and now < self._accept_from:
                self._selector.unregister(listener)
            accepting = now >= self._accept_from
            self._turn(now, None if accepting else self._accept_from)
        if accepting:
            self._selector.unregister(listener)

    def _wait(self, patience: float) -> None:
        end = time.monotonic() + patience
        while self._children and (now := time.monotonic()) < end:
            self._turn(now, end)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children.values():
            signal.pidfd_send_signal(child.process, number)

    def _turn(self, now: float, until: float | None) -> None:
        due = [until, self._book.next_due(), self._synced + _SYNC if self._book.dirty else None]
        times = [t for t in due if t is not None]
        pause = max(0.0, min(times) - now) if times else None
        for key, _ in self._selector.select(pause):
            # One that another's turn has removed must not be taken for one that reuses its number.
            if self._selector.get_map().get(key.fileobj) is key:
                key.data()
        self._book.catch_up()
        if self._book.dirty and time.monotonic() >= self._synced + _SYNC:
            self._sync()

    def _sync(self) -> None:
        try:
            self._ledger.sync()
        except OSError as error:
            _log.error("record not synced", cause=str(error))
        self._book.dirty = False
        self._synced = time.monotonic()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                peer, name = listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._hold_back(error)
                return
            with peer:
                self._receive(peer, parse_address(name[0]), listener)

    def _receive(self, peer: socket.socket, address: Address, listener: socket.socket) -> None:
        if address not in self._registered:
            self._book.turn_away(address, "address")
        elif len(self._children) >= self._offer.settings.sftp.max_sessions:
            self._book.turn_away(address, "sessions")
        else:
            try:
                self._fork(peer, address)
            except OSError as error:
                self._book.turn_away(address, "resources")
                self._hold_back(error)

    def _hold_back(self, error: OSError) -> None:
        _log.error("cannot take connections", cause=str(error))
        self._accept_from = time.monotonic() + _BREATH

    def _fork(self, peer: socket.socket, address: Address) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            parent = os.getpid()
            try:
                pid = os.fork()
            except OSError:
                ours.close()
                raise
            if pid == 0:
                try:
                    _become_child(parent, peer, theirs)
                    serve_in_child(self._offer, peer, address, theirs)
                finally:
                    os._exit(1)
        ours.setblocking(False)
        child = _Child(pid, os.pidfd_open(pid), ours, self._book.begin(address))
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        self._selector.register(
            child.process, selectors.EVENT_READ, lambda: self._bury(child, "killed")
        )

    def _hear(self, child: _Child, most: int = _BURST) -> None:
        for _ in range(most):
            try:
                data = child.channel.recv(LONGEST)
            except BlockingIOError:
                return
            except ConnectionResetError:
                # It died with an answer unread; what it said before is still there.
                continue
            if not data:
                # Without its parent a child must not go on.
                self._drop(child, "hung up" if child.entry.reason is None else "")
                return
            try:
                message = unpack(data)
                granted = self._book.hear(child.entry, message)
                if message.kind.asks:
                    child.channel.send(YES if granted else NO)
            except (BrokenPipeError, ConnectionResetError):
                continue
            except (Liar, ValueError, BlockingIOError) as error:
                self._drop(child, str(error))
                return

    def _drop(self, child: _Child, cause: str) -> None:
        self._selector.unregister(child.channel)
        if cause:
            _log.error("child not believed", session=child.entry.session, cause=cause)
            signal.pidfd_send_signal(child.process, signal.SIGKILL)

    def _bury(self, child: _Child, reason: str) -> None:
        os.waitid(os.P_PIDFD, child.process, os.WEXITED)
        if child.channel in self._selector.get_map():
            # Whatever it said before it died still counts.
            self._hear(child, most=sys.maxsize)
        for end in (child.channel, child.process):
            if end in self._selector.get_map():
                self._selector.unregister(end)
        child.channel.close()
        os.close(child.process)
        del self._children[child.pid]
        self._book.end(child.entry, reason)


def _become_child(parent: int, peer: socket.socket, channel: socket.socket) -> None:
    """Leave the parent's signals and descriptors, and die when it dies."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)  # the connection has its own for SIGTERM
    signal.set_wakeup_fd(-1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    low, high = sorted((peer.fileno(), channel.fileno()))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, most)


def _host_keys(settings: Settings) -> list[PKey]:
    classes: dict[str, type[PKey]] = {
        "ssh_host_ed25519_key": Ed25519Key,
        "ssh_host_rsa_key": RSAKey,
    }
    return [
        classes[path.name].from_private_key_file(str(path)) for path in host.present(settings.site)
    ]


def _listening(settings: Settings) -> socket.socket:
    name = settings.sftp.host, settings.sftp.port
    family = socket.AF_INET6 if ":" in settings.sftp.host else socket.AF_INET
    both = settings.sftp.host == "::"
    return socket.create_server(name, family=family, backlog=_BACKLOG, dualstack_ipv6=both)


def _raise_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _emptied(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return
