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
from sftpd.access.penalties import Penalties, Rates
from sftpd.access.ratelimit import Pacer
from sftpd.access.revalidate import Rings, Standing
from sftpd.connection import Offer, serve_in_child
from sftpd.ipc.hash_slots import Slots
from sftpd.monitor import recovery
from sftpd.monitor.children import Children
from sftpd.monitor.listener import Entrance
from sftpd.monitor.loop import Loop, Recurring, Timed
from sftpd.monitor.metrics import Now, Page
from sftpd.monitor.monitor import Book, first_record
from sftpd.monitor.password_change import Passwords
from sftpd.monitor.recovery import Live
from sftpd.monitor.scrape import Scrape
from sftpd.monitor.status_file import Bulletin
from sftpd.sandbox import sandbox
from sftpd.signals import Asked
from sftpd.ssh import hostkeys

_BACKLOG = 1024
_SYNC = 1.0
_JUDGE = 0.3  # seconds between two looks at the live sessions
_EVICTION = 0.3  # seconds that a session has to end once it has lost its standing
_TYPING = 180.0  # seconds for a login in which a new password is set
_OVERDUE = 2.0  # seconds beyond the grace time after which a child must be stuck
_IDLE = 1.0  # seconds without a file open after which a session ends while the server drains
_LAST_WORDS = 2.0  # seconds that children have to close their handles when told to end
_DESCRIPTORS = 512  # beyond two a child: lobby, metrics, ledger
_STOPPED = "server stopped"

_log = structlog.get_logger()


def serve(
    settings: Settings,
    *,
    clock: writer.Clock = writer.utc_now,
    ready: Callable[[int], None] = lambda port: None,
    drain: float | None = None,
    grace: float | None = None,
    kernel: sandbox.Kernel | None = None,
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
    slots = Slots()
    rings = Rings(settings.site)

    def offer_of(stated: Settings) -> Offer:
        return Offer(
            stated,
            hostkeys.load(host.present(stated.site)),
            hostkeys.load(host.announced(stated.site)),
            rings.in_force,
            clock,
            sandbox.terms(stated.sftp, kernel, os.geteuid()),
            _grace_of(stated) if grace is None else grace,
            slots,
        )

    offer = offer_of(settings)
    folder = settings.site / LEDGERS / TRANSFER
    # A server that still drains holds the ledger.
    patience = _LAST_WORDS + (settings.sftp.drain_seconds if drain is None else drain)
    with (
        closing(slots),
        Ledger(folder, clock, patience, writer.terms(settings.ledger)) as written,
        Live(folder) as live,
        server_state.held(settings.site, server_state.SERVE),
        _listening(settings.sftp.host, settings.sftp.port) as listener,
    ):
        recovery.settle(folder, written, live)
        if not (kernel.landlock and kernel.seccomp):
            _log.warning("children are not caged in full", kernel=str(kernel))
        Ring("").by_password("", clock())  # so that no child pays for the first
        Server(offer, offer_of, written, live, rings, drain, poll_signer, record_new_settings).run(
            listener, ready
        )


class Server:
    """The parent's loop over its listener, its children and its signals."""

    def __init__(
        self,
        offer: Offer,
        offer_of: Callable[[Settings], Offer],
        written: Ledger,
        live: Live,
        rings: Rings,
        drain: float | None = None,
        poll_signer: Callable[[], object] = lambda: None,
        record_new_settings: Callable[[Settings], object] = lambda settings: None,
    ) -> None:
        self._offer = offer
        self._offer_of = offer_of
        self._ledger = written
        self._live = live
        self._stated_drain = drain
        self._agree = record_new_settings
        self._loop = Loop()
        self._standing = Standing(offer.settings, offer.clock, rings)
        self._bulletin = Bulletin(offer.settings.site, rings)
        self._faults: tuple[str, ...] = ()
        penalties = Penalties()
        self._book = Book(
            written,
            offer.settings.sftp.max_sessions_per_party,
            judge=self._standing.admission,
            may_change=self._standing.may_change,
            charge=penalties.charge,
        )
        self._children = Children(
            self._loop,
            self._book,
            self._rate_of,
            Pacer(),
            Passwords(self._loop, offer.settings.site, offer.clock),
        )
        self._entrance = Entrance(
            self._loop, self._begin, self._full, self._book.turn_away, penalties, Rates()
        )
        self._timed: list[Timed] = [
            self._book,
            self._children,
            self._entrance,
            self._entrance.lobby,
            Recurring(_SYNC, self._sync, lambda: self._book.journal.unsynced),
            Recurring(_SYNC, self._book.journal.pay, lambda: self._book.journal.owes),
            Recurring(_JUDGE, self._judge, lambda: self._book.sessions),
            Recurring(_JUDGE, self._children.look_over, lambda: self._book.sessions),
            Recurring(_JUDGE, self._tell, lambda: True),
            Recurring(_SYNC, self._end_overdue, lambda: len(self._children)),
            Recurring(_SYNC, self._note_live, lambda: len(self._children)),
            Recurring(_SYNC, poll_signer, lambda: True),
        ]
        self._started = offer.clock().timestamp()
        self._asked = Asked()
        self._capped: dict[str, float] = {}  # the parties with a cap of their own
        self._put_in_force(offer)

    def run(self, listener: socket.socket, ready: Callable[[int], None]) -> None:
        """Serve on `listener` until a signal says to stop, then end in good order."""
        with closing(self._loop), signals.noted(self._asked, self._loop):
            scrape = self._scrape()
            gc.collect()
            gc.freeze()
            address, port = listener.getsockname()[:2]
            _log.info("listening", address=address, port=port)
            self._tell()
            ready(port)
            try:
                self._entrance.open(listener)
                while not self._asked.stops:
                    self._turn(None)
                _log.info("stopping", sessions=len(self._children))
                self._entrance.close()
                self._drain()
            finally:
                self._children.kill()
                self._book.catch_up(everything=True)
                self._book.journal.pay()
                self._book.journal.settle()
                self._note_live()
                if scrape is not None:
                    scrape.close()
                gc.unfreeze()

    def _turn(self, until: float | None) -> None:
        self._loop.turn(self._timed, until)
        if self._asked.reload:
            self._asked.reload = False
            self._reload()

    def _drain(self) -> None:
        """End the sessions: the idle ones at once, the others when their time is up."""
        stated = self._stated_drain
        drain = self._offer.settings.sftp.drain_seconds if stated is None else stated
        end = time.monotonic() + drain
        while self._children and self._asked.stops < 2 and (now := time.monotonic()) < end:
            for child in self._children:
                entry = child.entry
                if not entry.open and (entry.party is None or now >= entry.heard + _IDLE):
                    self._children.end(child, _STOPPED, _LAST_WORDS)
            self._turn(min(end, now + 0.1))
        for child in self._children:
            self._children.end(child, _STOPPED, _LAST_WORDS)
        while self._children:
            self._turn(None)

    # Settings, and who they let stay.

    def _reload(self) -> None:
        try:
            found = reload.read(self._offer.settings)
            if found.settings is None:
                raise Faults(found.faults)
            offer = self._offer_of(found.settings)
            self._agree(found.settings)
        except writer.Busy:
            self._asked.reload = True  # once more, at the next turn
            return
        except Faults as faults:
            for fault in faults.faults:
                _log.error("not reloaded, the old settings stay", fault=str(fault))
            self._faults = tuple(map(str, faults.faults))
            self._tell()
            return
        except Exception:
            _log.exception("not reloaded, the old settings stay")
            return
        self._put_in_force(offer)
        for key in found.restart:
            _log.warning("waits for a restart", key=key)
        _log.info("reloaded", parties=len(offer.settings.parties))
        self._faults = ()
        self._judge()
        self._tell()

    def _put_in_force(self, offer: Offer) -> None:
        settings = offer.settings
        self._offer = offer
        self._standing.settings = settings
        self._book.most_per_party = settings.sftp.max_sessions_per_party
        self._book.agreed = settings
        self._entrance.admit_from(
            (a for p in settings.parties for a in p.static_ips), settings.sftp.proxies
        )
        self._capped = {p.id: p.rate_mbit for p in settings.parties if p.rate_mbit is not None}
        _raise_descriptors(2 * settings.sftp.max_sessions + _DESCRIPTORS)

    def _tell(self) -> None:
        offer = self._offer
        self._bulletin.tell(offer.settings, offer.host_keys, offer.announced, self._faults)

    def _judge(self) -> None:
        for child in self._children:
            entry = child.entry
            if entry.party is None or entry.ending is not None:
                continue
            reason = self._standing.verdict(
                entry.party, entry.credential, entry.address, entry.rehearsal, entry.agreed
            )
            if reason is not None:
                _log.info("session ended", session=entry.session, party=entry.party, reason=reason)
                self._children.end(child, reason, _EVICTION)

    def _end_overdue(self) -> None:
        # A child keeps its client's grace time itself, unless something in it never returns.
        end = time.monotonic() - self._offer.grace - _OVERDUE
        for child in self._children:
            entry = child.entry
            if entry.party is None and entry.ending is None and entry.began < end:
                _log.error("child stuck before the login", session=entry.session)
                self._children.end(child, "no login in time", _EVICTION)

    def _rate_of(self, party_id: str) -> float | None:
        return self._capped.get(party_id, self._offer.settings.sftp.rate_mbit)

    def _note_live(self) -> None:
        self._children.settle()  # what the disk does not take now is owed
        if self._book.journal.owes:
            return  # whoever comes after us has to look for those too
        oldest = min((child.entry.session for child in self._children), default=None)
        first = self._ledger.next_seq if oldest is None else first_record(oldest)
        self._live.note(first)

    def _sync(self) -> None:
        try:
            self._ledger.sync()
        except OSError as error:
            _log.error("record not synced", cause=str(error))
        else:
            self._book.journal.synced()

    # Connections.

    def _begin(self, peer: socket.socket, address: Address, via: Address | None) -> None:
        self._children.begin(
            peer,
            address,
            via,
            lambda *parent: serve_in_child(self._offer, peer, address, *parent),
            kept=[self._offer.slots.descriptor],
        )

    def _full(self) -> bool:
        return len(self._children) >= self._offer.settings.sftp.max_sessions

    # Metrics.

    def _scrape(self) -> Scrape | None:
        wanted = self._offer.settings.sftp.metrics
        if wanted is None:
            return None
        name, port = wanted
        if not ip_address(name).is_loopback:
            _log.warning("metrics are not for strangers: listen on loopback", address=name)
        try:
            listener = _listening(name, port)
        except OSError as error:
            # Nobody's mirror has to wait for that.
            _log.error("no metrics", address=name, port=port, cause=str(error))
            return None
        _log.info("metrics", address=name, port=listener.getsockname()[1])
        scrape = Scrape(self._loop, listener, Page(self._book.tally, self._now))
        self._timed.append(scrape)
        return scrape

    def _now(self) -> Now:
        book = self._book
        lag, unsynced = book.journal.lag(), book.journal.unsynced
        left, damaged = self._standing.credentials()
        return Now(book.sessions, len(self._children), lag, unsynced, self._started, left, damaged)


def _grace_of(stated: Settings) -> float:
    # Somebody has to think of a password, and to type it twice.
    grace = stated.sftp.login_grace_seconds
    return max(grace, _TYPING) if stated.sftp.must_change_password else grace


def _listening(name: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    return socket.create_server(
        (name, port), family=family, backlog=_BACKLOG, dualstack_ipv6=name == "::"
    )


def _raise_descriptors(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
