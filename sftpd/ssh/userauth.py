"""Authenticates users over SSH (RFC 4252): translates between the client's messages and AuthPolicy.

Methods: `publickey`, `password`, and `keyboard-interactive` (RFC 4256) on a site where initial
passwords must be changed. A client offers a public key twice: first without a signature, to learn
whether a signature would be accepted (a probe), and then with one. Only the signed request can log
in. With keyboard-interactive the user is asked for the password and, if that is an initial one,
twice for a new one. With the method `password` an initial password only gets a banner that says so.

The monitor decides on each credential, and records its decision (sftpd/monitor/answers/logins). A
refusal does not tell the client the reason: its bytes are always the same. Only a client with the
right credential gets a banner with it. A refusal is sent a whole number of response intervals after
the request arrived. An interval is longer than any decision takes, so the client cannot measure the
time to read a key file or to hash a password. All methods are in one module because they share the
count of attempts, the interval and the way to refuse.

A probe is answered with yes if the key is the user's and valid now, the address is the user's own,
and the party is not suspended. So a client at a party's registered address can learn whether a
public key belongs to the party, as with any OpenSSH server. From all other addresses, including
those of other parties, the answer is always no. If the answer were always yes, a client could not
learn even that. But then each client would have to sign with each of its keys, and its user would
have to type a passphrase or touch a token for each.
"""

import time
from collections.abc import Callable
from typing import Protocol

from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE,
    cMSG_DISCONNECT,
    cMSG_UNIMPLEMENTED,
    cMSG_USERAUTH_BANNER,
    cMSG_USERAUTH_FAILURE,
    cMSG_USERAUTH_INFO_REQUEST,
    cMSG_USERAUTH_PK_OK,
    cMSG_USERAUTH_SUCCESS,
)
from paramiko.message import Message

from keys.credentials import passwords
from keys.credentials.admission import Reason
from keys.credentials.passwords import MAX_LENGTH, MIN_LENGTH, Problem
from keys.credentials.ring import fingerprint
from sftpd.ipc.messages import MAX_BLOB, LoginAnswer
from sftpd.ipc.monitor_client import LoginReply
from sftpd.ssh.transport import Transport

MAX_ATTEMPTS = 6
_MAX_USER = 64  # characters of a user or method name that go into a record
# Seconds. A decision on a password takes one to three argon2 hashes of about 0.1 s each.
_KEY_INTERVAL, _PASSWORD_INTERVAL = 0.01, 1.0
_MAX_TRIES = 3  # new passwords that the user may propose after one login
_INTERACTIVE = "keyboard-interactive"
_ASK_NEW = (
    "Ilk parolaniz yalniz yeni parola belirlemek icindir; "
    f"yenisi en az {MIN_LENGTH} karakter.\r\n"
    f"Your initial password is only good for setting a new one, of {MIN_LENGTH} or more.\r\n"
)
_MUST_CHANGE = (
    "Ilk parolanizi degistirmelisiniz: etkilesimli bir istemciyle (sftp, PuTTY) baglanin.\r\n"
    "Your initial password has to be changed: connect with an interactive client.\r\n"
)
_CHANGED = "Parolaniz degistirildi. (Your password is changed.)\r\n"
_NOT_CHANGED = "Parola degistirilemedi, yeniden deneyin. (Not changed, try again.)\r\n"
_DIFFERENT = "Iki giris ayni degil. (The two differ.)\r\n"
_PROBLEMS = {
    Problem.NOT_TEXT: "Yalniz UTF-8 karakterler. (Only characters of UTF-8.)\r\n",
    Problem.LENGTH: (
        f"{MIN_LENGTH} - {MAX_LENGTH} karakter olmali. ({MIN_LENGTH} to {MAX_LENGTH} characters.)"
        "\r\n"
    ),
    Problem.REUSED: (
        "Eski parola ya da kullanici adi olamaz. (Not the old one, nor the user name.)\r\n"
    ),
    Problem.TOO_SIMPLE: "Cok basit. (Too simple.)\r\n",
}

# RFC 4253 section 11.1.
_SERVICE_NOT_AVAILABLE, _BY_APPLICATION, _TOO_MANY_CONNECTIONS = 7, 11, 12
_GOODBYES = {
    LoginAnswer.SESSIONS: (
        _TOO_MANY_CONNECTIONS,
        "Too many sessions of your party are open: close some, or try again. "
        "(Cok fazla oturum acik: birini kapatin ya da yeniden deneyin.)",
    ),
    LoginAnswer.SUSPENDED: (
        _BY_APPLICATION,
        "Your party's access is suspended: call YSK. (Erisiminiz durduruldu: YSK'yi arayin.)",
    ),
    LoginAnswer.NOT_YET_OPEN: (
        _SERVICE_NOT_AVAILABLE,
        "Access is not open yet. (Erisim henuz acilmadi.)",
    ),
    LoginAnswer.CLOSED: (_SERVICE_NOT_AVAILABLE, "Access is closed. (Erisim kapandi.)"),
    LoginAnswer.NOT_RECORDED: (
        _SERVICE_NOT_AVAILABLE,
        "The server cannot record a login now: try again later. "
        "(Sunucu su anda oturum kaydedemiyor: sonra yeniden deneyin.)",
    ),
}


class AuthPolicy(Protocol):
    """Has logins decided and recorded; see sftpd/connection."""

    def probe_key(self, user: str, algorithm: str, blob: bytes) -> bool:
        """Return whether a signature by this key would be accepted."""

    def check_key(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> LoginReply:
        """Log a user in with a public key."""

    def check_password(self, user: str, method: str, text: str) -> LoginReply:
        """Log a user in with a password."""

    def change_password(self, text: str) -> bool:
        """Replace the initial password, which was proven last; return False if that fails."""

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        """Record a refusal that needs no verdict."""

    def after_login(self) -> None:
        """Called as soon as the success message is on its way to the client."""


class UserauthHandler(AuthHandler):
    """The server's side of one client's authentication; paramiko calls the `_parse_` methods."""

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
        """Offer keyboard-interactive too if `interactive`; disconnect after `attempts` failures."""
        super().__init__(transport)
        self._transport = transport
        self._policy = policy
        self._attempts_left = attempts
        self._interactive = interactive
        self._methods = "publickey,password" + f",{_INTERACTIVE}" * interactive
        self._monotonic = monotonic
        self._sleep = sleep
        self._received_at = 0.0
        self._response_interval = _KEY_INTERVAL
        self._had_request = False
        self._banner_sent = False
        self._expected_answers = 0  # to the prompts that were sent last
        self._initial_password: str | None = None  # the one to be replaced
        self._tries_left = 0

    def _parse_service_request(self, m: Message) -> None:
        if not self.authenticated:
            super()._parse_service_request(m)  # type: ignore[misc]
            return
        # As OpenSSH's server does. Otherwise a client that asks again after a key exchange would
        # start a second login, and wait for an answer that must not be sent (RFC 4252, 5.3).
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(m.seqno)
        self._transport._send_message(reply)

    def _parse_userauth_request(self, m: Message) -> None:
        if self.authenticated or not self._transport.active:
            return
        self._received_at = self._monotonic()
        user = m.get_binary().decode("utf-8", "replace")[:_MAX_USER]
        service, method = m.get_binary(), m.get_binary()
        if self.auth_username not in (None, user) or service != b"ssh-connection":
            self._disconnect()
            return
        self.auth_username = user
        by_password = method in (b"password", _INTERACTIVE.encode())
        self._response_interval = _PASSWORD_INTERVAL if by_password else _KEY_INTERVAL
        # A new request ends the dialogue of the one before (RFC 4256 section 3.1).
        self._expected_answers, self._initial_password = 0, None
        match method:
            case b"publickey":
                self._handle_public_key(user, m)
            case b"password":
                self._handle_password(user, m)
            case b"keyboard-interactive" if self._interactive:
                self._send_prompts("", "", "Parola / Password: ")
            case b"none" if not self._had_request:
                # Clients ask for the list of methods this way. The first time is not an attempt.
                self._send_failure()
            case _:
                name = method.decode("utf-8", "replace")[:_MAX_USER]
                self._policy.record_refusal(user, name, "", Reason.METHOD, probe=False)
                self._refuse_after_interval()
        self._had_request = True

    def _handle_password(self, user: str, m: Message) -> None:
        wants_change = m.get_boolean()
        text = m.get_binary().decode("utf-8", "replace")
        if wants_change:
            self._policy.record_refusal(user, "password", "", Reason.METHOD, probe=False)
            self._refuse_after_interval()
            return
        self._conclude(self._policy.check_password(user, "password", text))

    def _handle_public_key(self, user: str, m: Message) -> None:
        signed = m.get_boolean()
        algorithm = m.get_binary().decode("ascii", "replace")
        blob = m.get_binary()
        name = fingerprint(blob)
        if algorithm not in self._transport.public_keys:
            method = f"publickey, {algorithm[:_MAX_USER]}"
            self._policy.record_refusal(user, method, name, Reason.METHOD, probe=not signed)
            self._refuse_after_interval()
            return
        signature = m.get_binary() if signed else b""
        if len(blob) > MAX_BLOB or len(signature) > MAX_BLOB:
            wrong = Reason.CREDENTIAL
            self._policy.record_refusal(user, "publickey", name, wrong, probe=not signed)
            self._refuse_after_interval()
        elif signed:
            self._conclude(self._policy.check_key(user, algorithm, blob, signature))
        elif self._policy.probe_key(user, algorithm, blob):
            reply = Message()
            reply.add_byte(cMSG_USERAUTH_PK_OK)
            reply.add_string(algorithm)
            reply.add_string(blob)
            self._transport._send_message(reply)
        else:
            self._refuse_after_interval()

    def _conclude(self, reply: LoginReply) -> None:
        """Log the client in, or refuse it."""
        match reply.answer:
            case LoginAnswer.ADMITTED:
                self.authenticated = True
                success = Message()
                success.add_byte(cMSG_USERAUTH_SUCCESS)
                self._transport._send_message(success)
                self._transport.authenticated = True
                self._policy.after_login()
            case LoginAnswer.REFUSED | LoginAnswer.ACCEPTABLE:
                self._refuse_after_interval()
            case LoginAnswer.MUST_CHANGE:
                self._send_banner(_MUST_CHANGE)
                self._refuse_after_interval()
            case _:
                self._end_proven(reply)

    def _end_proven(self, reply: LoginReply) -> None:
        """Disconnect a client that has proven its credential, and say why.

        "Permission denied" would send its user to look for a wrong key, and lftp would give up.
        """
        if reply.text:
            self._send_banner(reply.text)
        self._disconnect(*_GOODBYES[reply.answer])

    def _send_banner(self, text: str) -> None:
        if self._banner_sent:
            return
        self._banner_sent = True
        message = Message()
        message.add_byte(cMSG_USERAUTH_BANNER)
        message.add_string(text)
        message.add_string("tr")
        self._transport._send_message(message)

    def _refuse_after_interval(self) -> None:
        interval = self._response_interval
        self._sleep(interval - (self._monotonic() - self._received_at) % interval)
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
        self._transport._send_message(message)

    def _disconnect(
        self,
        code: int = DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE,
        text: str = "Too many authentication failures",
    ) -> None:
        message = Message()
        message.add_byte(cMSG_DISCONNECT)
        message.add_int(code)
        message.add_string(text)
        message.add_string("en")
        self._transport._send_message(message)
        self._transport.close()

    # Keyboard-interactive: the client is asked for its password, and then perhaps for a new one.

    def _send_prompts(self, name: str, instruction: str, *prompts: str) -> None:
        message = Message()
        message.add_byte(cMSG_USERAUTH_INFO_REQUEST)
        message.add_string(name)
        message.add_string(instruction)
        message.add_string("tr")
        message.add_int(len(prompts))
        for prompt in prompts:
            message.add_string(prompt)
            message.add_boolean(False)  # do not show what the user types
        self._expected_answers = len(prompts)
        self._transport._send_message(message)

    def _parse_userauth_info_response(self, m: Message) -> None:
        if self.authenticated or not self._transport.active:
            return
        expected, self._expected_answers = self._expected_answers, 0
        if not expected or m.get_int() != expected or self.auth_username is None:
            self._disconnect()  # answers to no question of ours
            return
        self._received_at = self._monotonic()
        answers = [m.get_binary().decode("utf-8", "replace") for _ in range(expected)]
        if self._initial_password is None:
            self._check_password(self.auth_username, answers[0])
        else:
            self._set_new_password(self.auth_username, self._initial_password, *answers)

    def _check_password(self, user: str, text: str) -> None:
        reply = self._policy.check_password(user, _INTERACTIVE, text)
        if reply.answer is LoginAnswer.MUST_CHANGE:
            self._initial_password, self._tries_left = text, _MAX_TRIES
            self._ask_new_password("")
            return
        self._conclude(reply)

    def _ask_new_password(self, problem: str) -> None:
        self._send_prompts(
            "Parola degisikligi",
            f"{problem}{_ASK_NEW}",
            "Yeni parola (new password): ",
            "Yeni parola, yeniden (again): ",
        )

    def _set_new_password(self, user: str, old: str, new: str, again: str) -> None:
        problem = _password_problem(user, old, new, again)
        if problem and self._tries_left > 1:
            self._tries_left -= 1
            self._ask_new_password(problem)
            return
        self._initial_password = None
        if problem or not self._policy.change_password(new):
            reason = Reason.MUST_CHANGE
            self._policy.record_refusal(user, _INTERACTIVE, "", reason, probe=False)
            self._send_banner(_NOT_CHANGED)
            self._refuse_after_interval()
            return
        self._send_banner(_CHANGED)
        self._banner_sent = False  # a client that is early gets a second banner
        self._conclude(self._policy.check_password(user, _INTERACTIVE, new))


def _password_problem(user: str, old: str, new: str, again: str) -> str:
    """Return the text that says why a new password is not accepted, empty if it is."""
    if new != again:
        return _DIFFERENT
    problem = passwords.problem(user, old, new)
    return "" if problem is None else _PROBLEMS[problem]
