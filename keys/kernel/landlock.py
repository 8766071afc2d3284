"""Landlock: a process denies itself access to files and the network (landlock(7)).

It needs Linux 5.13 or later. Each ABI adds rights that can be denied. With an ABI later than 6,
only the rights in this table are denied:

    ABI      1       2      3         4          5             6
    files    13      14     15        15         16 rights     16
    network                           TCP
    scopes                                                     abstract sockets, signals

A ruleset stays in force for the process and its children. If there are several rulesets, all of
them apply.
"""

import ctypes
import os
from collections.abc import Iterable

from keys.kernel.libc import libc, os_error

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _TRUNCATE = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 14
READ = READ_FILE | READ_DIR
# Also to make, change and remove plain files and folders; no links, devices and sockets.
WRITE = READ | WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _TRUNCATE
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_QUERY_ABI, _PATH_BENEATH = 1, 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # ABI: number of rights, from bit 0 on
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract UNIX sockets, signals to other processes
_TCP_SINCE, _SCOPES_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the ABI of the running kernel, 0 if it has no Landlock."""
    found = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_QUERY_ABI))
    return max(int(found), 0)


def deny_files(abi: int) -> None:
    """Deny every access to files. Descriptors that are open remain usable."""
    _enforce(_Ruleset(_all_file_rights(abi), 0, 0), abi, ())


def deny_all_but_reading(folders: Iterable[int], abi: int) -> None:
    """Deny files, network and signals, except reading below the folders with these descriptors."""
    deny_all_but(((folder, READ) for folder in folders), abi)


def deny_all_but(allowed: Iterable[tuple[int, int]], abi: int) -> None:
    """Deny files, network and signals, except these rights below the folder of each descriptor.

    A descriptor may also be that of a file, with READ_FILE only.
    """
    tcp = _TCP if abi >= _TCP_SINCE else 0
    scopes = _SCOPES if abi >= _SCOPES_SINCE else 0
    _enforce(_Ruleset(_all_file_rights(abi), tcp, scopes), abi, allowed)


def _all_file_rights(abi: int) -> int:
    return (1 << _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]) - 1


def _enforce(ruleset: _Ruleset, abi: int, allowed: Iterable[tuple[int, int]]) -> None:
    # A kernel refuses a structure that is longer than the one it knows.
    size = 24 if abi >= _SCOPES_SINCE else 16 if abi >= _TCP_SINCE else 8
    descriptor = libc.syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)
    )
    if descriptor < 0:
        raise os_error()
    try:
        for folder, rights in allowed:
            rule = _PathBeneath(rights & ruleset.handled_access_fs, folder)
            added = libc.syscall(
                _ADD_RULE,
                ctypes.c_int(descriptor),
                ctypes.c_int(_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            )
            if added != 0:
                raise os_error()
        if libc.syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0)) != 0:
            raise os_error()
    finally:
        os.close(descriptor)
