"""An election: its folder in the trees, and when the parties may look."""

from dataclasses import dataclass
from datetime import datetime


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
