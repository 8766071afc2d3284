"""Shares the processor fairly: a party with many sessions gets no more of it than one with few.

The kernel shares the processor among processes, so a party with more sessions would get more. One
step of nice changes a process's weight by a factor of about 1.25 (sched(7)). So if a party has n
times as many sessions as the party with the fewest, each of its sessions gets a nice value that is
log(n)/log(1.25) higher, up to 19. For example, with 2 and 20 sessions, the 20 get nice 10. A party
that is alone gets nice 0.

Lowering a nice value again needs CAP_SYS_NICE; without it the higher value stays.

Children also run under SCHED_BATCH: they do not preempt a running process when a packet arrives.
Otherwise a client that sends its requests one by one would wake its child for each of them. A
moment later the child could answer ten of them at once.
"""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_STEP = math.log(1.25)
_MAX_NICE = 19


def niceness(sessions: Mapping[str, int]) -> dict[str, int]:
    """Return the nice value for each party's sessions, from the number of its sessions."""
    fewest = min(sessions.values(), default=1)
    return {
        party: min(_MAX_NICE, round(math.log(count / fewest) / _STEP))
        for party, count in sessions.items()
    }


def use_batch_scheduling() -> None:
    """Run this process under SCHED_BATCH, if the kernel permits it."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def set_nice(pid: int, nice: int) -> None:
    """Set the nice value of all threads of a process, as far as the kernel permits it."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
