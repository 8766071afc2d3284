import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sftpd.monitor.answers.password_change import PasswordChanges
from sftpd.monitor.loop import Loop

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)


def test_a_change_that_gets_no_pidfd_is_refused_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    fork, forked = os.fork, []

    def counted_fork() -> int:
        forked.append(fork())
        return forked[-1]

    loop = Loop()
    changes = PasswordChanges(loop, tmp_path, lambda: NOON)
    answers: list[bool] = []
    monkeypatch.setattr(os, "pidfd_open", full)
    monkeypatch.setattr(os, "fork", counted_fork)
    for _ in range(9):
        assert not changes.start("a", "SHA256:x", "hash", "192.0.2.7", answers.append)
    assert len(forked) == 9
    for pid in forked:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    assert (answers, len(loop)) == ([], 0)
    loop.close()
