"""Says which account is at the keyboard, by what the kernel knows and a user cannot choose.

Rule 1. With systemd, the control group of a process says who logged in, also under sudo and su:
`/user.slice/user-1000.slice/...`. Only root can move a process out of that slice.
Rule 2. Otherwise it is the login uid, if pam_loginuid has set it. A process whose login uid is not
set may set it to any number. So it counts only if the process that had it first runs as root, is
not init's child, and was started by a process of root that does not have it, as sshd does.
Rule 3. Otherwise it is the real uid. Under sudo that is the account that the command runs as, so
all people who share an account count as one operator.
Rule 4. In a user namespace that an ordinary user can make, any uid can be mapped to any other. All
accounts have the same name there. Such a namespace maps few uids; or newuidmap has mapped a range
of the user's subordinate uids, which lacks the uid that the process had before.

Environment variables such as SUDO_USER are not used, because anybody can set them.
"""

import os
import pwd
import re
from pathlib import Path

IN_NAMESPACE = "user-namespace"
_PROC = Path("/proc")
_NOT_SET = (1 << 32) - 1
_FIRST_NAMESPACE = "cgroup:[4026531835]"  # PROC_CGROUP_INIT_INO of linux/proc_ns.h
_SLICE = re.compile(r"^(?:0:|[0-9]+:name=systemd):/user\.slice/user-([0-9]+)\.slice(?:/|$)", re.M)
_ALL = (1 << 32) - 1  # uids that are mapped outside user namespaces
_NOBODY = 65534
_OF_RUNTIME = 65536  # uids that a container's runtime maps at least
_INIT = 1


def account(proc: Path = _PROC, pid: int | None = None) -> str:
    """Return the name of the account; `uid 1234` if it has none."""
    if _is_in_namespace_of_a_user(proc):
        return IN_NAMESPACE
    number = _slice_uid(proc)
    if number is None:
        number = _login_uid(proc, os.getpid() if pid is None else pid)
    if number is None:
        number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"


def _is_in_namespace_of_a_user(proc: Path) -> bool:
    try:
        lines = (proc / "self/uid_map").read_text().splitlines()
    except OSError:
        return False
    counts = [int(line.split()[2]) for line in lines]
    if any(count < _OF_RUNTIME for count in counts):
        return True
    return sum(counts) < _ALL and _not_mapped(proc) in os.getresuid()


def _not_mapped(proc: Path) -> int:
    """Return the uid that the kernel shows for those that a user namespace does not map."""
    try:
        return int((proc / "sys/kernel/overflowuid").read_text())
    except OSError:
        return _NOBODY


def _slice_uid(proc: Path) -> int | None:
    try:
        # In a control group namespace of its own, a user can make a group of that name.
        if str((proc / "self/ns/cgroup").readlink()) != _FIRST_NAMESPACE:
            return None
        match = _SLICE.search((proc / "self/cgroup").read_text())
    except OSError:
        return None
    return int(match[1]) if match else None


def _login_uid(proc: Path, pid: int) -> int | None:
    try:
        stated = _stated(proc, pid)
        if stated == _NOT_SET:
            return None
        while _stated(proc, above := _parent(proc, pid)) == stated:
            pid = above
        vouched = above > _INIT and _is_root(proc, pid) and _is_root(proc, above)
    except (OSError, ValueError):
        return None  # no audit in the kernel, or /proc hides the processes of others
    return stated if vouched else None


def _stated(proc: Path, pid: int) -> int:
    return int((proc / str(pid) / "loginuid").read_text())


def _parent(proc: Path, pid: int) -> int:
    return int(_status(proc, pid, "PPid")[0])


def _is_root(proc: Path, pid: int) -> bool:
    return _status(proc, pid, "Uid")[0] == "0"  # the real uid: any process of a setuid program


def _status(proc: Path, pid: int, name: str) -> list[str]:
    for line in (proc / str(pid) / "status").read_text().splitlines():
        key, _, values = line.partition(":")
        if key == name:
            return values.split()
    raise ValueError(f"no {name}")
