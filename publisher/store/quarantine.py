"""Keeps files that no rule could file: `quarantine/<file>`, and `<file>.json` with the reason.

`<file>` is the name of the arrival's file in the spool. For example

    {"arrival": "20230514T140003000041-9f3c21ab", "name": "tarama 7.jpg",
     "reason": "unknown-karekod", "sha256": "9f86d0…", "texts": ["1093717526"], "frames": 1,
     "readings": ["page 1: 1093717526 by zxing-cpp, whole, 2 ms"], "time": "2023-05-14T14:00:03Z"}

`name` is the name that the scanner gave, escaped; `texts` are all codes that were read; `readings`
say on which of the `frames` pages each was read, and how. `sha256` is null if the bytes were not
read, because the file is too large or not a plain file. A file with a sha256 is a new copy of the
bytes that were decided on; one without is the claimed file itself, which may be a link or a pipe.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from config.site import QUARANTINE
from keys.files import replace_unsynced, sync_file_system
from publisher.store.copy import move

FOUND_IN_TREE = "found-in-a-tree"  # the reason of a file that was in a tree but not in the store
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class QuarantineNote:
    """Why a file is in quarantine; `time` is UTC in RFC 3339."""

    arrival: str
    name: str
    reason: str
    sha256: str | None
    texts: tuple[str, ...]
    frames: int
    readings: tuple[str, ...]
    time: str


def format_note(note: QuarantineNote) -> bytes:
    """Format the `.json` file, in ASCII so that a terminal can show it."""
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
    """Parse a `.json` file; raise ValueError if it is not a valid note."""
    fields = json.loads(content)
    try:
        lists = {name: tuple(fields[name]) for name in ("texts", "readings")}
        return QuarantineNote(**{**fields, **lists})
    except (TypeError, KeyError) as error:
        raise ValueError("not a note of a file in quarantine") from error


class Quarantine:
    """The quarantine folder.

    Every operation can be repeated with the same result, and is durable after `sync`.
    """

    def __init__(self, site: Path) -> None:
        self._folder = site / QUARANTINE
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._dirty = True

    def sweep(self) -> None:
        """Remove unfinished copies that a crash left."""
        for path in self._folder.glob(".*.new"):
            path.unlink()

    def add(self, source: Path, file: str) -> None:
        """Move a file here, unless that was already done."""
        try:
            move(source, self._folder / file)
        except FileNotFoundError:
            if not self.holds(file):
                raise
        self._dirty = True

    def write_note(self, file: str, note: QuarantineNote) -> None:
        """Write the reason beside a file."""
        replace_unsynced(self._folder / f"{file}.json", format_note(note), _MODE)
        self._dirty = True

    def sync(self) -> None:
        """Make all files and notes durable."""
        if self._dirty:
            self._dirty = False
            sync_file_system(self._folder)

    def holds(self, file: str) -> bool:
        """Return True if a file, link or pipe of that name is here."""
        path = self._folder / file
        return path.is_symlink() or path.exists()

    def remove(self, file: str) -> None:
        """Remove a file whose decision was lost in a crash; the spool still has it."""
        (self._folder / file).unlink(missing_ok=True)
