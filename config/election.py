"""An election, and the rehearsals before it: which trees the parties may look at, and when."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Election:
    """Times are aware; access is open from `opens` on and until `closes`, if that is set."""

    id: str
    title: str
    opens: datetime
    closes: datetime | None = None
    ban_lifts: datetime | None = None

    def open_at(self, now: datetime) -> bool:
        """Say whether a party may look at `now`: from the instant it opens, not at its close."""
        return self.opens <= now and (self.closes is None or now < self.closes)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A window in which the parties try out what they will do; its trees stand in `folder`/trees.

    That is a site of its own beside the real one, with its own intake, store and registry, so
    that nothing of the one can come into the other.
    """

    id: str
    title: str
    opens: datetime
    closes: datetime
    folder: Path

    def open_at(self, now: datetime) -> bool:
        """Say whether a party may look at `now`."""
        return self.opens <= now < self.closes
