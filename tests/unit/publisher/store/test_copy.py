import errno
import os
import stat
from pathlib import Path

import pytest

from publisher.store.copy import move


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a rename between two folders fail, as between two file systems."""
    rename = os.rename

    def refused(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_on_one_file_system_a_move_keeps_the_inode(folders: Path) -> None:
    (folders / "here" / "page").write_bytes(b"a page")
    inode = (folders / "here" / "page").stat().st_ino

    move(folders / "here" / "page", folders / "there" / "1")

    assert (folders / "there" / "1").stat().st_ino == inode


@pytest.mark.usefixtures("other_file_system")
@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_a_file_link_or_pipe_is_moved_to_another_file_system(folders: Path, kind: str) -> None:
    page = folders / "here" / "page"
    match kind:
        case "file":
            page.write_bytes(b"a page")
        case "link":
            page.symlink_to("/nonexistent")
        case "pipe":
            os.mkfifo(page)
    (folders / "there" / ".1.new").write_bytes(b"left by a crash during an earlier copy")

    move(page, folders / "there" / "1")

    assert list((folders / "here").iterdir()) == []
    (moved,) = (folders / "there").iterdir()
    assert moved.name == "1"
    match kind:
        case "file":
            assert moved.read_bytes() == b"a page"
        case "link":
            assert moved.readlink() == Path("/nonexistent")
        case "pipe":
            assert stat.S_ISFIFO(moved.lstat().st_mode)


@pytest.mark.usefixtures("other_file_system")
def test_moving_a_missing_file_raises(folders: Path) -> None:
    with pytest.raises(FileNotFoundError):
        move(folders / "here" / "page", folders / "there" / "1")

    assert list((folders / "there").iterdir()) == []
