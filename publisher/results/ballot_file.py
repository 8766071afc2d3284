"""Reads the site's ballot, `ballot.csv`, and reads it again after each import."""

from collections.abc import Callable
from pathlib import Path

from config import ballot
from config.ballot import Ballot
from config.site import BALLOT_CSV


def load_ballot(site: Path) -> Ballot | None:
    """Return the site's ballot, None if none was imported yet. Raises Faults if it is damaged."""
    try:
        content = (site / BALLOT_CSV).read_bytes()
    except FileNotFoundError:
        return None
    lines = content.decode("utf-8", "replace").splitlines(keepends=True)
    return ballot.read(BALLOT_CSV, lines, content)


class BallotFile:
    """Returns the site's ballot, read again after each import."""

    def __init__(self, site: Path, load: Callable[[Path], Ballot | None] = load_ballot) -> None:
        self._site, self._load = site, load
        self._read: tuple[int, int, int] | None = None
        self._ballot: Ballot | None = None

    def __call__(self) -> Ballot | None:
        """Return the ballot in force, None if none was imported yet."""
        try:
            found = (self._site / BALLOT_CSV).stat()
        except FileNotFoundError:
            return None
        seen = found.st_dev, found.st_ino, found.st_mtime_ns
        if seen != self._read:
            self._ballot, self._read = self._load(self._site), seen
        return self._ballot
