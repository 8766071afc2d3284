"""A group of processes cannot take more memory than its limit."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import memory_cgroup
import pytest

from keys.kernel import memory_groups
from keys.kernel.memory_groups import DELEGATED, MemoryGroups

MB = 1 << 20
cgroup = memory_cgroup.cgroup


def start(take: int) -> tuple[int, int]:
    """Fork a process that waits for a byte on the pipe, takes memory, and exits with 7."""
    waiting, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go)
        os.read(waiting, 1)
        taken = bytearray(take)
        taken[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(taken[:: os.sysconf("SC_PAGE_SIZE")])
        os._exit(7)
    os.close(waiting)
    return pid, go


def end_of(pid: int, go: int) -> int:
    """Let the process go on; return its exit code, or the negative signal that ended it."""
    os.write(go, b".")
    os.close(go)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_kernel_ends_a_process_of_a_party_beyond_its_limit_and_none_of_another(
    cgroup: Path,
) -> None:
    groups = MemoryGroups(cgroup, 1)
    groups.set_limit(32 * MB)
    hungry, modest, other = start(64 * MB), start(8 * MB), start(8 * MB)
    for name, (pid, _) in (("parti-a", hungry), ("parti-a", modest), ("parti-b", other)):
        groups.put(name, pid)

    assert end_of(*hungry) == -signal.SIGKILL
    assert [end_of(*modest), end_of(*other)] == [7, 7]

    groups.set_limit(128 * MB)
    hungry = start(64 * MB)
    groups.put("parti-a", hungry[0])
    assert end_of(*hungry) == 7
    groups.remove()
    assert list(cgroup.glob("party-*")) == []


def delegated(root: Path, memberships: str) -> MemoryGroups | None:
    stated = root / "memberships"
    stated.write_text(memberships)
    return memory_groups.find(DELEGATED, stated, root)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The files of a cgroup of version 2."""
    made = tmp_path / "system.slice/ssps-serve.service"
    made.mkdir(parents=True)
    (made / "cgroup.controllers").write_text("memory pids\n")
    (made / "cgroup.procs").write_text("")
    return made


def test_groups_of_version_2_are_made_below_the_unit_and_its_processes_are_moved(
    tmp_path: Path, unit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = []
    write = Path.write_text

    def as_the_kernel(path: Path, text: str) -> int:
        if path == unit / "daemon/cgroup.procs":
            moved.append(text)
            write(unit / "cgroup.procs", "")
        return write(path, text)

    (unit / "cgroup.procs").write_text("4711\n")
    monkeypatch.setattr(Path, "write_text", as_the_kernel)
    groups = delegated(tmp_path, "1:name=systemd:/x\n0::/system.slice/ssps-serve.service\n")
    assert groups is not None
    groups.set_limit(1024 * MB)
    groups.put("parti-a", 4712)

    assert moved == ["4711"]
    assert (unit / "cgroup.subtree_control").read_text() == "+memory"
    group = unit / "party-parti-a"
    assert (group / "memory.max").read_text() == str(1024 * MB)
    assert (group / "cgroup.procs").read_text() == "4712"
    groups.set_limit(512 * MB)
    assert (group / "memory.max").read_text() == str(512 * MB)


def test_a_process_without_a_part_of_its_own_makes_no_groups(unit: Path, tmp_path: Path) -> None:
    memberships = tmp_path / "memberships"
    memberships.write_text("0::/system.slice/ssps-serve.service\n")

    assert memory_groups.find("", memberships, tmp_path) is None
    assert sorted(path.name for path in unit.iterdir()) == ["cgroup.controllers", "cgroup.procs"]


def test_a_part_without_the_memory_controller_is_an_error(unit: Path, tmp_path: Path) -> None:
    (unit / "cgroup.controllers").write_text("cpu pids\n")
    for memberships in ("0::/system.slice/ssps-serve.service\n", "", "4:cpu:/x\n"):
        with pytest.raises(ValueError, match="no memory controller"):
            delegated(tmp_path, memberships)
    with suppress(OSError):
        (unit / "cgroup.controllers").unlink()
    with pytest.raises(ValueError, match="no memory controller"):
        delegated(tmp_path, "0::/system.slice/ssps-serve.service\n")
