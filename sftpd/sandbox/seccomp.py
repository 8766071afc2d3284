"""The system calls that a connection's child may not make, as a seccomp filter.

keys/kernel/seccomp has the calls that no process makes that handles what strangers send, and why.
A session may not make these either: it accepts no connection, and writes, makes and removes no
file.

The filters of a connection add up:

    FORKER         what no session needs; the process that forks sessions has this one already
    BEFORE_LOGIN   also changes of the user, and what arguments make dangerous
    IN_TREE        after the login: also the calls that set up the sandbox itself

A session that is not forked by such a process gets the first two as one. A process that answers the
monitor (sftpd/processes) has all three as one, but may start threads.
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
    """Whom a filter is for: the forker, a session before its login or after it, a responder."""

    FORKER = 0
    BEFORE_LOGIN = 1
    IN_TREE = 2
    RESPONDER = 3


def program(
    stage: Stage, pid: int, machine: str = platform.machine(), *, inherited: bool = False
) -> bytes:
    """Return the filter for the process `pid`; KeyError for an unknown machine.

    `inherited` says that the process has the forker's filter.
    """
    match stage:
        case Stage.FORKER:
            return seccomp.table_program(seccomp.ALWAYS + _SESSION, machine)
        case Stage.BEFORE_LOGIN:
            denied = seccomp.CHANGE_OF_USER if inherited else seccomp.NEVER + _SESSION
            return seccomp.program(denied, pid, machine)
        case Stage.IN_TREE:
            # restrict_to_tree itself makes these calls; they are denied from then on.
            return seccomp.table_program(seccomp.SETUP, machine)
        case Stage.RESPONDER:
            # The judge hashes passwords, which argon2 does in four threads.
            denied = seccomp.NEVER + _SESSION + seccomp.SETUP
            return seccomp.program(denied, pid, machine, threads=True)


def install(stage: Stage, *, inherited: bool = False) -> None:
    """Install the filter for this thread and what it starts; no_new_privs must be set.

    Raises OSError if the kernel refuses it.
    """
    bpf.install(program(stage, os.getpid(), inherited=inherited))
