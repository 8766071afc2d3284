import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

from scripts.daemons.supervisor import Supervisor

pytestmark = pytest.mark.slow

FOREVER = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]


def ended(supervisor: Supervisor, name: str) -> None:
    """Wait until the child has died, and do not reap it."""
    process = supervisor._parts[name].process
    assert process is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_a_child_that_dies_is_restarted_after_pauses_that_double() -> None:
    now = 1000.0
    supervisor = Supervisor({"publish": ["false"]}, clock=lambda: now)
    pauses = []

    for _ in range(9):
        assert supervisor.poll() is None
        ended(supervisor, "publish")
        pause = supervisor.poll()
        assert pause is not None
        assert supervisor._parts["publish"].process is None
        pauses.append(pause)
        now += pause

    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_child_that_ran_for_long_is_restarted_after_the_shortest_pause() -> None:
    now = 1000.0
    supervisor = Supervisor({"publish": ["false"]}, clock=lambda: now)
    for _ in range(4):
        supervisor.poll()
        ended(supervisor, "publish")
        now += supervisor.poll() or 0
    supervisor.poll()
    ended(supervisor, "publish")

    now += 61

    assert supervisor.poll() == 0.5


def test_a_drain_is_passed_on_and_a_request_to_reload_is_found(tmp_path: Path) -> None:
    """On a named host, a command asks by a file; the supervisor looks at it by itself.

    The site has no portal, which would get these signals too.
    """
    seen, ready = tmp_path / "seen", tmp_path / "ready"
    child = (
        "import pathlib, signal, sys\n"
        "seen = open(sys.argv[1], 'a', buffering=1)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('drain', file=seen))\n"
        "signal.signal(signal.SIGHUP, lambda *_: print('reload', file=seen))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGUSR1, signal.SIGHUP))\n"
        "pathlib.Path(sys.argv[2]).touch()\n"
        "while True: signal.pause()"
    )
    command = [sys.executable, "-c", child, str(seen), str(ready)]
    code = (
        "import pathlib, signal, sys; from scripts.daemons.supervisor import Supervisor\n"
        "asked = pathlib.Path(sys.argv[1])\n"
        "def look():\n    found = asked.exists()\n    asked.unlink(missing_ok=True)\n"
        "    return found\n"
        "on_reload = {'serve': signal.SIGHUP, 'portal': signal.SIGHUP}\n"
        "sys.exit(Supervisor({'serve': sys.argv[2:]}, on_reload,"
        " look_after=look, draining=('serve', 'portal')).run())"
    )
    asked = tmp_path / "asked"
    with Popen([sys.executable, "-c", code, str(asked), *command], stdout=DEVNULL) as process:
        until(ready.exists)
        process.send_signal(signal.SIGUSR1)
        until(lambda: seen.exists() and seen.read_text() == "drain\n")
        asked.touch()
        until(lambda: seen.read_text() == "drain\nreload\n")
        process.terminate()
        assert process.wait(20) == 0


SUPERVISE = """
import signal, sys
from scripts.daemons.supervisor import Supervisor
reload = {"a": signal.SIGTERM, "b": signal.SIGHUP}
sys.exit(Supervisor({"a": %r, "b": %r}, reload, lambda: %r).run())
"""


def children(pid: int) -> list[int]:
    """Return the children after exec; before it they still have the handlers of the supervisor."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(p) for p in found if command(int(p)) != command(pid)]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_children(pid: int, count: int, without: int = 0) -> list[int]:
    until(lambda: len(children(pid)) == count and without not in children(pid))
    return children(pid)


def wait_until_caught(number: signal.Signals, pids: list[int]) -> None:
    """Wait until each process has a handler for the signal."""
    for pid in pids:
        caught = 0
        while not caught & 1 << (number - 1):
            status = Path(f"/proc/{pid}/status").read_text()
            caught = int(status.split("SigCgt:")[1].split()[0], 16)


def gone(pids: list[int]) -> bool:
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    return True


Supervised = Callable[..., Popen[bytes]]


@pytest.fixture
def supervised() -> Iterator[Supervised]:
    with ExitStack() as stack:

        def start(one: list[str], other: list[str], reloadable: bool = True) -> Popen[bytes]:
            code = SUPERVISE % (one, other, reloadable)
            started = Popen([sys.executable, "-c", code], stderr=DEVNULL)
            stack.callback(started.wait)
            stack.callback(started.kill)  # its children die with it
            return started

        yield start


def test_a_killed_child_is_restarted_and_sigterm_stops_both(supervised: Supervised) -> None:
    supervisor = supervised(FOREVER, FOREVER)
    first, _ = wait_for_children(supervisor.pid, 2)

    os.kill(first, signal.SIGKILL)
    pids = wait_for_children(supervisor.pid, 2, without=first)
    wait_until_caught(signal.SIGTERM, pids)
    supervisor.terminate()

    assert supervisor.wait(timeout=15) == 0
    assert gone(pids)


TOUCH_ON_SIGHUP = """
import pathlib, signal, sys
heard = {signal.SIGTERM, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
for each in heard:
    signal.signal(each, lambda *_: None)  # a handler is visible from outside, in SigCgt
while signal.sigwait(heard) == signal.SIGHUP:
    pathlib.Path(sys.argv[1]).touch()
"""


def test_sighup_restarts_the_publisher_and_is_forwarded_to_the_server(
    tmp_path: Path, supervised: Supervised
) -> None:
    supervisor = supervised(
        FOREVER, [sys.executable, "-c", TOUCH_ON_SIGHUP, str(tmp_path / "heard")]
    )
    publisher, server = wait_for_children(supervisor.pid, 2)
    wait_until_caught(signal.SIGTERM, [publisher, server])
    wait_until_caught(signal.SIGHUP, [server, supervisor.pid])

    supervisor.send_signal(signal.SIGHUP)

    pids = wait_for_children(supervisor.pid, 2, without=publisher)
    assert server in pids
    until((tmp_path / "heard").exists)
    wait_until_caught(signal.SIGTERM, pids)
    supervisor.terminate()
    assert supervisor.wait(timeout=15) == 0


def test_a_reload_reaches_a_daemon_that_has_no_handler_yet(
    tmp_path: Path, supervised: Supervised
) -> None:
    starting, heard = tmp_path / "starting", tmp_path / "heard"
    os.mkfifo(starting)
    code = f"open({str(starting)!r}).read()\n{TOUCH_ON_SIGHUP}"
    supervisor = supervised(FOREVER, [sys.executable, "-c", code, str(heard)])
    publisher, server = wait_for_children(supervisor.pid, 2)
    wait_until_caught(signal.SIGHUP, [supervisor.pid])
    wait_until_caught(signal.SIGTERM, [publisher])

    with starting.open("w"):  # now it reads, and has no handler
        supervisor.send_signal(signal.SIGHUP)
        wait_for_children(supervisor.pid, 2, without=publisher)  # so the reload is through
        assert not heard.exists()

    until(heard.exists)
    assert server in children(supervisor.pid)


def test_sighup_with_invalid_settings_changes_nothing(
    tmp_path: Path, supervised: Supervised
) -> None:
    supervisor = supervised(
        FOREVER,
        [sys.executable, "-c", TOUCH_ON_SIGHUP, str(tmp_path / "heard")],
        reloadable=False,
    )
    pids = wait_for_children(supervisor.pid, 2)
    wait_until_caught(signal.SIGTERM, pids)
    wait_until_caught(signal.SIGHUP, [pids[1], supervisor.pid])

    supervisor.send_signal(signal.SIGHUP)
    supervisor.terminate()

    assert supervisor.wait(timeout=15) == 0
    assert not (tmp_path / "heard").exists()


def test_the_children_of_a_killed_supervisor_end_too(supervised: Supervised) -> None:
    supervisor = supervised(FOREVER, FOREVER)
    pids = wait_for_children(supervisor.pid, 2)

    supervisor.kill()
    supervisor.wait()

    assert gone(pids)
