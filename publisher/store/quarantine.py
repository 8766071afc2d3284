"""What no rule could file: `quarantine/<arrival's file>`, and `<the same>.json` with the reason.

    {"arrival": "20230514T140003000041-9f3c21ab", "name": "tarama 7.jpg",
     "reason": "unknown-karekod", "sha256": "9f86d0…", "texts": ["1093717526"], "frames": 1,
     "readings": ["page 1: 1093717526 by zxing-cpp, whole, 2 ms"], "time": "2023-05-14T14:00:03Z"}

`name` is the scanner's, escaped; `texts` are all codes on its pages, and `readings` say on which
of its `frames` each was read and how; sha256 is null where the
bytes were not read (too large, no file). A page with a sha256 is a fresh copy of the very bytes
that were judged; one without is what was claimed, be it a link or a pipe.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from config.site import QUARANTINE
from keys.files import replace_unsynced, sync_file_system
from publisher.store.copy import move

FOUND_IN_TREE = "found-in-a-tree"  # the reason for what stood in a tree and not in the store
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class QuarantineNote:
    """Why a page is here; `time` is UTC in RFC 3339."""

    arrival: str
    name: str
    reason: str
    sha256: str | None
    texts: tuple[str, ...]
    frames: int
    readings: tuple[str, ...]
    time: str


def format_note(note: QuarantineNote) -> bytes:
    """Write the file beside the page; ASCII, so that a terminal may show it."""
    fields = {
        "arrival": note.arrival,
        "name": note.name,
        "reason": note.reason,
        "sha256": note.sha256,
        "texts": note.texts,
        "frames": note.frames,
        "readings": note.readings,
        "time": note.time,
    }
    return json.dumps(fields, indent=1).encode() + b"\n"


def parse_note(content: bytes) -> QuarantineNote:
    """Read it back; ValueError for anything else."""
    fields = json.loads(content)
    try:
        lists = {name: tuple(fields[name]) for name in ("texts", "readings")}
        return QuarantineNote(**{**fields, **lists})
    except (TypeError, KeyError) as error:
        raise ValueError("not a note of the quarantine") from error


class Quarantine:
    """The folder; everything here may be done twice with the same result, and lasts once synced."""

    def __init__(self, site: Path) -> None:
        self._folder = site / QUARANTINE
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._dirty = True

    def sweep(self) -> None:
        """Remove what a crash left half written."""
        for path in self._folder.glob(".*.new"):
            path.unlink()

    def add(self, source: Path, file: str) -> None:
        """Move a page here, unless that was done already."""
        try:
            move(source, self._folder / file)
        except FileNotFoundError:
            if not self.holds(file):
                raise
        self._dirty = True

    def write_note(self, file: str, note: QuarantineNote) -> None:
        """Put the reason beside a page."""
        replace_unsynced(self._folder / f"{file}.json", format_note(note), _MODE)
        self._dirty = True

    def sync(self) -> None:
        """Make what was taken and noted survive a loss of power."""
        if self._dirty:
            self._dirty = False
            sync_file_system(self._folder)

    def holds(self, file: str) -> bool:
        """Say whether a page of that name is here, be it a link or a pipe."""
        path = self._folder / file
        return path.is_symlink() or path.exists()

    def remove(self, file: str) -> None:
        """Take back a page whose decision a crash prevented; the spool still has it."""
        (self._folder / file).unlink(missing_ok=True)
