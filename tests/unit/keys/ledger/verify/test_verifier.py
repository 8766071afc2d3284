import base64
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from unit.keys.ledger.removal import remove_oldest_segment
from unit.keys.ledger.signed_ledgers import KEY, Signed, write

from config.event import Event
from keys.ledger import note, segments
from keys.ledger.signer import Signer
from keys.ledger.verify import (
    Finding,
    FindingKind,
    LedgerFiles,
    VerificationResult,
    find_ledgers,
    verify_ledger,
)
from keys.ledger.writer import Ledger

Lines = list[bytes]
PUBLIC = KEY.public_key()


def path(folder: Path) -> Path:
    return folder / "000000000000.jsonl"


def lines(folder: Path) -> Lines:
    return path(folder).read_bytes().splitlines(keepends=True)


def verified(
    folder: Path, *kept: tuple[str, bytes], moved: tuple[Path, ...] = ()
) -> VerificationResult:
    return verify_ledger(LedgerFiles(folder, moved), [PUBLIC], kept)


def found(folder: Path, *kept: tuple[str, bytes]) -> list[tuple[FindingKind, int | None]]:
    return [(f.kind, f.record) for f in verified(folder, *kept).findings]


def without_hashes(folder: Path) -> None:
    for each in (*folder.glob("*.hashes"), *folder.glob("tree-*")):
        each.unlink()


def test_an_unchanged_ledger_has_no_findings(signed: Signed) -> None:
    result = verified(signed())

    assert result.findings == []
    assert (result.records, result.signed, result.heads) == (30, 30, 4)
    assert result.origin.startswith("ssps/transfer/")


def drop(at: int) -> Callable[[Lines], Lines]:
    return lambda found: found[:at] + found[at + 1 :]


def add(at: int, line: bytes) -> Callable[[Lines], Lines]:
    return lambda found: [*found[:at], line, *found[at:]]


def change(at: int, line: Callable[[bytes], bytes]) -> Callable[[Lines], Lines]:
    return lambda found: [*found[:at], line(found[at]), *found[at + 1 :]]


def move(at: int, to: int) -> Callable[[Lines], Lines]:
    def moved(found: Lines) -> Lines:
        rest = found[:at] + found[at + 1 :]
        return [*rest[:to], found[at], *rest[to:]]

    return moved


def renumbered(at: int) -> Callable[[Lines], Lines]:
    """Drop a line, and renumber those after it."""

    def closed(found: Lines) -> Lines:
        rest = [
            line.replace(b'"seq":%d,' % number, b'"seq":%d,' % (number - 1))
            for number, line in enumerate(found)
            if number > at
        ]
        return found[:at] + rest

    return closed


def another_party(line: bytes) -> bytes:
    return line.replace(b"parti-a", b"parti-b")


def another_number(line: bytes) -> bytes:
    return line.replace(b'"seq":12', b'"seq":99')


def once_more(at: int, to: int) -> Callable[[Lines], Lines]:
    return lambda found: [*found[:to], found[at], *found[to:]]


FORGERIES: list[tuple[str, Callable[[Lines], Lines], FindingKind, int, int | None]] = [
    # name, forgery, finding, its record, and its record if the hash files are missing
    ("another party", change(12, another_party), FindingKind.CHANGED, 12, None),
    ("another number", change(12, another_number), FindingKind.CHANGED, 12, 12),
    ("rubbish", change(12, lambda b: b"rubbish\n"), FindingKind.CHANGED, 12, 12),
    ("the first", change(0, another_party), FindingKind.CHANGED, 0, None),
    ("the last", change(29, another_party), FindingKind.CHANGED, 29, None),
    ("dropped", drop(12), FindingKind.DROPPED, 12, 12),
    ("the first dropped", drop(0), FindingKind.DROPPED, 0, 0),
    ("two dropped", lambda found: found[:12] + found[14:], FindingKind.DROPPED, 12, 12),
    ("dropped and closed up", renumbered(29 - 1), FindingKind.CHANGED, 28, None),
    ("added", add(12, b'{"new":1}\n'), FindingKind.ADDED, 12, 12),
    ("one twice", once_more(12, 13), FindingKind.ADDED, 13, 13),
    ("an old one once more", once_more(3, 20), FindingKind.ADDED, 20, 20),
    ("swapped", lambda f: [*f[:12], f[13], f[12], *f[14:]], FindingKind.REORDERED, 12, 12),
    ("moved back", move(25, 12), FindingKind.REORDERED, 12, 12),
    ("moved on", move(12, 25), FindingKind.REORDERED, 12, 12),
    ("all backwards", lambda f: f[::-1], FindingKind.REORDERED, 0, 0),
    ("cut short", lambda found: found[:17], FindingKind.CUT, 17, 17),
    ("emptied", lambda found: [], FindingKind.CUT, 0, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("forge", "kind", "record"), [f[1:4] for f in FORGERIES], ids=[f[0] for f in FORGERIES]
)
def test_a_forgery_is_named_with_its_first_record(
    signed: Signed, forge: Callable[[Lines], Lines], kind: FindingKind, record: int
) -> None:
    folder = signed()
    path(folder).write_bytes(b"".join(forge(lines(folder))))

    assert found(folder) == [(kind, record)]


@pytest.mark.parametrize(
    ("forge", "record"),
    [(f[1], f[4]) for f in FORGERIES if f[0] != "dropped and closed up"],
    ids=[f[0] for f in FORGERIES if f[0] != "dropped and closed up"],
)
def test_without_hash_files_a_forgery_is_named_by_number_or_range(
    signed: Signed, forge: Callable[[Lines], Lines], record: int | None
) -> None:
    folder = signed()
    path(folder).write_bytes(b"".join(forge(lines(folder))))
    without_hashes(folder)

    first, second = verified(folder).findings

    assert (first.record, second.kind) == (record, FindingKind.HASHES)
    if record is None:
        assert "one of the records" in first.text


def test_the_range_lies_between_two_checkpoints(signed: Signed) -> None:
    folder = signed()
    path(folder).write_bytes(path(folder).read_bytes().replace(b"/12.jpg", b"/21.jpg"))
    without_hashes(folder)

    first, _ = verified(folder).findings

    assert first.text == (
        "one of the records 10 to 19 was changed (checkpoints #2, signed at "
        "2023-05-14T17:10:00+03:00)"
    )


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_a_line_names_the_line(signed: Signed, bit: int) -> None:
    folder = signed(count=6, step=3)
    original = lines(folder)
    rng = random.Random(bit)  # noqa: S311 - any will do
    for number, line in enumerate(original):
        at = rng.randrange(len(line) - 1)
        flipped = bytearray(line)
        flipped[at] ^= 1 << bit
        if b"\n" in flipped[:-1]:
            continue
        changed = [*original[:number], bytes(flipped), *original[number + 1 :]]
        path(folder).write_bytes(b"".join(changed))

        assert found(folder) == [(FindingKind.CHANGED, number)]


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_a_checkpoint_is_found(signed: Signed, bit: int) -> None:
    folder = signed(count=3, step=3)
    original = (folder / segments.CHECKPOINT).read_bytes()
    for at in range(len(original)):
        flipped = bytearray(original)
        flipped[at] ^= 1 << bit
        (folder / segments.CHECKPOINT).write_bytes(flipped)

        (finding,) = verified(folder).findings
        assert finding.kind in (FindingKind.FORGED, FindingKind.ANOTHER_KEY)


def test_another_key_verifies_nothing(signed: Signed) -> None:
    result = verify_ledger(
        LedgerFiles(signed(count=10)), [Ed25519PrivateKey.generate().public_key()]
    )

    assert {f.kind for f in result.findings} == {FindingKind.ANOTHER_KEY}
    assert result.findings[0].text == ("checkpoint: not signed by any of the given keys")


def test_a_checkpoint_of_another_ledger_is_reported(signed: Signed) -> None:
    other = (signed("other", 10) / segments.CHECKPOINT).read_bytes()
    folder = signed()

    assert found(folder, ("old", other)) == [(FindingKind.ANOTHER_LOG, None)]
    (folder / segments.CHECKPOINT).write_bytes(other)
    assert (FindingKind.ANOTHER_LOG, None) in found(folder)


def test_a_ledger_extends_an_older_checkpoint(signed: Signed) -> None:
    folder = signed(count=10)
    old = (folder / segments.CHECKPOINT).read_bytes()
    write(folder, 10, 10)
    with Signer(folder, KEY) as signer:
        signer.sign(last=True)

    result = verified(folder, ("old", old))

    assert (result.findings, result.extends) == ([], ["old"])


def test_a_ledger_rewritten_and_signed_again_does_not_extend_an_older_checkpoint(
    signed: Signed, tmp_path: Path
) -> None:
    folder = signed(count=10)
    old = (folder / segments.CHECKPOINT).read_bytes()
    origin = note.unverified_checkpoint(old).origin
    forged = b"".join(lines(folder)).replace(b"/3.jpg", b"/4.jpg")
    for each in folder.iterdir():
        each.unlink()
    path(folder).write_bytes(forged)
    write(folder, 10, 10)
    with Signer(folder, KEY, token=lambda: origin.split("/")[-1]) as signer:
        signer.sign(last=True)

    assert found(folder) == []
    result = verified(folder, ("old", old))
    assert [f.kind for f in result.findings] == [FindingKind.REWRITTEN]
    assert result.findings[0].text.startswith("does not extend old (10 records)")
    assert result.extends == []


def test_a_ledger_restored_from_an_older_copy_does_not_extend_a_later_checkpoint(
    signed: Signed,
) -> None:
    folder = signed(count=10)
    kept = {each.name: each.read_bytes() for each in folder.iterdir()}
    write(folder, 10, 10)
    with Signer(folder, KEY) as signer:
        signer.sign(last=True)
    later = (folder / segments.CHECKPOINT).read_bytes()
    for name, content in kept.items():
        (folder / name).write_bytes(content)

    assert found(folder) == []
    (finding,) = verified(folder, ("later", later)).findings
    assert finding == Finding(
        FindingKind.REWRITTEN,
        10,
        "does not extend later (20 records): it ends before record 10",
    )


def test_a_ledger_without_checkpoints_is_unsigned(signed: Signed) -> None:
    folder = signed()
    (folder / segments.CHECKPOINT).unlink()
    (folder / segments.CHECKPOINTS).unlink()

    assert found(folder) == [(FindingKind.UNSIGNED, None)]


def test_an_empty_ledger_needs_no_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    with Ledger(folder):
        pass

    assert found(folder) == []


def test_unsigned_records_are_checked_by_their_numbers(
    signed: Signed,
) -> None:
    folder = signed()
    write(folder, 5, 30)
    original = lines(folder)

    result = verified(folder)
    assert (result.findings, result.records, result.signed) == ([], 35, 30)
    path(folder).write_bytes(b"".join(drop(32)(original)))
    assert found(folder) == [(FindingKind.DROPPED, 32)]
    path(folder).write_bytes(b"".join(original)[:-9])
    assert found(folder) == []


def test_compressed_segments_verify_and_a_missing_one_is_reported(signed: Signed) -> None:
    folder = signed(size=1500)
    with Signer(folder, KEY) as signer:
        while signer.compress_next():
            pass
    assert found(folder) == []
    first, second, *_ = segments.list_segments(folder)

    first.path.unlink()

    result = verified(folder)
    assert [(f.kind, f.record) for f in result.findings] == [(FindingKind.REMOVED, 0)]
    assert result.removed == second.first
    assert result.findings[0].text == (
        f"records 0 to {second.first - 1} are missing, and no record says why"
    )
    (folder / "000000000000.hashes").unlink()
    assert (FindingKind.DROPPED, 0) in found(folder)


def test_a_ledger_whose_segments_an_earlier_version_removed_verifies(signed: Signed) -> None:
    folder = signed(size=1500)
    while len(segments.list_segments(folder)) > 2:
        remove_oldest_segment(folder)
    with Signer(folder, KEY) as signer:
        signer.sign(last=True)

    result = verified(folder)

    assert result.findings == []
    assert result.removed > 10
    last = segments.list_segments(folder)[0]
    last.path.write_bytes(last.path.read_bytes().replace(b".jpg", b".png", 1))
    assert [f.kind for f in verified(folder).findings] == [FindingKind.CHANGED]


def test_segments_on_another_disk_verify_with_the_rest(signed: Signed, tmp_path: Path) -> None:
    folder = signed(size=1500)
    disk = tmp_path / "disk-2"
    disk.mkdir()
    oldest, second, *_ = segments.list_segments(folder)
    for segment in (oldest, second):
        shutil.move(segment.path, disk)

    (ledger,) = find_ledgers([folder, disk])
    result = verify_ledger(ledger, [PUBLIC])

    assert ledger == LedgerFiles(folder, (disk,))
    assert (result.findings, result.records, result.removed) == ([], 30, 0)
    moved = disk / oldest.path.name
    moved.write_bytes(moved.read_bytes().replace(b"/2.jpg", b"/7.jpg"))
    (finding,) = verified(folder, moved=(disk,)).findings
    assert (finding.kind, finding.record) == (FindingKind.CHANGED, 2)


def test_segments_behind_symbolic_links_verify(signed: Signed, tmp_path: Path) -> None:
    folder = signed(size=1500)
    oldest = segments.list_segments(folder)[0].path
    shutil.move(oldest, tmp_path / "elsewhere.jsonl")
    oldest.symlink_to(tmp_path / "elsewhere.jsonl")

    result = verified(folder)

    assert (result.findings, result.records, result.removed) == ([], 30, 0)


def test_a_copy_without_checkpoints_is_not_taken_for_moved_segments(
    signed: Signed, tmp_path: Path
) -> None:
    folder = signed()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(path(folder), copy)

    assert find_ledgers([copy, folder]) == [LedgerFiles(folder), LedgerFiles(copy)]


def test_segments_of_another_ledger_are_not_joined(signed: Signed, tmp_path: Path) -> None:
    folder, other = signed(size=1500), signed("other", 12, 4, 1500)
    disk = tmp_path / "disk-2"
    disk.mkdir()
    shutil.move(segments.list_segments(folder)[0].path, tmp_path)
    moved = shutil.move(segments.list_segments(other)[0].path, disk)
    Path(moved).write_bytes(Path(moved).read_bytes().replace(b"parti-a", b"parti-b"))

    assert find_ledgers([folder, disk]) == [LedgerFiles(folder), LedgerFiles(disk)]


def test_a_damaged_compressed_segment_is_named(signed: Signed) -> None:
    folder = signed(size=1500)
    with Signer(folder, KEY) as signer:
        signer.compress_next()
    packed = folder / "000000000000.jsonl.gz"
    packed.write_bytes(packed.read_bytes()[:-20])

    (finding,) = verified(folder).findings

    assert finding.kind is FindingKind.UNREADABLE
    assert "000000000000.jsonl.gz" in finding.text


def test_an_independent_implementation_of_the_specifications_agrees(
    signed: Signed, public: Path
) -> None:
    """It implements RFC 6962 2.1 and C2SP signed-note and tlog-checkpoint without our code."""

    def mth(leaves: list[bytes]) -> bytes:
        if len(leaves) < 2:
            return sha256(b"\x00" + leaves[0]).digest() if leaves else sha256(b"").digest()
        k = 1
        while 2 * k < len(leaves):
            k = 2 * k
        return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()

    folder = signed(count=1000, step=500, size=50_000)
    key = load_ssh_public_key(public.read_bytes())
    text, _, signatures = (folder / "checkpoint").read_text().rpartition("\n\n")
    text += "\n"
    origin, size, root, *_ = text.split("\n")
    dash, name, signature = signatures.rstrip("\n").split(" ")
    raw = base64.b64decode(signature)
    wanted = sha256(name.encode() + b"\n\x01" + key.public_bytes_raw()).digest()  # type: ignore[union-attr]
    leaves = []
    for each in sorted(folder.glob("*.jsonl")):
        leaves += [line + b"\n" for line in each.read_bytes().split(b"\n")[:-1]]

    assert (dash, name, raw[:4]) == ("—", origin, wanted[:4])
    key.verify(raw[4:], text.encode())  # type: ignore[call-arg]
    assert int(size) == len(leaves) == 1000
    assert base64.b64decode(root) == mth(leaves)
    assert verified(folder).findings == []


CRASHES = """
import os, sys
from pathlib import Path
from config.event import Event
from keys.ledger.writer import Ledger
with Ledger(Path(sys.argv[1])) as writer:
    while True:
        writer.append(Event("open", "parti-a", "192.0.2.7", "/a.jpg"))
        if writer.next_seq % 50 == 0:
            print(writer.next_seq, flush=True)
"""


def test_after_a_power_loss_the_signed_records_verify(tmp_path: Path) -> None:
    """Records that were synced when they were signed survive; later ones may be lost."""
    folder = tmp_path / "transfer"
    rng = random.Random(7)  # noqa: S311 - any will do
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", CRASHES, folder], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            with Signer(folder, KEY) as signer:
                signer.sign()
                durable = segments.list_segments(folder)[-1].path.stat().st_size
                signer.sign()
            process.kill()
        newest = segments.list_segments(folder)[-1].path
        signed_for = signer.checkpoint
        assert signed_for is not None
        whole = newest.read_bytes()
        kept = len(b"".join(whole.splitlines(keepends=True)[: signed_for.size]))
        assert kept <= len(whole) and durable <= len(whole)
        newest.write_bytes(whole[: rng.randint(kept, len(whole))])
        for hashes in folder.glob("*.hashes"):  # blocks that were never synced may be zero
            hashes.write_bytes(hashes.read_bytes()[:-320] + b"\0" * 320)

        with Ledger(folder) as after:
            after.append(Event("open", "parti-a", "", "/b.jpg"))
        with Signer(folder, KEY) as again:
            again.sign(last=True)
        assert verified(folder).findings == []
