"""What a look at a site finds (publisher/fsck/verify), and whether a publisher runs meanwhile."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.site import FILING, LEDGERS
from publisher.fsck.repair import Repair


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: where, what, and what to do about it.

    A note is explained, and no reason for alarm.
    """

    place: str
    problem: str
    advice: str
    repair: Repair | None = None
    note: bool = False

    def __str__(self) -> str:
        mend = "`ssps verify --repair` mends it" if self.repair else self.advice
        return f"{self.place}: {self.problem}, {mend}"


def publisher_is_running(site: Path) -> bool:
    """Say whether a publisher has the site's filing ledger open.

    Its lock is taken for an instant if nobody has it; a publisher that starts just then waits.
    """
    try:
        descriptor = os.open(site / LEDGERS / FILING, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@dataclass(frozen=True, slots=True)
class PossibleFinding:
    """A finding, unless the publisher is just about to explain it."""

    finding: Finding
    still_true: Callable[[], bool]
