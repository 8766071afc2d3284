"""Turns the children's messages into records of the transfer ledger, and decides what they may do.

A child handles untrusted input, so the monitor does not trust it. It believes a child about what
the client did in its session, and nothing else:

Rule 1. Address and session number come from the monitor, never from a message.
Rule 2. A child logs in once, as one party. The monitor itself decides whether that party may log in
(sftpd/monitor/answers/logins), and records its decision.
Rule 3. Each kind of message is allowed either before the login or after it (`_BEFORE_LOGIN`,
`_AFTER_LOGIN`), and none while the child waits for an answer. After END nothing is allowed.
Rule 4. A message that an honest child would not send is a ProtocolViolation: the child is killed.
Rule 5. Every OPEN gets its CLOSE and every connection its SESSION_END, even if the child is killed.

A session number is 10,000 times the sequence number that the next record will have when the
connection is accepted, plus 1 for each connection that was accepted since the newest record. Every
connection gets a record when it ends. So no two sessions in the ledger have the same number, not
even after a crash.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from config.event import Event, Outcome, TransferEvent, Value
from config.party import Address
from config.settings import Settings
from keys.credentials.admission import Reason
from keys.credentials.penalties import Cost, costs_penalty
from keys.credentials.ratelimit import TokenBucket
from keys.ledger.writer import Ledger
from sftpd.access import costs
from sftpd.ipc.messages import LoginAnswer, Message, MessageKind, Miss
from sftpd.monitor.loop import Loop
from sftpd.monitor.metrics import Counters
from sftpd.monitor.records.group_commit import GroupCommit
from sftpd.monitor.records.refusal_log import RefusalLog
from sftpd.monitor.records.stamps import Evidence, StampChecker
from sftpd.processes.host_keys import HostKeySigner

MAX_LOGIN_ATTEMPTS = 32  # of one connection; an honest child hangs up sooner
SIGNATURES_PER_SECOND, MAX_SIGNATURES = 50, 1000  # of key exchanges after the login
_SESSIONS_PER_RECORD = 10_000
# Refusals that need no verdict: the child itself does not offer the method, cannot pass on a key of
# that size, or did not get an acceptable new password.
_REASONS = frozenset((Reason.METHOD, Reason.CREDENTIAL, Reason.MUST_CHANGE))
_EVENT_OF_MISS = {"list": TransferEvent.LIST, "hash": TransferEvent.HASH}
_MISSES = frozenset(Miss)
# What a client learns that has proven its credential.
LOGIN_ANSWERS = {
    Reason.MUST_CHANGE: LoginAnswer.MUST_CHANGE,
    Reason.SESSIONS: LoginAnswer.SESSIONS,
    Reason.SUSPENDED: LoginAnswer.SUSPENDED,
    Reason.NOT_YET_OPEN: LoginAnswer.NOT_YET_OPEN,
    Reason.CLOSED: LoginAnswer.CLOSED,
    Reason.REHEARSAL: LoginAnswer.CLOSED,
}
_MAX_USER_LENGTH = 64
_MAX_CLIENT_LENGTH = 255
_MAX_MISSING_LENGTH = 2000
_MAX_PACED_BYTES = 4 << 20
_MAX_TOTAL_BYTES = 1 << 53  # a record cannot hold a larger number


_SHA256 = re.compile("[0-9a-f]{64}")


class ProtocolViolation(Exception):
    """A child sent a message that an honest child would not send."""


@dataclass(slots=True)
class _OpenFile:
    path: str
    since: float
    evidence: Evidence  # what is known of the digest of its bytes


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """The first key exchange of a connection; `session_id` is its hash (RFC 4253 section 7.2)."""

    session_id: bytes
    client: str
    cipher: str
    kex: str


@dataclass(slots=True)
class ConnectionState:
    """What the monitor knows about one connection, from accept to end."""

    session: int
    address: Address
    origin: str  # the address as text, for records
    via: Address | None  # the balancer that passed the connection on
    holder: str  # the party that registered the address; or the address, if several parties did
    started: float
    last_message_at: float
    settings: Settings | None = None  # the settings at its login
    host_keys: HostKeySigner | None = None  # the keys that its child was started with
    exchange: KeyExchange | None = None  # None until its hash is signed
    unproven: bool = False  # the seal of the file that was opened last proves no digest
    waiting: bool = False  # the child waits for the answer to a question
    ended: bool = False
    initial_password: tuple[str, str] | None = None  # party and credential, to be replaced
    proofs: int = 0  # of host keys
    signatures: TokenBucket = field(  # of key exchanges after the login
        default_factory=lambda: TokenBucket(SIGNATURES_PER_SECOND, MAX_SIGNATURES)
    )
    party: str | None = None  # None before the login
    credential: str = ""
    rehearsal: str = ""
    user: str = ""  # the user name that the client offered last
    files: int = 0
    bytes_sent: int = 0
    open_files: dict[int, _OpenFile] = field(default_factory=dict)
    probes: list[Event] = field(default_factory=list)  # refusals of unsigned keys, not recorded yet
    login_attempts: int = 0
    credential_proven: bool = False  # the client had a right credential, admitted or not
    login_answer: LoginAnswer = LoginAnswer.REFUSED  # to the last login that was not granted
    client: str = ""  # the version of a client that did not log in
    missing: str = ""  # the algorithms that it has instead of ours
    reported_reason: str | None = None  # why the connection ended, as the child says
    termination_reason: str | None = None  # why the monitor ends the connection

    @property
    def payer(self) -> str:
        """The party that what this connection costs is counted for."""
        return self.party if self.party is not None else self.holder

    @property
    def who(self) -> str:
        """The party after the login, the offered user name before it."""
        return self.party if self.party is not None else self.user


class Monitor:
    """Keeps the state of all connections, and writes the transfer ledger."""

    def __init__(
        self,
        loop: Loop,
        ledger: Ledger,
        max_sessions_per_party: int,
        *,
        charge: Callable[[Address, Cost], object] = lambda *_: None,
    ) -> None:
        self.group_commit = GroupCommit(ledger, loop.time)
        self.counters = Counters()
        self.sessions: Counter[str] = Counter()  # of each party that has any
        self.elsewhere: Mapping[str, int] = {}  # sessions on other gateways (access/gateways)
        self.max_sessions_per_party = max_sessions_per_party
        self.settings: Settings | None = None  # for the sessions that begin from now on
        self.stamps = StampChecker()
        self.holder_of: Callable[[Address], str] = str
        self.host_keys: HostKeySigner | None = None  # for the connections that begin from now on
        self._now = loop.time
        self._charge = charge
        self._last_session = -1
        self._refusal_log = RefusalLog(loop, self.group_commit.append)

    def begin(self, address: Address, via: Address | None = None) -> ConnectionState:
        """Give a new connection its session number; `via` is the balancer that passed it on."""
        self._last_session = max(
            self._last_session + 1, self.group_commit.next_seq * _SESSIONS_PER_RECORD
        )
        now = self._now()
        state = ConnectionState(
            self._last_session, address, str(address), via, self.holder_of(address), now, now
        )
        state.host_keys = self.host_keys
        if state.host_keys is not None:
            state.host_keys.begin_session()
        return state

    def forget(self, state: ConnectionState) -> None:
        """Give up a connection for which no child could be started; it gets no record here."""
        state.ended = True
        if state.host_keys is not None:
            state.host_keys.end_session()

    def handle_messages(self, state: ConnectionState, *messages: Message) -> bool:
        """Record a datagram of messages from a child; return whether the last one is granted.

        While `group_commit` is batching, True is valid only if the next `commit` succeeds. All
        messages except the last must be CLOSE. Raises ProtocolViolation.
        """
        state.last_message_at = self._now()
        try:
            if len(messages) > 1:
                self.group_commit.hold()  # one write for the records of all messages
                for message in messages[:-1]:
                    if message.kind is not MessageKind.CLOSE:
                        raise ProtocolViolation(f"{message.kind.name} is not the last message")
                    self._handle(state, message)
                self.group_commit.release()
            return self._handle(state, messages[-1])
        finally:
            self.group_commit.flush()

    def _handle(self, state: ConnectionState, message: Message) -> bool:
        self._check_time(state)
        allowed = _BEFORE_LOGIN if state.party is None else _AFTER_LOGIN
        handler = allowed.get(message.kind.letter)
        if handler is None:
            when = "before" if state.party is None else "after"
            raise ProtocolViolation(f"{message.kind.name} {when} the login")
        return handler(self, state, message)

    def accept_question(self, state: ConnectionState, message: Message) -> None:
        """Take a question of a child, which waits from now on; raise ProtocolViolation."""
        state.last_message_at = self._now()
        self._check_time(state)
        if state.exchange is None and message.kind is not MessageKind.SIGN:
            raise ProtocolViolation(f"{message.kind.name} before the key exchange")
        if message.kind.letter in _ATTEMPTS:
            if state.party is not None:
                raise ProtocolViolation(f"{message.kind.name} after the login")
            self._count_login_attempt(state)
        elif message.kind in _QUESTIONS_AFTER_LOGIN and state.party is None:
            raise ProtocolViolation(f"{message.kind.name} before the login")
        state.waiting = True

    def _check_time(self, state: ConnectionState) -> None:
        if state.reported_reason is not None:
            raise ProtocolViolation("a message after END")
        if state.waiting:
            raise ProtocolViolation("a message while another one is being answered")

    def end(self, state: ConnectionState, reason: str) -> None:
        """Record the end of a connection, and a CLOSE for each file that is still open.

        `reason` is recorded if the child did not report one. How many bytes of an open file were
        sent is not known, so `bytes` is null.
        """
        state.ended = True
        if state.host_keys is not None:
            state.host_keys.end_session()
        self.group_commit.flush_pending()
        now = self._now()
        ended = state.termination_reason or state.reported_reason or reason
        clean = state.reported_reason is not None and not state.open_files
        for handle, opened in sorted(state.open_files.items()):
            detail: dict[str, Value] = {
                "handle": handle,
                "bytes": None,
                "complete": False,
                **_of_evidence(opened.evidence),
                "ms": _ms(opened.since, now),
                "reason": "session ended",
            }
            self._record(state, TransferEvent.CLOSE, opened.path, detail, Outcome.FAILED)
        state.open_files.clear()
        if state.party is not None:
            self._release_session(state.party)
        elif state.termination_reason is None:
            probed = bool(state.probes) and not state.credential_proven
            cost = costs.cost_of_end(ended, probed=probed, attempts=state.login_attempts)
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
        if state.client:
            detail["client"] = state.client
        if state.missing:
            detail["missing"] = state.missing
        if state.termination_reason is not None and state.credential:
            detail["credential"] = state.credential
        outcome = Outcome.OK if clean else Outcome.FAILED
        self._record(state, TransferEvent.SESSION_END, "", detail, outcome)

    def refuse_connection(self, address: Address, reason: str, via: Address | None = None) -> None:
        """Count and record a connection that was closed before SSH began."""
        self.counters.count_refusal(TransferEvent.CONNECTION_REFUSED, reason)
        self._refusal_log.refuse_connection(address, reason, via)

    def flush_refusals(self) -> None:
        """Record the refused connections that were only counted so far."""
        self._refusal_log.flush()

    def _count_login_attempt(self, state: ConnectionState) -> None:
        state.login_attempts += 1
        if state.login_attempts > MAX_LOGIN_ATTEMPTS:
            raise ProtocolViolation(f"{state.login_attempts} login attempts")

    def admit(
        self, state: ConnectionState, party: str, method: str, credential: str, rehearsal: str = ""
    ) -> LoginAnswer:
        """Record the login of a party that has proven its credential; return the answer to it.

        While `group_commit` is batching, ADMITTED is valid only if the next `commit` succeeds.
        """
        state.user, state.credential_proven = party, True
        detail: dict[str, Value] = {"method": method, "credential": credential}
        detail |= {**_of_exchange(state), **_via(state)}
        if self.sessions[party] + self.elsewhere.get(party, 0) >= self.max_sessions_per_party:
            detail["reason"] = Reason.SESSIONS
            state.login_answer = LOGIN_ANSWERS[Reason.SESSIONS]
            self._record_refusal(
                _event(state, TransferEvent.LOGIN_REFUSED, "", detail, Outcome.REFUSED)
            )
            return state.login_answer
        if rehearsal:
            detail["rehearsal"] = rehearsal
        if not self._record(state, TransferEvent.LOGIN, "", detail):
            state.login_answer = LoginAnswer.NOT_RECORDED
            return state.login_answer
        state.party, state.credential, state.rehearsal = party, credential, rehearsal
        state.settings = self.settings
        probes, state.probes = state.probes, []
        self.sessions[party] += 1
        self.counters.logins[party] += 1
        self.group_commit.on_rollback(lambda _: self._roll_back_admit(state, party, probes))
        return LoginAnswer.ADMITTED

    def _roll_back_admit(self, state: ConnectionState, party: str, probes: list[Event]) -> None:
        state.party, state.credential, state.rehearsal = None, "", ""
        state.login_answer = LoginAnswer.NOT_RECORDED
        state.probes = probes
        self.counters.logins[party] -= 1
        self._release_session(party)

    def _release_session(self, party: str) -> None:
        self.sessions[party] -= 1
        if not self.sessions[party]:
            del self.sessions[party]

    def refuse(
        self,
        state: ConnectionState,
        user: str,
        method: str,
        credential: str,
        reason: Reason,
        *,
        probe: bool = False,
    ) -> bool:
        """Record a refused login; one of an unsigned key only if no login follows it.

        The address is charged for it, unless the client has proven its credential.
        """
        state.user = user[:_MAX_USER_LENGTH]
        if reason in LOGIN_ANSWERS and not probe:
            state.credential_proven = True
        detail: dict[str, Value] = {
            "method": method,
            "credential": credential,
            **_of_exchange(state),
            "reason": reason,
            **_via(state),
        }
        event = _event(state, TransferEvent.LOGIN_REFUSED, "", detail, Outcome.REFUSED)
        if probe:
            # A client tries its keys one by one; they are recorded only if none is accepted.
            state.probes.append(event)
            return True
        if costs_penalty(reason):
            self._charge(state.address, Cost.LOGIN)
        return self._record_refusal(event)

    def _on_refuse(self, state: ConnectionState, message: Message) -> bool:
        if state.exchange is None:
            raise ProtocolViolation("REFUSE before the key exchange")
        self._count_login_attempt(state)
        user, method, credential, reason = map(message.text, range(4))
        if reason not in _REASONS:
            raise ProtocolViolation(f"REFUSE with an unknown reason: {reason[:64]!r}")
        if reason == Reason.MUST_CHANGE:
            if state.initial_password is None:
                raise ProtocolViolation("REFUSE of a change without an initial password")
            user, credential = state.initial_password
        return self.refuse(state, user, method, credential, Reason(reason), probe=message.flag)

    def _on_open(self, state: ConnectionState, message: Message) -> bool:
        if message.handle in state.open_files:
            raise ProtocolViolation(f"OPEN of handle {message.handle}, which is open")
        path, evidence = message.text(0), self._evidence(state, message.text(1))
        detail: dict[str, Value] = {"handle": message.handle, "size": message.count}
        if not self._record(state, TransferEvent.OPEN, path, detail):
            return False
        state.open_files[message.handle] = _OpenFile(path, state.last_message_at, evidence)
        state.unproven = not evidence.proven
        state.files += 1
        self.counters.files[state.who] += 1
        self.group_commit.on_rollback(
            lambda maybe_written: self._roll_back_open(state, message.handle, maybe_written)
        )
        return True

    def _roll_back_open(self, state: ConnectionState, handle: int, maybe_written: bool) -> None:
        opened = state.open_files.pop(handle, None)
        state.files -= 1
        self.counters.files[state.who] -= 1
        if opened is not None and maybe_written:
            # The OPEN may be in the ledger, so it needs a CLOSE.
            detail: dict[str, Value] = {
                "handle": handle,
                "bytes": 0,
                "complete": False,
                **_of_evidence(opened.evidence),
                "ms": 0,
                "reason": "record not synced",
            }
            self._record(state, TransferEvent.CLOSE, opened.path, detail, Outcome.FAILED)

    def _on_list(self, state: ConnectionState, message: Message) -> bool:
        return self._record(state, TransferEvent.LIST, message.text(0), {"handle": message.handle})

    def _on_hash(self, state: ConnectionState, message: Message) -> bool:
        evidence = self._evidence(state, message.text(2))
        detail: dict[str, Value] = {"algorithm": message.text(0)[:_MAX_USER_LENGTH]}
        if evidence.mark:
            detail["stamp"] = evidence.mark
        state.unproven = not evidence.proven
        self.stamps.report(evidence, state.who, message.text(1))
        return self._record(state, TransferEvent.HASH, message.text(1), detail)

    def _evidence(self, state: ConnectionState, claim: str) -> Evidence:
        try:
            return self.stamps.check(claim, state.rehearsal)
        except ValueError:
            raise ProtocolViolation(f"a malformed claim: {claim[:64]!r}") from None

    def _on_miss(self, state: ConnectionState, message: Message) -> bool:
        event = _EVENT_OF_MISS.get(message.text(0), TransferEvent.OPEN)
        reason = message.text(2)
        if reason not in _MISSES:
            raise ProtocolViolation(f"MISS with an unknown reason: {reason[:64]!r}")
        detail: dict[str, Value] = {"reason": reason}
        return self._record(state, event, message.text(1), detail, Outcome.REFUSED)

    def _on_close(self, state: ConnectionState, message: Message) -> bool:
        opened = state.open_files.get(message.handle)
        if opened is None:
            raise ProtocolViolation(f"CLOSE of handle {message.handle}, which is not open")
        if state.bytes_sent + message.count >= _MAX_TOTAL_BYTES:
            raise ProtocolViolation(f"{message.count} bytes sent after {state.bytes_sent}")
        computed = message.text(2)
        if computed and not _SHA256.fullmatch(computed):
            raise ProtocolViolation(f"CLOSE with a malformed digest: {computed[:64]!r}")
        del state.open_files[message.handle]
        evidence = opened.evidence.after(computed)
        self.stamps.report(evidence, state.who, opened.path)
        state.bytes_sent += message.count
        self.counters.bytes_sent[state.who] += message.count
        detail: dict[str, Value] = {
            "handle": message.handle,
            "bytes": message.count,
            "complete": message.flag,
            **_of_evidence(evidence),
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
        # Nothing to record: Children answers with the time to wait.
        if message.count > _MAX_PACED_BYTES:
            raise ProtocolViolation(f"PACE for {message.count} bytes at once")
        return True

    def _on_no_login(self, state: ConnectionState, message: Message) -> bool:
        state.client = message.text(0)[:_MAX_CLIENT_LENGTH]
        state.missing = message.text(1)[:_MAX_MISSING_LENGTH]
        return True

    def _on_end(self, state: ConnectionState, message: Message) -> bool:
        state.reported_reason = message.text(0)
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
    """Return a sequence number; no record of `session` comes before it."""
    return session // _SESSIONS_PER_RECORD


_ATTEMPTS = frozenset(
    kind.letter for kind in (MessageKind.KEY, MessageKind.PASSWORD, MessageKind.CHANGE)
)
_QUESTIONS_AFTER_LOGIN = (MessageKind.PROVE, MessageKind.WITNESS)
# Which messages a child may send, and who handles them. Keyed by letter: an Enum hashes slowly.
# Questions are handled by sftpd/monitor/answers/logins.
_Handler = Callable[[Monitor, ConnectionState, Message], bool]
_BEFORE_LOGIN: dict[bytes, _Handler] = {
    MessageKind.REFUSE.letter: Monitor._on_refuse,
    MessageKind.NO_LOGIN.letter: Monitor._on_no_login,
    MessageKind.END.letter: Monitor._on_end,
}
_AFTER_LOGIN: dict[bytes, _Handler] = {
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


def _of_exchange(state: ConnectionState) -> dict[str, Value]:
    found = state.exchange
    if found is None:
        return {"client": "", "cipher": "", "kex": ""}
    return {"client": found.client, "cipher": found.cipher, "kex": found.kex}


def _of_evidence(evidence: Evidence) -> dict[str, Value]:
    stated: dict[str, Value] = {"sha256": evidence.sha256}
    return {**stated, "stamp": evidence.mark} if evidence.mark else stated


def _via(state: ConnectionState) -> dict[str, Value]:
    return {} if state.via is None else {"via": str(state.via)}


def _ms(start: float, end: float) -> int:
    return round((end - start) * 1000)
