import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from publisher.intake import spool
from publisher.page import Arrival, Stamp
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("in", "spool"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"a page")
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The intake is on another file system."""

    rename = os.rename

    def refused(source: str | Path, target: Path, **at: int) -> None:
        if "src_dir_fd" in at:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


def arrived(place: Path, name: str = "a.jpg") -> Arrival:
    path = place / "in" / name
    stamp = Stamp.of(path.lstat())
    return Arrival(
        "20230514T140003000041-ffffffff", name, Source(str(place / "in"), name), stamp, NOON
    )


def test_a_claim_moves_the_file_itself(place: Path) -> None:
    arrival = arrived(place)

    spool.claim(arrival, place / "spool")

    assert Stamp.of((place / "spool" / arrival.file).stat()) == arrival.stamp
    assert list((place / "in").iterdir()) == []


def test_a_file_that_changed_or_went_is_not_claimed(place: Path) -> None:
    arrival = arrived(place)
    (place / "in" / "a.jpg").write_bytes(b"longer than before")

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, place / "spool")
    (place / "in" / "a.jpg").unlink()
    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, place / "spool")

    assert list((place / "spool").iterdir()) == []


@pytest.mark.usefixtures("elsewhere")
def test_from_another_file_system_it_is_copied_whole_and_then_removed(place: Path) -> None:
    arrival = arrived(place)

    spool.claim(arrival, place / "spool")

    assert [p.name for p in (place / "spool").iterdir()] == [arrival.file]
    assert (place / "spool" / arrival.file).read_bytes() == b"a page"
    assert list((place / "in").iterdir()) == []


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_is_no_file_is_taken_along_without_being_opened(place: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(place / "in" / "odd")
    else:
        (place / "in" / "odd").symlink_to("/etc/passwd")
    arrival = arrived(place, "odd")

    spool.claim(arrival, place / "spool")

    mode = (place / "spool" / arrival.file).lstat().st_mode
    assert stat.S_ISFIFO(mode) if kind == "pipe" else stat.S_ISLNK(mode)
    assert not os.path.lexists(place / "in" / "odd")


def test_a_source_that_was_copied_is_removed_later_only_if_it_is_unchanged(place: Path) -> None:
    arrival = arrived(place)
    spool.finish_claim(arrival)
    spool.finish_claim(arrival)
    assert list((place / "in").iterdir()) == []

    (place / "in" / "a.jpg").write_bytes(b"another")
    spool.finish_claim(arrival)
    assert (place / "in" / "a.jpg").read_bytes() == b"another"


def test_an_unfinished_copy_is_swept(place: Path) -> None:
    (place / "spool" / ".half").write_bytes(b"a p")
    (place / "spool" / "whole").write_bytes(b"a page")

    spool.sweep(place / "spool")

    assert [p.name for p in (place / "spool").iterdir()] == ["whole"]


def test_a_folder_that_was_swapped_for_a_link_leads_nowhere(place: Path) -> None:
    """A scanner's account must not have the publisher fetch what only the publisher may read."""
    (place / "keys").mkdir()
    (place / "keys" / "secret").write_bytes(b"a key")
    (place / "in" / "sub").symlink_to(place / "keys")
    stamp = Stamp.of((place / "keys" / "secret").stat())
    source = Source(str(place / "in"), "sub/secret")
    arrival = Arrival("20230514T140003000041-ffffffff", "sub/secret", source, stamp, NOON)

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, place / "spool")
    spool.finish_claim(arrival)

    assert not spool.is_source_unchanged(arrival)
    assert (place / "keys" / "secret").read_bytes() == b"a key"
    assert list((place / "spool").iterdir()) == []


def test_what_became_a_folder_is_not_claimed(place: Path) -> None:
    (place / "in" / "b").mkdir()
    (place / "in" / "b" / "1.jpg").touch()

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrived(place, "b"), place / "spool")

    assert (place / "in" / "b" / "1.jpg").exists()


def test_a_claim_says_that_the_source_is_gone_even_if_its_folder_became_a_file(
    place: Path,
) -> None:
    (place / "in" / "sub").mkdir()
    (place / "in" / "sub" / "1.jpg").write_bytes(b"1")
    arrival = arrived(place, "sub/1.jpg")
    assert spool.claim(arrival, place / "spool")
    (place / "in" / "sub").rmdir()
    (place / "in" / "sub").touch()

    assert spool.finish_claim(arrival)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_source_that_must_not_be_removed_is_claimed_and_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    arrival = arrived(place)
    unlink = os.unlink

    def refused(path: str | Path, **at: int) -> None:
        if at:
            raise OSError(error, os.strerror(error))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)

    assert spool.claim(arrival, place / "spool") is False

    assert (place / "spool" / arrival.file).read_bytes() == b"a page"
    assert (place / "in" / "a.jpg").exists()


@pytest.mark.usefixtures("elsewhere")
def test_what_is_open_for_writing_is_not_copied_from_another_file_system(place: Path) -> None:
    with (place / "in" / "a.jpg").open("ab"), pytest.raises(spool.SourceChanged):
        spool.claim(arrived(place), place / "spool")

    assert spool.claim(arrived(place), place / "spool")
