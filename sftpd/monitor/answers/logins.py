"""Answers the questions of a child that has no key and no password: SIGN, KEY, PASSWORD and others.

WITNESS is passed on to sftpd/monitor/answers/witnesses.

The questions and their answers are in sftpd/ipc/messages. A child may have been taken over by its
client, so:

Rule 1. A child asks about itself. Its address, and the hash of its first key exchange, are kept
here. The text that a client must have signed is made here, from that hash.
Rule 2. Only the hash of a key exchange is signed with a host key, once before the login and then at
most SIGNATURES_PER_SECOND times; and the proofs of announced keys, at most `_MAX_PROOFS`.
Rule 3. A decision uses the settings and keys of the moment in which it is made, even if passwords
or signatures took a while to check.
Rule 4. A login is on record before its child learns of it, and so is a refusal.
Rule 5. Only the password that was proven in this connection can be replaced.

Passwords and signatures are checked by sftpd/processes/judge, and host keys are in
sftpd/processes/host_keys. The monitor never waits for them, and parties take turns with them
(sftpd/monitor/answers/turns). If such a process dies, its questions are answered as if the login
could not be recorded.
"""

import base64
import binascii
import os
from collections.abc import Callable, Collection
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import structlog

from config.party import Address, Party
from config.settings import Settings
from config.site import TREES
from keys.credentials.admission import Admitted, CheckedPassword, Key, Reason, Refused
from keys.credentials.ring import fingerprint
from sftpd.access.banner import banner
from sftpd.access.revalidate import Revalidator
from sftpd.ipc.messages import NO, YES, Grant, LoginAnswer, Message, MessageKind
from sftpd.monitor.answers.password_change import PasswordChanges
from sftpd.monitor.answers.turns import Turns
from sftpd.monitor.monitor import (
    LOGIN_ANSWERS,
    ConnectionState,
    KeyExchange,
    Monitor,
    ProtocolViolation,
)
from sftpd.processes.host_keys import HASH_SIZES
from sftpd.processes.judge import THREADS, Judge

INTERACTIVE = "keyboard-interactive"
_METHODS = ("password", INTERACTIVE)
_MAX_PROOFS = 64
_MAX_TEXT = 255
_SIGNATURES_AT_ONCE = 4  # with the signer: it makes one, and the others need not be waited for
_USERAUTH_REQUEST = 50
_length = Struct(">I")

_log = structlog.get_logger()


class Answer(NamedTuple):
    """The answer to a question: bytes, and a descriptor that is sent with them and then closed."""

    data: bytes
    descriptor: int | None = None


Send = Callable[[Answer], object]
Spent = Callable[[float], object]


class Logins:
    """Answers the questions of all children.

    `is_paced` says whether a party's bandwidth is limited. `charge_login_cpu` gets the processor
    time that other processes used for a connection before its login, and `charge_session_cpu` what
    they use for a party after it. `public_keys` are the algorithms with which a client may sign its
    login.
    """

    def __init__(
        self,
        monitor: Monitor,
        judge: Judge,
        revalidator: Revalidator,
        password_changes: PasswordChanges,
        is_paced: Callable[[str], bool] = lambda _: False,
        charge_login_cpu: Callable[[Address, float], object] = lambda *_: None,
        answer_witness: Callable[[ConnectionState, tuple[bytes, ...]], bytes] = lambda *_: NO,
        charge_session_cpu: Callable[[str, float], object] = lambda *_: None,
    ) -> None:
        self._monitor = monitor
        self._judge = judge
        self._revalidator = revalidator
        self._password_changes = password_changes
        self._is_paced = is_paced
        self._charge_login_cpu = charge_login_cpu
        self._answer_witness = answer_witness
        self._charge_session_cpu = charge_session_cpu
        self._password_turns = Turns(THREADS)
        self._signature_turns = Turns(_SIGNATURES_AT_ONCE)
        self.public_keys: Collection[str] = ()

    def handle(self, state: ConnectionState, message: Message, send: Send) -> None:
        """Answer one question, now or later; raise ProtocolViolation."""
        self._monitor.accept_question(state, message)

        def answer(found: Answer) -> None:
            state.waiting = False
            send(found)

        def spent(seconds: float) -> None:
            if party is None:
                self._charge_login_cpu(state.address, seconds)
            else:
                self._charge_session_cpu(party, seconds)

        party = state.party

        match message.kind:
            case MessageKind.SIGN:
                self._sign(state, message, answer, spent)
            case MessageKind.KEY:
                self._judge_key(state, message, answer, spent)
            case MessageKind.PASSWORD:
                self._judge_password(state, message, answer, spent)
            case MessageKind.CHANGE:
                self._change_password(state, message, answer, spent)
            case MessageKind.WITNESS:
                answer(Answer(self._answer_witness(state, message.texts)))
            case _:
                self._prove(state, message, answer, spent)

    # Host keys.

    def _sign(self, state: ConnectionState, message: Message, answer: Send, spent: Spent) -> None:
        algorithm, hexadecimal, client, cipher, kex = map(message.text, range(5))
        try:
            exchange_hash = bytes.fromhex(hexadecimal)
        except ValueError:
            exchange_hash = b""
        if len(exchange_hash) not in HASH_SIZES:
            raise ProtocolViolation("SIGN of something that is not the hash of a key exchange")
        if state.exchange is None:
            client = client[:_MAX_TEXT]
            state.exchange = KeyExchange(exchange_hash, client, cipher[:_MAX_TEXT], kex[:_MAX_TEXT])
        elif state.party is None:
            raise ProtocolViolation("SIGN of a second key exchange before the login")
        elif not state.signatures.try_take(1):
            answer(Answer(NO))
            return
        signer = state.host_keys
        if signer is None:
            answer(Answer(NO))
            return
        self._signature_turns.ask(
            state,
            lambda reply: signer.sign(algorithm, exchange_hash, reply, spent),
            lambda found: answer(_signed(found)),
        )

    def _prove(self, state: ConnectionState, message: Message, answer: Send, spent: Spent) -> None:
        try:
            numbers = [int(number) for number in message.text(1).split(",")]
        except ValueError:
            raise ProtocolViolation("PROVE without numbers") from None
        state.proofs += len(numbers)
        if state.proofs > _MAX_PROOFS:
            raise ProtocolViolation(f"PROVE of {state.proofs} keys")
        signer, exchange = state.host_keys, state.exchange
        if signer is None or exchange is None:
            answer(Answer(NO))
            return
        algorithm = message.text(0)
        self._signature_turns.ask(
            state,
            lambda reply: signer.prove(numbers, exchange.session_id, algorithm, reply, spent),
            lambda found: answer(_signed(found)),
        )

    # Credentials.

    def _judge_key(
        self, state: ConnectionState, message: Message, answer: Send, spent: Spent
    ) -> None:
        user, algorithm = message.text(0), message.text(1)
        try:
            blob, signature = (base64.b64decode(message.texts[n], validate=True) for n in (2, 3))
        except binascii.Error:
            raise ProtocolViolation("KEY that is not base64") from None
        if algorithm not in self.public_keys:
            raise ProtocolViolation(
                f"KEY with an algorithm that is not offered: {algorithm[:64]!r}"
            )
        name = fingerprint(blob)
        decision = self._revalidator.decide(user, Key(blob), state.address)
        if not _accepts_signature(decision):
            self._conclude(state, user, "publickey", decision, name, answer, probe=not message.flag)
            return
        if not message.flag:
            answer(Answer(LoginAnswer.ACCEPTABLE.value))
            return

        def verified(valid: bool | None) -> None:
            if state.ended:
                return
            if valid is None:
                answer(Answer(LoginAnswer.NOT_RECORDED.value))
                return
            now = self._revalidator.decide(user, Key(blob), state.address)
            if not valid and _accepts_signature(now):
                now = Refused(Reason.SIGNATURE)
            self._conclude(state, user, "publickey", now, name, answer)

        text = self._signed_text(state, user, algorithm, blob)
        self._judge.verify(algorithm, blob, text, signature, verified, spent)

    def _judge_password(
        self, state: ConnectionState, message: Message, answer: Send, spent: Spent
    ) -> None:
        user, method = message.text(0), message.text(1)
        if method not in _METHODS:
            raise ProtocolViolation(f"PASSWORD by an unknown method: {method[:64]!r}")
        passwords = self._revalidator.passwords(user)

        def checked(done: bool, matched: int | None) -> None:
            if not done:
                answer(Answer(LoginAnswer.NOT_RECORDED.value))
                return
            name = None if matched is None else passwords[matched].fingerprint
            decision = self._revalidator.decide(user, CheckedPassword(name), state.address)
            self._conclude(state, user, method, decision, "", answer)

        text = message.texts[2].decode("utf-8", "replace")
        hashes = [credential.secret for credential in passwords]
        self._password_turns.ask(
            state,
            lambda reply: self._judge.check_password(hashes, text, reply, spent),
            checked,
        )

    def _conclude(
        self,
        state: ConnectionState,
        user: str,
        method: str,
        decision: Admitted | Refused,
        offered: str,
        answer: Send,
        *,
        probe: bool = False,
    ) -> None:
        """Record the decision and answer; `offered` is the fingerprint of the key, if it is one."""
        if isinstance(decision, Admitted):
            answer(self._admit(state, method, decision))
            return
        reason, credential = decision.reason, decision.credential
        name = offered if credential is None else credential.fingerprint
        if reason is Reason.MUST_CHANGE and method == INTERACTIVE:
            # Recorded when the client has set a new password, or has failed to.
            state.initial_password = (user, name)
        else:
            self._monitor.refuse(state, user, method, name, reason, probe=probe)
        found = LoginAnswer.REFUSED if probe else LOGIN_ANSWERS.get(reason, LoginAnswer.REFUSED)
        text = self._banner() if found is LoginAnswer.NOT_YET_OPEN else b""
        answer(Answer(found.value + text))

    def _admit(self, state: ConnectionState, method: str, admitted: Admitted) -> Answer:
        party, rehearsal = admitted.party, admitted.rehearsal
        settings = self._revalidator.settings
        site = settings.site if rehearsal is None else rehearsal.folder
        try:
            tree = _open_tree(site / TREES / party.id)
        except OSError as error:
            _log.error("tree-unreadable", party=party.id, cause=str(error))
            return Answer(LoginAnswer.NOT_RECORDED.value)
        name = "" if rehearsal is None else rehearsal.id
        found = self._monitor.admit(state, party.id, method, admitted.credential.fingerprint, name)
        if found is not LoginAnswer.ADMITTED:
            if tree is not None:
                os.close(tree)
            return Answer(found.value)
        now = self._revalidator.now().astimezone(settings.election.opens.tzinfo)
        grant = Grant(now, party.scope, self._is_paced(party.id), tree is not None)
        return Answer(YES + grant.pack(), tree)

    def _banner(self) -> bytes:
        settings = self._revalidator.settings
        return banner(settings.election, settings.rehearsals, self._revalidator.now()).encode()

    def _change_password(
        self, state: ConnectionState, message: Message, answer: Send, spent: Spent
    ) -> None:
        if state.initial_password is None:
            raise ProtocolViolation("CHANGE without an initial password")
        party, credential = state.initial_password
        state.user = party
        text = message.texts[0].decode("utf-8", "replace")
        if not self._revalidator.may_change(party, credential, state.address):
            answer(Answer(NO))
            return

        def done(changed: bool) -> None:
            if changed:
                state.initial_password = None
            answer(Answer(YES if changed else NO))

        def hashed(secret: str | None) -> None:
            if secret is None or not self._password_changes.start(
                party, credential, secret, state.origin, done
            ):
                answer(Answer(NO))

        self._password_turns.ask(
            state, lambda reply: self._judge.hash_password(text, reply, spent), hashed
        )

    def _signed_text(self, state: ConnectionState, user: str, algorithm: str, blob: bytes) -> bytes:
        """Return the text that a client signs to prove its key (RFC 4252 section 7)."""
        if state.exchange is None:
            raise AssertionError("a key before the key exchange")
        who = user.encode("utf-8", "surrogateescape")
        head = _string(state.exchange.session_id) + bytes([_USERAUTH_REQUEST]) + _string(who)
        method = _string(b"ssh-connection") + _string(b"publickey") + b"\1"
        return head + method + _string(algorithm.encode()) + _string(blob)


def trees_for(settings: Settings, address: Address) -> list[Path]:
    """Return the trees that a login from this address could open, now or at another stage."""
    parties = [party for party in settings.parties if _may_connect(party, address)]
    folders = [settings.site, *(rehearsal.folder for rehearsal in settings.rehearsals)]
    return [folder / TREES / party.id for party in parties for folder in folders]


def _may_connect(party: Party, address: Address) -> bool:
    return party.mirrors and party.registered(address)


def _open_tree(path: Path) -> int | None:
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # nothing was filed for that party yet


def _accepts_signature(decision: Admitted | Refused) -> bool:
    """Return whether a signature is asked for and verified.

    A client that may not come in now proves its key too, and is then told why.
    """
    return isinstance(decision, Admitted) or decision.reason in (
        Reason.SUSPENDED,
        Reason.NOT_YET_OPEN,
        Reason.CLOSED,
    )


def _signed(signatures: list[bytes] | None) -> Answer:
    if signatures is None:
        return Answer(NO)
    return Answer(YES + b"".join(map(_string, signatures)))


def _string(data: bytes) -> bytes:
    return _length.pack(len(data)) + data
