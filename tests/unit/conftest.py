"""Makes cheap what unit tests do a hundred times: hashing a password, syncing a file."""

import copy
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from keys.credentials import ring

_REAL, _CHEAP = "$m=65536,t=3,p=4$", "$m=8,t=1,p=1$"
_SALT = b"cheap salt"
_MARK = "$Y2hlYXAgc2Fsd"  # how such a salt begins in base64


class CheapHasher:
    """Hashes with argon2id at its lowest cost; the hash states the real cost, as a ring wants it.

    Other hashes are compared at their real cost, which is a tenth of a second of four threads.
    """

    def hash(self, password: str) -> str:
        salt = _SALT + secrets.token_bytes(6)
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        return hasher.hash(password, salt=salt).replace(_CHEAP, _REAL)

    def verify(self, known: str, password: str) -> bool:
        if _MARK in known:
            known = known.replace(_REAL, _CHEAP)
        return PasswordHasher().verify(known, password)


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords cheaply. test_ring.py and test_judge.py hash them at the real cost."""
    monkeypatch.setattr(ring, "PasswordHasher", CheapHasher)


# Another folder, such as one on a shared file system, if SSPS_TEST_FOLDER names it.
_MEMORY = Path(os.environ.get("SSPS_TEST_FOLDER", "/dev/shm"))
_NEEDED_BYTES = 1_000_000_000


@pytest.fixture(scope="session")
def tmp_path_factory(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pytest.TempPathFactory]:
    """Give the tests folders in memory: they sync tens of thousands of small files.

    The tests of running daemons, in tests/wire and tests/flow, use the disk. Only the folders of
    failed tests are kept.
    """
    folder = _folder_in_memory()
    if folder is None:
        yield tmp_path_factory
        return
    in_memory = copy.copy(tmp_path_factory)
    in_memory._basetemp = folder
    in_memory._next_number = {}
    in_memory._retention_policy = "failed"
    yield in_memory
    if not request.session.testsfailed:
        shutil.rmtree(folder, ignore_errors=True)


def _folder_in_memory() -> Path | None:
    """Make a folder in memory, if there is room and it keeps extended attributes (Linux 6.6)."""
    try:
        if shutil.disk_usage(_MEMORY).free < _NEEDED_BYTES:
            return None
        folder = Path(tempfile.mkdtemp(prefix="pytest-", dir=_MEMORY))
    except OSError:
        return None
    try:
        os.setxattr(folder, "user.probe", b"1")
    except OSError:
        folder.rmdir()
        return None
    return folder
