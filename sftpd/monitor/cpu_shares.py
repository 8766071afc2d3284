"""Shares the processor fairly: a party with many sessions gets no more of it than one with few.

The kernel shares the processor among processes, so a party with more sessions would get more. One
step of nice changes a process's weight by a factor of about 1.25 (sched(7)). So if a party has n
times as many sessions as the party with the fewest, each of its sessions gets a nice value that is
log(n)/log(1.25) higher, up to 19. For example, with 2 and 20 sessions, the 20 get nice 10. A party
that is alone gets nice 0.

Lowering a nice value again needs CAP_SYS_NICE; without it the higher value stays.

The sessions of the party with the most run under SCHED_BATCH: they do not preempt a running process
when a packet arrives. Otherwise a client that sends its requests one by one would wake its child
for each of them. A moment later the child could answer ten of them at once. All others run under
SCHED_OTHER: the sessions of parties with fewer, and those that have not logged in. They preempt the
sessions of that party, and would otherwise wait several milliseconds for one at each request.
"""

import math
import os
from collections.abc import Mapping
from contextlib import suppress

_STEP = math.log(1.25)
_MAX_NICE = 19


def niceness(sessions: Mapping[str, int]) -> dict[str, int]:
    """Return the nice value for each party's sessions, from the number of its sessions."""
    fewest = min(sessions.values(), default=1)
    return {
        party: min(_MAX_NICE, round(math.log(count / fewest) / _STEP))
        for party, count in sessions.items()
    }


def preempting(sessions: Mapping[str, int]) -> set[str]:
    """Return the parties that have fewer sessions than another party."""
    most = max(sessions.values(), default=0)
    return {party for party, count in sessions.items() if count < most}


def set_share(pid: int, nice: int, *, preempts: bool) -> None:
    """Set nice value and scheduling policy of a session's process, as far as the kernel permits it.

    After its login a session has one thread. Its folder in /proc cannot be read under the unit of
    `ssps init --system` (ProtectProc=invisible), because the process is not dumpable.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with suppress(OSError):
        policy = os.SCHED_OTHER if preempts else os.SCHED_BATCH
        os.sched_setscheduler(pid, policy, os.sched_param(0))
