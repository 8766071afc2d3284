import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from keys.folder_lock import FolderLock
from keys.kernel import file_system


def test_a_folder_has_one_lock_and_on_a_local_disk_no_file(tmp_path: Path) -> None:
    held = FolderLock(tmp_path)

    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path, shared=True)
    held.close()
    FolderLock(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_two_hosts_do_not_both_lock_a_folder_of_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_system, "is_local", lambda descriptor: False)
    monkeypatch.setattr(fcntl, "flock", of_a_network(fcntl.flock))
    held = FolderLock(tmp_path)

    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path)
    with pytest.raises(BlockingIOError):
        FolderLock(tmp_path, shared=True)
    held.close()
    one, other = FolderLock(tmp_path, shared=True), FolderLock(tmp_path, shared=True)
    one.close()
    other.close()


def of_a_network(flock: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Lock as NFS and FUSE do: the lock of a folder stays unknown to the other hosts."""

    def lock(descriptor: int, kind: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flock(descriptor, kind)

    return lock


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderLock(tmp_path / "missing")
