"""How often snapshots and what follows from them are made: the pace adapts to load and disk.

Each kind of work has a Pace. Of these the longest counts:

    shortest    seconds between two beginnings; for snapshots `[results] snapshot_seconds`
    load        work that took two seconds begins again after two seconds divided by
                `share_of_time`; but after `longest_by_load` seconds unless it takes half of them
    disk        at this pace, what a day adds to the disk takes at most `share_of_disk` of what is
                free now; but never more than `longest` seconds

Three kinds of work have one:

    snapshots   a fifth of the time, a tenth of the disk, at least one a minute, also on a machine
                so busy that one takes half a minute
    exports     half of the time of a process with a low priority; they are removed again
    trees       a tenth of the disk, at least one each ten minutes
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Pace:
    """When work may begin again; times in seconds."""

    shortest: float
    share_of_time: float
    share_of_disk: float
    longest: float
    longest_by_load: float = math.inf

    def seconds(self, took: float, size: int, free: int) -> float:
        """Return the time from the beginning of work to the next.

        It took `took` seconds and left `size` bytes, with `free` bytes free on the disk.
        """
        by_load = min(took / self.share_of_time, max(self.longest_by_load, 2 * took))
        by_disk = size * DAY / max(free * self.share_of_disk, 1.0)
        return max(self.shortest, by_load, min(by_disk, self.longest))


def snapshots(shortest: float) -> Pace:
    """Return the pace of snapshots."""
    return Pace(shortest, share_of_time=0.2, share_of_disk=0.1, longest=60.0, longest_by_load=60.0)


EXPORTS = Pace(0.0, share_of_time=0.5, share_of_disk=1.0, longest=0.0)


def trees(shortest: float) -> Pace:
    """Return the pace of what the parties' trees get."""
    return Pace(shortest, share_of_time=1.0, share_of_disk=0.1, longest=600.0)


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def size_of_files(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_on_disk(folder: Path) -> int:
    """Return the bytes of the files below a folder that no other folder has a link to."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(status.st_size for status in found if status.st_nlink == 1)
