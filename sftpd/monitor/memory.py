"""Measures the memory of a session, and has the kernel end it first when memory runs out.

The kernel limits the address space of each session (sftpd/sandbox). What the sessions of a party
take together is added up in sftpd/monitor/children.

A session runs as another user, and where /proc hides the processes of others (hidepid,
ProtectProc=), the monitor cannot look it up there. So a session opens its own `statm` before it
reads anything from its client, and sends the monitor that descriptor (proc(5)). What the kernel
writes there is not up to the session.
"""

import os
import resource
from contextlib import suppress
from pathlib import Path

_MAX_BYTES = 256  # of statm: seven numbers
_OOM_SCORE = 300  # proc(5), oom_score_adj: 300 is as much as 30 % of the memory


def open_own() -> int:
    """Return the descriptor from which another process can read this one's memory; OSError."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def anonymous_bytes(pid: int, own: int | None = None) -> int:
    """Return the memory of a process without files; 0 if it is not known, or has ended.

    `own` is the descriptor that the process has opened, if it has sent one.

    It includes what a forked process still shares with its parent. This does not change when the
    process writes to it, so what the process took since some time is the difference.
    """
    try:
        if own is None:
            found = Path(f"/proc/{pid}/statm").read_bytes()
        else:
            found = os.pread(own, _MAX_BYTES, 0)
        _, resident, of_files, *_ = map(int, found.split())
    except (OSError, ValueError):
        return 0
    return (resident - of_files) * resource.getpagesize()


def prefer_to_end() -> None:
    """Let the kernel end this process before the server if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
