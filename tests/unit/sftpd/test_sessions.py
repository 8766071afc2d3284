import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from keys.kernel import capabilities, user_namespace
from sftpd import first_login, sessions
from sftpd.ipc.messages import LoginAnswer
from sftpd.ipc.monitor_client import LoginReply, MonitorClient
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.userauth import UserauthHandler


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore what a connection sets for its whole process."""
    for name in ("STALL_SECONDS", "IDLE_SECONDS"):
        monkeypatch.setattr(Packetizer, name, getattr(Packetizer, name))


def descriptors() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def children() -> set[str]:
    return {
        child
        for thread in Path("/proc/self/task").iterdir()
        for child in (thread / "children").read_text().split()
    }


@pytest.mark.parametrize("module", ["sftpd.sessions", "scripts.daemons.sessions"])
def test_the_forker_does_not_load_modules_that_no_session_uses(module: str) -> None:
    code = (
        "import runpy, sys\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__')\n"
        "except IndexError:  # it has no arguments\n"
        "    pass\n"
        "loaded = {name.split('.')[0] for name, module in sys.modules.items() if module}\n"
        "assert 'paramiko' in loaded\n"
        "print(loaded & {'rich', 'invoke', 'greenlet', 'pygments', 'yaml', 'unittest'})\n"
        "print(loaded & {'click', 'ssl'})  # ssl is asyncio's\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n" * 2


def test_a_session_that_must_keep_the_root_directory_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(capabilities, "has", lambda _: False)
    monkeypatch.setattr(user_namespace, "lets_change_root", lambda: False)
    with structlog.testing.capture_logs() as lines:
        assert not sessions.enter_namespace()
    assert lines == [{"event": "root-directory-kept", "log_level": "warning"}]

    monkeypatch.setattr(capabilities, "has", lambda number: number == capabilities.SYS_CHROOT)
    with structlog.testing.capture_logs() as lines:
        assert not sessions.enter_namespace()
    assert lines == []


def test_the_first_login_leaves_no_descriptor_process_or_signal_handler_behind() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    first_login.serve()  # opens what stays open for ever, if there is such a thing
    before = descriptors(), children()

    first_login.serve()

    assert (descriptors(), children()) == before
    assert signal.getsignal(signal.SIGTERM) == handler
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


def test_a_first_login_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(*_: object) -> None:  # as a bug in a library could cause
        while True:
            pass

    monkeypatch.setattr(UserauthHandler, "_parse_service_request", stuck)
    monkeypatch.setattr(first_login, "DEADLINE", 0.5)
    before = children()

    with pytest.raises((OSError, RuntimeError)):
        first_login.serve()

    assert children() == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_first_login_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = LoginReply(LoginAnswer.REFUSED, "first-login")
    monkeypatch.setattr(MonitorClient, "check_key", lambda *_: refused)
    with pytest.raises(RuntimeError, match="did not log in"):
        first_login.serve()
