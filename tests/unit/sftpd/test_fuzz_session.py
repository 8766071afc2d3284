"""200,000 hostile packets at a session over a real tree, and what must hold after each of them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.sftpd.fuzz import (
    ANSWERS,
    KINDS,
    SECRET,
    STATUS,
    Attacker,
    Seen,
    Witness,
    in_pieces,
    seeded,
    set_trap,
    split,
)
from unit.sftpd.sftp_client import NOW, MemoryRecorder

from sftpd.sftp.session import ProtocolError, Session
from sftpd.sftp.view import View

PACKETS_A_SEED, SEEDS = 20_000, 10


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def hangs(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def trap(tree: Path) -> Path:
    set_trap(tree)
    return tree


def state(site: Path) -> dict[str, tuple[int, ...]]:
    """What would change on the disk if anything were written, created, removed or touched."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(site.rglob("*")):
        status = path.lstat()
        found[str(path)] = (
            *(status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_size),
            *(status.st_mtime_ns, status.st_ctime_ns),
        )
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, never opened


def resident() -> int:
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def greeted(view: View, kept: MemoryRecorder) -> Session:
    session = Session(view, kept, NOW)
    assert len(split(b"".join(session.feed(bytes.fromhex("00000005 01 00000003"))))) == 1
    return session


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_gets_its_one_reply_and_no_byte_comes_from_outside(
    site: Path, trap: Path, view: View, kept: MemoryRecorder, seed: int
) -> None:
    dice = seeded(seed)
    seen, before, open_before = Seen.of(trap), state(site), descriptors()
    used = 0
    attacker, witness = Attacker(dice, seen, trap), Witness(seen)
    session = greeted(view, kept)
    sent = 0
    with structlog.testing.capture_logs() as logged:
        while sent < PACKETS_A_SEED:
            batch = []
            for _ in range(dice.choice((1, 2, 5, 30, 100))):
                batch.append(attacker.packet(pack(">I", sent & 0xFFFFFFFF)))
                sent += 1
            replies = []
            for piece in in_pieces(dice, b"".join(batch)):
                for leaving in map(bytes, session.feed(piece)):
                    assert SECRET not in leaving
                    replies += split(leaving)
                    assert descriptors() - open_before <= 128
            assert len(replies) == len(batch)
            for asked, reply in zip(batch, replies, strict=True):
                witness.judge(asked, reply)
            attacker.handles = list(witness.held)
            kept.told.clear()
            if sent < PACKETS_A_SEED / 4:
                used = resident()
            if dice.random() < 0.02:
                session.end()
                assert descriptors() == open_before
                witness.held.clear()
                session = greeted(view, kept)
    session.end()

    assert logged == []
    assert descriptors() == open_before
    assert state(site) == before
    assert resident() - used < 3 << 20
    # The generator is worth something only if it got at all there is to get.
    assert set(ANSWERS.items()) <= witness.answers
    assert {(kind, STATUS) for kind in KINDS} <= witness.answers


@pytest.mark.parametrize("seed", range(4))
def test_what_is_no_protocol_drops_the_client_and_closes_its_handles(
    trap: Path, view: View, kept: MemoryRecorder, seed: int
) -> None:
    dice = seeded(seed)
    seen, open_before = Seen.of(trap), descriptors()
    ends = 0
    for _ in range(500):
        attacker = Attacker(dice, seen, trap)
        session = Session(view, kept, NOW)
        stream = bytearray()
        if dice.random() < 0.9:
            stream += bytes.fromhex("00000005 01 00000003")
        for number in range(dice.randrange(12)):
            stream += attacker.packet(pack(">I", number))
        stream += dice.choice(
            (
                pack(">I", 0),
                pack(">I", dice.choice((2**18 + 1025, 2**31, 2**32 - 1))) + b"\3" * 9,
                bytes.fromhex("00000005 01 00000003"),
                bytes.fromhex("00000001 03"),
                bytes.fromhex("00000004 05 000000"),
                dice.randbytes(50),
            )
        )
        try:
            for piece in in_pieces(dice, bytes(stream)):
                for leaving in map(bytes, session.feed(piece)):
                    assert SECRET not in leaving
                    split(leaving)
        except ProtocolError:
            ends += 1
        session.end()
        assert descriptors() == open_before
    assert ends > 400
    opened = {told[1] for told in kept.told if told[0] == "open"}
    closed = [told[1] for told in kept.told if told[0] == "close"]
    assert len(opened) > 2
    assert opened == set(closed)


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.builds(
                lambda kind, body: pack(">IB", 1 + len(body), kind) + body,
                st.integers(0, 255),
                st.binary(max_size=64),
            ),
            st.just(bytes.fromhex("00000005 01 00000003")),
        ),
        max_size=20,
    )
)
def test_any_bytes_at_all_are_answered_in_whole_packets_or_drop_the_client(
    pieces: list[bytes],
) -> None:
    view = View(Path("/nonexistent"))
    session = Session(view, MemoryRecorder(), NOW)
    with structlog.testing.capture_logs() as logged:
        try:
            for piece in pieces:
                for leaving in map(bytes, session.feed(piece)):
                    split(leaving)
        except ProtocolError:
            pass
        finally:
            session.end()
            view.close()
    assert logged == []


def test_a_stream_that_never_completes_a_packet_does_not_pile_up(
    view: View, kept: MemoryRecorder
) -> None:
    session = greeted(view, kept)
    used = resident()
    with pytest.raises(ProtocolError):
        for _ in range(1000):
            list(session.feed(pack(">I", 2**32 - 1) + bytes(1 << 16)))
    assert resident() - used < 4 << 20

    session = greeted(view, kept)
    list(session.feed(pack(">I", 2**18)))
    for _ in range(2**18 - 5):
        assert list(session.feed(b"")) == []
    assert resident() - used < 4 << 20
    session.end()
