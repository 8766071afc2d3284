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
def folders(tmp_path: Path) -> Path:
    for name in ("in", "spool"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"a page")
    return tmp_path


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a rename out of the intake fail, as from another file system."""

    rename = os.rename

    def refused(source: str | Path, target: Path, **at: int) -> None:
        if "src_dir_fd" in at:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


def arrived(folders: Path, name: str = "a.jpg") -> Arrival:
    path = folders / "in" / name
    stamp = Stamp.of(path.lstat())
    return Arrival(
        "20230514T140003000041-ffffffff", name, Source(str(folders / "in"), name), stamp, NOON
    )


def test_a_claim_moves_the_file_itself(folders: Path) -> None:
    arrival = arrived(folders)

    spool.claim(arrival, folders / "spool")

    assert Stamp.of((folders / "spool" / arrival.file).stat()) == arrival.stamp
    assert list((folders / "in").iterdir()) == []


def test_a_file_that_changed_or_was_removed_is_not_claimed(folders: Path) -> None:
    arrival = arrived(folders)
    (folders / "in" / "a.jpg").write_bytes(b"longer than before")

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")
    (folders / "in" / "a.jpg").unlink()
    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")

    assert list((folders / "spool").iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
def test_a_file_on_another_file_system_is_copied_and_then_removed(folders: Path) -> None:
    arrival = arrived(folders)

    spool.claim(arrival, folders / "spool")

    assert [p.name for p in (folders / "spool").iterdir()] == [arrival.file]
    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert list((folders / "in").iterdir()) == []


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_pipe_or_a_link_is_claimed_without_being_opened(folders: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(folders / "in" / "odd")
    else:
        (folders / "in" / "odd").symlink_to("/etc/passwd")
    arrival = arrived(folders, "odd")

    spool.claim(arrival, folders / "spool")

    mode = (folders / "spool" / arrival.file).lstat().st_mode
    assert stat.S_ISFIFO(mode) if kind == "pipe" else stat.S_ISLNK(mode)
    assert not os.path.lexists(folders / "in" / "odd")


def test_the_source_of_a_copy_is_removed_only_if_it_is_unchanged(folders: Path) -> None:
    arrival = arrived(folders)
    spool.finish_claim(arrival)
    spool.finish_claim(arrival)
    assert list((folders / "in").iterdir()) == []

    (folders / "in" / "a.jpg").write_bytes(b"another")
    spool.finish_claim(arrival)
    assert (folders / "in" / "a.jpg").read_bytes() == b"another"


def test_sweep_removes_unfinished_copies_only(folders: Path) -> None:
    (folders / "spool" / ".half").write_bytes(b"a p")
    (folders / "spool" / "whole").write_bytes(b"a page")

    spool.sweep(folders / "spool")

    assert [p.name for p in (folders / "spool").iterdir()] == ["whole"]


def test_a_folder_that_was_replaced_by_a_link_is_not_followed(folders: Path) -> None:
    """A scanner's account must not make the publisher fetch a file that only it may read."""
    (folders / "keys").mkdir()
    (folders / "keys" / "secret").write_bytes(b"a key")
    (folders / "in" / "sub").symlink_to(folders / "keys")
    stamp = Stamp.of((folders / "keys" / "secret").stat())
    source = Source(str(folders / "in"), "sub/secret")
    arrival = Arrival("20230514T140003000041-ffffffff", "sub/secret", source, stamp, NOON)

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrival, folders / "spool")
    spool.finish_claim(arrival)

    assert not spool.is_source_unchanged(arrival)
    assert (folders / "keys" / "secret").read_bytes() == b"a key"
    assert list((folders / "spool").iterdir()) == []


def test_a_file_that_became_a_folder_is_not_claimed(folders: Path) -> None:
    (folders / "in" / "b").mkdir()
    (folders / "in" / "b" / "1.jpg").touch()

    with pytest.raises(spool.SourceChanged):
        spool.claim(arrived(folders, "b"), folders / "spool")

    assert (folders / "in" / "b" / "1.jpg").exists()


def test_a_claim_is_finished_even_if_the_sources_folder_became_a_file(
    folders: Path,
) -> None:
    (folders / "in" / "sub").mkdir()
    (folders / "in" / "sub" / "1.jpg").write_bytes(b"1")
    arrival = arrived(folders, "sub/1.jpg")
    assert spool.claim(arrival, folders / "spool")
    (folders / "in" / "sub").rmdir()
    (folders / "in" / "sub").touch()

    assert spool.finish_claim(arrival)


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_source_that_may_not_be_removed_is_claimed_and_stays(
    folders: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    arrival = arrived(folders)
    unlink = os.unlink

    def refused(path: str | Path, **at: int) -> None:
        if at:
            raise OSError(error, os.strerror(error))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)

    assert spool.claim(arrival, folders / "spool") is False

    assert (folders / "spool" / arrival.file).read_bytes() == b"a page"
    assert (folders / "in" / "a.jpg").exists()


@pytest.mark.usefixtures("other_file_system")
def test_a_file_open_for_writing_is_not_copied_from_another_file_system(
    folders: Path,
) -> None:
    with (folders / "in" / "a.jpg").open("ab"), pytest.raises(spool.SourceChanged):
        spool.claim(arrived(folders), folders / "spool")

    assert spool.claim(arrived(folders), folders / "spool")
