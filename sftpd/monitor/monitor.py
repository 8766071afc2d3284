"""What the parent writes down for its connections, and what it grants them.

A Book turns what the children tell into records of the transfer ledger, counts the sessions of
each party, and remembers which handles are open, so that no open stays without its close even
if a child is killed. A child is believed as to what it served, not as to who it is: address
and session are the parent's own knowledge, the party stays the one that was admitted, and
whether it may come in is asked once more, of settings and keys as they stand now. When a child may
say a thing, the record that it makes and the account that it changes have to agree, so all three
stand here, kind by kind.

Connections are numbered from the ledger: the sequence number that the next record will have
when the connection is accepted, times 10,000, plus how many were accepted since that record.
Since every connection leaves a record when it ends, such a number never comes back, not even
after a crash.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from config.event import Event, Outcome, Transfer, Value
from config.party import Address
from config.settings import Settings
from keys.ledger.writer import Ledger
from sftpd.access import penalties
from sftpd.access.authorize import Reason
from sftpd.access.penalties import Cost
from sftpd.ipc.messages import Kind, Message
from sftpd.monitor.group_commit import Journal
from sftpd.monitor.metrics import Tally
from sftpd.monitor.refusal_log import Hush

# Which of the parent's knowledge says whether a session may begin: party, credential, address,
# and the rehearsal whose tree it is to be, if it is one's.
Judge = Callable[[str, str, Address, str], Reason | None]

MOST_TRIES = 32  # attempts at a login that a child may tell of; an honest one hangs up sooner
_STRIDE = 10_000
_REASONS = frozenset(Reason)
_CLOSE = Kind.CLOSE
_MISSED = {"list": Transfer.LIST, "hash": Transfer.HASH}
_LONGEST_USER = 64
_LARGEST_SEND = 4 << 20
_MOST_SENT = 1 << 53  # no record holds more

_log = structlog.get_logger()


class Liar(Exception):
    """A child tells what cannot be: it is not to be trusted any further."""


@dataclass(slots=True)
class _Open:
    path: str
    since: float
    sha256: str | None  # of the bytes that are served, where that is known


@dataclass(slots=True)
class Entry:
    """One connection, from its accept to its end."""

    session: int
    address: Address
    origin: str  # the address as records have it
    via: Address | None
    began: float
    heard: float  # when it last told something
    agreed: Settings | None = None  # by which its child serves
    party: str | None = None
    credential: str = ""
    rehearsal: str = ""
    user: str = ""
    files: int = 0
    sent: int = 0
    open: dict[int, _Open] = field(default_factory=dict)
    probes: list[Event] = field(default_factory=list)
    tries: int = 0
    proven: bool = False  # whether it had the right credential in the end, let in or not
    reason: str | None = None  # as the child says
    ending: str | None = None  # why the parent ends it

    @property
    def who(self) -> str:
        """The party once it is admitted, and until then the user as offered."""
        return self.party if self.party is not None else self.user


class Book:
    """The accounts of all connections; writes the ledger that it is given."""

    def __init__(
        self,
        ledger: Ledger,
        most_per_party: int,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        judge: Judge = lambda *_: None,
        may_change: Callable[[str, str, Address], bool] = lambda *_: False,
        charge: Callable[[Address, Cost], object] = lambda *_: None,
        tally: Tally | None = None,
    ) -> None:
        self.journal = Journal(ledger, monotonic)
        self.most_per_party = most_per_party
        self.agreed: Settings | None = None  # by which connections are served that begin now
        self._monotonic = monotonic
        self._judge = judge
        self._may_change = may_change
        self._charge = charge
        self.tally = tally if tally is not None else Tally()
        self.sessions: Counter[str] = Counter()
        self._last_session = -1
        self._hush = Hush(self.journal.append, monotonic)

    def begin(self, address: Address, via: Address | None = None) -> Entry:
        """Give a connection its number; `via` is the balancer that passed it on, if one did."""
        self._last_session = max(self._last_session + 1, self.journal.next_seq * _STRIDE)
        now = self._monotonic()
        return Entry(self._last_session, address, str(address), via, now, now, self.agreed)

    def hear(self, entry: Entry, *messages: Message) -> bool:
        """Write down what a child tells; False if it asked at last for what cannot be.

        Where the journal `gathers`, True holds only if its `settle` says so too. Raises Liar for
        what an honest child would not tell.
        """
        entry.heard = self._monotonic()
        try:
            if len(messages) > 1:
                self.journal.hold()  # so that one write takes the records of all
                for message in messages[:-1]:
                    if message.kind is not _CLOSE:
                        raise Liar(f"{message.kind.name}, held back")
                    self._heard(entry, message)
                self.journal.release()
            return self._heard(entry, messages[-1])
        finally:
            self.journal.flush()

    def _heard(self, entry: Entry, message: Message) -> bool:
        kind = message.kind
        if entry.reason is not None:
            raise Liar("speaks after its goodbye")
        before_login = kind in (Kind.ADMIT, Kind.REFUSE, Kind.CHANGE)
        if before_login is not (entry.party is None) and kind is not Kind.END:
            raise Liar(f"{kind.name} at the wrong time")
        return _HEARD[kind.letter](self, entry, message)

    def end(self, entry: Entry, reason: str) -> None:
        """Close the account of a connection that is over, whatever it left open with it.

        `reason` is recorded if the child died without saying one. How much of a file it had
        sent by then is not known.
        """
        self.journal.pay()
        now = self._monotonic()
        ended = entry.ending or entry.reason or reason
        honest = entry.reason is not None and not entry.open
        for handle, opened in sorted(entry.open.items()):
            told: dict[str, Value] = {
                "handle": handle,
                "bytes": None,
                "complete": False,
                "sha256": opened.sha256,
                "ms": _ms(opened.since, now),
                "reason": "session ended",
            }
            self._write(entry, Transfer.CLOSE, opened.path, told, Outcome.FAILED)
        entry.open.clear()
        if entry.party is not None:
            self._one_less(entry.party)
        elif entry.ending is None:
            cost = penalties.after(ended, probed=bool(entry.probes) and not entry.proven)
            if cost is not None:
                self._charge(entry.address, cost)
        for probe in entry.probes:
            self._refused(probe)
        told = {
            "files": entry.files,
            "bytes": entry.sent,
            "ms": _ms(entry.began, now),
            "reason": ended,
            **_by_way_of(entry),
        }
        if entry.ending is not None and entry.credential:
            told["credential"] = entry.credential
        outcome = Outcome.OK if honest else Outcome.FAILED
        self._write(entry, Transfer.SESSION_END, "", told, outcome)

    def turn_away(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Note a connection that was closed unheard: one record a second an address at most."""
        self.tally.refused(Transfer.CONNECTION_REFUSED, reason)
        self._hush.turn_away(address, reason, via)

    def next_due(self) -> float | None:
        """Return when `catch_up` has something to do, by the monotonic clock."""
        return self._hush.next_due()

    def catch_up(self, everything: bool = False) -> None:
        """Record the refused connections that were counted meanwhile."""
        self._hush.catch_up(everything)

    def _tried(self, entry: Entry) -> None:
        entry.tries += 1
        if entry.tries > MOST_TRIES:
            raise Liar(f"{entry.tries} attempts at a login")

    def _admit(self, entry: Entry, message: Message) -> bool:
        self._tried(entry)
        party, method, credential, client, cipher, kex, rehearsal = map(message.text, range(7))
        entry.user, entry.proven = party, True
        told: dict[str, Value] = {"method": method, "credential": credential, "client": client}
        told |= {"cipher": cipher, "kex": kex, **_by_way_of(entry)}
        reason = self._judge(party, credential, entry.address, rehearsal)
        if reason is None and self.sessions[party] >= self.most_per_party:
            reason = Reason.SESSIONS
        if reason is not None:
            told["reason"] = reason
            self._refused(_event(entry, Transfer.LOGIN_REFUSED, "", told, Outcome.REFUSED))
            return False
        if rehearsal:
            told["rehearsal"] = rehearsal
        if not self._write(entry, Transfer.LOGIN, "", told):
            return False
        entry.party, entry.credential, entry.rehearsal = party, credential, rehearsal
        probes, entry.probes = entry.probes, []
        self.sessions[party] += 1
        self.tally.logins[party] += 1
        self.journal.if_lost(lambda _: self._not_admitted(entry, party, probes))
        return True

    def _not_admitted(self, entry: Entry, party: str, probes: list[Event]) -> None:
        entry.party, entry.credential, entry.rehearsal = None, "", ""
        entry.probes = probes
        self.tally.logins[party] -= 1
        self._one_less(party)

    def _one_less(self, party: str) -> None:
        self.sessions[party] -= 1
        if not self.sessions[party]:
            del self.sessions[party]

    def _changed(self, entry: Entry, message: Message) -> bool:
        """Say whether a new password may be set; sftpd/monitor/password_change writes it."""
        self._tried(entry)
        party, credential = message.text(0), message.text(1)
        entry.user = party[:_LONGEST_USER]
        return self._may_change(party, credential, entry.address)

    def _refuse(self, entry: Entry, message: Message) -> bool:
        self._tried(entry)
        user, method, credential, client, cipher, kex, reason = map(message.text, range(7))
        if reason not in _REASONS:
            raise Liar(f"refuses for {reason[:64]!r}, which is no reason")
        entry.user = user[:_LONGEST_USER]
        told: dict[str, Value] = {
            "method": method,
            "credential": credential,
            "client": client,
            "cipher": cipher,
            "kex": kex,
            "reason": reason,
            **_by_way_of(entry),
        }
        event = _event(entry, Transfer.LOGIN_REFUSED, "", told, Outcome.REFUSED)
        if message.flag:
            # A client tries its keys one after the other: of interest only if none fits.
            entry.probes.append(event)
            return True
        if penalties.deserved(reason):
            self._charge(entry.address, Cost.LOGIN)
        return self._refused(event)

    def _opened(self, entry: Entry, message: Message) -> bool:
        if message.handle in entry.open:
            raise Liar(f"opens handle {message.handle} twice")
        path, sha256 = message.text(0), message.text(1)
        told: dict[str, Value] = {"handle": message.handle, "size": message.count}
        if not self._write(entry, Transfer.OPEN, path, told):
            return False
        entry.open[message.handle] = _Open(path, entry.heard, sha256 or None)
        entry.files += 1
        self.tally.files[entry.who] += 1
        self.journal.if_lost(lambda unsure: self._not_opened(entry, message.handle, unsure))
        return True

    def _not_opened(self, entry: Entry, handle: int, unsure: bool) -> None:
        opened = entry.open.pop(handle, None)
        entry.files -= 1
        self.tally.files[entry.who] -= 1
        if opened is not None and unsure:
            self._write(entry, Transfer.CLOSE, opened.path, _never(handle, opened), Outcome.FAILED)

    def _listed(self, entry: Entry, message: Message) -> bool:
        return self._write(entry, Transfer.LIST, message.text(0), {"handle": message.handle})

    def _hashed(self, entry: Entry, message: Message) -> bool:
        told: dict[str, Value] = {"algorithm": message.text(0)[:_LONGEST_USER]}
        return self._write(entry, Transfer.HASH, message.text(1), told)

    def _missed(self, entry: Entry, message: Message) -> bool:
        event = _MISSED.get(message.text(0), Transfer.OPEN)
        told: dict[str, Value] = {"reason": "no such file"}
        return self._write(entry, event, message.text(1), told, Outcome.REFUSED)

    def _closed(self, entry: Entry, message: Message) -> bool:
        opened = entry.open.get(message.handle)
        if opened is None:
            raise Liar(f"closes handle {message.handle}, which is not open")
        if entry.sent + message.count >= _MOST_SENT:
            raise Liar(f"sent {message.count} bytes and {entry.sent} before")
        del entry.open[message.handle]
        entry.sent += message.count
        self.tally.sent[entry.who] += message.count
        told: dict[str, Value] = {
            "handle": message.handle,
            "bytes": message.count,
            "complete": message.flag,
            "sha256": opened.sha256,
            "ms": _ms(opened.since, entry.heard),
        }
        if not message.flag:
            told["ranges"] = message.text(1)
        reason = message.text(0)
        if not reason:
            return self._write(entry, Transfer.CLOSE, opened.path, told)
        told["reason"] = reason
        return self._write(entry, Transfer.CLOSE, opened.path, told, Outcome.FAILED)

    def _denied(self, entry: Entry, message: Message) -> bool:
        verb, path = message.text(0), message.text(1)
        told: dict[str, Value] = {"verb": verb}
        if message.count:
            told["count"] = message.count
        return self._write(entry, Transfer.DENIED, path, told, Outcome.REFUSED)

    def _timed(self, _: Entry, message: Message) -> bool:
        try:
            self.tally.reads.add(
                [int(count) for count in message.text(0).split(",")], message.count
            )
        except ValueError as error:
            raise Liar(str(error)) from None
        return True

    def _paced(self, _: Entry, message: Message) -> bool:
        # How long it has to wait is not the book's affair.
        if message.count > _LARGEST_SEND:
            raise Liar(f"sends {message.count} bytes at once")
        return True

    def _said_goodbye(self, entry: Entry, message: Message) -> bool:
        entry.reason = message.text(0)
        return True

    def _write(
        self,
        entry: Entry,
        event: Transfer,
        what: str,
        told: Mapping[str, Value],
        outcome: Outcome = Outcome.OK,
    ) -> bool:
        return self.journal.append(_event(entry, event, what, told, outcome))

    def _refused(self, event: Event) -> bool:
        self.tally.refused(event.event, str(event.detail["reason"]))
        return self.journal.append(event)


def first_record(session: int) -> int:
    """Return the number of a record before which a session of that number has left none."""
    return session // _STRIDE


_HEARD = {
    Kind.ADMIT.letter: Book._admit,
    Kind.REFUSE.letter: Book._refuse,
    Kind.CHANGE.letter: Book._changed,
    Kind.OPEN.letter: Book._opened,
    Kind.LIST.letter: Book._listed,
    Kind.HASH.letter: Book._hashed,
    Kind.MISS.letter: Book._missed,
    Kind.CLOSE.letter: Book._closed,
    Kind.DENY.letter: Book._denied,
    Kind.TIMES.letter: Book._timed,
    Kind.PACE.letter: Book._paced,
    Kind.END.letter: Book._said_goodbye,
}


def _event(
    entry: Entry, event: Transfer, what: str, told: Mapping[str, Value], outcome: Outcome
) -> Event:
    detail = {"session": entry.session, **told}
    return Event(event, entry.who, entry.origin, what, outcome, detail)


def _never(handle: int, opened: _Open) -> dict[str, Value]:
    told: dict[str, Value] = {"handle": handle, "bytes": 0, "complete": False}
    return told | {"sha256": opened.sha256, "ms": 0, "reason": "record not synced"}


def _by_way_of(entry: Entry) -> dict[str, Value]:
    return {} if entry.via is None else {"via": str(entry.via)}


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
