import gzip
import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.keys.ledger.removal import remove_oldest_segment

from config.event import Event
from keys.ledger import merkle, note, segments
from keys.ledger import writer as ledger
from keys.ledger.note import Checkpoint
from keys.ledger.signer import LedgerMismatch, Signer
from keys.ledger.tiles import HashReader, HashWriter
from keys.ledger.writer import Ledger, WritePolicy

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg", detail={"handle": 4, "size": 10})
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key()
SMALL = WritePolicy(segment_bytes=1000)


class ManualClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def write(folder: Path, count: int, policy: WritePolicy = ledger.DEFAULT_POLICY) -> None:
    with Ledger(folder, lambda: NOON, policy=policy) as writer:
        for _ in range(count):
            writer.append(OPENED)


def signer(folder: Path, clock: Callable[[], datetime] = lambda: NOON) -> Signer:
    return Signer(folder, KEY, clock, token=lambda: "5f0c9b1e8a63d274")


def lines(folder: Path) -> list[bytes]:
    return [line for _, _, line in segments.read_lines(folder)]


def root(found: list[bytes]) -> bytes:
    growing = merkle.MerkleTree()
    for line in found:
        growing.append(merkle.hash_leaf(line))
    return growing.root()


def signed(folder: Path) -> Checkpoint:
    message = segments.read_checkpoint(folder)
    assert message is not None
    return note.open_checkpoint(message, [PUBLIC])


def history(folder: Path) -> list[int]:
    found = note.split_notes((folder / segments.CHECKPOINTS).read_bytes())
    return [note.open_checkpoint(message, [PUBLIC]).size for message in found]


def test_the_signed_root_is_that_of_the_lines(tmp_path: Path) -> None:
    write(tmp_path, 3)

    with signer(tmp_path) as mine:
        found = mine.sign()

    assert found == Checkpoint("ssps/" + tmp_path.name + "/5f0c9b1e8a63d274", 3, found.root, NOON)  # type: ignore[union-attr]
    assert signed(tmp_path) == found
    assert signed(tmp_path).root == root(lines(tmp_path))


def test_an_empty_ledger_is_not_signed(tmp_path: Path) -> None:
    with signer(tmp_path) as mine:
        assert mine.sign(last=True) is None
    assert segments.read_checkpoint(tmp_path) is None


def test_only_new_complete_lines_are_read(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as writer, signer(tmp_path) as mine:
        writer.append(OPENED)
        assert mine.sign() is not None
        assert mine.sign() is None
        for _ in range(700):
            writer.append(OPENED)
        with segments.list_segments(tmp_path)[-1].path.open("ab") as file:
            file.write(b'{"detail"')
        mine.sign()

    assert signed(tmp_path).size == 701
    assert signed(tmp_path).root == root(lines(tmp_path))


@pytest.mark.parametrize("count", [1, 255, 256, 257, 600])
def test_the_next_signer_continues_without_reading_the_whole_ledger(
    tmp_path: Path, count: int
) -> None:
    write(tmp_path, count)
    with signer(tmp_path) as first:
        first.sign()
    origin = signed(tmp_path).origin
    before = segments.list_segments(tmp_path)[0].path
    original = before.read_bytes()
    before.write_bytes(original.replace(b"parti-a", b"parti-x", 1))
    write(tmp_path, 2)

    with Signer(tmp_path, KEY) as second:
        second.sign()

    assert (signed(tmp_path).size, signed(tmp_path).origin) == (count + 2, origin)
    before.write_bytes(before.read_bytes().replace(b"parti-x", b"parti-a", 1))
    assert signed(tmp_path).root == root(lines(tmp_path))


@pytest.mark.parametrize("lost", ["*.hashes", "tree-8", "*.hashes tree-8"])
def test_lost_or_damaged_hashes_are_computed_again(tmp_path: Path, lost: str) -> None:
    write(tmp_path, 600, SMALL)
    with signer(tmp_path) as first:
        first.sign()
    for pattern in lost.split():
        for path in tmp_path.glob(pattern):
            path.write_bytes(path.read_bytes()[:-32] + b"\x00" * 32)
    write(tmp_path, 1, SMALL)

    with signer(tmp_path) as second:
        second.sign()

    assert signed(tmp_path).root == root(lines(tmp_path))
    found = HashReader(tmp_path)
    assert merkle.root_hash(601, found.node) == signed(tmp_path).root
    for path in tmp_path.glob("*.hashes"):
        path.unlink()
    with signer(tmp_path):
        assert merkle.root_hash(601, HashReader(tmp_path).node) == signed(tmp_path).root
    assert not list(tmp_path.glob("*.new"))


def test_hashes_that_were_not_synced_before_a_power_loss_are_computed_again(tmp_path: Path) -> None:
    with signer(tmp_path) as first:
        write(tmp_path, 300)
        first.sign()
        write(tmp_path, 300)
        first.sign()
    assert history(tmp_path) == [300]
    hashes = tmp_path / "000000000000.hashes"
    right = hashes.read_bytes()
    hashes.write_bytes(right[: 400 * 32] + bytes(32) + right[401 * 32 :])  # tree-8 hides it

    with signer(tmp_path):
        assert hashes.read_bytes() == right


@pytest.mark.parametrize("left", [0, 1, None])
def test_a_file_of_roots_that_a_power_loss_cut_is_made_again(
    tmp_path: Path, left: int | None
) -> None:
    with signer(tmp_path) as first:
        write(tmp_path, 300)
        first.sign()
        write(tmp_path, 500)
        first.sign()
    roots = tmp_path / "tree-8"
    right = roots.read_bytes()
    assert len(right) == 3 * 32
    if left is None:
        roots.unlink()
    else:
        os.truncate(roots, left * 32)

    with signer(tmp_path):
        assert roots.read_bytes() == right


def test_hashes_are_synced_before_a_checkpoint_enters_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, list[str]()

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    with signer(tmp_path) as mine:
        write(tmp_path, 300)
        monkeypatch.setattr(os, "fsync", noted)
        mine.sign()

    assert synced[-3:] == ["000000000000.hashes", "tree-8", "checkpoints"]


def test_hashes_of_a_killed_signer_are_synced_before_a_checkpoint_enters_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 300, SMALL)
    with signer(tmp_path) as first:
        first.sign()
    write(tmp_path, 300, SMALL)
    clock = ManualClock()
    with signer(tmp_path, clock) as killed:
        killed.sign()  # within the minute, so the history has no checkpoint of it
    assert history(tmp_path) == [300]
    real, synced = os.fsync, set[str]()

    def noted(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    with signer(tmp_path, clock) as mine:
        monkeypatch.setattr(os, "fsync", noted)
        clock.move(61)
        write(tmp_path, 1, SMALL)
        mine.sign()

    assert history(tmp_path) == [300, 601]
    files = [(int(path.name[:12]), path) for path in sorted(tmp_path.glob("*.hashes"))]
    added = [path.name for n, path in files if n + path.stat().st_size // 32 > 300]
    assert len(added) > 1
    assert synced >= {*added, "tree-8"}


@pytest.mark.slow
def test_roots_of_subtrees_that_were_damaged_long_ago_are_computed_again_at_a_start(
    tmp_path: Path,
) -> None:
    write(tmp_path, 1)
    [segment] = segments.list_segments(tmp_path)
    line = segment.path.read_bytes()
    assert line.count(b'"seq":0,') == 1
    lines = (line.replace(b'"seq":0,', b'"seq":%d,' % n) for n in range(1 << 16))
    segment.path.write_bytes(b"".join(lines))
    with signer(tmp_path) as first:
        first.sign(last=True)
    roots = tmp_path / "tree-8"
    before = roots.read_bytes()
    roots.write_bytes(before[: 3 * 32] + bytes(32) + before[4 * 32 :])

    reports: list[tuple[Path, int, int]] = []

    with Signer(tmp_path, KEY, report=lambda *stated: reports.append(stated)):
        assert roots.read_bytes() == before
    assert reports == [(tmp_path, 0, 1 << 16)]


def test_a_shortened_ledger_is_not_signed(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with signer(tmp_path) as first:
        first.sign()
    path = segments.list_segments(tmp_path)[0].path
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))

    with pytest.raises(LedgerMismatch, match="has 4 records, but 5 were signed"):
        signer(tmp_path)


def test_a_changed_ledger_is_not_signed_when_it_is_read_again(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with signer(tmp_path) as first:
        first.sign()
    path = segments.list_segments(tmp_path)[0].path
    path.write_bytes(path.read_bytes().replace(b"parti-a", b"parti-x", 1))
    hashes = tmp_path / "000000000000.hashes"
    evidence = hashes.read_bytes()[:-1]
    hashes.write_bytes(evidence)

    with pytest.raises(LedgerMismatch, match="`ssps audit verify` names the record"):
        signer(tmp_path)
    assert hashes.read_bytes() == evidence


def test_a_new_key_signs_only_if_the_former_key_is_known(
    tmp_path: Path,
) -> None:
    write(tmp_path, 5)
    with signer(tmp_path) as first:
        first.sign()
    fresh = Ed25519PrivateKey.generate()

    with pytest.raises(LedgerMismatch, match="not signed by a key of this site"):
        Signer(tmp_path, fresh)
    with Signer(tmp_path, fresh, former=[PUBLIC]) as second:
        write(tmp_path, 1)
        second.sign()
    message = segments.read_checkpoint(tmp_path)
    assert message is not None
    assert note.open_checkpoint(message, [fresh.public_key()]).size == 6


def test_the_history_has_one_checkpoint_a_minute_and_the_last_one(tmp_path: Path) -> None:
    clock = ManualClock()
    with Ledger(tmp_path, clock) as writer, signer(tmp_path, clock) as mine:
        for _ in range(5):
            writer.append(OPENED)
            mine.sign()
            clock.move(30)
        writer.append(OPENED)
        mine.sign(last=True)

    assert history(tmp_path) == [1, 3, 5, 6]


def test_an_incomplete_checkpoint_in_the_history_is_removed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with signer(tmp_path) as first:
        first.sign()
    with (tmp_path / segments.CHECKPOINTS).open("ab") as file:
        file.write(b"ssps/x\n5\n")
    write(tmp_path, 1)

    with signer(tmp_path) as second:
        second.sign(last=True)

    assert history(tmp_path) == [1, 2]


def test_compressed_segments_read_the_same(tmp_path: Path) -> None:
    write(tmp_path, 40, SMALL)
    before = lines(tmp_path)
    names = [segment.path.name for segment in segments.list_segments(tmp_path)]
    with signer(tmp_path) as mine:
        assert mine.compress_next() is None  # only signed segments are compressed
        mine.sign()
        packed = 0
        while mine.compress_next() is not None:
            packed += 1

    assert packed == len(names) - 1 > 2
    assert lines(tmp_path) == before
    assert [r.seq for r in segments.read_records(tmp_path, 17)] == list(range(17, 40))
    assert segments.next_seq(tmp_path) == 40
    assert gzip.decompress((tmp_path / "000000000000.jsonl.gz").read_bytes()).startswith(before[0])
    for path in tmp_path.glob("*.hashes"):
        path.unlink()
    write(tmp_path, 1, SMALL)
    with signer(tmp_path) as second:
        second.sign()
    assert signed(tmp_path).root == root(lines(tmp_path))


def test_a_ledger_whose_segments_an_earlier_version_removed_is_still_signed(tmp_path: Path) -> None:
    write(tmp_path, 40, SMALL)
    with signer(tmp_path) as mine:
        mine.sign()
    every = lines(tmp_path)

    removed = remove_oldest_segment(tmp_path)
    with signer(tmp_path) as second:
        second.sign()

    assert signed(tmp_path).root == root(every[:removed] + lines(tmp_path))
    for path in tmp_path.glob("tree-*"):
        path.unlink()
    with signer(tmp_path) as third:
        assert third.checkpoint == signed(tmp_path)


def test_a_sealed_segment_is_never_deleted(tmp_path: Path) -> None:
    write(tmp_path, 40, SMALL)
    with signer(tmp_path) as mine:
        mine.sign()

    write(tmp_path, 40, SMALL)

    assert [r.seq for r in segments.read_records(tmp_path)] == list(range(80))


def test_a_line_written_while_it_is_read_is_hashed_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 3)
    path = segments.list_segments(tmp_path)[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    real = HashWriter.add

    def meanwhile(self: HashWriter, segment: int, found: Iterable[bytes]) -> None:
        real(self, segment, found)
        path.write_bytes(whole)

    monkeypatch.setattr(HashWriter, "add", meanwhile)
    with signer(tmp_path) as mine:
        mine.sign()
        mine.sign()

    assert signed(tmp_path).root == root(whole.splitlines(keepends=True))


def test_lines_that_the_writer_truncated_on_a_full_disk_are_not_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 3)
    path = segments.list_segments(tmp_path)[0].path
    whole = path.read_bytes()
    real = os.fdatasync

    def meanwhile(descriptor: int) -> None:
        real(descriptor)
        path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))

    with signer(tmp_path) as mine:
        monkeypatch.setattr(os, "fdatasync", meanwhile)
        assert mine.sign() is None
        monkeypatch.undo()
        write(tmp_path, 2)
        mine.sign()

    assert signed(tmp_path).size == 4
    assert signed(tmp_path).root == root(lines(tmp_path))


def test_a_writer_that_never_pauses_does_not_block_signing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 3)
    real = os.fdatasync
    syncs = 0

    def meanwhile(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        assert syncs < 5, "runs after the writer"
        real(descriptor)
        with monkeypatch.context() as other:
            other.setattr(os, "fdatasync", real)  # the writer syncs too
            write(tmp_path, 1)

    with signer(tmp_path) as mine:
        monkeypatch.setattr(os, "fdatasync", meanwhile)
        made = mine.sign()
        assert made is not None
        assert made.size == 3
        made = mine.sign()
        assert made is not None
        assert made.size == 4


def test_what_could_not_be_signed_is_signed_at_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write(tmp_path, 3)
    with signer(tmp_path) as mine:
        monkeypatch.setattr("keys.files.replace", full)
        with pytest.raises(OSError, match="No space left"):
            mine.sign()
        monkeypatch.undo()
        assert mine.sign() is not None

    assert signed(tmp_path).size == 3
