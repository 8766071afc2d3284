import os
import subprocess
import sys

from sftpd.monitor import cpu_shares


def test_a_party_that_is_alone_gets_nice_zero() -> None:
    assert cpu_shares.niceness({"a": 32}) == {"a": 0}
    assert cpu_shares.niceness({}) == {}


def test_parties_with_equally_many_sessions_get_nice_zero() -> None:
    assert cpu_shares.niceness({"a": 7, "b": 7}) == {"a": 0, "b": 0}


def test_sixteen_sessions_together_weigh_as_much_as_one() -> None:
    found = cpu_shares.niceness({"a": 16, "b": 1, "c": 2})
    assert found == {"a": 12, "b": 0, "c": 3}
    assert 0.8 < 16 / 1.25 ** found["a"] < 1.25


def test_nice_is_at_most_19() -> None:
    assert cpu_shares.niceness({"a": 512, "b": 1}) == {"a": 19, "b": 0}


def test_set_nice_reaches_all_threads_of_a_process() -> None:
    code = (
        "import threading, sys; e = threading.Event();"
        "threading.Thread(target=e.wait, daemon=True).start();"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        before = os.getpriority(os.PRIO_PROCESS, process.pid)
        cpu_shares.set_nice(process.pid, min(before + 3, 19))
        tasks = os.listdir(f"/proc/{process.pid}/task")  # noqa: PTH208 - names, not paths
        found = {os.getpriority(os.PRIO_PROCESS, int(task)) for task in tasks}
        process.communicate()
    assert len(tasks) == 2
    assert found == {min(before + 3, 19)}


def test_set_nice_ignores_a_process_that_has_ended() -> None:
    cpu_shares.set_nice(2**22 + 1, 5)
