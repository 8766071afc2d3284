"""User authentication over SSH (RFC 4252): what the client says, to login's questions and back.

A public key is asked about twice. First unsigned, to learn whether a signature would do; only
the signed request lets anybody in, is recorded as a login or a refusal, or earns the banner
that tells when access opens. Methods: `publickey`, `password`; and where initial passwords have
to be changed, `keyboard-interactive` (RFC 4256), in which the client's user is asked for the
password and, if it is an initial one, twice for a new one. By the method `password` an initial one
earns a banner that says so, and nothing else.

What a refusal tells: nothing. Its bytes are the same whatever the reason, and it is sent a
whole number of beats after the request came, a beat being longer than any judgement takes, so
that neither the time to read a key file or hash a password is to be seen. All methods stand in one
module because they share what makes it so: one count of attempts, one beat, one way to say no.

The unsigned question is answered with "yes" for a key that is the user's, valid now, and asked
from that user's own address, unless the party is suspended. So who sits at a party's registered
address and has one of its public keys can learn, as with any OpenSSH server, that it is one;
from elsewhere, another party's address included, every key is answered with "no". To say "yes"
to every key would close even that, but make each client sign with each key that it has, and its
owner type a passphrase or touch a token for each.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import structlog
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE,
    cMSG_DISCONNECT,
    cMSG_USERAUTH_BANNER,
    cMSG_USERAUTH_FAILURE,
    cMSG_USERAUTH_INFO_REQUEST,
    cMSG_USERAUTH_PK_OK,
    cMSG_USERAUTH_REQUEST,
    cMSG_USERAUTH_SUCCESS,
)
from paramiko.ecdsakey import ECDSAKey
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey

from keys.credentials import fido
from keys.credentials.ring import MIN_PASSWORD, Credential, fingerprint
from sftpd.access.authorize import Admitted, Key, Password, Proof, Reason, Refused
from sftpd.ssh.algorithms import PUBLIC_KEYS
from sftpd.ssh.transport import Transport

MAX_ATTEMPTS = 6
_MAX_USER = 64
# Seconds. A judgement on a password takes one to three argon2 hashes of about 0.1 s each.
_KEY_INTERVAL, _PASSWORD_INTERVAL = 0.01, 1.0

_MAX_PASSWORD, _MIN_DISTINCT = 1024, 6  # characters of a new password
_MAX_TRIES = 3
_INTERACTIVE = "keyboard-interactive"
_ASK_NEW = (
    "Ilk parolaniz yalniz yeni parola belirlemek icindir; "
    f"yenisi en az {MIN_PASSWORD} karakter.\r\n"
    f"Your initial password is only good for setting a new one, of {MIN_PASSWORD} or more.\r\n"
)
_MUST_CHANGE = (
    "Ilk parolanizi degistirmelisiniz: etkilesimli bir istemciyle (sftp, PuTTY) baglanin.\r\n"
    "Your initial password has to be changed: connect with an interactive client.\r\n"
)
_CHANGED = "Parolaniz degistirildi. (Your password is changed.)\r\n"
_NOT_CHANGED = "Parola degistirilemedi, yeniden deneyin. (Not changed, try again.)\r\n"

_log = structlog.get_logger()


class AuthPolicy(Protocol):
    """Who decides and keeps the record."""

    def decide(self, user: str, proof: Proof) -> Admitted | Refused:
        """Decide on what is offered; nothing is recorded yet."""

    def admit(self, admitted: Admitted, method: str) -> bool:
        """Let a proven party in; False if the record or the cap on sessions forbids it."""

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""

    def change_password(self, user: str, credential: Credential, text: str) -> bool:
        """Have a new password set in place of `credential`; False if that cannot be."""

    def after_login(self) -> None:
        """Do what is due as soon as a client has come in."""

    def banner(self) -> str:
        """Return what an early client is told."""


class UserauthHandler(AuthHandler):
    """The server's side of one client's authentication."""

    if TYPE_CHECKING:

        def _parse_service_request(self, m: Message) -> None: ...

    def __init__(
        self,
        transport: Transport,
        policy: AuthPolicy,
        attempts: int = MAX_ATTEMPTS,
        *,
        interactive: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(transport)
        self._ssh = transport
        self._policy = policy
        self._attempts_left = attempts
        self._monotonic = monotonic
        self._sleep = sleep
        self._received_at = 0.0
        self._response_interval = _KEY_INTERVAL
        self._any_request = False
        self._banner_sent = False
        self._methods = "publickey,password" + ",keyboard-interactive" * interactive
        self._interactive = interactive
        self._expected_answers = 0  # how many answers are due
        self._initial_password: tuple[Credential, str] | None = None  # what is to be changed
        self._tries_left = 0

    # Called by the transport for SSH_MSG_USERAUTH_REQUEST.
    def _parse_userauth_request(self, m: Message) -> None:
        if self.authenticated or not self._ssh.active:
            return
        self._received_at = self._monotonic()
        user = m.get_binary().decode("utf-8", "replace")[:_MAX_USER]
        service, method = m.get_binary(), m.get_binary()
        if self.auth_username not in (None, user) or service != b"ssh-connection":
            self._disconnect()
            return
        self.auth_username = user
        self._response_interval = _KEY_INTERVAL if method == b"publickey" else _PASSWORD_INTERVAL
        if method not in (b"password", b"keyboard-interactive"):
            self._response_interval = _KEY_INTERVAL
        self._expected_answers, self._initial_password = (
            0,
            None,
        )  # RFC 4256 3.1: a new request ends the old one
        match method:
            case b"publickey":
                self._public_key(user, m)
            case b"password":
                self._password(user, m)
            case b"keyboard-interactive" if self._interactive:
                self._send_prompts("", "", "Parola (password): ")
            case b"none" if not self._any_request:
                # How clients ask for the methods; the first time is no attempt.
                self._send_failure()
            case _:
                name = method.decode("utf-8", "replace")[:_MAX_USER]
                self._policy.record_refusal(user, name, "", Reason.METHOD, probe=False)
                self._fail_after_interval()
        self._any_request = True

    def _password(self, user: str, m: Message) -> None:
        changes = m.get_boolean()
        text = m.get_binary().decode("utf-8", "replace")
        if changes:
            self._policy.record_refusal(user, "password", "", Reason.METHOD, probe=False)
            self._fail_after_interval()
            return
        self._finish(user, "password", self._policy.decide(user, Password(text)), "", lambda: True)

    def _public_key(self, user: str, m: Message) -> None:
        signed = m.get_boolean()
        algorithm = m.get_binary().decode("ascii", "replace")
        blob = m.get_binary()
        name = fingerprint(blob)
        if algorithm not in PUBLIC_KEYS:
            self._policy.record_refusal(user, "publickey", name, Reason.METHOD, probe=not signed)
            self._fail_after_interval()
            return
        verdict = self._policy.decide(user, Key(blob))
        if signed:
            signature = m.get_binary()
            message = self._signed_text(user, algorithm, blob)
            self._finish(
                user,
                "publickey",
                verdict,
                name,
                lambda: _signature_is_valid(algorithm, blob, message, signature),
            )
        elif _asks_for_signature(verdict):
            answer = Message()
            answer.add_byte(cMSG_USERAUTH_PK_OK)
            answer.add_string(algorithm)
            answer.add_string(blob)
            self._ssh._send_message(answer)
        elif isinstance(verdict, Refused):
            self._policy.record_refusal(user, "publickey", name, verdict.reason, probe=True)
            self._fail_after_interval()

    def _finish(
        self,
        user: str,
        method: str,
        verdict: Admitted | Refused,
        name: str,
        proven: Callable[[], bool],
    ) -> None:
        if _asks_for_signature(verdict) and not proven():
            verdict = Refused(Reason.SIGNATURE)
        if isinstance(verdict, Refused):
            matched = verdict.credential.fingerprint if verdict.credential else name
            self._policy.record_refusal(user, method, matched, verdict.reason, probe=False)
            if verdict.reason is Reason.NOT_YET_OPEN:
                self._send_banner(self._policy.banner())
            elif verdict.reason is Reason.MUST_CHANGE:
                self._send_banner(_MUST_CHANGE)
            self._fail_after_interval()
        elif not self._policy.admit(verdict, method):
            self._fail_after_interval()
        else:
            self.authenticated = True
            success = Message()
            success.add_byte(cMSG_USERAUTH_SUCCESS)
            self._ssh._send_message(success)
            self._ssh.authenticated = True
            self._policy.after_login()

    def _signed_text(self, user: str, algorithm: str, blob: bytes) -> bytes:
        message = Message()
        message.add_string(self._ssh.session_id or b"")
        message.add_byte(cMSG_USERAUTH_REQUEST)
        message.add_string(user)
        message.add_string("ssh-connection")
        message.add_string("publickey")
        message.add_boolean(True)
        message.add_string(algorithm)
        message.add_string(blob)
        return message.asbytes()

    def _send_banner(self, text: str) -> None:
        if self._banner_sent:
            return
        self._banner_sent = True
        message = Message()
        message.add_byte(cMSG_USERAUTH_BANNER)
        message.add_string(text)
        message.add_string("tr")
        self._ssh._send_message(message)

    def _fail_after_interval(self) -> None:
        self._sleep(
            self._response_interval
            - (self._monotonic() - self._received_at) % self._response_interval
        )
        self._attempts_left -= 1
        if self._attempts_left <= 0:
            self._disconnect()
        else:
            self._send_failure()

    def _send_failure(self) -> None:
        message = Message()
        message.add_byte(cMSG_USERAUTH_FAILURE)
        message.add_string(self._methods)
        message.add_boolean(False)
        self._ssh._send_message(message)

    def _disconnect(self) -> None:
        message = Message()
        message.add_byte(cMSG_DISCONNECT)
        message.add_int(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE)
        message.add_string("Too many authentication failures")
        message.add_string("en")
        self._ssh._send_message(message)
        self._ssh.close()

    # Keyboard-interactive: one question, and for an initial password a second one.

    def _send_prompts(self, name: str, instruction: str, *prompts: str) -> None:
        message = Message()
        message.add_byte(cMSG_USERAUTH_INFO_REQUEST)
        message.add_string(name)
        message.add_string(instruction)
        message.add_string("tr")
        message.add_int(len(prompts))
        for prompt in prompts:
            message.add_string(prompt)
            message.add_boolean(False)  # not to be seen as it is typed
        self._expected_answers = len(prompts)
        self._ssh._send_message(message)

    # Called by the transport for SSH_MSG_USERAUTH_INFO_RESPONSE.
    def _parse_userauth_info_response(self, m: Message) -> None:
        if self.authenticated or not self._ssh.active:
            return
        due, self._expected_answers = self._expected_answers, 0
        if not due or m.get_int() != due or self.auth_username is None:
            self._disconnect()  # an answer to what was never asked
            return
        self._received_at = self._monotonic()
        answers = [m.get_binary().decode("utf-8", "replace") for _ in range(due)]
        if self._initial_password is None:
            self._check_answer(self.auth_username, answers[0])
        else:
            self._set_new_password(self.auth_username, *self._initial_password, *answers)

    def _check_answer(self, user: str, text: str) -> None:
        verdict = self._policy.decide(user, Password(text))
        if (
            isinstance(verdict, Refused)
            and verdict.reason is Reason.MUST_CHANGE
            and verdict.credential is not None
        ):
            self._initial_password, self._tries_left = (verdict.credential, text), _MAX_TRIES
            self._ask_new("")
            return
        self._finish(user, _INTERACTIVE, verdict, "", lambda: True)

    def _ask_new(self, wrong: str) -> None:
        self._send_prompts(
            "Parola degisikligi",
            f"{wrong}{_ASK_NEW}",
            "Yeni parola (new password): ",
            "Yeni parola, yeniden (again): ",
        )

    def _set_new_password(
        self, user: str, credential: Credential, old: str, new: str, again: str
    ) -> None:
        wrong = _password_problem(user, old, new, again)
        if wrong and self._tries_left > 1:
            self._tries_left -= 1
            self._ask_new(wrong)
            return
        self._initial_password = None
        if wrong or not self._policy.change_password(user, credential, new):
            name = credential.fingerprint
            self._policy.record_refusal(user, _INTERACTIVE, name, Reason.MUST_CHANGE, probe=False)
            self._send_banner(_NOT_CHANGED)
            self._fail_after_interval()
            return
        self._send_banner(_CHANGED)
        self._banner_sent = False  # it may still be too early, which is then told as well
        self._finish(user, _INTERACTIVE, self._policy.decide(user, Password(new)), "", lambda: True)


def _password_problem(user: str, old: str, new: str, again: str) -> str:
    """Say why that will not do as a new password; empty if it will."""
    if new != again:
        return "Iki giris ayni degil. (The two differ.)\r\n"
    if "\ufffd" in new:  # where bytes that are no UTF-8 stood: any others would do as well
        return "Yalniz UTF-8 karakterler. (Only characters of UTF-8.)\r\n"
    if len(new) < MIN_PASSWORD or len(new) > _MAX_PASSWORD:
        return f"En az {MIN_PASSWORD} karakter olmali. (At least {MIN_PASSWORD} characters.)\r\n"
    if new == old or user.casefold() in new.casefold():
        return "Eski parola ya da kullanici adi olamaz. (Not the old one, nor the user name.)\r\n"
    if len(set(new)) < _MIN_DISTINCT:
        return "Cok basit. (Too simple.)\r\n"
    return ""


def _asks_for_signature(verdict: Admitted | Refused) -> bool:
    return isinstance(verdict, Admitted) or verdict.reason is Reason.NOT_YET_OPEN


def _signature_is_valid(algorithm: str, blob: bytes, message: bytes, signature: bytes) -> bool:
    # RFC 8332 3: the signature names its own algorithm, which must be the one agreed on.
    if Message(signature).get_binary() != algorithm.encode():
        return False
    if algorithm in fido.KINDS:
        return fido.signature_is_valid(blob, message, signature)
    try:
        key = _key(algorithm, blob)
        return bool(key.verify_ssh_sig(message, Message(signature)))
    except Exception as error:
        _log.info("key-unusable", algorithm=algorithm, cause=str(error))
        return False


def _key(algorithm: str, blob: bytes) -> PKey:
    if algorithm == "ssh-ed25519":
        return Ed25519Key(data=blob)
    if algorithm.startswith("rsa-"):
        return RSAKey(data=blob)
    return ECDSAKey(data=blob)
