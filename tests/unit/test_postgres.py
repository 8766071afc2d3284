"""The PostgreSQL server that tests start leaves nothing behind."""

import re
import signal
from pathlib import Path

import postgres
import pytest

SEGMENTS = Path("/proc/sysvipc/shm")  # System V shared memory: key, shmid, perms, size, cpid, ...


@pytest.mark.slow
@pytest.mark.skipif(postgres.programs() is None, reason="needs Debian's postgresql")
def test_a_killed_server_leaves_no_shared_memory() -> None:
    binaries = postgres.programs()
    assert binaries is not None
    with postgres.running(binaries) as server:
        mapped = re.findall(r"/dev/shm/\S+", Path(f"/proc/{server.pid}/maps").read_text())
        files = {Path(name) for name in mapped}
        segments = {row[1] for row in rows() if row[4] == str(server.pid)}
        assert len(files) == len(segments) == 1
        server.stop(signal.SIGKILL)

    assert [file for file in files if file.exists()] == []
    assert segments & {row[1] for row in rows()} == set()


def rows() -> list[list[str]]:
    return [line.split() for line in SEGMENTS.read_text().splitlines()]
