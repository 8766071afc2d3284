"""A user namespace: a process without privileges may change its own root directory.

In a namespace of its own a process has all capabilities, but only over itself and what it starts
there (user_namespaces(7)). Its user and its group keep their numbers. Files of all others look as
if they belonged to 65534. Some systems refuse such namespaces (`user.max_user_namespaces`, the
seccomp filters of containers), and others give no capability in them (AppArmor on Ubuntu).
"""

import os
from pathlib import Path

from keys.kernel import capabilities
from keys.kernel.libc import libc, os_error

_CLONE_NEWUSER = 0x10000000


def lets_change_root() -> bool:
    """Return whether this process could change its root directory in a namespace of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            enter()
            os.chroot("/")
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def enter() -> None:
    """Enter a namespace, and keep only the capability to change the root directory in it.

    The process must be dumpable: the kernel gives the files in /proc of others to root. Raises
    OSError; the process may then be in a namespace that is of no use.
    """
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise os_error()
    own = Path("/proc/self")
    (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{user} {user} 1")
    (own / "gid_map").write_text(f"{group} {group} 1")
    capabilities.limit_to(capabilities.SYS_CHROOT)
