"""Assembles seccomp filters in classic BPF and installs them (seccomp(2)).

A filter is a program that the kernel runs for each system call. An instruction takes 8 bytes, in
the machine's byte order:

    uint16 code, uint8 steps to skip if true, uint8 steps to skip if false, uint32 operand

The program reads struct seccomp_data: the number of the call at offset 0, the architecture at 4,
the arguments from 16 on, 8 bytes each. Example, a program that denies everything with EPERM:

    0006 00 00 00050001

A filter stays in force for the process and its children. If there are several filters, the
strictest answer counts.
"""

import ctypes
import errno
import platform
from dataclasses import dataclass
from struct import pack
from typing import Final

from keys.kernel.libc import libc, os_error

LOAD, EQUAL, AT_LEAST, HAS_BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_FIRST_ARGUMENT = 16
_ALLOW, _ERRNO, _ASK = 0x7FFF0000, 0x00050000, 0x7FC00000
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_SECCOMP = {"x86_64": 317, "aarch64": 277}  # the number of seccomp(2)
_SET_FILTER, _NEW_LISTENER = 1, 1 << 3


@dataclass(frozen=True, slots=True)
class Architecture:
    """A machine's value in `seccomp_data`, and its column in our tables of system calls."""

    audit: int
    column: int


ARCHITECTURES: Final = {
    "x86_64": Architecture(0xC000003E, 0),
    "aarch64": Architecture(0xC00000B7, 1),
}


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one instruction."""
    return pack("=HBBI", code, if_true, if_false, operand)


def allow() -> bytes:
    """Return the instruction that allows the call."""
    return instruction(RETURN, _ALLOW)


def deny(number: int = errno.EPERM) -> bytes:
    """Return the instruction that makes the call fail with errno `number`."""
    return instruction(RETURN, _ERRNO | number)


def ask() -> bytes:
    """Return the instruction that lets the filter's listener answer the call."""
    return instruction(RETURN, _ASK)


def load_argument(index: int) -> bytes:
    """Return the instruction that loads the lower half of an argument.

    That is enough for the arguments that are compared here: the kernel takes an int for them. Both
    architectures are little-endian.
    """
    return instruction(LOAD, _FIRST_ARGUMENT + 8 * index)


def require_architecture(machine: str) -> list[bytes]:
    """Return the beginning of a program: deny other architectures, load the call's number.

    KeyError for a machine that is not in ARCHITECTURES.
    """
    return [
        instruction(LOAD, ARCHITECTURE),
        instruction(EQUAL, ARCHITECTURES[machine].audit, 1, 0),
        deny(),
        instruction(LOAD, NUMBER),
    ]


def call_numbers(table: str, machine: str) -> dict[str, int]:
    """Read a table of system calls; each is a name, a number on x86_64, a number on aarch64.

    The numbers are those of asm/unistd.h; "-" means that the architecture lacks the call.
    """
    words = table.split()
    numbers = words[1 + ARCHITECTURES[machine].column :: 3]
    stated = zip(words[::3], numbers, strict=True)
    return {name: int(number) for name, number in stated if number != "-"}


def supported(machine: str = platform.machine()) -> bool:
    """Return whether the kernel accepts filters and the machine is one of ARCHITECTURES."""
    # EFAULT for the missing filter shows that the kernel knows the mode (seccomp(2), "Notes").
    refused = libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return refused == -1 and ctypes.get_errno() == errno.EFAULT and machine in ARCHITECTURES


def machine() -> str:
    """Return the machine's name, one of ARCHITECTURES where filters are supported."""
    return platform.machine()


def install_with_listener(program: bytes) -> int:
    """Put a filter in force, and return the descriptor that answers what it asks about.

    Raises OSError if the kernel refuses it: EBUSY if there is a listener already.
    """
    whole = _Program(len(program) // 8, program)
    number = ctypes.c_long(_SECCOMP[machine()])
    listener = libc.syscall(
        number, ctypes.c_uint(_SET_FILTER), ctypes.c_uint(_NEW_LISTENER), ctypes.byref(whole)
    )
    if listener < 0:
        raise os_error()
    return int(listener)


def install(program: bytes) -> None:
    """Put a filter in force; call process.forbid_new_privileges first.

    Raises OSError if the kernel refuses it.
    """
    whole = _Program(len(program) // 8, program)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole), 0, 0) != 0:
        raise os_error()
