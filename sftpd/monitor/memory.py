"""Measures the memory of a session, and makes it the one to end if the machine has no more.

The kernel limits the address space of each session (sftpd/sandbox). What the sessions of a party
take together is added up in sftpd/monitor/children.
"""

import resource
from contextlib import suppress
from pathlib import Path

_OOM_SCORE = 300  # proc(5), oom_score_adj: 300 is as much as 30 % of the memory


def anonymous_bytes(pid: int) -> int:
    """Return the memory of a process without files; 0 if the process does not exist any more.

    It includes what a forked process still shares with its parent. This does not change when the
    process writes to it, so what the process took since some time is the difference.
    """
    try:
        _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0
    return (resident - of_files) * resource.getpagesize()


def prefer_to_end() -> None:
    """Let the kernel end this process before the server if memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
