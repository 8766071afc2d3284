"""Groups processes so that the kernel limits the memory that each group takes: cgroups(7).

The daemon must have a part of the tree of cgroups for itself, with the memory controller. In a unit
of systemd, `Delegate=memory` gives it that, and SSPS_CGROUP=delegated in the environment says so.
Nothing else does: to a folder that the daemon may write but that systemd or a container manages, it
must not add groups. The groups, of version 2, are

    /sys/fs/cgroup/system.slice/ssps-serve.service/          the daemon's own part
        daemon/                                              its own processes
        party-parti-a/{memory.max,cgroup.procs}              a group

`daemon/` exists because a group whose groups have limits cannot have processes itself. Version 1
does not need it, and its limit is in `memory.limit_in_bytes`.

What a process has taken before it was put into a group does not count. What it takes from then on
does, and the memory that the kernel takes for it: socket buffers, and pages of files that it reads
first, which the kernel drops when the group is full. If there is nothing to drop, it kills a
process of the group.
"""

import os
from contextlib import suppress
from pathlib import Path

VARIABLE, DELEGATED = "SSPS_CGROUP", "delegated"
_ROOT = Path("/sys/fs/cgroup")
_PROCESSES, _DAEMON, _PREFIX = "cgroup.procs", "daemon", "party-"
_LIMITS = {1: "memory.limit_in_bytes", 2: "memory.max"}
_NO_SWAP = "memory.swap.max"  # of version 2, if the kernel accounts for swap
_MAX_TRIES = 10  # to move processes, while others are being started


class MemoryGroups:
    """The groups below the daemon's part of the tree; `limit` is in bytes, for each of them."""

    def __init__(self, folder: Path, version: int) -> None:
        """Prepare the folder; raises OSError if it cannot have groups with a limit."""
        self._folder, self._limit_file = folder, _LIMITS[version]
        self._limit = 0
        self._names: set[str] = set()
        if version > 1:
            self._move_own_processes()
            (folder / "cgroup.subtree_control").write_text("+memory")

    def set_limit(self, limit: int) -> None:
        """Set the limit of all groups, also of those to come; raises OSError."""
        self._limit = limit
        for name in self._names:
            self._write_limit(name)

    def put(self, name: str, pid: int) -> None:
        """Put a process into the group of that name; raises OSError."""
        if name not in self._names:
            self._group(name).mkdir(exist_ok=True)
            self._write_limit(name)
            self._names.add(name)
        (self._group(name) / _PROCESSES).write_text(str(pid))

    def remove(self) -> None:
        """Remove the groups that have no process any more."""
        for name in self._names:
            with suppress(OSError):
                self._group(name).rmdir()

    def _group(self, name: str) -> Path:
        return self._folder / f"{_PREFIX}{name}"

    def _write_limit(self, name: str) -> None:
        (self._group(name) / self._limit_file).write_text(str(self._limit))
        with suppress(OSError):
            if (swap := self._group(name) / _NO_SWAP).exists():
                swap.write_text("0")

    def _move_own_processes(self) -> None:
        own = self._folder / _DAEMON
        own.mkdir(exist_ok=True)
        for _ in range(_MAX_TRIES):
            pids = (self._folder / _PROCESSES).read_text().split()
            for pid in pids:
                with suppress(ProcessLookupError):
                    (own / _PROCESSES).write_text(pid)
            if not pids:
                return


def find(
    environment: str | None = None, memberships: Path | None = None, root: Path = _ROOT
) -> MemoryGroups | None:
    """Return the groups of this process's part of the tree; None if it has none for itself.

    `environment` is the value of SSPS_CGROUP, and `memberships` is /proc/self/cgroup. Raises
    OSError if the part cannot have groups, and ValueError if it has no memory controller.
    """
    stated = os.environ.get(VARIABLE) if environment is None else environment
    if stated != DELEGATED:
        return None
    text = (memberships or Path("/proc/self/cgroup")).read_text()
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        folder = root / path.lstrip("/")
        if not controllers and _has_memory(folder):
            return MemoryGroups(folder, 2)
        if "memory" in controllers.split(","):
            return MemoryGroups(root / "memory" / path.lstrip("/"), 1)
    raise ValueError("no memory controller")


def _has_memory(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.controllers").read_text().split()
    except OSError:
        return False
