"""Sends 200,000 hostile packets to a session over a real tree, and checks it after each."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from struct import pack

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_rest import slow_rest
from unit.sftpd.fuzz import (
    ANSWERS,
    KINDS,
    SECRET,
    STATUS,
    Attacker,
    ReplyChecker,
    VisibleTree,
    in_pieces,
    make_hostile_tree,
    seeded,
    split,
)
from unit.sftpd.sftp_client import NOW, MemoryRecorder

from sftpd.sftp.session import MAX_HANDLES, ProtocolError, Session
from sftpd.sftp.view import View

PACKETS_A_SEED, SEEDS = 20_000, 10


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def on_alarm(*_: object) -> None:
        raise AssertionError("the session hangs")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def hostile_tree(tree: Path) -> Path:
    make_hostile_tree(tree)
    return tree


def state(site: Path) -> dict[str, tuple[int, ...]]:
    """Everything on the disk that a write, a creation, a removal or a touch would change."""
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
    """Return the resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def initialized(view: View, recorder: MemoryRecorder) -> Session:
    session = Session(view, recorder, lambda: NOW)
    assert len(split(b"".join(session.feed(bytes.fromhex("00000005 01 00000003"))))) == 1
    return session


@pytest.mark.parametrize("seed", slow_rest(range(SEEDS), 2))
def test_every_request_gets_one_correct_reply_and_nothing_outside_the_tree_leaks(
    site: Path, hostile_tree: Path, view: View, recorder: MemoryRecorder, seed: int
) -> None:
    rng = seeded(seed)
    visible, before, open_before = VisibleTree.of(hostile_tree), state(site), descriptors()
    used = 0
    attacker, checker = Attacker(rng, visible, hostile_tree), ReplyChecker(visible)
    session = initialized(view, recorder)
    count = 0
    with structlog.testing.capture_logs() as logged:
        while count < PACKETS_A_SEED:
            batch = []
            for _ in range(rng.choice((1, 2, 5, 30, 100))):
                batch.append(attacker.packet(pack(">I", count & 0xFFFFFFFF)))
                count += 1
            replies = []
            for piece in in_pieces(rng, b"".join(batch)):
                for sent in map(bytes, session.feed(piece)):
                    assert SECRET not in sent
                    replies += split(sent)
                    assert descriptors() - open_before <= MAX_HANDLES
            assert len(replies) == len(batch)
            for request, reply in zip(batch, replies, strict=True):
                checker.check(request, reply)
            attacker.handles = list(checker.held)
            recorder.records.clear()
            if count < PACKETS_A_SEED / 4:
                used = resident()
            if rng.random() < 0.02:
                session.end()
                assert descriptors() == open_before
                checker.held.clear()
                session = initialized(view, recorder)
    session.end()

    assert logged == []
    assert descriptors() == open_before
    assert state(site) == before
    assert resident() - used < 3 << 20
    # The test proves something only if every request got each kind of reply.
    assert set(ANSWERS.items()) <= checker.answers
    assert {(kind, STATUS) for kind in KINDS} <= checker.answers


@pytest.mark.parametrize("seed", range(4))
def test_a_protocol_error_ends_the_session_and_closes_its_handles(
    hostile_tree: Path, view: View, recorder: MemoryRecorder, seed: int
) -> None:
    rng = seeded(seed)
    visible, open_before = VisibleTree.of(hostile_tree), descriptors()
    ends = 0
    for _ in range(500):
        attacker = Attacker(rng, visible, hostile_tree)
        session = Session(view, recorder, lambda: NOW)
        stream = bytearray()
        if rng.random() < 0.9:
            stream += bytes.fromhex("00000005 01 00000003")
        for number in range(rng.randrange(12)):
            stream += attacker.packet(pack(">I", number))
        stream += rng.choice(
            (
                pack(">I", 0),
                pack(">I", rng.choice((2**18 + 1025, 2**31, 2**32 - 1))) + b"\3" * 9,
                bytes.fromhex("00000005 01 00000003"),
                bytes.fromhex("00000001 03"),
                bytes.fromhex("00000004 05 000000"),
                rng.randbytes(50),
            )
        )
        try:
            for piece in in_pieces(rng, bytes(stream)):
                for sent in map(bytes, session.feed(piece)):
                    assert SECRET not in sent
                    split(sent)
        except ProtocolError:
            ends += 1
        session.end()
        assert descriptors() == open_before
    assert ends > 400
    opened = {record[1] for record in recorder.records if record[0] == "open"}
    closed = [record[1] for record in recorder.records if record[0] == "close"]
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
def test_any_bytes_get_whole_packets_or_end_the_session(
    pieces: list[bytes],
) -> None:
    view = View(Path("/no-such-tree"))
    session = Session(view, MemoryRecorder(), lambda: NOW)
    with structlog.testing.capture_logs() as logged:
        try:
            for piece in pieces:
                for sent in map(bytes, session.feed(piece)):
                    split(sent)
        except ProtocolError:
            pass
        finally:
            session.end()
            view.close()
    assert logged == []


def test_an_endless_packet_does_not_use_up_memory(view: View, recorder: MemoryRecorder) -> None:
    session = initialized(view, recorder)
    used = resident()
    with pytest.raises(ProtocolError):
        for _ in range(1000):
            list(session.feed(pack(">I", 2**32 - 1) + bytes(1 << 16)))
    assert resident() - used < 4 << 20

    session = initialized(view, recorder)
    list(session.feed(pack(">I", 2**18)))
    for _ in range(2**18 - 5):
        assert list(session.feed(b"")) == []
    assert resident() - used < 4 << 20
    session.end()
