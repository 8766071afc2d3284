"""User authentication over SSH (RFC 4252): what the client says, to login's questions and back.

A public key is asked about twice. First unsigned, to learn whether a signature would do; only
the signed request lets anybody in, is recorded as a login or a refusal, or earns the banner
that tells when access opens. Methods: `publickey`, `password`.

What a refusal tells: nothing. Its bytes are the same whatever the reason, and it is sent a
whole number of beats after the request came, a beat being longer than any judgement takes, so
that neither the time to read a key file or hash a password is to be seen.

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
    cMSG_USERAUTH_PK_OK,
    cMSG_USERAUTH_REQUEST,
    cMSG_USERAUTH_SUCCESS,
)
from paramiko.ecdsakey import ECDSAKey
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey

from keys import token
from keys.ring import fingerprint
from sftpd.login import Admitted, Key, Password, Proof, Reason, Refused
from sftpd.transport import PUBLIC_KEYS, Transport

ATTEMPTS = 6
_LONGEST_USER = 64
# Seconds. A judgement on a password takes one to three argon2 hashes of about 0.1 s each.
_KEY_BEAT, _PASSWORD_BEAT = 0.01, 1.0

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
        self._beat = _PASSWORD_BEAT if method == b"password" else _KEY_BEAT
        match method:
            case b"publickey":
                self._public_key(user, m)
            case b"password":
                self._password(user, m)
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
                self._tell_when()
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

    def _tell_when(self) -> None:
        if self._told:
            return
        self._told = True
        message = Message()
        message.add_byte(cMSG_USERAUTH_BANNER)
        message.add_string(self._door.banner())
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
        message.add_string("publickey,password")
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

    # A client answers a question that was never asked: keyboard-interactive is not offered.
    def _parse_userauth_info_response(self, _: Message) -> None:
        self._hang_up()


def _worth_a_signature(verdict: Admitted | Refused) -> bool:
    return isinstance(verdict, Admitted) or verdict.reason is Reason.NOT_YET_OPEN


def _verifies(algorithm: str, blob: bytes, message: bytes, signature: bytes) -> bool:
    # RFC 8332 3: the signature names its own algorithm, which must be the one agreed on.
    if Message(signature).get_binary() != algorithm.encode():
        return False
    if algorithm in token.KINDS:
        return token.verifies(blob, message, signature)
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
