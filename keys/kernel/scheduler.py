"""The kernel's scheduler: the policy, the nice value and the slice of a process (sched(7)).

A process that runs is not interrupted before its slice is over, even if another one has waited
longer. A process that wakes up interrupts at once one with a longer slice, if it has used less than
its share. Slices can be set from Linux 6.12 on; older kernels ignore them.
"""

import ctypes
import os
import platform
from struct import Struct

from keys.kernel.libc import libc

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period
_attributes = Struct("=IIQiIQQQ")


def set_policy(pid: int, policy: int, slice_seconds: float = 0.0) -> None:
    """Set policy and slice of a process; 0 is the kernel's default slice. Raises OSError.

    Where the kernel or a seccomp filter refuses slices, it sets only the policy.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    nice = os.getpriority(os.PRIO_PROCESS, pid)  # it stays
    nanoseconds = round(slice_seconds * 1e9)
    values = _attributes.pack(_attributes.size, policy, 0, nice, 0, nanoseconds, 0, 0)
    if number is None or libc.syscall(number, pid, ctypes.c_char_p(values), 0) != 0:
        os.sched_setscheduler(pid, policy, os.sched_param(0))
