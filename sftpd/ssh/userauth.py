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
from keys.credentials.ring import Credential, fingerprint
from sftpd.access.authorize import Admitted, Key, Password, Proof, Reason, Refused
from sftpd.ssh.transport import PUBLIC_KEYS, Transport

ATTEMPTS = 6
_LONGEST_USER = 64
# Seconds. A judgement on a password takes one to three argon2 hashes of about 0.1 s each.
_KEY_BEAT, _PASSWORD_BEAT = 0.01, 1.0

SHORTEST, _LONGEST_PASSWORD, _FEWEST_KINDS = 12, 1024, 6  # characters of a new password
_TRIES = 3
_INTERACTIVE = "keyboard-interactive"
_ASK_NEW = (
    f"Ilk parolaniz yalniz yeni parola belirlemek icindir; yenisi en az {SHORTEST} karakter.\r\n"
    f"Your initial password is only good for setting a new one, of {SHORTEST} or more.\r\n"
)
_MUST_CHANGE = (
    "Ilk parolanizi degistirmelisiniz: etkilesimli bir istemciyle (sftp, PuTTY) baglanin.\r\n"
    "Your initial password has to be changed: connect with an interactive client.\r\n"
)
_CHANGED = "Parolaniz degistirildi. (Your password is changed.)\r\n"
_NOT_CHANGED = "Parola degistirilemedi, yeniden deneyin. (Not changed, try again.)\r\n"

_log = structlog.get_logger()


class Door(Protocol):
    """Who decides and keeps the record."""

    def judge(self, user: str, proof: Proof) -> Admitted | Refused:
        """Decide on what is offered; nothing is recorded yet."""

    def admit(self, admitted: Admitted, method: str) -> bool:
        """Let a proven party in; False if the record or the cap on sessions forbids it."""

    def refuse(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal."""

    def change(self, user: str, credential: Credential, text: str) -> bool:
        """Have a new password set in place of `credential`; False if that cannot be."""

    def greet(self) -> None:
        """Do what is due as soon as a client has come in."""

    def banner(self) -> str:
        """Return what an early client is told."""


class Userauth(AuthHandler):
    """The server's side of one client's authentication."""

    if TYPE_CHECKING:

        def _parse_service_request(self, m: Message) -> None: ...

    def __init__(
        self,
        transport: Transport,
        door: Door,
        attempts: int = ATTEMPTS,
        *,
        interactive: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(transport)
        self._ssh = transport
        self._door = door
        self._left = attempts
        self._monotonic = monotonic
        self._sleep = sleep
        self._came = 0.0
        self._beat = _KEY_BEAT
        self._asked = False
        self._told = False
        self._methods = "publickey,password" + ",keyboard-interactive" * interactive
        self._interactive = interactive
        self._prompts = 0  # how many answers are due
        self._initial: tuple[Credential, str] | None = None  # what is to be changed
        self._tries = 0

    # Called by the transport for SSH_MSG_USERAUTH_REQUEST.
    def _parse_userauth_request(self, m: Message) -> None:
        if self.authenticated or not self._ssh.active:
            return
        self._came = self._monotonic()
        user = m.get_binary().decode("utf-8", "replace")[:_LONGEST_USER]
        service, method = m.get_binary(), m.get_binary()
        if self.auth_username not in (None, user) or service != b"ssh-connection":
            self._hang_up()
            return
        self.auth_username = user
        self._beat = _KEY_BEAT if method == b"publickey" else _PASSWORD_BEAT
        if method not in (b"password", b"keyboard-interactive"):
            self._beat = _KEY_BEAT
        self._prompts, self._initial = 0, None  # RFC 4256 3.1: a new request ends the old one
        match method:
            case b"publickey":
                self._public_key(user, m)
            case b"password":
                self._password(user, m)
            case b"keyboard-interactive" if self._interactive:
                self._ask("", "", "Parola (password): ")
            case b"none" if not self._asked:
                # How clients ask for the methods; the first time is no attempt.
                self._say_no()
            case _:
                name = method.decode("utf-8", "replace")[:_LONGEST_USER]
                self._door.refuse(user, name, "", Reason.METHOD, probe=False)
                self._fail()
        self._asked = True

    def _password(self, user: str, m: Message) -> None:
        changes = m.get_boolean()
        text = m.get_binary().decode("utf-8", "replace")
        if changes:
            self._door.refuse(user, "password", "", Reason.METHOD, probe=False)
            self._fail()
            return
        self._conclude(user, "password", self._door.judge(user, Password(text)), "", lambda: True)

    def _public_key(self, user: str, m: Message) -> None:
        signed = m.get_boolean()
        algorithm = m.get_binary().decode("ascii", "replace")
        blob = m.get_binary()
        name = fingerprint(blob)
        if algorithm not in PUBLIC_KEYS:
            self._door.refuse(user, "publickey", name, Reason.METHOD, probe=not signed)
            self._fail()
            return
        verdict = self._door.judge(user, Key(blob))
        if signed:
            signature = m.get_binary()
            message = self._signed_by(user, algorithm, blob)
            self._conclude(
                user,
                "publickey",
                verdict,
                name,
                lambda: _verifies(algorithm, blob, message, signature),
            )
        elif _worth_a_signature(verdict):
            answer = Message()
            answer.add_byte(cMSG_USERAUTH_PK_OK)
            answer.add_string(algorithm)
            answer.add_string(blob)
            self._ssh._send_message(answer)
        elif isinstance(verdict, Refused):
            self._door.refuse(user, "publickey", name, verdict.reason, probe=True)
            self._fail()

    def _conclude(
        self,
        user: str,
        method: str,
        verdict: Admitted | Refused,
        name: str,
        proven: Callable[[], bool],
    ) -> None:
        if _worth_a_signature(verdict) and not proven():
            verdict = Refused(Reason.SIGNATURE)
        if isinstance(verdict, Refused):
            matched = verdict.credential.fingerprint if verdict.credential else name
            self._door.refuse(user, method, matched, verdict.reason, probe=False)
            if verdict.reason is Reason.NOT_YET_OPEN:
                self._tell(self._door.banner())
            elif verdict.reason is Reason.MUST_CHANGE:
                self._tell(_MUST_CHANGE)
            self._fail()
        elif not self._door.admit(verdict, method):
            self._fail()
        else:
            self.authenticated = True
            success = Message()
            success.add_byte(cMSG_USERAUTH_SUCCESS)
            self._ssh._send_message(success)
            self._ssh.authenticated = True
            self._door.greet()

    def _signed_by(self, user: str, algorithm: str, blob: bytes) -> bytes:
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

    def _tell(self, text: str) -> None:
        if self._told:
            return
        self._told = True
        message = Message()
        message.add_byte(cMSG_USERAUTH_BANNER)
        message.add_string(text)
        message.add_string("tr")
        self._ssh._send_message(message)

    def _fail(self) -> None:
        self._sleep(self._beat - (self._monotonic() - self._came) % self._beat)
        self._left -= 1
        if self._left <= 0:
            self._hang_up()
        else:
            self._say_no()

    def _say_no(self) -> None:
        message = Message()
        message.add_byte(cMSG_USERAUTH_FAILURE)
        message.add_string(self._methods)
        message.add_boolean(False)
        self._ssh._send_message(message)

    def _hang_up(self) -> None:
        message = Message()
        message.add_byte(cMSG_DISCONNECT)
        message.add_int(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE)
        message.add_string("Too many authentication failures")
        message.add_string("en")
        self._ssh._send_message(message)
        self._ssh.close()

    # Keyboard-interactive: one question, and for an initial password a second one.

    def _ask(self, name: str, instruction: str, *prompts: str) -> None:
        message = Message()
        message.add_byte(cMSG_USERAUTH_INFO_REQUEST)
        message.add_string(name)
        message.add_string(instruction)
        message.add_string("tr")
        message.add_int(len(prompts))
        for prompt in prompts:
            message.add_string(prompt)
            message.add_boolean(False)  # not to be seen as it is typed
        self._prompts = len(prompts)
        self._ssh._send_message(message)

    # Called by the transport for SSH_MSG_USERAUTH_INFO_RESPONSE.
    def _parse_userauth_info_response(self, m: Message) -> None:
        if self.authenticated or not self._ssh.active:
            return
        due, self._prompts = self._prompts, 0
        if not due or m.get_int() != due or self.auth_username is None:
            self._hang_up()  # an answer to what was never asked
            return
        self._came = self._monotonic()
        answers = [m.get_binary().decode("utf-8", "replace") for _ in range(due)]
        if self._initial is None:
            self._judge_answer(self.auth_username, answers[0])
        else:
            self._take_new(self.auth_username, *self._initial, *answers)

    def _judge_answer(self, user: str, text: str) -> None:
        verdict = self._door.judge(user, Password(text))
        if (
            isinstance(verdict, Refused)
            and verdict.reason is Reason.MUST_CHANGE
            and verdict.credential is not None
        ):
            self._initial, self._tries = (verdict.credential, text), _TRIES
            self._ask_new("")
            return
        self._conclude(user, _INTERACTIVE, verdict, "", lambda: True)

    def _ask_new(self, wrong: str) -> None:
        self._ask(
            "Parola degisikligi",
            f"{wrong}{_ASK_NEW}",
            "Yeni parola (new password): ",
            "Yeni parola, yeniden (again): ",
        )

    def _take_new(self, user: str, credential: Credential, old: str, new: str, again: str) -> None:
        wrong = _unfit(user, old, new, again)
        if wrong and self._tries > 1:
            self._tries -= 1
            self._ask_new(wrong)
            return
        self._initial = None
        if wrong or not self._door.change(user, credential, new):
            name = credential.fingerprint
            self._door.refuse(user, _INTERACTIVE, name, Reason.MUST_CHANGE, probe=False)
            self._tell(_NOT_CHANGED)
            self._fail()
            return
        self._tell(_CHANGED)
        self._told = False  # it may still be too early, which is then told as well
        self._conclude(user, _INTERACTIVE, self._door.judge(user, Password(new)), "", lambda: True)


def _unfit(user: str, old: str, new: str, again: str) -> str:
    """Say why that will not do as a new password; empty if it will."""
    if new != again:
        return "Iki giris ayni degil. (The two differ.)\r\n"
    if "\ufffd" in new:  # where bytes that are no UTF-8 stood: any others would do as well
        return "Yalniz UTF-8 karakterler. (Only characters of UTF-8.)\r\n"
    if len(new) < SHORTEST or len(new) > _LONGEST_PASSWORD:
        return f"En az {SHORTEST} karakter olmali. (At least {SHORTEST} characters.)\r\n"
    if new == old or user.casefold() in new.casefold():
        return "Eski parola ya da kullanici adi olamaz. (Not the old one, nor the user name.)\r\n"
    if len(set(new)) < _FEWEST_KINDS:
        return "Cok basit. (Too simple.)\r\n"
    return ""


def _worth_a_signature(verdict: Admitted | Refused) -> bool:
    return isinstance(verdict, Admitted) or verdict.reason is Reason.NOT_YET_OPEN


def _verifies(algorithm: str, blob: bytes, message: bytes, signature: bytes) -> bool:
    # RFC 8332 3: the signature names its own algorithm, which must be the one agreed on.
    if Message(signature).get_binary() != algorithm.encode():
        return False
    if algorithm in fido.KINDS:
        return fido.verifies(blob, message, signature)
    try:
        key = _key(algorithm, blob)
        return bool(key.verify_ssh_sig(message, Message(signature)))
    except Exception as error:
        _log.info("key not usable", algorithm=algorithm, cause=str(error))
        return False


def _key(algorithm: str, blob: bytes) -> PKey:
    if algorithm == "ssh-ed25519":
        return Ed25519Key(data=blob)
    if algorithm.startswith("rsa-"):
        return RSAKey(data=blob)
    return ECDSAKey(data=blob)
