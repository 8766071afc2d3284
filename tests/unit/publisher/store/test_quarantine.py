from pathlib import Path

import pytest

from publisher.store.quarantine import Quarantine, QuarantineNote, format_note, parse_note

TEXTS, READINGS = ("x\x1b",), ("page 1: x\x1b by pyzbar, zbar, 9 ms",)
TIME = "2023-05-14T14:00:03Z"
NOTE = QuarantineNote("20230514T1400-ff", "a\n.jpg", "no-karekod", None, TEXTS, 1, READINGS, TIME)


def test_a_note_is_ascii_and_survives_formatting_and_parsing() -> None:
    written = format_note(NOTE)

    assert written.isascii()
    assert b"\x1b" not in written
    assert parse_note(written) == NOTE
    with pytest.raises(ValueError, match="not a note"):
        parse_note(b'{"texts": []}')


def test_a_file_can_be_added_twice_and_gets_its_note(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    (tmp_path / "page").write_bytes(b"odd")

    quarantine.add(tmp_path / "page", "1-page.jpg")
    quarantine.add(tmp_path / "page", "1-page.jpg")
    quarantine.write_note("1-page.jpg", NOTE)

    assert sorted(p.name for p in (tmp_path / "quarantine").iterdir()) == [
        "1-page.jpg",
        "1-page.jpg.json",
    ]
    with pytest.raises(FileNotFoundError):
        quarantine.add(tmp_path / "page", "2-page.jpg")


def test_a_dangling_link_can_be_added_and_removed(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    (tmp_path / "link").symlink_to("/nonexistent")

    quarantine.add(tmp_path / "link", "1-link")

    assert quarantine.holds("1-link")
    quarantine.remove("1-link")
    assert not quarantine.holds("1-link")


def test_sweep_removes_a_half_written_note(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path)
    (tmp_path / "quarantine" / ".1-page.json.77.new").write_bytes(b'{"arr')

    quarantine.sweep()

    assert list((tmp_path / "quarantine").iterdir()) == []
