"""Capabilities: the separate privileges that root has (capabilities(7))."""

import ctypes
import errno
from pathlib import Path
from struct import pack

from keys.kernel.libc import libc, os_error, prctl

DAC_READ_SEARCH, SYS_CHROOT, SYS_NICE, LEASE = 2, 18, 23, 28
_PR_SET_KEEPCAPS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 8, 24, 47
_CLEAR_ALL = 4
_VERSION_3 = 0x20080522


def keep_on_user_change(keep: bool) -> None:
    """Set whether the permitted capabilities survive a change from root to another user."""
    prctl(_PR_SET_KEEPCAPS, int(keep))


def clear_inheritance() -> None:
    """Empty the bounding set and the ambient set, so that no program gets a capability."""
    capability = 0
    while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
        capability += 1
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: there are no more capabilities
        raise os_error()
    prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)


def clear_ambient() -> None:
    """Let no program that this process executes get a capability from it."""
    prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)


def has(capability: int) -> bool:
    """Return True if this process has a capability in effect."""
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("\nCapEff:")[2].split()[0], 16) >> capability & 1)


def limit_to(*kept: int) -> None:
    """Give up all capabilities except `kept`, which must be among the first 32."""
    bits = sum(1 << number for number in kept)
    # Effective, permitted, inheritable; then the same for capabilities 32 to 63.
    sets = pack("=6I", bits, bits, 0, 0, 0, 0)
    if libc.capset(pack("=2I", _VERSION_3, 0), sets) != 0:
        raise os_error()
