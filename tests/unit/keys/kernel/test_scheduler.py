import ctypes
import os
import platform
import subprocess
from struct import unpack_from
from types import SimpleNamespace

import pytest

from keys.kernel import scheduler
from keys.kernel.libc import libc

_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}


def slice_of(pid: int) -> int:
    """Return the slice of a process in nanoseconds; 0 on kernels without slices."""
    attributes = ctypes.create_string_buffer(48)
    assert libc.syscall(_SCHED_GETATTR[platform.machine()], pid, attributes, 48, 0) == 0
    found: int = unpack_from("=Q", attributes, 24)[0]
    return found


def test_a_policy_and_a_slice_are_set_and_the_nice_value_stays() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        before = slice_of(process.pid)
        nice = min(os.getpriority(os.PRIO_PROCESS, process.pid) + 3, 19)
        os.setpriority(os.PRIO_PROCESS, process.pid, nice)
        found = []
        for policy, seconds in ((os.SCHED_BATCH, 0.3e-3), (os.SCHED_OTHER, 0.0)):
            scheduler.set_policy(process.pid, policy, seconds)
            found.append((os.sched_getscheduler(process.pid), slice_of(process.pid)))
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == nice
        process.kill()

    short = 300_000 if before else 0
    assert found == [(os.SCHED_BATCH, short), (os.SCHED_OTHER, before)]


def test_where_slices_are_refused_only_the_policy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        with monkeypatch.context() as refused:
            refused.setattr(scheduler, "libc", SimpleNamespace(syscall=lambda *_: -1))
            scheduler.set_policy(process.pid, os.SCHED_BATCH, 0.1e-3)
        assert os.sched_getscheduler(process.pid) == os.SCHED_BATCH
        process.kill()


def test_a_process_that_has_ended_is_an_error() -> None:
    with pytest.raises(OSError):
        scheduler.set_policy(2**22 + 1, os.SCHED_OTHER)
