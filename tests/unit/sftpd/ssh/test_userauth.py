import pytest
from paramiko.message import Message

from keys.credentials.admission import Reason
from sftpd.ipc.messages import MAX_BLOB, LoginAnswer
from sftpd.ipc.monitor_client import LoginReply
from sftpd.ssh.algorithms import PUBLIC_KEYS
from sftpd.ssh.userauth import UserauthHandler

FAILURE = b"\x33\0\0\0\x12publickey,password\0"
SESSION_ID = b"s" * 32
REFUSED = LoginAnswer.REFUSED


class FakeTransport:
    """The part of a transport that a login uses; `sent` are the messages."""

    authenticated = False
    session_id = SESSION_ID
    public_keys = PUBLIC_KEYS

    def __init__(self) -> None:
        self.active = True
        self.sent: list[bytes] = []

    def _send_message(self, message: Message) -> None:
        self.sent.append(message.asbytes())

    def close(self) -> None:
        self.active = False


class FakePolicy:
    """Replies as the test wants, which takes `seconds`, and remembers what it was asked."""

    def __init__(self, answer: LoginAnswer, clock: list[float], seconds: float) -> None:
        self.refusals: list[tuple[str, str, bool]] = []
        self.asked: list[tuple[object, ...]] = []
        self.logged_in = False
        self.answer = answer
        self.text = ""
        self._clock = clock
        self._seconds = seconds

    def probe_key(self, user: str, algorithm: str, blob: bytes) -> bool:
        self._clock[0] += self._seconds
        self.asked.append(("probe", user, algorithm, blob))
        return self.answer in (LoginAnswer.ACCEPTABLE, LoginAnswer.ADMITTED)

    def check_key(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> LoginReply:
        self._clock[0] += self._seconds
        self.asked.append(("key", user, algorithm, blob, signature))
        return LoginReply(self.answer, user, text=self.text)

    def check_password(self, user: str, method: str, text: str) -> LoginReply:
        self._clock[0] += self._seconds
        self.asked.append((method, user, text))
        return LoginReply(self.answer, user, text=self.text)

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        self.refusals.append((method, reason, probe))

    def change_password(self, text: str) -> bool:
        raise NotImplementedError

    def after_login(self) -> None:
        self.logged_in = True


class Login:
    """A login, on a clock that moves only by decisions and waits."""

    def __init__(self, answer: LoginAnswer = REFUSED, seconds: float = 0.0) -> None:
        self.clock = [100.0]
        self.waits: list[float] = []
        self.transport = FakeTransport()
        self.policy = FakePolicy(answer, self.clock, seconds)
        self.handler = UserauthHandler(
            self.transport,  # type: ignore[arg-type]
            self.policy,
            monotonic=lambda: self.clock[0],
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        self.waits.append(round(seconds, 6))
        self.clock[0] += seconds

    def request(self, *parts: object, user: str = "parti-a") -> None:
        message = Message()
        for part in (user, b"ssh-connection", *parts):
            message.add(part)
        message.rewind()
        self.handler._parse_userauth_request(message)


PROBE: tuple[object, ...] = (b"publickey", False, "ssh-ed25519", b"blob")
PASSWORD: tuple[object, ...] = (b"password", False, "wrong")


@pytest.mark.parametrize(
    ("request_", "seconds", "wait"),
    [
        (PROBE, 0.001, 0.009),
        (PROBE, 0.008, 0.002),
        (PROBE, 0.013, 0.007),
        (PASSWORD, 0.1, 0.9),
        (PASSWORD, 0.35, 0.65),
        (PASSWORD, 1.2, 0.8),
    ],
)
def test_a_refusal_is_sent_a_whole_number_of_intervals_after_the_request(
    request_: tuple[object, ...], seconds: float, wait: float
) -> None:
    login = Login(seconds=seconds)

    login.request(*request_)

    assert login.waits == [wait]
    assert login.transport.sent == [FAILURE]


def test_an_early_client_gets_the_banner_and_is_disconnected() -> None:
    login = Login(LoginAnswer.NOT_YET_OPEN)
    login.policy.text = "soon"

    login.request(*PASSWORD)

    banner = b"\x35\0\0\0\x04soon\0\0\0\x02tr"
    assert login.transport.sent[0] == banner
    assert login.transport.sent[1].startswith(b"\x01\0\0\0\x07")
    assert b"not open yet" in login.transport.sent[1]
    assert not login.transport.active


def test_an_initial_password_gets_a_banner_that_says_so() -> None:
    login = Login(LoginAnswer.MUST_CHANGE)

    login.request(*PASSWORD)

    banner, failure = login.transport.sent
    assert b"initial password has to be changed" in banner
    assert failure == FAILURE


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (LoginAnswer.SESSIONS, 12, b"Too many sessions"),
        (LoginAnswer.SUSPENDED, 11, b"suspended"),
        (LoginAnswer.NOT_YET_OPEN, 7, b"not open yet"),
        (LoginAnswer.CLOSED, 7, b"closed"),
        (LoginAnswer.NOT_RECORDED, 7, b"cannot record"),
    ],
)
def test_a_proven_client_that_may_not_come_in_now_is_disconnected_with_the_reason(
    answer: LoginAnswer, code: int, words: bytes
) -> None:
    login = Login(answer)

    login.request(*PASSWORD)

    goodbye = login.transport.sent[-1]
    assert goodbye[:5] == b"\x01\0\0\0" + bytes([code])
    assert words in goodbye
    assert (login.transport.active, login.policy.logged_in) == (False, False)


def test_asking_for_the_methods_is_not_an_attempt_and_is_answered_at_once() -> None:
    login = Login()

    login.request(b"none")
    for _ in range(5):
        login.request(*PROBE)

    assert login.waits == [0.01] * 5
    assert login.transport.sent == [FAILURE] * 6
    assert login.transport.active


def test_the_sixth_failure_disconnects() -> None:
    login = Login()

    for _ in range(9):
        login.request(*PROBE)

    assert login.transport.sent[:5] == [FAILURE] * 5
    assert len(login.transport.sent) == 6
    assert b"Too many authentication failures" in login.transport.sent[5]
    assert len(login.policy.asked) == 6


def test_a_right_key_logs_in_without_waiting() -> None:
    login = Login(LoginAnswer.ADMITTED, 0.003)

    login.request(*PROBE)
    login.request(b"publickey", True, "ssh-ed25519", b"blob", b"signature")

    pk_ok, success = login.transport.sent
    assert (pk_ok[0], success) == (60, b"\x34")
    assert login.waits == []
    assert login.policy.logged_in
    assert login.transport.authenticated


@pytest.mark.parametrize("signed", [False, True])
def test_a_key_that_is_too_large_to_be_passed_on_is_refused(signed: bool) -> None:
    login = Login(LoginAnswer.ADMITTED)

    login.request(b"publickey", signed, "ssh-ed25519", bytes(MAX_BLOB + 1), b"signature")

    assert login.transport.sent == [FAILURE]
    assert (login.policy.asked, login.policy.logged_in) == ([], False)
    assert login.policy.refusals == [("publickey", Reason.CREDENTIAL, not signed)]


def test_a_second_user_on_the_same_connection_is_disconnected() -> None:
    login = Login()

    login.request(*PROBE)
    login.request(*PROBE, user="parti-b")

    assert not login.transport.active


def test_the_policy_is_asked_about_what_was_offered() -> None:
    login = Login()

    login.request(*PROBE)
    login.request(b"publickey", True, "ssh-ed25519", b"blob", b"signature")
    login.request(*PASSWORD)

    assert login.policy.asked == [
        ("probe", "parti-a", "ssh-ed25519", b"blob"),
        ("key", "parti-a", "ssh-ed25519", b"blob", b"signature"),
        ("password", "parti-a", "wrong"),
    ]
