import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.fault import Faults
from keys.server_keys import stamp_key


def test_a_site_without_a_key_gets_one_that_is_private(tmp_path: Path) -> None:
    assert stamp_key.load(tmp_path) is None

    key = stamp_key.load_or_create(tmp_path)

    assert key is not None
    assert len(key) == 32
    assert stamp_key.load_or_create(tmp_path) == key == stamp_key.load(tmp_path)
    file = tmp_path / "keys/stamps/stamp_key"
    assert file.read_text() == f"{key.hex()}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["stamp_key"]


def test_two_daemons_that_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(stamp_key.load_or_create, [tmp_path] * 64))
    assert len(keys) == 1


@pytest.mark.parametrize("content", [b"", b"abc\n", b"\xff" * 64, b"00" * 31, b"00" * 33])
def test_a_file_that_is_no_key_is_a_fault(tmp_path: Path, content: bytes) -> None:
    stamp_key.load_or_create(tmp_path)
    (tmp_path / "keys/stamps/stamp_key").write_bytes(content)

    with pytest.raises(Faults, match="is not a stamp key: restore it from a backup"):
        stamp_key.load(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_permission_there_is_no_key(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert stamp_key.load_or_create(tmp_path) is None
    tmp_path.chmod(0o700)
