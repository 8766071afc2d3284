import fcntl
from datetime import timedelta
from pathlib import Path

import pytest
from unit.keys.ledger.signed_ledgers import KEY, NOON, make_signed, write

from config.event import Event
from keys.ledger import segments, unconfirmed
from keys.ledger.record import Record, format_record
from keys.ledger.signer import Signer
from keys.ledger.unconfirmed import Unconfirmed
from keys.ledger.writer import Ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of ten signed records."""
    return make_signed(tmp_path / "transfer", 10)


def events(folder: Path) -> list[str]:
    return [record.event.event for record in segments.read_records(folder)]


def add_by_hand(folder: Path, *lines: bytes) -> None:
    with (folder / f"{0:012}.jsonl").open("ab") as file:
        file.write(b"".join(lines))


def record(seq: int) -> bytes:
    return format_record(Record(seq, NOON, 1, Event("open", "parti-b", "192.0.2.9", "/x")))


def test_records_behind_the_newest_checkpoint_are_marked(folder: Path) -> None:
    add_by_hand(folder, record(10), record(11))

    with Ledger(folder, lambda: NOON) as ledger:
        found = unconfirmed.mark(ledger, folder, 0)

    assert found == Unconfirmed("transfer", 10, 2)
    assert str(found).startswith(
        "records 10 to 11 were not signed when the ledger was opened again"
    )
    last = list(segments.read_records(folder))[-1]
    assert (last.seq, last.event.event) == (12, "unconfirmed")
    assert last.event.detail == {"first": 10, "records": 2}
    marks = unconfirmed.marks_in(segments.list_segments(folder), "transfer")
    assert list(marks) == [Unconfirmed("transfer", 10, 2, seq=12)]
    line = unconfirmed.format_line(found)
    assert (line, unconfirmed.parse_line(line)) == ("transfer 10 2", found)


def test_marked_records_are_not_marked_again_before_they_are_signed(folder: Path) -> None:
    add_by_hand(folder, record(10))
    for marked in (Unconfirmed("transfer", 10, 1), None):
        with Ledger(folder, lambda: NOON) as ledger:
            assert unconfirmed.mark(ledger, folder, 0) == marked

    assert events(folder)[10:] == ["open", "unconfirmed"]


def test_a_ledger_whose_last_record_is_signed_gets_no_mark(folder: Path, tmp_path: Path) -> None:
    for place in (folder, tmp_path / "empty"):
        with Ledger(place, lambda: NOON) as ledger:
            assert unconfirmed.mark(ledger, place, 0) is None

    assert "unconfirmed" not in events(folder)


def test_the_record_of_a_repair_by_the_new_writer_does_not_count(folder: Path) -> None:
    add_by_hand(folder, b'{"half')

    with Ledger(folder, lambda: NOON) as ledger:
        assert unconfirmed.mark(ledger, folder, 0) is None

    assert events(folder)[10:] == ["recovered"]


def test_a_signer_that_still_works_confirms_the_records(folder: Path) -> None:
    write(folder, 1, 10)
    with Signer(folder, KEY), Ledger(folder, lambda: NOON) as ledger:
        assert unconfirmed.mark(ledger, folder, 0) is None
        # It may hang: then nothing vouches for the record.
        assert unconfirmed.mark(ledger, folder, 0.05) == Unconfirmed("transfer", 10, 1)


def test_marking_waits_until_the_signer_has_finished(folder: Path, tmp_path: Path) -> None:
    write(folder, 1, 10)
    signer = Signer(folder, KEY, lambda: NOON)
    taken = fcntl.flock

    def sign_at_the_first_try(descriptor: int, how: int) -> None:
        try:
            taken(descriptor, how)
        except BlockingIOError:
            signer.sign(last=True)
            signer.close()
            raise

    with pytest.MonkeyPatch.context() as patch, Ledger(folder, lambda: NOON) as ledger:
        patch.setattr(fcntl, "flock", sign_at_the_first_try)
        assert unconfirmed.mark(ledger, folder, 60) is None


@pytest.mark.parametrize(
    "lines",
    [(record(12),), (record(9),), (b"garbage\n",), (b"\0" * 4096 + b"\n",)],
    ids=["a gap", "a number twice", "garbage", "an empty block"],
)
def test_unsigned_lines_that_are_not_the_next_records_are_moved_aside(
    folder: Path, lines: tuple[bytes, ...]
) -> None:
    signed = (folder / f"{0:012}.jsonl").read_bytes()
    add_by_hand(folder, record(10), *lines)

    with Ledger(folder, lambda: NOON) as ledger:
        assert unconfirmed.mark(ledger, folder, 0) == Unconfirmed("transfer", 10, 1)

    assert (folder / f"{0:012}.jsonl").read_bytes().startswith(signed + record(10))
    assert events(folder)[10:] == ["open", "recovered", "unconfirmed"]
    (torn,) = folder.glob("*.torn")
    assert torn.read_bytes() == b"".join(lines)


def test_signed_lines_are_never_moved(folder: Path) -> None:
    path = folder / f"{0:012}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    changed = b"".join([*lines[:9], b"changed\n", record(10)])
    path.write_bytes(changed)

    with Ledger(folder, lambda: NOON):
        pass

    assert path.read_bytes() == changed


def test_an_unsigned_segment_is_checked_from_its_first_line(folder: Path) -> None:
    write(folder, 3, 10, size=1)  # each record has a segment of its own
    with (folder / f"{12:012}.jsonl").open("ab") as file:
        file.write(record(20))

    with Ledger(folder, lambda: NOON + timedelta(hours=1)) as ledger:
        assert unconfirmed.mark(ledger, folder, 0) == Unconfirmed("transfer", 10, 3)

    assert [path.name for path in folder.glob("*.torn")] != []
