"""The findings of a check (publisher/fsck/verify), and whether a publisher runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.site import FILING, LEDGERS, ledgers_of_kind
from keys.folder_lock import FolderLock
from keys.operations import server_state
from publisher.fsck.repair import Repair


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a site: the path, what is wrong with it, and what to do.

    If `repair` is given, `ssps verify --repair` can solve it. A `note` is something unusual that is
    explained, not an error.
    """

    place: str
    problem: str
    advice: str
    repair: Repair | None = None
    note: bool = False

    def __str__(self) -> str:
        advice = "`ssps verify --repair` repairs it" if self.repair else self.advice
        return f"{self.place}: {self.problem}, {advice}"


def publisher_is_running(site: Path) -> bool:
    """Return whether a publisher has the site's filing ledger open, on this host or another."""
    if server_state.running(site, server_state.PUBLISH):
        return True
    names = ledgers_of_kind(site / LEDGERS, FILING)
    return any(is_writing(site / LEDGERS / name) for name in names)


def is_writing(ledger: Path) -> bool:
    """Return whether a process has a ledger open to write to it.

    If no process holds the ledger's lock, this takes it for an instant. A publisher that starts at
    that moment waits for the lock (publisher/publish).
    """
    try:
        FolderLock(ledger, shared=True).close()
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class PossibleFinding:
    """A finding that a page in flight may explain; `still_true` checks again."""

    finding: Finding
    still_true: Callable[[], bool]
