import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keys import files


def test_a_file_is_replaced_with_the_given_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.replace(path, b"old", 0o644)

    files.replace(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    files.replace(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replace", [files.replace, files.replace_unsynced])
def test_no_link_is_followed_that_another_user_of_the_folder_made(
    tmp_path: Path, replace: Callable[[Path, bytes], None]
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    (tmp_path / f".a.{os.getpid()}.new").symlink_to(victim)

    replace(tmp_path / "a", b"new")

    assert victim.read_bytes() == b"root's"
    assert (tmp_path / "a").read_bytes() == b"new"
    assert not (tmp_path / "a").is_symlink()
