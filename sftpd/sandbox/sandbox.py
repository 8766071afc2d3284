"""What the kernel enforces once a child knows its party: that tree, read only, nothing else.

`restrict_before_login` is called in a connection's child as soon as it is forked,
`restrict_to_tree` in its only thread after the login and before anything is served. Nothing undoes
them. From `restrict_before_login` on:

- rlimits: no core file with keys in it, bounded memory.
- where the server was started as root, the unprivileged user that the site names, for good. Of
  root's capabilities two are left until the login: to read that party's keys and tree, and to
  make the tree the root directory.
- no_new_privs: nothing that is executed gains rights.
- Landlock (landlock(7), kernel 5.13 or later; ABI 1 to 7, of a later one what is known here):
  no file is written, made, moved or removed, not even what that user may.
- seccomp (sftpd/sandbox/seccomp): no sockets, no programs, no other processes.

From `restrict_to_tree` on:

- a bounded number of descriptors. There is no RLIMIT_NPROC, which counts all of the user's
  threads and not this child's, and no RLIMIT_FSIZE, which would strike the log if it goes to a
  file.
- Landlock once more: the file system but for the tree, TCP from ABI 4, abstract sockets and
  signals from ABI 6.
- no capabilities; and where the server was started as root, the tree as the root directory.
- not dumpable: no other process of that user looks into this one, which holds the host keys.

What has to be loaded from the disk must be loaded before.
"""

import ctypes
import errno
import os
import pwd
import resource
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from config.fault import Fault, Faults
from config.settings import SandboxMode, SftpSettings
from config.site import SITE_TOML
from sftpd.sandbox import seccomp
from sftpd.sandbox.seccomp import Stage

MAX_DESCRIPTORS = 1280  # 8 channels with 128 handles each, and some to look things up with
MEMORY = 512 << 20  # bytes of address space beyond what is mapped at the fork

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: how many rights, from bit 0 on
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract UNIX sockets, signals
_TCP_SINCE, _SCOPES_SINCE = 4, 6

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 4, 8
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_CAPABILITIES_3 = 0x20080522
_CAP_DAC_READ_SEARCH, _CAP_SYS_CHROOT = 2, 18
_OPENAT2 = 437

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """What the running kernel can enforce; `landlock` is its ABI, 0 where it has none."""

    landlock: int
    seccomp: bool
    openat2: bool

    def __str__(self) -> str:
        landlock = f"Landlock ABI {self.landlock}" if self.landlock else "no Landlock"
        had = {"seccomp": self.seccomp, "openat2": self.openat2}
        return ", ".join([landlock, *(name if has else f"no {name}" for name, has in had.items())])


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child becomes where the server was started as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class SandboxPolicy:
    """What the children of this server are shut in by.

    No user if the server is unprivileged itself; threads only where sessions need them.
    """

    kernel: KernelFeatures
    user: User | None = None


def kernel() -> KernelFeatures:
    """Ask the running kernel."""
    landlock = _libc.syscall(
        _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_RULESET_VERSION)
    )
    opened = _libc.syscall(_OPENAT2, ctypes.c_int(-1), None, None, ctypes.c_size_t(0))
    openat2 = not (opened < 0 and ctypes.get_errno() == errno.ENOSYS)
    return KernelFeatures(max(int(landlock), 0), seccomp.supported(), openat2)


def faults(sftp: SftpSettings, found: KernelFeatures, uid: int) -> list[Fault]:
    """Return what keeps a server from shutting its children in, if it runs as `uid`."""
    named = []
    if not found.openat2:
        named.append(Fault(SITE_TOML, "", "the kernel has no openat2(2), take 5.6 or later"))
    if sftp.cage is SandboxMode.REQUIRED and not (found.landlock and found.seccomp):
        message = (
            f'"required", but this kernel has {found}: boot one from 5.13 on with landlock in '
            f'lsm= (see /sys/kernel/security/lsm), or write "{SandboxMode.BEST_EFFORT}"'
        )
        named.append(Fault(SITE_TOML, "sftp.cage", message))
    user = _user(sftp.user) if uid == 0 else None
    if uid == 0 and user is None:
        message = f"{sftp.user!r} is no user of this machine, name one without rights"
        named.append(Fault(SITE_TOML, "sftp.user", message))
    elif user is not None and 0 in (user.uid, user.gid):
        message = f"{sftp.user!r} is root or in its group, name a user without rights"
        named.append(Fault(SITE_TOML, "sftp.user", message))
    return named


def policy(sftp: SftpSettings, found: KernelFeatures, uid: int) -> SandboxPolicy:
    """Return what children will be shut in by; raise Faults where that is not what was asked."""
    named = faults(sftp, found, uid)
    if named:
        raise Faults(named)
    for stage in Stage if found.seccomp else ():
        seccomp.program(stage, 0)  # so that no child pays for the first
    return SandboxPolicy(found, _user(sftp.user) if uid == 0 else None)


def _user(name: str) -> User | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return User(name, entry.pw_uid, entry.pw_gid)


def restrict_before_login(policy_: SandboxPolicy) -> None:
    """Bound what a child may do before its client has proved anything.

    Raises OSError if the kernel has a part of the cage but will not put it up.
    """
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_AS, _mapped_bytes() + MEMORY)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if policy_.user is not None:
        _switch_user(policy_.user)
    if policy_.kernel.landlock:
        _deny_writes(policy_.kernel.landlock)
    if policy_.kernel.seccomp:
        seccomp.install(Stage.BEFORE_LOGIN)


def restrict_to_tree(tree: int | None, policy_: SandboxPolicy) -> None:
    """Shut this process in with the tree whose descriptor is given; without one, with nothing.

    `restrict_before_login` comes before. Raises OSError if the kernel has a part of the cage but
    will not put it up; the process is then not to serve anything.
    """
    time.localtime()  # so that the time zone is read while it can be
    _set_limit(resource.RLIMIT_NOFILE, MAX_DESCRIPTORS)
    if policy_.kernel.landlock:
        _deny_outside(tree, policy_.kernel.landlock)
    if policy_.user is not None and tree is not None:
        # Landlock lets a path outside be looked at, if not opened; so there is no outside.
        os.fchdir(tree)
        os.chroot(".")
    _keep_capabilities()
    if policy_.user is not None and _can_regain_root():
        raise PermissionError(errno.EPERM, f"not {policy_.user.name} for good")
    _prctl(_PR_SET_DUMPABLE, 0)
    if policy_.kernel.seccomp:
        seccomp.install(Stage.IN_TREE)


def _switch_user(user: User) -> None:
    parent = os.getppid()
    _drop_bounding_set()
    _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    _prctl(_PR_SET_KEEPCAPS, 0)
    _keep_capabilities(_CAP_DAC_READ_SEARCH, _CAP_SYS_CHROOT)
    # The kernel forgets it when the user changes (prctl(2)).
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError(errno.ESRCH, "the server is gone")
    held = os.getresuid(), os.getresgid(), os.getgroups()
    if held != ((user.uid,) * 3, (user.gid,) * 3, []) or _can_regain_root():
        raise PermissionError(errno.EPERM, f"not {user.name} for good: {held}")


def _can_regain_root() -> bool:
    with suppress(PermissionError):
        os.setresuid(-1, 0, -1)
        return True
    with suppress(PermissionError):
        os.setresgid(-1, 0, -1)
        return True
    return False


def _drop_bounding_set() -> None:
    capability = 0
    while _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if ctypes.get_errno() != errno.EINVAL:  # past the last one
        raise _os_error()


def _keep_capabilities(*kept: int) -> None:
    """Keep these, of the first 32, and give up all others."""
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    bits = sum(1 << number for number in kept)
    # Effective, permitted, inheritable; then the same of the upper 32.
    sets = (ctypes.c_uint32 * 6)(bits, bits, 0, 0, 0, 0)
    if _libc.capset(ctypes.byref(head), ctypes.byref(sets)) != 0:
        raise _os_error()


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _os_error()


def _all_rights(abi: int) -> int:
    return (1 << _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]) - 1


def _deny_writes(abi: int) -> None:
    _enforce_ruleset(_Ruleset(_all_rights(abi) & ~(_READ_FILE | _READ_DIR), 0, 0), abi, None)


def _deny_outside(tree: int | None, abi: int) -> None:
    tcp = _TCP if abi >= _TCP_SINCE else 0
    scopes = _SCOPES if abi >= _SCOPES_SINCE else 0
    _enforce_ruleset(_Ruleset(_all_rights(abi), tcp, scopes), abi, tree)


def _enforce_ruleset(ruleset: _Ruleset, abi: int, tree: int | None) -> None:
    """Deny what the ruleset names, everywhere but for reading in `tree`."""
    size = 24 if abi >= _SCOPES_SINCE else 16 if abi >= _TCP_SINCE else 8
    descriptor = _libc.syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if descriptor < 0:
        raise _os_error()
    try:
        if tree is not None:
            rule = _PathBeneath(_READ_FILE | _READ_DIR, tree)
            added = _libc.syscall(
                _ADD_RULE,
                ctypes.c_int(descriptor),
                ctypes.c_int(_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
            if added != 0:
                raise _os_error()
        if _libc.syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0)) != 0:
            raise _os_error()
    finally:
        os.close(descriptor)


def _set_limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _mapped_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel's
        return int(file.read().split()[0]) * resource.getpagesize()


def _os_error() -> OSError:
    number = ctypes.get_errno() or errno.EPERM
    return OSError(number, os.strerror(number))
