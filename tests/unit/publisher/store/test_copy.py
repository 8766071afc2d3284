import errno
import os
import stat
from pathlib import Path

import pytest

from publisher.store.copy import move


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder is a file system of its own."""
    rename = os.rename

    def refused(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_on_one_file_system_it_is_the_same_file_still(place: Path) -> None:
    (place / "here" / "page").write_bytes(b"a page")
    inode = (place / "here" / "page").stat().st_ino

    move(place / "here" / "page", place / "there" / "1")

    assert (place / "there" / "1").stat().st_ino == inode


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_to_another_file_system_it_is_moved_as_what_it_is(place: Path, kind: str) -> None:
    page = place / "here" / "page"
    match kind:
        case "file":
            page.write_bytes(b"a page")
        case "link":
            page.symlink_to("/nonexistent")
        case "pipe":
            os.mkfifo(page)
    (place / "there" / ".1.new").write_bytes(b"what a crash left of an earlier copy")

    move(page, place / "there" / "1")

    assert list((place / "here").iterdir()) == []
    (moved,) = (place / "there").iterdir()
    assert moved.name == "1"
    match kind:
        case "file":
            assert moved.read_bytes() == b"a page"
        case "link":
            assert moved.readlink() == Path("/nonexistent")
        case "pipe":
            assert stat.S_ISFIFO(moved.lstat().st_mode)


@pytest.mark.usefixtures("elsewhere")
def test_what_is_not_there_cannot_be_moved(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        move(place / "here" / "page", place / "there" / "1")

    assert list((place / "there").iterdir()) == []
