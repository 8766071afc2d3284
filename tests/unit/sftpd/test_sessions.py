import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sftpd import first_login
from sftpd.ipc.messages import LoginAnswer
from sftpd.ipc.monitor_client import LoginReply, MonitorClient
from sftpd.ssh.packetizer import Packetizer


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what a connection sets for its whole process."""
    for name in ("STALL_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(Packetizer, name, getattr(Packetizer, name))


def descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def test_the_forker_does_not_load_optional_parts_of_libraries() -> None:
    code = (
        "import runpy, sys\n"
        "try:\n"
        "    runpy.run_module('sftpd.sessions', run_name='__main__')\n"
        "except IndexError:  # it has no arguments\n"
        "    pass\n"
        "loaded = {name.split('.')[0] for name, module in sys.modules.items() if module}\n"
        "assert 'paramiko' in loaded\n"
        "print(loaded & {'rich', 'invoke', 'greenlet', 'pygments', 'yaml', 'unittest'})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_first_login_leaves_no_descriptor_process_or_signal_handler_behind() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    first_login.serve()  # opens what stays open for ever, if there is such a thing
    before = descriptors()

    first_login.serve()

    assert descriptors() == before
    assert signal.getsignal(signal.SIGTERM) == handler
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_first_login_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = LoginReply(LoginAnswer.REFUSED, "first-login")
    monkeypatch.setattr(MonitorClient, "check_key", lambda *_: refused)
    with pytest.raises(RuntimeError, match="did not log in"):
        first_login.serve()
