"""What the parent writes down for its connections, and what it grants them.

A Book turns what the children tell into records of the transfer ledger, counts the sessions of
each party, and remembers which handles are open, so that no open stays without its close even
if a child is killed. A child is believed as to what it served, not as to who it is: address
and session are the parent's own knowledge, and the party stays the one that was admitted.

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
from keys.ledger import Ledger, Unwritable
from sftpd.login import Reason
from sftpd.recorder import Kind, Message

_STRIDE = 10_000
_LONGEST_USER = 64
_QUIET = 1.0  # seconds between two records of refused connections from one address

_log = structlog.get_logger()


class Liar(Exception):
    """A child tells what cannot be: it is not to be trusted any further."""


@dataclass(slots=True)
class _Open:
    path: str
    since: float


@dataclass(slots=True)
class Entry:
    """One connection, from its accept to its end."""

    session: int
    address: str
    began: float
    party: str | None = None
    user: str = ""
    files: int = 0
    sent: int = 0
    open: dict[int, _Open] = field(default_factory=dict)
    probes: list[Event] = field(default_factory=list)
    reason: str | None = None

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
    ) -> None:
        self._ledger = ledger
        self._most = most_per_party
        self._monotonic = monotonic
        self._sessions: Counter[str] = Counter()
        self._last_session = -1
        self._hushed: dict[tuple[str, str], tuple[float, int]] = {}
        self.dirty = False

    def begin(self, address: Address) -> Entry:
        """Give a connection its number."""
        self._last_session = max(self._last_session + 1, self._ledger.next_seq * _STRIDE)
        return Entry(self._last_session, str(address), self._monotonic())

    def hear(self, entry: Entry, message: Message) -> bool:
        """Write down what a child tells; False if it asked for what cannot be.

        Raises Liar for what an honest child would not tell.
        """
        if entry.reason is not None:
            raise Liar("speaks after its goodbye")
        before_login = message.kind in (Kind.ADMIT, Kind.REFUSE)
        if before_login is not (entry.party is None) and message.kind is not Kind.END:
            raise Liar(f"{message.kind.name} at the wrong time")
        return _HEARD[message.kind](self, entry, message)

    def end(self, entry: Entry, reason: str) -> None:
        """Close the account of a connection that is over, whatever it left open with it.

        `reason` is recorded if the child died without saying one. How much of a file it had
        sent by then is not known.
        """
        now = self._monotonic()
        honest = entry.reason is not None and not entry.open
        for handle, opened in sorted(entry.open.items()):
            told: dict[str, Value] = {
                "handle": handle,
                "bytes": None,
                "complete": False,
                "ms": _ms(opened.since, now),
                "reason": "session ended",
            }
            self._write(entry, Transfer.CLOSE, opened.path, told, Outcome.FAILED)
        entry.open.clear()
        if entry.party is not None:
            self._sessions[entry.party] -= 1
        for probe in entry.probes:
            self._append(probe)
        told = {
            "files": entry.files,
            "bytes": entry.sent,
            "ms": _ms(entry.began, now),
            "reason": entry.reason or reason,
        }
        outcome = Outcome.OK if honest else Outcome.FAILED
        self._write(entry, Transfer.SESSION_END, "", told, outcome)

    def turn_away(self, address: Address, reason: str) -> None:
        """Note a connection that was closed unheard: one record a second an address at most."""
        now = self._monotonic()
        key = str(address), reason
        due, count = self._hushed.get(key, (0.0, 0))
        if now < due:
            self._hushed[key] = due, count + 1
            return
        self._turned_away(key, count + 1)
        self._hushed[key] = now + _QUIET, 0

    def next_due(self) -> float | None:
        """Return when `catch_up` has something to do, by the monotonic clock."""
        return min((due for due, _ in self._hushed.values()), default=None)

    def catch_up(self, everything: bool = False) -> None:
        """Record the refused connections that were counted meanwhile."""
        now = self._monotonic()
        for key, (due, count) in list(self._hushed.items()):
            if now < due and not everything:
                continue
            if count:
                self._turned_away(key, count)
                self._hushed[key] = now + _QUIET, 0
            else:
                del self._hushed[key]

    def _turned_away(self, key: tuple[str, str], count: int) -> None:
        address, reason = key
        detail: dict[str, Value] = {"reason": reason, "count": count}
        self._append(Event(Transfer.CONNECTION_REFUSED, "", address, "", Outcome.REFUSED, detail))

    def _admit(self, entry: Entry, message: Message) -> bool:
        party, method, credential, client, cipher, kex = map(message.text, range(6))
        entry.user = party
        told: dict[str, Value] = {"method": method, "credential": credential, "client": client}
        if self._sessions[party] >= self._most:
            told["reason"] = Reason.SESSIONS
            self._write(entry, Transfer.LOGIN_REFUSED, "", told, Outcome.REFUSED)
            return False
        if not self._write(entry, Transfer.LOGIN, "", {**told, "cipher": cipher, "kex": kex}):
            return False
        entry.party = party
        entry.probes.clear()
        self._sessions[party] += 1
        return True

    def _refuse(self, entry: Entry, message: Message) -> bool:
        user, method, credential, client, reason = map(message.text, range(5))
        entry.user = user[:_LONGEST_USER]
        told: dict[str, Value] = {
            "method": method,
            "credential": credential,
            "client": client,
            "reason": reason,
        }
        event = _event(entry, Transfer.LOGIN_REFUSED, "", told, Outcome.REFUSED)
        if message.flag:
            # A client tries its keys one after the other: of interest only if none fits.
            entry.probes.append(event)
            return True
        return self._append(event)

    def _opened(self, entry: Entry, message: Message) -> bool:
        if message.handle in entry.open:
            raise Liar(f"opens handle {message.handle} twice")
        path = message.text(0)
        told: dict[str, Value] = {"handle": message.handle, "size": message.count}
        if not self._write(entry, Transfer.OPEN, path, told):
            return False
        entry.open[message.handle] = _Open(path, self._monotonic())
        entry.files += 1
        return True

    def _listed(self, entry: Entry, message: Message) -> bool:
        return self._write(entry, Transfer.LIST, message.text(0), {"handle": message.handle})

    def _missed(self, entry: Entry, message: Message) -> bool:
        event = Transfer.LIST if message.text(0) == "list" else Transfer.OPEN
        told: dict[str, Value] = {"reason": "no such file"}
        return self._write(entry, event, message.text(1), told, Outcome.REFUSED)

    def _closed(self, entry: Entry, message: Message) -> bool:
        opened = entry.open.pop(message.handle, None)
        if opened is None:
            raise Liar(f"closes handle {message.handle}, which is not open")
        entry.sent += message.count
        told: dict[str, Value] = {
            "handle": message.handle,
            "bytes": message.count,
            "complete": message.flag,
            "ms": _ms(opened.since, self._monotonic()),
        }
        reason = message.text(0)
        if not reason:
            return self._write(entry, Transfer.CLOSE, opened.path, told)
        told["reason"] = reason
        return self._write(entry, Transfer.CLOSE, opened.path, told, Outcome.FAILED)

    def _denied(self, entry: Entry, message: Message) -> bool:
        verb, path = message.text(0), message.text(1)
        return self._write(entry, Transfer.DENIED, path, {"verb": verb}, Outcome.REFUSED)

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
        return self._append(_event(entry, event, what, told, outcome))

    def _append(self, event: Event) -> bool:
        try:
            self._ledger.append(event)
        except Unwritable as error:
            _log.error("no record", event_name=event.event, cause=str(error))
            return False
        self.dirty = True
        return True


_HEARD = {
    Kind.ADMIT: Book._admit,
    Kind.REFUSE: Book._refuse,
    Kind.OPEN: Book._opened,
    Kind.LIST: Book._listed,
    Kind.MISS: Book._missed,
    Kind.CLOSE: Book._closed,
    Kind.DENY: Book._denied,
    Kind.END: Book._said_goodbye,
}


def _event(
    entry: Entry, event: Transfer, what: str, told: Mapping[str, Value], outcome: Outcome
) -> Event:
    detail = {"session": entry.session, **told}
    return Event(event, entry.who, entry.address, what, outcome, detail)


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
