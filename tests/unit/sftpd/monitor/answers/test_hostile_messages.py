"""Messages of a session that was taken over: each is answered, or ends that session alone."""

import base64
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from unit.sftpd.fuzz import seeded
from unit.sftpd.monitor.answers.test_logins import SIGN, Desk

from config.party import parse_address
from keys.ledger.segments import read_records
from sftpd.ipc.messages import QUESTIONS, Message, MessageKind, pack, unpack
from sftpd.monitor.monitor import ConnectionState, ProtocolViolation
from sftpd.monitor.records.stamps import StampChecker

ADDRESS = parse_address("127.0.0.1")
SEAL = f"{64 * 'a'} {40 * 'b'} {32 * 'c'}"
TEXTS = [
    *(b"", b"x", b"\xff\xfe", "ğ".encode(), "١".encode(), b"\xed\xa0\x80", b"a\nb", b"\x01"),
    *(b"-1", b"1e9", b"9" * 4000, b",", b"0,1,2", b"../..", b"many", b"closed", b"no such file"),
    *(b"parti-a", b"publickey", b"password", b"ssh-ed25519", b"ab" * 32, b"sha256"),
    *(base64.b64encode(b"x" * size) for size in (0, 32, 64)),
    *(f"1 2 3 4 v1 {at} {SEAL} {mac}".encode() for at in (5, "9" * 500, "x") for mac in ("d", "ğ")),
]
REFUSED = {
    MessageKind.KEY: (False,),
    MessageKind.PASSWORD: (True, None),
    MessageKind.CHANGE: (None,),
}
NUMBERS = (0, 1, 2, 1 << 30, (1 << 32) - 1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "site")
    desk.monitor.stamps = StampChecker(lambda _: bytes(32))
    with desk.ledger:
        yield desk
    desk.loop.close()


def any_message(chance: random.Random) -> Message:
    kind = chance.choice(list(MessageKind))
    texts = [chance.choice(TEXTS) for _ in kind.texts]
    if texts and chance.random() < 0.2:
        texts[-1] = bytes(chance.randrange(1, 256) for _ in range(chance.randrange(40)))
    numbers = chance.choice(NUMBERS), chance.choice((*NUMBERS, (1 << 53) - 1))
    return Message(kind, tuple(texts), *numbers, chance.random() < 0.5)


def send(desk: Desk, state: ConnectionState, message: Message) -> None:
    """Give the monitor a message as it arrives."""
    [received] = unpack(pack(message))
    if received.kind.letter in QUESTIONS:
        desk.ask(state, received)
        while desk.judge.answers:
            desk.judge.answer(*REFUSED[received.kind])
    else:
        desk.monitor.handle_messages(state, received)


@pytest.mark.parametrize("logged_in", [False, True])
def test_any_message_is_answered_or_is_a_violation(desk: Desk, logged_in: bool) -> None:
    chance = seeded(5)
    for _ in range(400):
        state = desk.monitor.begin(ADDRESS)
        if chance.random() < 0.9:
            send(desk, state, SIGN)
        if logged_in:
            desk.monitor.admit(state, "parti-a", "publickey", "SHA256:x")
        with suppress(ProtocolViolation, ValueError):
            for _ in range(12):
                send(desk, state, any_message(chance))
        desk.monitor.end(state, "killed")

    records = [record.event.event for record in read_records(desk.folder / "transfer")]
    assert records.count("session-end") == 400
