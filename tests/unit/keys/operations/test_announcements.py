"""What the operator announces: the file, and which texts are refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.fault import Faults
from keys.operations import announcements
from keys.operations.announcements import MAX_SHOWN, MAX_TEXT, Announcement

NOW = datetime(2023, 5, 8, 9, tzinfo=UTC)


def test_announcements_are_read_back_newest_first(tmp_path: Path) -> None:
    held = announcements.added((), "  Prova  10 Mayıs'ta.\nSaat 14.00. ", NOW)
    held = announcements.added(held, "<b>İkinci</b>", NOW)
    announcements.write(tmp_path, held)

    assert announcements.read(tmp_path) == held
    assert [a.text for a in announcements.current(tmp_path)] == [
        "<b>İkinci</b>",
        "Prova 10 Mayıs'ta.\nSaat 14.00.",
    ]


def test_a_withdrawn_number_is_not_used_again(tmp_path: Path) -> None:
    held = announcements.withdrawn(announcements.added((), "x", NOW), 1, NOW)
    held = announcements.added(held, "y", NOW)
    announcements.write(tmp_path, held)

    assert announcements.current(tmp_path) == (Announcement(2, "y", NOW),)
    with pytest.raises(ValueError, match="announcement 1 is not shown"):
        announcements.withdrawn(held, 1, NOW)


@pytest.mark.parametrize("text", ["", " \n ", "a\x1b[2Jb", "a\u202eb", "x" * (MAX_TEXT + 1)])
def test_a_text_that_cannot_be_shown_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the text"):
        announcements.added((), text, NOW)


def test_the_page_is_never_flooded() -> None:
    held: tuple[Announcement, ...] = ()
    for number in range(MAX_SHOWN):
        held = announcements.added(held, str(number), NOW)

    with pytest.raises(ValueError, match="withdraw one first"):
        announcements.added(held, "one more", NOW)


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"7", b'{"id": 1}', b'[{"id": 1}]', b"\xff", b"[" * 100_000]
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/announcements.json").write_bytes(content)

    with pytest.raises(Faults, match=r"state/announcements\.json: is damaged"):
        announcements.read(tmp_path)
