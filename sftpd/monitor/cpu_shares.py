"""Shares the processors fairly among parties, not among processes.

The kernel shares a processor among processes, so a party with more busy sessions would get more of
it. One step of nice changes a process's weight by a factor of about 1.25 (sched(7)). So if a party
has n times as many busy sessions as the party with the fewest, each of its sessions gets a nice
value that is log(n)/log(1.25) higher, up to 19. For example, with 2 and 20 sessions, the 20 get
nice 10. A party that is alone gets nice 0.

What counts for a party:

- its sessions that have used the processor in the last REMEMBERED seconds, at least one. Idle
  sessions take nothing from others;
- its connections that have not logged in yet: those of the addresses that it has registered;
- what other processes did for it: if the monitor and the signer used as much as its sessions did,
  its sessions count twice.

Lowering a nice value again needs CAP_SYS_NICE or a limit on nice values (RLIMIT_NICE); without
them the higher value stays. Then connections keep nice 0 until their login.

A mirror sends a request, waits, and sends the next one. If its session had to wait for the
processor each time, up to some milliseconds, the mirror would be ten times as slow, whatever its
share. So there are ranks:

FIRST     the monitor, and the sessions of the parties with the fewest busy ones; if all have
          equally many, those of the parties that use less than another one. They have the shortest
          slice (keys/kernel/scheduler): when such a process wakes up, it interrupts one of the
          second rank at once.
SECOND    the sessions of the other parties, or of the only one. They run under SCHED_BATCH: they do
          not interrupt a running process when a packet arrives. Otherwise a client that sends its
          requests one by one would wake its child for each of them. A moment later the child could
          answer ten of them at once.
LOGIN     connections that have not logged in. They have no short slice, because many processes with
          short slices make each other wait.

Beside the first rank, the second one gets HANDICAP steps of nice more, half of the weight. Once a
process has had its share, it waits until the kernel's next tick, also if the share would be due
earlier. So with equal weights, a mirror that waits often would get much less than half.
"""

import math
import os
import resource
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from keys.kernel import capabilities, scheduler

BUSY = 1e-3  # seconds of processor time in an interval: a session that used less is idle
REMEMBERED = 3.0  # seconds for which a session that was busy still counts
_DECAY = 0.7  # what an interval still counts for after the next one
HANDICAP = 3  # steps of nice
_LESS = 0.8  # of what another party uses
_MAX_FACTOR = 8.0
_STEP = math.log(1.25)
_MAX_NICE = 19


class Rank(Enum):
    """A scheduling policy, and a slice in seconds; 0 is the kernel's default."""

    FIRST = os.SCHED_OTHER, 0.1e-3  # no slice can be shorter
    SECOND = os.SCHED_BATCH, 0.0
    LOGIN = os.SCHED_OTHER, 0.0


class Share(NamedTuple):
    """What a process gets: its nice value, relative to the server's, and its rank."""

    nice: int
    rank: Rank


class CpuShares:
    """What each party uses, and what follows for its sessions.

    `may_lower` says whether a nice value can be lowered again.
    """

    def __init__(self, *, may_lower: bool = True) -> None:
        self._may_lower = may_lower
        self._sessions: defaultdict[str, float] = defaultdict(float)  # seconds, of recent intervals
        self._others: defaultdict[str, float] = defaultdict(float)
        self._nice: dict[str, int] = {}
        self._second: set[str] = set()

    def add_session_work(self, party: str, seconds: float) -> None:
        """Count the processor time of a session."""
        self._sessions[party] += seconds

    def add_other_work(self, party: str, seconds: float) -> None:
        """Count the processor time that another process used for a party."""
        self._others[party] += seconds

    def end_interval(self) -> None:
        """Count what was added until now for less from now on."""
        for used in (self._sessions, self._others):
            for party in list(used):
                used[party] *= _DECAY
                if used[party] < BUSY / 10:
                    del used[party]

    def set_busy(self, connections: Mapping[str, int]) -> None:
        """Give each connected party its share, from the number of its busy connections."""
        self._nice = niceness(
            {party: max(1, count) * self._factor(party) for party, count in connections.items()}
        )
        lowest = min(self._nice.values(), default=0)
        self._second = {party for party, nice in self._nice.items() if nice > lowest}
        if not self._second:
            most = max((self._sessions.get(party, 0.0) for party in self._nice), default=0.0)
            self._second = {
                party for party in self._nice if self._sessions.get(party, 0.0) >= _LESS * most
            }

    def _factor(self, party: str) -> float:
        sessions, others = self._sessions.get(party, 0.0), self._others.get(party, 0.0)
        if sessions < BUSY:
            return 1.0  # also a party without a session, whose logins are limited by themselves
        return min(_MAX_FACTOR, 1 + others / sessions)

    def share(self, party: str, *, logged_in: bool) -> Share:
        """Return the share of a connection of `party`."""
        nice = self._nice.get(party, 0)
        if not logged_in:
            return Share(nice if self._may_lower else 0, Rank.LOGIN)
        if not self._nice or len(self._second) == len(self._nice):
            return Share(nice, Rank.SECOND)
        if party in self._second:
            return Share(min(_MAX_NICE, nice + HANDICAP), Rank.SECOND)
        return Share(nice, Rank.FIRST)


def niceness(weights: Mapping[str, float]) -> dict[str, int]:
    """Return the nice value for each party's sessions, from their number."""
    least = min(weights.values(), default=1.0)
    return {
        party: min(_MAX_NICE, round(math.log(weight / least) / _STEP))
        for party, weight in weights.items()
    }


def may_lower(nice: int) -> bool:
    """Say whether this process may lower the nice value of another one to `nice`."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return (
        allowed in range(20 - nice, 41)
        or allowed == resource.RLIM_INFINITY
        or capabilities.has(capabilities.SYS_NICE)
    )


def set_share(pid: int, nice: int, rank: Rank) -> None:
    """Set nice value and rank of a process, as far as the kernel permits it.

    After its login a session has one thread. Its folder in /proc cannot be read under the unit of
    `ssps init --system` (ProtectProc=invisible), because the process is not dumpable.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with suppress(OSError):
        scheduler.set_policy(pid, *rank.value)
