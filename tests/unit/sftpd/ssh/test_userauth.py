from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message

from config.party import Contact, Party, PartyKind
from config.scope import ALL
from keys.credentials.ring import Credential, fingerprint
from keys.credentials.ring import CredentialKind as CredentialKind
from keys.server_keys import host
from sftpd.access.authorize import Admitted, Key, Password, Proof, Reason, Refused
from sftpd.ssh.userauth import UserauthHandler

NO = b"\x33\0\0\0\x12publickey,password\0"
PARTY = Party("parti-a", "", PartyKind.PARTY, ALL, (), Contact())
SOON = datetime.fromisoformat("2023-05-14T10:00:00+03:00")


class FakeTransport:
    """What of a transport a login touches; `sent` are the messages, `closed` how it ended."""

    active = True
    authenticated = False
    session_id = b"s" * 32

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def _send_message(self, message: Message) -> None:
        self.sent.append(message.asbytes())

    def close(self) -> None:
        self.active = False


class FakePolicy:
    """Says what the test wants it to, and remembers what it was told; judging takes a while."""

    def __init__(self, says: Admitted | Refused, clock: list[float], takes: float) -> None:
        self.says = says
        self.told: list[tuple[str, str, bool]] = []
        self.greeted = False
        self._clock = clock
        self._takes = takes

    def decide(self, user: str, proof: Proof) -> Admitted | Refused:
        self._clock[0] += self._takes
        return self.says

    def admit(self, admitted: Admitted, method: str) -> bool:
        return True

    def record_refusal(
        self, user: str, method: str, credential: str, reason: Reason, *, probe: bool
    ) -> None:
        self.told.append((method, reason, probe))

    def change_password(self, user: str, credential: Credential, text: str) -> bool:
        raise NotImplementedError

    def after_login(self) -> None:
        self.greeted = True

    def banner(self) -> str:
        return "soon"


class Login:
    """A login under way, on a clock that only moves when somebody works or waits."""

    def __init__(self, says: Admitted | Refused, takes: float = 0.0) -> None:
        self.clock = [100.0]
        self.slept: list[float] = []
        self.transport = FakeTransport()
        self.policy = FakePolicy(says, self.clock, takes)
        self.handler = UserauthHandler(
            self.transport,  # type: ignore[arg-type]
            self.policy,
            monotonic=lambda: self.clock[0],
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.clock[0] += seconds

    def ask(self, *parts: object, user: str = "parti-a") -> None:
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


def admitted(proof: bytes) -> Admitted:
    name = fingerprint(proof)
    return Admitted(
        PARTY, Credential(CredentialKind.PUBLIC_KEY, "", name, "", SOON, None, "operator")
    )


def signed(login: Login, key: Ed25519Key, user: str = "parti-a") -> bytes:
    message = Message()
    message.add_string(login.transport.session_id)
    message.add_byte(b"\x32")
    for part in (user, b"ssh-connection", b"publickey", True, "ssh-ed25519", key.asbytes()):
        message.add(part)
    return key.sign_ssh_data(message.asbytes()).asbytes()


PROBE: tuple[object, ...] = (b"publickey", False, "ssh-ed25519", b"blob")
WORD: tuple[object, ...] = (b"password", False, "wrong")


@pytest.mark.parametrize(
    ("ask", "takes", "waits"),
    [
        (PROBE, 0.001, 0.009),
        (PROBE, 0.008, 0.002),
        (PROBE, 0.013, 0.007),
        (WORD, 0.1, 0.9),
        (WORD, 0.35, 0.65),
        (WORD, 1.2, 0.8),
    ],
)
def test_a_refusal_goes_out_on_the_beat(
    ask: tuple[object, ...], takes: float, waits: float
) -> None:
    login = Login(Refused(Reason.CREDENTIAL), takes)

    login.ask(*ask)

    assert login.slept == [waits]
    assert login.transport.sent == [NO]


def test_every_reason_is_answered_alike_but_recorded() -> None:
    for reason in Reason:
        if reason in (Reason.NOT_YET_OPEN, Reason.MUST_CHANGE):
            continue  # who holds the right credential is told what is missing
        for ask, method, probe in ((PROBE, "publickey", True), (WORD, "password", False)):
            login = Login(Refused(reason))
            login.ask(*ask)
            assert login.transport.sent == [NO]
            assert login.policy.told == [(method, reason, probe)]


def test_who_is_early_is_told_once(key: Ed25519Key) -> None:
    login = Login(Refused(Reason.NOT_YET_OPEN))

    login.ask(*WORD)
    login.ask(*WORD)

    banner = b"\x35\0\0\0\x04soon\0\0\0\x02tr"
    assert login.transport.sent == [banner, NO, NO]


def test_asking_for_the_methods_is_answered_at_once_and_no_attempt() -> None:
    login = Login(Refused(Reason.UNKNOWN_USER))

    login.ask(b"none")
    for _ in range(5):
        login.ask(*PROBE)

    assert login.slept == [0.01] * 5
    assert login.transport.sent == [NO] * 6
    assert login.transport.active


def test_the_sixth_attempt_is_the_last() -> None:
    login = Login(Refused(Reason.CREDENTIAL))

    for _ in range(9):
        login.ask(*PROBE)

    assert login.transport.sent[:5] == [NO] * 5
    assert len(login.transport.sent) == 6
    assert b"Too many authentication failures" in login.transport.sent[5]
    assert len(login.policy.told) == 6


def test_a_right_key_comes_in_without_waiting(key: Ed25519Key) -> None:
    login = Login(admitted(key.asbytes()), 0.003)

    login.ask(b"publickey", False, "ssh-ed25519", key.asbytes())
    login.ask(b"publickey", True, "ssh-ed25519", key.asbytes(), signed(login, key))

    asked, let_in = login.transport.sent
    assert (asked[0], let_in) == (60, b"\x34")
    assert login.slept == []
    assert login.policy.greeted
    assert login.transport.authenticated


@pytest.mark.parametrize(
    "spoil",
    [
        lambda login, key: signed(login, key)[:-1] + bytes([signed(login, key)[-1] ^ 1]),
        lambda login, key: signed(login, key, "parti-b"),
        lambda login, key: b"",
        lambda login, key: signed(login, key).replace(b"ed25519", b"ed25518"),
    ],
)
def test_a_wrong_signature_is_refused(
    key: Ed25519Key, spoil: Callable[[Login, Ed25519Key], bytes]
) -> None:
    login = Login(admitted(key.asbytes()))

    login.ask(b"publickey", True, "ssh-ed25519", key.asbytes(), spoil(login, key))

    assert login.transport.sent == [NO]
    assert login.policy.told == [("publickey", Reason.SIGNATURE, False)]
    assert not login.transport.authenticated


def test_another_user_on_the_same_connection_is_hung_up_on() -> None:
    login = Login(Refused(Reason.CREDENTIAL))

    login.ask(*PROBE)
    login.ask(*PROBE, user="parti-b")

    assert not login.transport.active


def test_what_was_judged_is_what_was_offered() -> None:
    seen: list[Proof] = []
    login = Login(Refused(Reason.CREDENTIAL))
    decide = login.policy.decide
    login.policy.decide = lambda user, proof: seen.append(proof) or decide(user, proof)  # type: ignore[method-assign]

    login.ask(*PROBE)
    login.ask(*WORD)

    assert seen == [Key(b"blob"), Password("wrong")]
