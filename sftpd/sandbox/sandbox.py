"""Restricts a connection's child by means of the kernel: to its party's tree, read only.

`restrict_before_login` is called in the child as soon as it is forked. `restrict_to_tree` is called
after the login and before anything is served. Neither can be undone. From `restrict_before_login`
on:

- rlimits: no core file, which would contain session keys; limited memory.
- If the server was started as root: the unprivileged user that site.toml names, permanently.
- An empty root directory, if the server may change it: as root, with CAP_SYS_CHROOT, or in a user
  namespace (sftpd/sessions). So no path leads to any file. The one capability that is kept until
  the login is the one to change the root directory once more.
- no_new_privs: no program that is executed gains privileges.
- Landlock (keys/kernel/landlock): no file is written, and none is read outside the trees of the
  parties that may log in from this address. A Landlock rule cannot be lifted, so the tree that the
  login will open must be allowed from the start; the empty root directory keeps it out of reach
  until then. Where the root directory is kept, these trees can be read before the login, and the
  attributes of every file that has a path can be looked up, before the login and after it. No TCP
  (ABI 4), no abstract sockets and no signals to other processes (ABI 6).
- seccomp (sftpd/sandbox/seccomp): no sockets, no programs, no other processes, no threads.
- Not dumpable: no other process of that user can read this one's memory.

From `restrict_to_tree` on:

- Less memory: a session needs much less than the check of a password.
- A limited number of descriptors. There is no RLIMIT_NPROC, because it counts all processes of the
  user and not only this child's, and no RLIMIT_FSIZE, because it would limit the log if that is a
  file.
- Landlock again: no file outside the tree.
- The tree is the root directory, if the server may change it.
- No capabilities.

The process that forks the children calls `restrict_forker`. So what is the same for all children is
done once, and inherited: no_new_privs, the limit of memory, and the first of the seccomp filters.

The processes that hold the host keys and the passwords (sftpd/processes) call `restrict_responder`:
they open no file and no socket either, but may start threads.

Whatever has to be loaded from the disk must be loaded before.
"""

import errno
import os
import pwd
import resource
import time
from collections.abc import Iterable
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
    """How the children of this server are restricted.

    `user` is None if the server is not root. `chroot` says that children may change their root
    directory although the server is not root, `inherited` that the process that forks them has
    called `restrict_forker`.
    """

    kernel: KernelFeatures
    user: User | None = None
    chroot: bool = False
    inherited: bool = False

    @property
    def changes_root(self) -> bool:
        """Whether a child gets a root directory of its own."""
        return self.chroot or self.user is not None


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
    chroot = uid != 0 and capabilities.has(capabilities.SYS_CHROOT)
    return SandboxPolicy(features, _user(sftp.user) if uid == 0 else None, chroot)


def _user(name: str) -> User | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, entry.pw_gid)


def restrict_forker(policy: SandboxPolicy) -> None:
    """Restrict the process that forks children, as far as it can do its work like that.

    The children inherit it, so each of them has less to do. Call it once. Raises OSError if the
    kernel has a part of the sandbox and refuses to set it up.
    """
    time.localtime()  # reads the file of the time zone
    _limit_memory()
    process.forbid_new_privileges()
    if policy.user is not None:
        capabilities.clear_inheritance()
    if policy.kernel.seccomp:
        for stage in Stage:
            seccomp.program(stage, 0, inherited=True)  # fills caches that the children inherit
        seccomp.install(Stage.FORKER)


def restrict_before_login(
    policy: SandboxPolicy, trees: Iterable[int] = (), empty: int | None = None
) -> None:
    """Restrict a child whose client has not logged in yet.

    `trees` are descriptors of the folders that a login may open, `empty` is that of a folder in
    which there is nothing and never will be. Raises OSError if the kernel has a part of the sandbox
    and refuses to set it up.
    """
    if not policy.inherited:
        _limit_memory()
        process.forbid_new_privileges()
    if policy.changes_root and empty is not None:
        _change_root(empty)
    _drop_privileges(policy, [capabilities.SYS_CHROOT] if policy.changes_root else [])
    if policy.kernel.landlock:
        landlock.deny_all_but_reading(trees, policy.kernel.landlock)
    if policy.kernel.seccomp:
        seccomp.install(Stage.BEFORE_LOGIN, inherited=policy.inherited)


def restrict_to_tree(tree: int | None, policy: SandboxPolicy) -> None:
    """Let this process read only the tree with that descriptor, or no file if it is None.

    Call `restrict_before_login` first. Raises OSError if the kernel has a part of the sandbox and
    refuses to set it up; the process must then not serve anything.
    """
    _limit_session_memory()
    _set_limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    if policy.kernel.landlock:
        landlock.deny_all_but_reading([] if tree is None else [tree], policy.kernel.landlock)
    if policy.changes_root and tree is not None:
        # Landlock does not prevent stat(2) of a path outside the tree; chroot does.
        _change_root(tree)
    capabilities.limit_to()
    if policy.user is not None and _can_regain_root():
        raise PermissionError(errno.EPERM, f"{policy.user.name} can become root again")
    if policy.kernel.seccomp:
        seccomp.install(Stage.IN_TREE)


def restrict_responder(policy: SandboxPolicy) -> None:
    """Restrict a process that computes with secrets: it needs no file, only its open socket.

    Raises OSError if the kernel has a part of the sandbox and refuses to set it up.
    """
    process.forbid_new_privileges()
    _drop_privileges(policy, [])
    if policy.kernel.landlock:
        landlock.deny_all_but_reading((), policy.kernel.landlock)
    if policy.kernel.seccomp:
        seccomp.install(Stage.RESPONDER)


def _change_root(folder: int) -> None:
    os.fchdir(folder)
    os.chroot(".")


def _drop_privileges(policy: SandboxPolicy, kept: Iterable[int]) -> None:
    if policy.user is None:
        capabilities.limit_to(*kept)
    else:
        if not policy.inherited:
            capabilities.clear_inheritance()
        _switch_user(policy.user, kept)
    process.forbid_inspection()  # again, since a change of user permits it


def _switch_user(user: User, kept: Iterable[int]) -> None:
    parent = os.getppid()
    capabilities.keep_on_user_change(True)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    capabilities.keep_on_user_change(False)
    capabilities.limit_to(*kept)
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


def _limit_memory() -> None:
    _set_limit(resource.RLIMIT_AS, _mapped_bytes() + MEMORY)


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel
        return int(file.read().split()[0]) * resource.getpagesize()


def _limit_session_memory() -> None:
    try:
        mapped = _mapped_bytes()
    except OSError:  # the root directory has no /proc: take what was mapped at the fork
        mapped = resource.getrlimit(resource.RLIMIT_AS)[0] - MEMORY
    _set_limit(resource.RLIMIT_AS, mapped + SESSION_MEMORY)
