import os
import signal
import sys
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from sftpd.ipc.session_messages import SessionSettings
from sftpd.monitor.loop import Loop
from sftpd.processes.forker import Forker
from sftpd.sandbox.sandbox import KernelFeatures, SandboxPolicy

SETTINGS = SessionSettings(
    (), (), (), (), (), (), 1.0, 1.0, 1.0, False, SandboxPolicy(KernelFeatures(0, False, True))
)
# A forker that says it is ready when it has received settings.
CODE = """
import socket, sys
with socket.socket(fileno=int(sys.argv[1])) as control:
    control.recv(65536)
    control.send(b'{"ready": true}')
    control.recv(65536)
"""


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_settings_for_a_forker_that_has_just_died_go_to_the_next_one(loop: Loop) -> None:
    forker = Forker(loop, lambda _: [], (sys.executable, "-c", CODE))
    forker.start_process()
    assert forker._process is not None
    pid = forker._process.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    with capture_logs() as logs:
        forker.configure(SETTINGS)
        assert [log["event"] for log in logs] == ["process-died"]
        while forker._process is None:
            loop.run_once()
        forker.wait_until_ready()

    forker.stop()
