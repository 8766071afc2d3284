import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from config.party import parse_address
from sftpd.ipc.session_messages import SessionSettings
from sftpd.monitor.loop import Loop
from sftpd.processes import restarts
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


def test_a_forker_that_hangs_is_replaced_and_what_it_should_start_fails(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    forker = Forker(loop, lambda _: [], (sys.executable, "-c", CODE))
    forker.start_process()
    forker.configure(SETTINGS)
    forker.wait_until_ready()
    assert forker._process is not None
    hangs, failed = forker._process.pid, list[int | OSError]()
    os.kill(hangs, signal.SIGSTOP)
    monkeypatch.setattr(restarts, "_STUCK_AFTER", 0.0)
    forker.replace_if_stuck()
    assert forker._process.pid == hangs  # it owes no answer
    with socket.socket() as client:
        forker.start((client.fileno(),) * 3, parse_address("192.0.2.7"), failed.append)

    with capture_logs() as logs:
        forker.replace_if_stuck()
        while not forker._ready:
            loop.run_once()

    assert [log["event"] for log in logs] == ["process-stuck", "process-died"]
    assert isinstance(failed[0], ConnectionResetError)
    assert forker._process.pid != hangs
    forker.stop()
