"""Settings that a process makes for itself, most of which cannot be undone (prctl(2)); its CPU."""

import ctypes
import errno
import os
import platform
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from keys.kernel.libc import libc, os_error, prctl

_SCHEDULER_CLOCK = 2  # in the number of a clock: all time that the scheduler gave to the process
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 4, 15, 38
_PR_GET_DUMPABLE = 3
_CLONE = {"x86_64": 56, "aarch64": 220}  # the number of clone(2)
_CLONE_PARENT = 0x8000
_HELD = (signal.SIGHUP, signal.SIGUSR1)  # reload and drain
_libc_with_lock = ctypes.PyDLL(None, use_errno=True)
_before_fork = ctypes.pythonapi.PyOS_BeforeFork
_after_fork_in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
_after_fork_in_child = ctypes.pythonapi.PyOS_AfterFork_Child


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `number` when its parent ends.

    `parent` is the parent's process id, taken before the fork. Raises ProcessLookupError if that
    process has ended already; the kernel would never send the signal then. The kernel forgets this
    setting when the process changes its user.
    """
    prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "the parent has ended")


def forbid_new_privileges() -> None:
    """Keep programs that this process executes from gaining privileges; seccomp requires it."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """Keep other processes of the same user from reading the memory; write no core file.

    The memory has keys or passwords, so a core file would have them too. A program that this
    process executes inherits only the limit for core files, and calls this itself. The kernel
    forgets the other setting when the process changes its user.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl(_PR_SET_DUMPABLE, 0)


@contextmanager
def holding_signals() -> Iterator[None]:
    """Hold SIGHUP and SIGUSR1 while a daemon starts, until it has handlers: `release_signals`.

    They would end it, and if they were ignored, it would keep the settings that it has just read.
    What it forks and executes meanwhile holds them too. What is held at the end is dropped.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        while signal.sigtimedwait(_HELD, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release_signals() -> set[int]:
    """Let held signals arrive; return the signals that were blocked before."""
    return set(signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD))


@contextmanager
def inspection_allowed() -> Iterator[None]:
    """Undo `forbid_inspection` during a `with` statement; the memory must have no secret then."""
    before = libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    prctl(_PR_SET_DUMPABLE, 1)
    try:
        yield
    finally:
        prctl(_PR_SET_DUMPABLE, 1 if before == 1 else 0)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used; 0 if it does not exist any more.

    A process that has ended still exists until its parent has waited for it. The number of the
    clock is that of clock_getcpuclockid(3).
    """
    try:
        return time.clock_gettime((~pid << 3) | _SCHEDULER_CLOCK)
    except OSError:
        return 0.0


def set_name(name: str) -> None:
    """Give this process the name that `ps -o comm` shows, at most 15 bytes."""
    if libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()), 0, 0, 0) != 0:
        raise os_error()


def fork_sibling() -> int:
    """Fork a process whose parent is this one's parent (CLONE_PARENT); return what os.fork returns.

    Call it in a process with one thread. What Python does around a fork is done here too. What the
    C library does is for other threads, except that it would note the new number of the thread.
    """
    _before_fork()
    # PyDLL: between the fork and its end here no other code runs, as in os.fork.
    pid = int(_libc_with_lock.syscall(_CLONE[platform.machine()], _CLONE_PARENT, 0, 0, 0, 0))
    if pid == 0:
        _after_fork_in_child()
        return 0
    error = ctypes.get_errno()
    _after_fork_in_parent()
    if pid < 0:
        raise OSError(error, os.strerror(error))
    return pid
