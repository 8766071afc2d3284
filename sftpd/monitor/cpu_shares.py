"""Fair shares of the processor: a party with many sessions gets no more of it than one with few.

The kernel shares it among processes, so a party's weight grows with its sessions, unless each of
them weighs less. One step of nice is a factor of about 1.25 in weight (sched(7)): a party with n
times as many sessions as the one with the fewest has each of them made log(n)/log(1.25) nicer,
19 steps at most. While one party is alone, nobody is made nicer.

To make a process less nice again takes privilege (CAP_SYS_NICE); without it, it stays.

And sessions interrupt nobody: a client that sends its requests one by one would wake us for each,
and have us answer one where a moment later there are ten.
"""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_STEP = math.log(1.25)
_MAX_NICE = 19


def niceness(sessions: Mapping[str, int]) -> dict[str, int]:
    """Return how nice the sessions of each party have to be."""
    fewest = min(sessions.values(), default=1)
    return {
        party: min(_MAX_NICE, round(math.log(count / fewest) / _STEP))
        for party, count in sessions.items()
    }


def use_batch_scheduling() -> None:
    """Have this process wait for its turn when something arrives (SCHED_BATCH of sched(7))."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def set_nice(pid: int, nice: int) -> None:
    """Make a process that nice, all its threads, as far as it is permitted."""
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), nice)
