import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.event import Event, Outcome
from keys.ledger import segments
from keys.ledger import writer as ledger
from keys.ledger.record import Record, format_record, parse_record
from keys.ledger.writer import Ledger, LedgerBusy, Unwritable

NOON = datetime(2023, 5, 14, 14, 0, 3, 41, tzinfo=UTC)
OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg", detail={"handle": 4, "size": 10})
GOLDEN = (
    b'{"detail":{"handle":4,"size":10},"event":"open","from":"192.0.2.7","mono":81000123,'
    b'"outcome":"ok","seq":17,"time":"2023-05-14T14:00:03.000041Z","what":"/a.jpg",'
    b'"who":"parti-a"}\n'
)


def segment(folder: Path) -> Path:
    return folder / "000000000000.jsonl"


def test_a_record_has_the_golden_line() -> None:
    record = Record(17, NOON, 81000123, OPENED)

    assert format_record(record) == GOLDEN
    assert parse_record(GOLDEN) == record


def test_the_time_is_written_in_utc() -> None:
    turkey = Record(17, NOON.astimezone(timezone(timedelta(hours=3))), 81000123, OPENED)

    assert format_record(turkey) == GOLDEN


def test_a_ledger_that_is_opened_again_syncs_what_its_last_writer_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path) as last:
        last.append(OPENED)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda file: synced.append(os.fstat(file).st_ino))

    with Ledger(tmp_path):
        assert synced == [segment(tmp_path).stat().st_ino]


@pytest.mark.parametrize("bit", range(8))
def test_a_line_with_a_flipped_bit_is_another_record_or_refused(bit: int) -> None:
    for place in range(len(GOLDEN)):
        flipped = bytearray(GOLDEN)
        flipped[place] ^= 1 << bit
        try:
            assert parse_record(bytes(flipped)) != parse_record(GOLDEN)
        except ValueError:
            continue


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        GOLDEN[:-1],
        b"[" * 100_000 + b"\n",
        GOLDEN.replace(b",", b", ", 1),
        GOLDEN.replace(b'"who"', b'"whom"'),
        GOLDEN.replace(b'"ok"', b'"fine"'),
        GOLDEN.replace(b'"seq":17', b'"seq":"17"'),
        GOLDEN.replace(b'"seq":17', b'"seq":17.0'),
        GOLDEN.replace(b'"seq":17', b'"seq":-1'),
        GOLDEN.replace(b'"seq":17', b'"seq":true'),
        GOLDEN.replace(b'"mono":81000123', b'"mono":null'),
        GOLDEN.replace(b'"what":"/a.jpg"', b'"what":7'),
        GOLDEN.replace(b'{"handle":4,"size":10}', b'"handle"'),
        GOLDEN.replace(b'"time":"2023', b'"time":2023,"t":"2023'),
    ],
)
def test_a_line_in_another_form_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_record(line)


@given(
    st.text(),
    st.text(),
    st.dictionaries(
        st.text(st.characters(max_codepoint=127), max_size=9),
        st.integers(0, 2**53 - 1) | st.text() | st.booleans() | st.none(),
    ),
)
def test_any_text_from_a_client_is_one_line_that_reads_back(
    who: str, what: str, detail: dict[str, int | str | bool | None]
) -> None:
    line = format_record(Record(0, NOON, 0, Event("open", who, "", what, detail=detail)))

    assert line.count(b"\n") == 1
    assert parse_record(line).event.what == what


def test_bytes_that_are_not_utf8_are_written_as_escapes() -> None:
    what = b"/\xff\xfe".decode(errors="surrogateescape")

    line = format_record(Record(0, NOON, 0, Event("open", "", "", what)))

    assert json.loads(line)["what"] == "/\\udcff\\udcfe"


def test_numbers_start_at_0_and_continue_after_a_restart(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as first:
        assert [first.append(OPENED), first.append(OPENED)] == [0, 1]

    with Ledger(tmp_path, lambda: NOON) as second:
        assert second.append(OPENED) == 2

    assert [r.seq for r in segments.read_records(tmp_path)] == [0, 1, 2]
    assert [r.seq for r in segments.read_records(tmp_path, 2)] == [2]
    assert {r.time for r in segments.read_records(tmp_path)} == {NOON}


def test_events_appended_together_are_one_write(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as written:
        assert written.append(OPENED, OPENED, OPENED) == 2
        assert written.append(OPENED) == 3

    assert [r.seq for r in segments.read_records(tmp_path)] == [0, 1, 2, 3]


def test_events_appended_together_are_all_written_or_none(tmp_path: Path) -> None:
    unfit = Event("open", "parti-a", "", "/a.jpg", detail={"size": 1 << 53})
    with Ledger(tmp_path, lambda: NOON) as written:
        with pytest.raises(ValueError, match=r"cannot be written to a record|must be ASCII"):
            written.append(OPENED, unfit)
        assert written.append(OPENED) == 0

    assert [r.seq for r in segments.read_records(tmp_path)] == [0]


def test_an_incomplete_line_is_moved_to_a_file_and_recorded(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as before:
        before.append(OPENED)
    with segment(tmp_path).open("ab") as file:
        file.write(GOLDEN[:40])

    with Ledger(tmp_path, lambda: NOON) as after:
        after.append(OPENED)

    records = list(segments.read_records(tmp_path))
    assert [(r.seq, r.event.event) for r in records] == [(0, "open"), (1, "recovered"), (2, "open")]
    assert records[1].event.detail == {"bytes": 40}
    (torn,) = tmp_path.glob("*.torn")
    assert torn.read_bytes() == GOLDEN[:40]


def test_an_incomplete_first_line_leaves_the_ledger_empty(tmp_path: Path) -> None:
    segment(tmp_path).write_bytes(b"{")

    with Ledger(tmp_path, lambda: NOON) as after:
        assert after.append(OPENED) == 1

    assert [r.event.event for r in segments.read_records(tmp_path)] == ["recovered", "open"]


def test_a_reader_skips_a_line_that_is_still_being_written(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as writer:
        writer.append(OPENED)
        with segment(tmp_path).open("ab") as file:
            file.write(GOLDEN[:40])

        assert [r.seq for r in segments.read_records(tmp_path)] == [0]


def test_a_reader_names_the_line_that_is_not_a_record(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as writer:
        writer.append(OPENED)
    with segment(tmp_path).open("ab") as file:
        file.write(b"rubbish\n")

    with pytest.raises(ValueError, match=r"000000000000\.jsonl: at byte \d+"):
        list(segments.read_records(tmp_path))


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path), pytest.raises(LedgerBusy, match="another process writes it"):
        Ledger(tmp_path)


def test_a_killed_writer_releases_the_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from keys.ledger.writer import Ledger;"
        "Ledger(pathlib.Path(sys.argv[1])); print('locked', flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True)

    assert killed.stdout == b"locked\n"
    Ledger(tmp_path).close()


def test_a_full_disk_raises_and_leaves_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[int, bytes], int] = os.write
    with Ledger(tmp_path, lambda: NOON) as writer:
        writer.append(OPENED)
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:30]))

        with pytest.raises(Unwritable, match="make room"):
            writer.append(OPENED)

        monkeypatch.setattr(os, "write", real)
        assert writer.append(OPENED) == 1
    assert [r.seq for r in segments.read_records(tmp_path)] == [0, 1]


def test_a_part_of_a_line_that_could_not_be_removed_is_removed_before_the_next_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(file: int, lines: bytes) -> int:
        return write(file, lines[: len(lines) // 2])

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write = os.write
    with Ledger(tmp_path, lambda: NOON) as opened:
        opened.append(OPENED)
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", write_half)
            broken.setattr(os, "ftruncate", fail)
            for _ in range(2):
                with pytest.raises(Unwritable):
                    opened.append(OPENED)
        opened.append(OPENED)

    assert [record.seq for record in segments.read_records(tmp_path)] == [0, 1]


def test_a_segment_that_cannot_be_begun_leaves_no_descriptor_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Ledger(tmp_path, lambda: NOON, policy=ledger.WritePolicy(segment_bytes=1)) as opened:
        opened.append(OPENED)
        before = sorted(Path("/proc/self/fd").iterdir())
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", fail)
            for _ in range(3):
                with pytest.raises(Unwritable):
                    opened.append(OPENED)
        assert sorted(Path("/proc/self/fd").iterdir()) == before
        opened.append(OPENED)

    assert [record.seq for record in segments.read_records(tmp_path)] == [0, 1]


def test_the_record_has_outcome_and_reason(tmp_path: Path) -> None:
    refused = Event("login-refused", "parti-z", "192.0.2.1", "", Outcome.REFUSED, {"reason": "x"})

    with Ledger(tmp_path) as writer:
        writer.append(refused)

    (record,) = segments.read_records(tmp_path)
    assert record.event == refused
    assert datetime.now(UTC) - record.time < timedelta(minutes=1)


def test_any_record_is_found_without_reading_the_whole_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as writer:
        for number in range(3000):
            writer.append(Event("open", "parti-a", '"seq":7,', "/" + "x" * (number % 300)))
    size = segment(tmp_path).stat().st_size
    assert size > 4 * segments._TAIL

    for first in (0, 1, 7, 1499, 2998, 2999):
        assert next(segments.read_records(tmp_path, first)).seq == first
    assert list(segments.read_records(tmp_path, 3000)) == []
    assert segments.next_seq(tmp_path) == 3000
    with segment(tmp_path).open("rb") as file:
        assert segments.find_offset(file.fileno(), 2999) > size - 2 * segments._TAIL


def test_the_next_number_is_right_after_a_crash(tmp_path: Path) -> None:
    assert segments.next_seq(tmp_path) == 0
    segment(tmp_path).write_bytes(b"{")
    assert segments.next_seq(tmp_path) == 0
    segment(tmp_path).write_bytes(GOLDEN + b"{")
    assert segments.next_seq(tmp_path) == 18


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.5, b"x", {"a": 1}])
def test_a_value_outside_the_format_is_not_written(tmp_path: Path, value: object) -> None:
    event = Event("open", "", "", "", detail={"ms": value})  # type: ignore[dict-item]

    with Ledger(tmp_path) as writer:
        with pytest.raises(ValueError, match=r"cannot be written to a record|must be ASCII"):
            writer.append(event)
        assert writer.append(OPENED) == 0


@pytest.mark.parametrize("other", ["\udcff", "\uffff"], ids=["no text", "sorted differently"])
def test_a_name_that_is_not_ascii_is_not_written(tmp_path: Path, other: str) -> None:
    event = Event("open", "", "", "", detail={other: 1, "\u00fc": 2, "\U00010000": 3})

    with Ledger(tmp_path) as writer:
        with pytest.raises(ValueError, match=r"cannot be written to a record|must be ASCII"):
            writer.append(event)
        assert writer.append(OPENED) == 0


def test_a_very_wrong_clock_reads_back(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: datetime(1, 2, 3, tzinfo=UTC)) as writer:
        writer.append(Event("open", "", "", "", detail={"texts": ["\udcff"]}))

    (record,) = segments.read_records(tmp_path)
    assert record.time == datetime(1, 2, 3, tzinfo=UTC)
    assert record.event.detail == {"texts": ["\\udcff"]}


@pytest.mark.parametrize(("always", "syncs"), [(True, 1), (False, 0)])
def test_sync_always_syncs_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, always: bool, syncs: int
) -> None:
    with Ledger(tmp_path, policy=ledger.WritePolicy(sync_always=always)) as writer:
        synced: list[int] = []
        monkeypatch.setattr(os, "fdatasync", synced.append)
        writer.append(OPENED)
        assert len(synced) == syncs


def test_a_failed_sync_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with Ledger(tmp_path, policy=ledger.WritePolicy(sync_always=True)) as writer:
        monkeypatch.setattr(os, "fdatasync", refuse)
        with pytest.raises(Unwritable, match="Input/output error"):
            writer.append(OPENED)
        monkeypatch.undo()
        assert writer.append(OPENED) == 1


def test_a_ledger_of_several_segments_reads_as_one(tmp_path: Path) -> None:
    terms = ledger.WritePolicy(segment_bytes=500)
    for _ in range(3):
        with Ledger(tmp_path, lambda: NOON, policy=terms) as writer:
            for _ in range(5):
                writer.append(OPENED)

    assert len(segments.list_segments(tmp_path)) > 4
    assert [r.seq for r in segments.read_records(tmp_path)] == list(range(15))
    assert [r.seq for r in segments.read_records(tmp_path, 11)] == [11, 12, 13, 14]
    assert segments.next_seq(tmp_path) == 15


def test_a_crash_after_a_new_segment_was_created_loses_no_number(tmp_path: Path) -> None:
    with Ledger(tmp_path, lambda: NOON) as writer:
        writer.append(OPENED)
    (tmp_path / "000000000001.jsonl").touch()

    assert segments.next_seq(tmp_path) == 1
    with Ledger(tmp_path, lambda: NOON) as writer:
        assert writer.append(OPENED) == 1
