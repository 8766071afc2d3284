import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from keys.operations import site_keys
from sftpd import server


def test_a_periodic_task_that_lacks_something_now_does_not_end_the_server() -> None:
    def update_live_file() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with capture_logs() as logs:
        server._attempt(update_live_file)

    assert [(log["event"], log["name"]) for log in logs] == [("task-failed", "update_live_file")]


def test_a_stamp_key_that_cannot_be_read_now_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    running = object.__new__(server.Server)
    running._stamp_keys = {}
    rehearsal = SimpleNamespace(id="prova", folder=tmp_path)
    running._config = cast(
        server.Config, SimpleNamespace(settings=SimpleNamespace(rehearsals=[rehearsal]))
    )
    monkeypatch.setattr(site_keys, "stamp_key_on_record", fail)
    assert running._stamp_key("prova") is None

    monkeypatch.setattr(site_keys, "stamp_key_on_record", lambda _: b"key")
    assert running._stamp_key("prova") == b"key"
