from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message

from config.party import Contact, Party, PartyKind
from config.scope import ALL
from keys.credentials.admission import Admitted, Key, Password, Proof, Reason, Refused
from keys.credentials.ring import Credential, CredentialKind, fingerprint
from keys.server_keys import host
from sftpd.ipc.messages import LoginAnswer
from sftpd.ssh.algorithms import PUBLIC_KEYS
from sftpd.ssh.userauth import UserauthHandler

FAILURE = b"\x33\0\0\0\x12publickey,password\0"
PARTY = Party("parti-a", "", PartyKind.PARTY, ALL, (), Contact())
START = datetime.fromisoformat("2023-05-14T10:00:00+03:00")
SESSION_ID = b"s" * 32


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
    """Decides as the test wants, which takes `seconds`, and remembers the refusals."""

    def __init__(self, decision: Admitted | Refused, clock: list[float], seconds: float) -> None:
        self.refusals: list[tuple[str, str, bool]] = []
        self.proofs: list[Proof] = []
        self.logged_in = False
        self.answer = LoginAnswer.ADMITTED
        self._decision = decision
        self._clock = clock
        self._seconds = seconds

    def decide(self, user: str, proof: Proof) -> Admitted | Refused:
        self._clock[0] += self._seconds
        self.proofs.append(proof)
        return self._decision

    def admit(self, admitted: Admitted, method: str) -> LoginAnswer:
        return self.answer

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        self.refusals.append((method, reason, probe))

    def change_password(self, user: str, credential: Credential, text: str) -> bool:
        raise NotImplementedError

    def after_login(self) -> None:
        self.logged_in = True

    def banner(self) -> str:
        return "soon"


class Login:
    """A login, on a clock that moves only by decisions and waits."""

    def __init__(self, decision: Admitted | Refused, seconds: float = 0.0) -> None:
        self.clock = [100.0]
        self.waits: list[float] = []
        self.transport = FakeTransport()
        self.policy = FakePolicy(decision, self.clock, seconds)
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


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Ed25519Key:
    path: Path = tmp_path_factory.mktemp("keys") / "key"
    host.create_key(path, "")
    return Ed25519Key(filename=str(path))


def admitted(blob: bytes) -> Admitted:
    kind = CredentialKind.PUBLIC_KEY
    credential = Credential(kind, "", fingerprint(blob), "", START, None, "operator")
    return Admitted(PARTY, credential)


def signature(key: Ed25519Key, user: str = "parti-a") -> bytes:
    message = Message()
    message.add_string(SESSION_ID)
    message.add_byte(b"\x32")
    for part in (user, b"ssh-connection", b"publickey", True, "ssh-ed25519", key.asbytes()):
        message.add(part)
    return key.sign_ssh_data(message.asbytes()).asbytes()


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
    login = Login(Refused(Reason.CREDENTIAL), seconds)

    login.request(*request_)

    assert login.waits == [wait]
    assert login.transport.sent == [FAILURE]


# Reasons that a client learns which has proven its credential.
TOLD = {Reason.NOT_YET_OPEN, Reason.SUSPENDED, Reason.CLOSED}


@pytest.mark.parametrize("reason", sorted(set(Reason) - TOLD - {Reason.MUST_CHANGE}))
@pytest.mark.parametrize(
    ("request_", "method", "probe"), [(PROBE, "publickey", True), (PASSWORD, "password", False)]
)
def test_all_reasons_look_the_same_to_the_client_and_differ_in_the_record(
    reason: Reason, request_: tuple[object, ...], method: str, probe: bool
) -> None:
    login = Login(Refused(reason))

    login.request(*request_)

    assert login.transport.sent == [FAILURE]
    assert login.policy.refusals == [(method, reason, probe)]


def test_an_early_client_gets_the_banner_and_is_disconnected() -> None:
    login = Login(Refused(Reason.NOT_YET_OPEN))

    login.request(*PASSWORD)

    banner = b"\x35\0\0\0\x04soon\0\0\0\x02tr"
    assert login.transport.sent[0] == banner
    assert login.transport.sent[1].startswith(b"\x01\0\0\0\x07")
    assert b"not open yet" in login.transport.sent[1]
    assert not login.transport.active


@pytest.mark.parametrize("reason", sorted(TOLD))
def test_a_reason_is_told_only_after_the_proof(reason: Reason, key: Ed25519Key) -> None:
    login = Login(Refused(reason))
    probe = (b"publickey", False, "ssh-ed25519", key.asbytes())

    login.request(*probe)
    wrong = Message()
    wrong.add_string("ssh-ed25519")
    wrong.add_string(bytes(64))
    login.request(b"publickey", True, "ssh-ed25519", key.asbytes(), wrong.asbytes())

    assert [message[0] for message in login.transport.sent] == [60, 51]  # PK_OK, FAILURE
    assert login.policy.refusals == [("publickey", Reason.SIGNATURE, False)]


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
    login = Login(admitted(b""))
    login.policy.answer = answer

    login.request(*PASSWORD)

    goodbye = login.transport.sent[-1]
    assert goodbye[:5] == b"\x01\0\0\0" + bytes([code])
    assert words in goodbye
    assert (login.transport.active, login.policy.logged_in) == (False, False)


def test_asking_for_the_methods_is_not_an_attempt_and_is_answered_at_once() -> None:
    login = Login(Refused(Reason.UNKNOWN_USER))

    login.request(b"none")
    for _ in range(5):
        login.request(*PROBE)

    assert login.waits == [0.01] * 5
    assert login.transport.sent == [FAILURE] * 6
    assert login.transport.active


def test_the_sixth_failure_disconnects() -> None:
    login = Login(Refused(Reason.CREDENTIAL))

    for _ in range(9):
        login.request(*PROBE)

    assert login.transport.sent[:5] == [FAILURE] * 5
    assert len(login.transport.sent) == 6
    assert b"Too many authentication failures" in login.transport.sent[5]
    assert len(login.policy.refusals) == 6


def test_a_right_key_logs_in_without_waiting(key: Ed25519Key) -> None:
    login = Login(admitted(key.asbytes()), 0.003)

    login.request(b"publickey", False, "ssh-ed25519", key.asbytes())
    login.request(b"publickey", True, "ssh-ed25519", key.asbytes(), signature(key))

    pk_ok, success = login.transport.sent
    assert (pk_ok[0], success) == (60, b"\x34")
    assert login.waits == []
    assert login.policy.logged_in
    assert login.transport.authenticated


@pytest.mark.parametrize(
    "forge",
    [
        lambda key: signature(key)[:-1] + bytes([signature(key)[-1] ^ 1]),
        lambda key: signature(key, "parti-b"),
        lambda key: b"",
        lambda key: signature(key).replace(b"ed25519", b"ed25518"),
    ],
    ids=["one bit changed", "another user's", "empty", "another algorithm's"],
)
def test_a_wrong_signature_is_refused(
    key: Ed25519Key, forge: Callable[[Ed25519Key], bytes]
) -> None:
    login = Login(admitted(key.asbytes()))

    login.request(b"publickey", True, "ssh-ed25519", key.asbytes(), forge(key))

    assert login.transport.sent == [FAILURE]
    assert login.policy.refusals == [("publickey", Reason.SIGNATURE, False)]
    assert not login.transport.authenticated


def test_a_second_user_on_the_same_connection_is_disconnected() -> None:
    login = Login(Refused(Reason.CREDENTIAL))

    login.request(*PROBE)
    login.request(*PROBE, user="parti-b")

    assert not login.transport.active


def test_the_policy_decides_on_the_credential_that_was_offered() -> None:
    login = Login(Refused(Reason.CREDENTIAL))

    login.request(*PROBE)
    login.request(*PASSWORD)

    assert login.policy.proofs == [Key(b"blob"), Password("wrong")]
