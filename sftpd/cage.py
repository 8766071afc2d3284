"""What the kernel enforces once a child knows its party: that tree, read only, nothing else.

`enter` is called in the child's only thread, after the login and before anything is served;
threads that start later inherit it. Nothing undoes it.

- no_new_privs: nothing that is executed gains rights.
- rlimits: no core file with keys in it, bounded memory, a bounded number of descriptors. There
  is no RLIMIT_NPROC, which counts all of the user's threads and not this child's, and no
  RLIMIT_FSIZE, which would strike the log if it goes to a file.
- Landlock (landlock(7), kernel 5.13 or later; ABI 1 to 7, of a later one what is known here):
  the file system but for the tree, TCP from ABI 4, abstract sockets and signals from ABI 6.

What has to be loaded from the disk must be loaded before.
"""

import ctypes
import errno
import os
import resource
import time
from dataclasses import dataclass

MOST_DESCRIPTORS = 1280  # 8 channels with 128 handles each, and some to look things up with
MEMORY = 512 << 20  # bytes of address space beyond what is mapped on entering

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULESET_VERSION, _RULE_PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS = 38
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: how many rights, from bit 0 on
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract UNIX sockets, signals
_TCP_SINCE, _SCOPES_SINCE = 4, 6

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
class Cage:
    """What holds from now on; `landlock` is the ABI in force, 0 where the kernel has none."""

    landlock: int


def landlock_abi() -> int:
    """Return the Landlock ABI of the running kernel, 0 if it has none or has it switched off."""
    found = _libc.syscall(
        _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_RULESET_VERSION)
    )
    return max(int(found), 0)


def enter(tree: int | None) -> Cage:
    """Shut this process in with the tree whose descriptor is given; without one, with nothing.

    Raises OSError if the kernel has a part of the cage but will not put it up.
    """
    time.localtime()  # so that the time zone is read while it can be
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_NOFILE, MOST_DESCRIPTORS)
    _bound(resource.RLIMIT_AS, _mapped() + MEMORY)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _failed()
    abi = landlock_abi()
    if abi:
        _restrict(tree, abi)
    return Cage(abi)


def _restrict(tree: int | None, abi: int) -> None:
    rights = _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]
    ruleset = _Ruleset(
        (1 << rights) - 1,
        _TCP if abi >= _TCP_SINCE else 0,
        _SCOPES if abi >= _SCOPES_SINCE else 0,
    )
    size = 24 if abi >= _SCOPES_SINCE else 16 if abi >= _TCP_SINCE else 8
    descriptor = _libc.syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if descriptor < 0:
        raise _failed()
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
                raise _failed()
        if _libc.syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0)) != 0:
            raise _failed()
    finally:
        os.close(descriptor)


def _bound(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(what, (most, most))


def _mapped() -> int:
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - a file of the kernel's
        return int(file.read().split()[0]) * resource.getpagesize()


def _failed() -> OSError:
    number = ctypes.get_errno() or errno.EPERM
    return OSError(number, os.strerror(number))
