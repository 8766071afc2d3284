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

from config.event import Event, Outcome, TransferEvent, Value
from config.party import Address
from config.settings import Settings
from keys.ledger.writer import Ledger
from sftpd.access import penalties
from sftpd.access.authorize import Reason
from sftpd.access.penalties import Cost
from sftpd.ipc.messages import Message, MessageKind
from sftpd.monitor.group_commit import GroupCommit
from sftpd.monitor.metrics import Counters
from sftpd.monitor.refusal_log import RefusalLog

# Which of the parent's knowledge says whether a session may begin: party, credential, address,
# and the rehearsal whose tree it is to be, if it is one's.
AdmissionCheck = Callable[[str, str, Address, str], Reason | None]

MAX_LOGIN_ATTEMPTS = (
    32  # attempts at a login that a child may tell of; an honest one hangs up sooner
)
_SESSIONS_PER_RECORD = 10_000
_REASONS = frozenset(Reason)
_CLOSE = MessageKind.CLOSE
_EVENT_OF_MISS = {"list": TransferEvent.LIST, "hash": TransferEvent.HASH}
_MAX_USER_LENGTH = 64
_MAX_PACED_BYTES = 4 << 20
_MAX_TOTAL_BYTES = 1 << 53  # no record holds more

_log = structlog.get_logger()


class ProtocolViolation(Exception):
    """A child tells what cannot be: it is not to be trusted any further."""


@dataclass(slots=True)
class _OpenFile:
    path: str
    since: float
    sha256: str | None  # of the bytes that are served, where that is known


@dataclass(slots=True)
class ConnectionState:
    """One connection, from its accept to its end."""

    session: int
    address: Address
    origin: str  # the address as records have it
    via: Address | None
    started: float
    last_message_at: float  # when it last told something
    settings: Settings | None = None  # by which its child serves
    party: str | None = None
    credential: str = ""
    rehearsal: str = ""
    user: str = ""
    files: int = 0
    bytes_sent: int = 0
    open_files: dict[int, _OpenFile] = field(default_factory=dict)
    probes: list[Event] = field(default_factory=list)
    login_attempts: int = 0
    credential_proven: bool = False  # whether it had the right credential in the end, let in or not
    reason: str | None = None  # as the child says
    termination_reason: str | None = None  # why the parent ends it

    @property
    def who(self) -> str:
        """The party once it is admitted, and until then the user as offered."""
        return self.party if self.party is not None else self.user


class Monitor:
    """The accounts of all connections; writes the ledger that it is given."""

    def __init__(
        self,
        ledger: Ledger,
        max_sessions_per_party: int,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        check_admission: AdmissionCheck = lambda *_: None,
        may_change: Callable[[str, str, Address], bool] = lambda *_: False,
        charge: Callable[[Address, Cost], object] = lambda *_: None,
        counters: Counters | None = None,
    ) -> None:
        self.group_commit = GroupCommit(ledger, monotonic)
        self.max_sessions_per_party = max_sessions_per_party
        self.settings: Settings | None = None  # by which connections are served that begin now
        self._monotonic = monotonic
        self._check_admission = check_admission
        self._may_change = may_change
        self._charge = charge
        self.counters = counters if counters is not None else Counters()
        self.sessions: Counter[str] = Counter()
        self._last_session = -1
        self._refusal_log = RefusalLog(self.group_commit.append, monotonic)

    def begin(self, address: Address, via: Address | None = None) -> ConnectionState:
        """Give a connection its number; `via` is the balancer that passed it on, if one did."""
        self._last_session = max(
            self._last_session + 1, self.group_commit.next_seq * _SESSIONS_PER_RECORD
        )
        now = self._monotonic()
        return ConnectionState(
            self._last_session, address, str(address), via, now, now, self.settings
        )

    def handle_messages(self, state: ConnectionState, *messages: Message) -> bool:
        """Write down what a child tells; False if it asked at last for what cannot be.

        Where the journal `gathers`, True holds only if its `settle` says so too. Raises Liar for
        what an honest child would not tell.
        """
        state.last_message_at = self._monotonic()
        try:
            if len(messages) > 1:
                self.group_commit.hold()  # so that one write takes the records of all
                for message in messages[:-1]:
                    if message.kind is not _CLOSE:
                        raise ProtocolViolation(f"{message.kind.name}, held back")
                    self._handle(state, message)
                self.group_commit.release()
            return self._handle(state, messages[-1])
        finally:
            self.group_commit.flush()

    def _handle(self, state: ConnectionState, message: Message) -> bool:
        kind = message.kind
        if state.reason is not None:
            raise ProtocolViolation("speaks after its goodbye")
        before_login = kind in (MessageKind.ADMIT, MessageKind.REFUSE, MessageKind.CHANGE)
        if before_login is not (state.party is None) and kind is not MessageKind.END:
            raise ProtocolViolation(f"{kind.name} at the wrong time")
        return _HANDLERS[kind.letter](self, state, message)

    def end(self, state: ConnectionState, reason: str) -> None:
        """Close the account of a connection that is over, whatever it left open with it.

        `reason` is recorded if the child died without saying one. How much of a file it had
        sent by then is not known.
        """
        self.group_commit.flush_pending()
        now = self._monotonic()
        ended = state.termination_reason or state.reason or reason
        honest = state.reason is not None and not state.open_files
        for handle, opened in sorted(state.open_files.items()):
            detail: dict[str, Value] = {
                "handle": handle,
                "bytes": None,
                "complete": False,
                "sha256": opened.sha256,
                "ms": _ms(opened.since, now),
                "reason": "session ended",
            }
            self._record(state, TransferEvent.CLOSE, opened.path, detail, Outcome.FAILED)
        state.open_files.clear()
        if state.party is not None:
            self._release_session(state.party)
        elif state.termination_reason is None:
            cost = penalties.cost_of_end(
                ended, probed=bool(state.probes) and not state.credential_proven
            )
            if cost is not None:
                self._charge(state.address, cost)
        for probe in state.probes:
            self._record_refusal(probe)
        detail = {
            "files": state.files,
            "bytes": state.bytes_sent,
            "ms": _ms(state.started, now),
            "reason": ended,
            **_via(state),
        }
        if state.termination_reason is not None and state.credential:
            detail["credential"] = state.credential
        outcome = Outcome.OK if honest else Outcome.FAILED
        self._record(state, TransferEvent.SESSION_END, "", detail, outcome)

    def refuse_connection(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Note a connection that was closed unheard: one record a second an address at most."""
        self.counters.count_refusal(TransferEvent.CONNECTION_REFUSED, reason)
        self._refusal_log.refuse_connection(address, reason, via)

    def next_due(self) -> float | None:
        """Return when `catch_up` has something to do, by the monotonic clock."""
        return self._refusal_log.next_due()

    def catch_up(self, everything: bool = False) -> None:
        """Record the refused connections that were counted meanwhile."""
        self._refusal_log.catch_up(everything)

    def _count_login_attempt(self, state: ConnectionState) -> None:
        state.login_attempts += 1
        if state.login_attempts > MAX_LOGIN_ATTEMPTS:
            raise ProtocolViolation(f"{state.login_attempts} attempts at a login")

    def _on_admit(self, state: ConnectionState, message: Message) -> bool:
        self._count_login_attempt(state)
        party, method, credential, client, cipher, kex, rehearsal = map(message.text, range(7))
        state.user, state.credential_proven = party, True
        detail: dict[str, Value] = {"method": method, "credential": credential, "client": client}
        detail |= {"cipher": cipher, "kex": kex, **_via(state)}
        reason = self._check_admission(party, credential, state.address, rehearsal)
        if reason is None and self.sessions[party] >= self.max_sessions_per_party:
            reason = Reason.SESSIONS
        if reason is not None:
            detail["reason"] = reason
            self._record_refusal(
                _event(state, TransferEvent.LOGIN_REFUSED, "", detail, Outcome.REFUSED)
            )
            return False
        if rehearsal:
            detail["rehearsal"] = rehearsal
        if not self._record(state, TransferEvent.LOGIN, "", detail):
            return False
        state.party, state.credential, state.rehearsal = party, credential, rehearsal
        probes, state.probes = state.probes, []
        self.sessions[party] += 1
        self.counters.logins[party] += 1
        self.group_commit.on_rollback(lambda _: self._roll_back_admit(state, party, probes))
        return True

    def _roll_back_admit(self, state: ConnectionState, party: str, probes: list[Event]) -> None:
        state.party, state.credential, state.rehearsal = None, "", ""
        state.probes = probes
        self.counters.logins[party] -= 1
        self._release_session(party)

    def _release_session(self, party: str) -> None:
        self.sessions[party] -= 1
        if not self.sessions[party]:
            del self.sessions[party]

    def _on_change(self, state: ConnectionState, message: Message) -> bool:
        """Say whether a new password may be set; sftpd/monitor/password_change writes it."""
        self._count_login_attempt(state)
        party, credential = message.text(0), message.text(1)
        state.user = party[:_MAX_USER_LENGTH]
        return self._may_change(party, credential, state.address)

    def _on_refuse(self, state: ConnectionState, message: Message) -> bool:
        self._count_login_attempt(state)
        user, method, credential, client, cipher, kex, reason = map(message.text, range(7))
        if reason not in _REASONS:
            raise ProtocolViolation(f"refuses for {reason[:64]!r}, which is no reason")
        state.user = user[:_MAX_USER_LENGTH]
        detail: dict[str, Value] = {
            "method": method,
            "credential": credential,
            "client": client,
            "cipher": cipher,
            "kex": kex,
            "reason": reason,
            **_via(state),
        }
        event = _event(state, TransferEvent.LOGIN_REFUSED, "", detail, Outcome.REFUSED)
        if message.flag:
            # A client tries its keys one after the other: of interest only if none fits.
            state.probes.append(event)
            return True
        if penalties.costs_penalty(reason):
            self._charge(state.address, Cost.LOGIN)
        return self._record_refusal(event)

    def _on_open(self, state: ConnectionState, message: Message) -> bool:
        if message.handle in state.open_files:
            raise ProtocolViolation(f"opens handle {message.handle} twice")
        path, sha256 = message.text(0), message.text(1)
        detail: dict[str, Value] = {"handle": message.handle, "size": message.count}
        if not self._record(state, TransferEvent.OPEN, path, detail):
            return False
        state.open_files[message.handle] = _OpenFile(path, state.last_message_at, sha256 or None)
        state.files += 1
        self.counters.files[state.who] += 1
        self.group_commit.on_rollback(
            lambda unsure: self._roll_back_open(state, message.handle, unsure)
        )
        return True

    def _roll_back_open(self, state: ConnectionState, handle: int, unsure: bool) -> None:
        opened = state.open_files.pop(handle, None)
        state.files -= 1
        self.counters.files[state.who] -= 1
        if opened is not None and unsure:
            self._record(
                state,
                TransferEvent.CLOSE,
                opened.path,
                _unsynced_close(handle, opened),
                Outcome.FAILED,
            )

    def _on_list(self, state: ConnectionState, message: Message) -> bool:
        return self._record(state, TransferEvent.LIST, message.text(0), {"handle": message.handle})

    def _on_hash(self, state: ConnectionState, message: Message) -> bool:
        detail: dict[str, Value] = {"algorithm": message.text(0)[:_MAX_USER_LENGTH]}
        return self._record(state, TransferEvent.HASH, message.text(1), detail)

    def _on_miss(self, state: ConnectionState, message: Message) -> bool:
        event = _EVENT_OF_MISS.get(message.text(0), TransferEvent.OPEN)
        detail: dict[str, Value] = {"reason": "no such file"}
        return self._record(state, event, message.text(1), detail, Outcome.REFUSED)

    def _on_close(self, state: ConnectionState, message: Message) -> bool:
        opened = state.open_files.get(message.handle)
        if opened is None:
            raise ProtocolViolation(f"closes handle {message.handle}, which is not open")
        if state.bytes_sent + message.count >= _MAX_TOTAL_BYTES:
            raise ProtocolViolation(f"sent {message.count} bytes and {state.bytes_sent} before")
        del state.open_files[message.handle]
        state.bytes_sent += message.count
        self.counters.bytes_sent[state.who] += message.count
        detail: dict[str, Value] = {
            "handle": message.handle,
            "bytes": message.count,
            "complete": message.flag,
            "sha256": opened.sha256,
            "ms": _ms(opened.since, state.last_message_at),
        }
        if not message.flag:
            detail["ranges"] = message.text(1)
        reason = message.text(0)
        if not reason:
            return self._record(state, TransferEvent.CLOSE, opened.path, detail)
        detail["reason"] = reason
        return self._record(state, TransferEvent.CLOSE, opened.path, detail, Outcome.FAILED)

    def _on_deny(self, state: ConnectionState, message: Message) -> bool:
        verb, path = message.text(0), message.text(1)
        detail: dict[str, Value] = {"verb": verb}
        if message.count:
            detail["count"] = message.count
        return self._record(state, TransferEvent.DENIED, path, detail, Outcome.REFUSED)

    def _on_times(self, _: ConnectionState, message: Message) -> bool:
        try:
            self.counters.reads.add(
                [int(count) for count in message.text(0).split(",")], message.count
            )
        except ValueError as error:
            raise ProtocolViolation(str(error)) from None
        return True

    def _on_pace(self, _: ConnectionState, message: Message) -> bool:
        # How long it has to wait is not the book's affair.
        if message.count > _MAX_PACED_BYTES:
            raise ProtocolViolation(f"sends {message.count} bytes at once")
        return True

    def _on_end(self, state: ConnectionState, message: Message) -> bool:
        state.reason = message.text(0)
        return True

    def _record(
        self,
        state: ConnectionState,
        event: TransferEvent,
        what: str,
        detail: Mapping[str, Value],
        outcome: Outcome = Outcome.OK,
    ) -> bool:
        return self.group_commit.append(_event(state, event, what, detail, outcome))

    def _record_refusal(self, event: Event) -> bool:
        self.counters.count_refusal(event.event, str(event.detail["reason"]))
        return self.group_commit.append(event)


def first_record(session: int) -> int:
    """Return the number of a record before which a session of that number has left none."""
    return session // _SESSIONS_PER_RECORD


_HANDLERS = {
    MessageKind.ADMIT.letter: Monitor._on_admit,
    MessageKind.REFUSE.letter: Monitor._on_refuse,
    MessageKind.CHANGE.letter: Monitor._on_change,
    MessageKind.OPEN.letter: Monitor._on_open,
    MessageKind.LIST.letter: Monitor._on_list,
    MessageKind.HASH.letter: Monitor._on_hash,
    MessageKind.MISS.letter: Monitor._on_miss,
    MessageKind.CLOSE.letter: Monitor._on_close,
    MessageKind.DENY.letter: Monitor._on_deny,
    MessageKind.TIMES.letter: Monitor._on_times,
    MessageKind.PACE.letter: Monitor._on_pace,
    MessageKind.END.letter: Monitor._on_end,
}


def _event(
    state: ConnectionState,
    event: TransferEvent,
    what: str,
    detail: Mapping[str, Value],
    outcome: Outcome,
) -> Event:
    detail = {"session": state.session, **detail}
    return Event(event, state.who, state.origin, what, outcome, detail)


def _unsynced_close(handle: int, opened: _OpenFile) -> dict[str, Value]:
    detail: dict[str, Value] = {"handle": handle, "bytes": 0, "complete": False}
    return detail | {"sha256": opened.sha256, "ms": 0, "reason": "record not synced"}


def _via(state: ConnectionState) -> dict[str, Value]:
    return {} if state.via is None else {"via": str(state.via)}


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
