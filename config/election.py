"""An election and its rehearsals: which trees the parties may see, and when."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Election:
    """An election. Times have a zone; access is open from `opens` to `closes`, if that is set."""

    id: str
    title: str
    opens: datetime
    closes: datetime | None = None
    ban_lifts: datetime | None = None

    def open_at(self, now: datetime) -> bool:
        """Say whether parties have access at `now`: `opens` is included, `closes` is not."""
        return self.opens <= now and (self.closes is None or now < self.closes)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A test day, on which the parties can try out their clients with the trees in `folder`.

    `folder` is a site of its own, with its own intake, store and registry, so that test pages and
    real pages cannot be mixed up.
    """

    id: str
    title: str
    opens: datetime
    closes: datetime
    folder: Path

    def open_at(self, now: datetime) -> bool:
        """Say whether parties have access at `now`: `opens` is included, `closes` is not."""
        return self.opens <= now < self.closes
