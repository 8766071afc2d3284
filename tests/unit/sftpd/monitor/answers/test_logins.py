"""The questions of a child, and what a child that was taken over could try with them."""

import base64
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack

import office
import pytest
from unit.fake_clock import FakeClock

from config import load
from config.party import parse_address
from config.site import SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Ring, fingerprint
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from keys.operations import ring_files
from keys.server_keys import host
from sftpd.access.revalidate import Revalidator, Rings
from sftpd.ipc.messages import Grant, LoginAnswer, Message, MessageKind
from sftpd.monitor.answers.logins import Answer, Logins, trees_for
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import ConnectionState, Monitor, ProtocolViolation

NOW = datetime(2023, 5, 14, 15, tzinfo=UTC)
HOME, OTHER = parse_address("127.0.0.1"), parse_address("192.0.2.66")
HASHES = "$argon2id$one", "$argon2id$two"
SIGN = Message(MessageKind.SIGN, (b"ssh-ed25519", b"ab" * 32, b"SSH-2.0-x", b"aes", b"mlkem"))
SESSION = bytes.fromhex("ab" * 32)


class FakeJudge:
    """Answers when the test says so; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.answers: list[Callable[..., object]] = []

    def check_password(
        self,
        hashes: list[str],
        password: str,
        answer: Callable[..., object],
        spent: Callable[[float], object],
    ) -> None:
        spent(0.5)
        self.asked.append((hashes, password))
        self.answers.append(answer)

    def hash_password(
        self, password: str, answer: Callable[..., object], _: Callable[[float], object]
    ) -> None:
        self.asked.append((password,))
        self.answers.append(answer)

    def verify(self, *question: object) -> None:
        *asked, answer, _ = question
        self.asked.append(tuple(asked))
        self.answers.append(answer)  # type: ignore[arg-type]

    def answer(self, *values: object) -> None:
        self.answers.pop(0)(*values)


class FakeSigner:
    """Signs everything that it is asked to sign."""

    def __init__(self) -> None:
        self.signed: list[tuple[object, ...]] = []

    def sign(
        self,
        algorithm: str,
        exchange_hash: bytes,
        answer: Callable[[list[bytes]], object],
        spent: Callable[[float], object],
    ) -> None:
        spent(0.25)
        self.signed.append((algorithm, exchange_hash))
        answer([b"signature"])

    def prove(
        self,
        numbers: list[int],
        session_id: bytes,
        algorithm: str,
        answer: Callable[[list[bytes]], object],
        _: Callable[[float], object],
    ) -> None:
        self.signed.append((numbers, session_id, algorithm))
        answer([b"proof"] * len(numbers))

    def begin_session(self) -> None:
        pass

    def end_session(self) -> None:
        pass


class FakeChanges:
    """Replaces no password; remembers which it was asked to replace."""

    def __init__(self) -> None:
        self.started: list[tuple[str, ...]] = []

    def start(
        self, party: str, credential: str, secret: str, origin: str, answer: Callable[..., object]
    ) -> bool:
        self.started.append((party, credential, secret, origin))
        answer(True)
        return True


class Desk:
    """A site with a party that has a key and two passwords, and a monitor."""

    def __init__(self, folder: Path) -> None:
        self.folder = office.site(folder)
        site_toml = self.folder / "site.toml"
        site_toml.write_text(
            site_toml.read_text().replace("[sftp]", "[sftp]\nmust_change_password = true")
        )
        host.create_key(self.folder / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
        line = host.create_key(self.folder / "clients" / "parti-a", "")
        self.blob = base64.b64decode(line.split()[1])
        since = NOW - timedelta(days=1)
        key = ring.key_credential(line, label="", not_before=since, not_after=None, added_by="t")
        names = [fingerprint(text.encode()) for text in HASHES]
        password = ring.CredentialKind.PASSWORD
        initial = ring.Credential(password, "", names[0], HASHES[0], since, None, "t")
        chosen = ring.Credential(password, "", names[1], HASHES[1], since, None, "t", True)
        self.set_ring(key, initial, chosen)
        self.credentials = key, initial, chosen
        self.tree = self.folder / "trees" / "parti-a"
        self.tree.mkdir(parents=True, exist_ok=True)
        self.settings = load.load(self.folder)
        self.revalidator = Revalidator(self.settings, lambda: NOW, Rings(self.folder))
        self.loop = Loop(FakeClock())
        self.charged: list[tuple[str, float]] = []
        self.ledger = Ledger(self.folder / "transfer", lambda: NOW)
        self.monitor = Monitor(self.loop, self.ledger, 2)
        self.judge, self.signer, self.changes = FakeJudge(), FakeSigner(), FakeChanges()
        self.monitor.host_keys = self.signer  # type: ignore[assignment]
        self.logins = Logins(
            self.monitor,
            self.judge,  # type: ignore[arg-type]
            self.revalidator,
            self.changes,  # type: ignore[arg-type]
            charge_login_cpu=lambda address, seconds: self.charged.append((str(address), seconds)),
        )
        self.logins.public_keys = {"ssh-ed25519"}

    def set_ring(self, *credentials: ring.Credential) -> None:
        ring_files.apply(self.folder, Ring("parti-a", credentials))

    def begin(self, address: str = "127.0.0.1") -> ConnectionState:
        """Return a connection whose first key exchange was signed."""
        state = self.monitor.begin(parse_address(address))
        assert self.ask(state, SIGN)[0].data[:1] == b"+"
        return state

    def ask(self, state: ConnectionState, message: Message) -> list[Answer]:
        """Ask a question, and return the list that will get its answer."""
        answers: list[Answer] = []
        self.logins.handle(state, message, answers.append)
        return answers

    def events(self) -> list[tuple[str, str, object]]:
        records = [record.event for record in read_records(self.folder / "transfer")]
        return [(e.event, e.who, e.detail.get("reason")) for e in records]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "site")
    with desk.ledger:
        yield desk
    desk.loop.close()


def key(blob: bytes, signature: bytes | None = None, user: bytes = b"parti-a") -> Message:
    texts = (user, b"ssh-ed25519", base64.b64encode(blob), base64.b64encode(signature or b""))
    return Message(MessageKind.KEY, texts, flag=signature is not None)


def password(text: bytes = b"x", method: bytes = b"password", user: bytes = b"parti-a") -> Message:
    return Message(MessageKind.PASSWORD, (user, method, text))


def string(data: bytes) -> bytes:
    return pack(">I", len(data)) + data


def test_the_hash_of_the_key_exchange_is_signed_once_before_the_login(desk: Desk) -> None:
    state = desk.monitor.begin(HOME)

    assert desk.ask(state, SIGN) == [Answer(b"+" + string(b"signature"))]
    with pytest.raises(ProtocolViolation, match="second key exchange"):
        desk.ask(state, SIGN)
    assert desk.signer.signed == [("ssh-ed25519", SESSION)]


@pytest.mark.parametrize(
    "hexadecimal",
    [b"", b"ab", b"ab" * 31, b"ab" * 33, b"ab" * 65, b"xy" * 32, (b"hostkeys-prove" * 9).hex()],
)
def test_nothing_but_the_hash_of_a_key_exchange_is_signed(
    desk: Desk, hexadecimal: bytes | str
) -> None:
    text = hexadecimal if isinstance(hexadecimal, bytes) else hexadecimal.encode()
    with pytest.raises(ProtocolViolation, match="not the hash"):
        desk.ask(desk.monitor.begin(HOME), SIGN._replace(texts=(SIGN.texts[0], text, *[b""] * 3)))
    assert desk.signer.signed == []


def test_key_exchanges_after_the_login_are_limited(desk: Desk) -> None:
    state = desk.begin()
    desk.monitor.admit(state, "parti-a", "publickey", "SHA256:x")

    answers = [desk.ask(state, SIGN)[0].data for _ in range(1200)]

    assert answers[0][:1] == b"+"
    assert answers[-1] == b"-"


def test_the_text_that_a_client_must_have_signed_is_made_by_the_monitor(desk: Desk) -> None:
    state = desk.begin()
    desk.ask(state, key(desk.blob, b"made"))

    [(algorithm, blob, text, signature)] = desk.judge.asked
    assert (algorithm, blob, signature) == ("ssh-ed25519", desk.blob, b"made")
    assert text == (
        string(SESSION)
        + b"\x32"
        + string(b"parti-a")
        + string(b"ssh-connection")
        + string(b"publickey")
        + b"\1"
        + string(b"ssh-ed25519")
        + string(desk.blob)
    )


def test_a_login_is_recorded_and_gets_its_tree_and_nothing_else(desk: Desk) -> None:
    state = desk.begin()
    answers = desk.ask(state, key(desk.blob, b"made"))
    assert (answers, state.party) == ([], None)

    desk.judge.answer(True)

    [answer] = answers
    assert answer.data[:1] == b"+"
    grant = Grant.unpack(answer.data[1:])
    assert (str(grant.scope), grant.tree, grant.paced) == ("all", True, False)
    assert grant.now == NOW
    assert answer.descriptor is not None
    assert os.fstat(answer.descriptor).st_ino == desk.tree.stat().st_ino
    os.close(answer.descriptor)
    assert desk.events() == [("login", "parti-a", None)]


@pytest.mark.parametrize("valid", [False, None])
def test_a_claimed_signature_does_not_log_in(desk: Desk, valid: bool | None) -> None:
    state = desk.begin()
    answers = desk.ask(state, key(desk.blob, b"made"))
    desk.judge.answer(valid)

    refused = LoginAnswer.NOT_RECORDED if valid is None else LoginAnswer.REFUSED
    assert answers == [Answer(refused.value)]
    assert state.party is None
    assert desk.events() == (
        [] if valid is None else [("login-refused", "parti-a", "wrong signature")]
    )


def test_a_probe_is_answered_without_a_login(desk: Desk) -> None:
    state = desk.begin()

    assert desk.ask(state, key(desk.blob)) == [Answer(b"k")]
    assert desk.ask(state, key(b"other")) == [Answer(b"-")]
    assert desk.ask(state, key(desk.blob, user=b"parti-b")) == [Answer(b"-")]
    assert (state.party, desk.judge.asked) == (None, [])


def test_a_key_that_is_revoked_while_its_signature_is_verified_does_not_log_in(desk: Desk) -> None:
    state = desk.begin()
    answers = desk.ask(state, key(desk.blob, b"made"))
    desk.set_ring(*desk.credentials[1:])

    desk.judge.answer(True)

    assert answers == [Answer(b"-")]
    assert desk.events() == [("login-refused", "parti-a", "wrong credential")]


def test_only_the_hashes_of_the_named_user_are_compared(desk: Desk) -> None:
    for user, hashes in ((b"parti-a", list(HASHES)), (b"parti-b", []), (b"../evil", [])):
        desk.ask(desk.begin(), password(b"x", user=user))
        assert desk.judge.asked.pop() == (hashes, "x")
        desk.judge.answer(True, None)


@pytest.mark.parametrize(
    ("matched", "answer", "event"),
    [
        (None, b"-", ("login-refused", "parti-a", "wrong credential")),
        (0, b"m", ("login-refused", "parti-a", "password must be changed")),
    ],
)
def test_a_password_is_refused_on_record(
    desk: Desk, matched: int | None, answer: bytes, event: tuple[str, str, str]
) -> None:
    answers = desk.ask(desk.begin(), password())
    desk.judge.answer(True, matched)

    assert answers == [Answer(answer)]
    assert desk.events() == [event]


def test_a_right_password_at_another_address_is_a_wrong_one(desk: Desk) -> None:
    answers = desk.ask(desk.begin(str(OTHER)), password())
    desk.judge.answer(True, 1)

    assert answers == [Answer(b"-")]
    assert desk.events() == [("login-refused", "parti-a", "wrong address")]


def test_the_answer_for_a_connection_that_has_ended_changes_nothing(desk: Desk) -> None:
    state = desk.begin()
    answers = desk.ask(state, password())
    desk.monitor.end(state, "killed")
    desk.judge.answer(True, 1)

    assert answers == []
    assert [event for event, *_ in desk.events()] == ["session-end"]


def test_only_the_password_that_was_proven_can_be_replaced(desk: Desk) -> None:
    change = Message(MessageKind.CHANGE, (b"a-new-password",))
    with pytest.raises(ProtocolViolation, match="initial password"):
        desk.ask(desk.begin(), change)
    chosen = desk.begin()
    desk.ask(chosen, password(method=b"keyboard-interactive"))
    desk.judge.answer(True, None)
    with pytest.raises(ProtocolViolation, match="initial password"):
        desk.ask(chosen, change)

    state = desk.begin()
    asked = desk.ask(state, password(method=b"keyboard-interactive"))
    desk.judge.answer(True, 0)
    answers = desk.ask(state, change)
    desk.judge.answer("$argon2id$new")

    assert (asked, answers) == ([Answer(b"m")], [Answer(b"+")])
    initial = desk.credentials[1].fingerprint
    assert desk.changes.started == [("parti-a", initial, "$argon2id$new", "127.0.0.1")]


@pytest.mark.parametrize(
    "message",
    [
        Message(MessageKind.KEY, (b"parti-a", b"ssh-ed25519", b"not base64!", b"")),
        Message(MessageKind.KEY, (b"parti-a", b"ssh-rsa", b"", b"")),
        Message(MessageKind.PASSWORD, (b"parti-a", b"publickey", b"x")),
    ],
)
def test_a_question_that_an_honest_child_would_not_ask_is_a_violation(
    desk: Desk, message: Message
) -> None:
    with pytest.raises(ProtocolViolation):
        desk.ask(desk.begin(), message)


def test_host_keys_are_proved_for_this_session_and_not_without_end(desk: Desk) -> None:
    state = desk.begin()
    desk.monitor.admit(state, "parti-a", "publickey", "SHA256:x")
    prove = Message(MessageKind.PROVE, (b"rsa-sha2-512", b"1,0"))

    assert desk.ask(state, prove) == [Answer(b"+" + 2 * string(b"proof"))]
    assert desk.signer.signed[-1] == ([1, 0], SESSION, "rsa-sha2-512")
    with pytest.raises(ProtocolViolation, match="PROVE of"):
        for _ in range(99):
            desk.ask(state, prove)
    with pytest.raises(ProtocolViolation, match="without numbers"):
        state.waiting = False
        desk.ask(state, prove._replace(texts=(b"rsa-sha2-512", b"x")))


def test_a_child_may_open_the_trees_of_the_parties_at_its_address_only(desk: Desk) -> None:
    parties = {str(path.relative_to(desk.folder)) for path in trees_for(desk.settings, HOME)}

    registered = {p.id for p in desk.settings.parties if p.registered(HOME)}
    assert {Path(path).name for path in parties} == registered
    assert trees_for(desk.settings, OTHER) == []


def test_what_other_processes_do_before_the_login_is_charged_to_the_address(desk: Desk) -> None:
    state = desk.begin()
    desk.ask(state, password())
    desk.judge.answer(True, None)
    desk.monitor.admit(state, "parti-a", "publickey", "SHA256:x")
    desk.ask(state, SIGN)

    assert desk.charged == [("127.0.0.1", 0.25), ("127.0.0.1", 0.5)]


def test_the_passwords_of_two_addresses_do_not_make_those_of_a_third_wait(desk: Desk) -> None:
    states = {}
    for address in ("127.0.0.1", "192.0.2.1"):
        for number in range(3):
            states[address, number] = desk.begin(address)
            desk.ask(states[address, number], password(f"{address} {number}".encode()))
    assert [text for _, text in desk.judge.asked] == ["127.0.0.1 0", "127.0.0.1 1", "192.0.2.1 0"]

    desk.ask(desk.begin("192.0.2.66"), password(b"other"))
    assert [text for _, text in desk.judge.asked[3:]] == ["other"]
    states["192.0.2.1", 1].ended = True  # its client has hung up: nothing to compare any more
    desk.judge.answer(True, None)
    assert [text for _, text in desk.judge.asked[4:]] == []
    desk.judge.answer(False, None)  # the judge has died
    assert [text for _, text in desk.judge.asked[4:]] == ["127.0.0.1 2"]
    for _ in range(4):
        desk.judge.answer(True, None)
    assert desk.judge.answers == []
    assert len(desk.logins._password_turns) == 0
