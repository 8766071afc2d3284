import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sftpd.loop import Loop
from sftpd.passwords import Passwords

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)


def test_a_change_that_cannot_be_watched_is_not_begun_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    loop = Loop()
    passwords = Passwords(loop, tmp_path, lambda: NOON)
    answers: list[bool] = []
    monkeypatch.setattr(os, "pidfd_open", full)
    for _ in range(9):
        assert not passwords.change("a", "SHA256:x", "hash", "192.0.2.7", answers.append)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert (answers, len(loop)) == ([], 0)
    loop.close()
