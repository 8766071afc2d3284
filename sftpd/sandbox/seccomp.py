"""The system calls that a connection's child may not make, as a seccomp filter.

keys/kernel/seccomp has the calls that no process makes that handles what strangers send, and why.
A session may not make these either: it accepts no connection, and writes, makes and removes no
file.

A connection has two stages, and the second filter adds to the first. The first denies the calls
that no part of a connection needs. After the login, the second also denies the calls that set up
the sandbox itself. A process that answers the monitor (sftpd/processes) has the second filter, but
may start threads.
"""

import os
import platform
from enum import Enum

from keys.kernel import bpf, seccomp

# The format of this table is that of bpf.call_numbers.
_SESSION = """
socketpair 53 199   accept 43 202       accept4 288 242     fsync 74 82
fdatasync 75 83     creat 85 -          mkdir 83 -          mkdirat 258 34      rename 82 -
renameat 264 38     renameat2 316 276   unlink 87 -         unlinkat 263 35     rmdir 84 -
truncate 76 45      ftruncate 77 46     fallocate 285 47    memfd_create 319 279
"""


class Stage(Enum):
    """Whom a filter is for: a session before its login or after it, or the judge and signer."""

    BEFORE_LOGIN = 1
    IN_TREE = 2
    RESPONDER = 3


def program(stage: Stage, pid: int, machine: str = platform.machine()) -> bytes:
    """Return the filter for the process `pid`; KeyError for an unknown machine."""
    # restrict_to_tree itself makes the calls of SETUP; they are denied from then on.
    later = "" if stage is Stage.BEFORE_LOGIN else seccomp.SETUP
    # The judge hashes passwords, which argon2 does in four threads.
    threads = stage is Stage.RESPONDER
    return seccomp.program(seccomp.NEVER + _SESSION + later, pid, machine, threads=threads)


def install(stage: Stage) -> None:
    """Install the filter for this thread and what it starts; no_new_privs must be set.

    Raises OSError if the kernel refuses it.
    """
    bpf.install(program(stage, os.getpid()))
