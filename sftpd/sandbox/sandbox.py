"""Restricts a connection's child by means of the kernel: to its party's tree, read only.

`restrict_before_login` is called in the child as soon as it is forked. `restrict_to_tree` is called
after the login and before anything is served, when the child has only one thread. Neither can be
undone. From `restrict_before_login` on:

- rlimits: no core file, which would contain keys; limited memory.
- If the server was started as root: the unprivileged user that site.toml names, permanently. Two of
  root's capabilities are kept until the login: to read the party's keys and tree, and to make the
  tree the root directory.
- no_new_privs: no program that is executed gains privileges.
- Landlock (keys/kernel/landlock): no file is written, created, moved or removed, not even where
  that user may.
- seccomp (sftpd/sandbox/seccomp): no sockets, no programs, no other processes.

From `restrict_to_tree` on:

- Less memory: a session needs much less than the check of a password.
- A limited number of descriptors. There is no RLIMIT_NPROC, because it counts all processes of the
  user and not only this child's, and no RLIMIT_FSIZE, because it would limit the log if that is a
  file.
- Landlock again: no file outside the tree, no TCP (ABI 4), no abstract sockets and no signals to
  other processes (ABI 6).
- No capabilities; and if the server was started as root, the tree is the root directory.
- Not dumpable: no other process of that user can read this one's memory, which has the host keys.

Whatever has to be loaded from the disk must be loaded before `restrict_to_tree`.
"""

import errno
import os
import pwd
import resource
import time
from contextlib import suppress
from dataclasses import dataclass

from config.fault import Fault, Faults
from config.settings import SandboxMode, SftpSettings
from config.site import SITE_TOML
from keys.kernel import bpf, capabilities, landlock, openat2, process
from sftpd.sandbox import seccomp
from sftpd.sandbox.seccomp import Stage

MAX_DESCRIPTORS = 2304  # 2,000 handles (sftpd/sftp/budget), and some for looking up paths
MEMORY = 512 << 20  # bytes of address space beyond what is mapped at the fork, until the login
SESSION_MEMORY = 48 << 20  # the same after the login; an honest session takes less than 24 MiB


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """What the running kernel can enforce; `landlock` is its ABI, 0 if it has none."""

    landlock: int
    seccomp: bool
    openat2: bool

    def __str__(self) -> str:
        landlock = f"Landlock ABI {self.landlock}" if self.landlock else "no Landlock"
        others = {"seccomp": self.seccomp, "openat2": self.openat2}
        return ", ".join(
            [landlock, *(n if present else f"no {n}" for n, present in others.items())]
        )


@dataclass(frozen=True, slots=True)
class User:
    """The user that a child becomes if the server was started as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class SandboxPolicy:
    """How the children of this server are restricted; `user` is None if the server is not root."""

    kernel: KernelFeatures
    user: User | None = None


def kernel() -> KernelFeatures:
    """Return what the running kernel can enforce."""
    return KernelFeatures(landlock.abi(), bpf.supported(), openat2.supported())


def faults(sftp: SftpSettings, features: KernelFeatures, uid: int) -> list[Fault]:
    """Return what prevents a server that runs as `uid` from restricting its children."""
    found = []
    if not features.openat2:
        found.append(Fault(SITE_TOML, "", "the kernel has no openat2(2): use Linux 5.6 or later"))
    if sftp.cage is SandboxMode.REQUIRED and not (features.landlock and features.seccomp):
        message = (
            f'"required", but this kernel has {features}: boot Linux 5.13 or later with landlock '
            f'in lsm= (see /sys/kernel/security/lsm), or write "{SandboxMode.BEST_EFFORT}"'
        )
        found.append(Fault(SITE_TOML, "sftp.cage", message))
    user = _user(sftp.user) if uid == 0 else None
    if uid == 0 and user is None:
        message = f"this machine has no user {sftp.user!r}: name one without privileges"
        found.append(Fault(SITE_TOML, "sftp.user", message))
    elif user is not None and 0 in (user.uid, user.gid):
        message = f"{sftp.user!r} is root or in its group: name a user without privileges"
        found.append(Fault(SITE_TOML, "sftp.user", message))
    return found


def policy(sftp: SftpSettings, features: KernelFeatures, uid: int) -> SandboxPolicy:
    """Return how children will be restricted; raise Faults if the settings cannot be met."""
    found = faults(sftp, features, uid)
    if found:
        raise Faults(found)
    for stage in Stage if features.seccomp else ():
        seccomp.program(stage, 0)  # fills a cache that the children inherit
    return SandboxPolicy(features, _user(sftp.user) if uid == 0 else None)


def _user(name: str) -> User | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, entry.pw_gid)


def restrict_before_login(policy: SandboxPolicy) -> None:
    """Restrict a child whose client has not logged in yet.

    Raises OSError if the kernel has a part of the sandbox and refuses to set it up.
    """
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_AS, _mapped_bytes() + MEMORY)
    process.forbid_new_privileges()
    if policy.user is not None:
        _switch_user(policy.user)
    if policy.kernel.landlock:
        landlock.deny_writes(policy.kernel.landlock)
    if policy.kernel.seccomp:
        seccomp.install(Stage.BEFORE_LOGIN)


def restrict_to_tree(tree: int | None, policy: SandboxPolicy) -> None:
    """Let this process read only the tree with that descriptor, or no file if it is None.

    Call `restrict_before_login` first. Raises OSError if the kernel has a part of the sandbox and
    refuses to set it up; the process must then not serve anything.
    """
    time.localtime()  # reads the time zone while its file can be read
    _limit_session_memory()
    _set_limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    if policy.kernel.landlock:
        landlock.deny_all_but_reading(tree, policy.kernel.landlock)
    if policy.user is not None and tree is not None:
        # Landlock does not prevent stat(2) of a path outside the tree; chroot does.
        os.fchdir(tree)
        os.chroot(".")
    capabilities.limit_to()
    if policy.user is not None and _can_regain_root():
        raise PermissionError(errno.EPERM, f"{policy.user.name} can become root again")
    process.forbid_inspection()
    if policy.kernel.seccomp:
        seccomp.install(Stage.IN_TREE)


def _switch_user(user: User) -> None:
    parent = os.getppid()
    capabilities.clear_inheritance()
    capabilities.keep_on_user_change(True)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    capabilities.keep_on_user_change(False)
    capabilities.limit_to(capabilities.DAC_READ_SEARCH, capabilities.SYS_CHROOT)
    process.end_with_parent(parent)  # again, since the change of user has cleared it
    ids = os.getresuid(), os.getresgid(), os.getgroups()
    if ids != ((user.uid,) * 3, (user.gid,) * 3, []) or _can_regain_root():
        raise PermissionError(errno.EPERM, f"cannot become {user.name} permanently: {ids}")


def _can_regain_root() -> bool:
    with suppress(PermissionError):
        os.setresuid(-1, 0, -1)
        return True
    with suppress(PermissionError):
        os.setresgid(-1, 0, -1)
        return True
    return False


def _set_limit(what: int, limit: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(what, (limit, limit))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel
        return int(file.read().split()[0]) * resource.getpagesize()


def _limit_session_memory() -> None:
    try:
        mapped = _mapped_bytes()
    except OSError:  # the root directory has no /proc: take what was mapped at the fork
        mapped = resource.getrlimit(resource.RLIMIT_AS)[0] - MEMORY
    _set_limit(resource.RLIMIT_AS, mapped + SESSION_MEMORY)
