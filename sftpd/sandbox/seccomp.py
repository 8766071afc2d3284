"""System calls that a connection's child may not make, as a filter in classic BPF (seccomp(2)).

Landlock knows files, TCP and abstract sockets. What it does not know is denied here: sockets of
every kind, other programs and processes, signals to others, their limits and their share of the
machine, a file's mode, owner or times, IPC that outlives the process, keyrings, mounts, and the
doors through which kernels are broken into (bpf, io_uring, userfaultfd, perf). Denied means EPERM,
never a kill: a call made by mistake is an error with a traceback, not a session that died without
a word.

It is a list of what is denied, not of what is allowed. Python, its allocator and OpenSSL make
calls that differ between versions of libc; a list of those would break on an upgrade, on
polling night. What a list of denials forgets is still held by Landlock, by the user without
rights and by the missing capabilities.

A filter may be put over another: `BEFORE_LOGIN` denies what no part of a connection needs, the
stage that follows also what only the way into the cage needed, and threads. Calls of another
architecture (i386, x32) are denied whole.
"""

import ctypes
import errno
import os
import platform
from dataclasses import dataclass
from enum import Enum
from functools import cache
from struct import pack

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _DENY = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
# What may not be asked of a descriptor: typing into the operator's terminal (TIOCSTI, TIOCLINUX),
# and that somebody be signalled when something arrives (FIOSETOWN, SIOCSPGRP; F_SETOWN, F_SETSIG,
# F_SETOWN_EX).
_DENIED_REQUESTS = {"ioctl": (0x5412, 0x541C, 0x8901, 0x8902), "fcntl": (8, 10, 15)}

# Name, number on x86_64, number on aarch64 (asm/unistd.h); "-" where there is none.
_ALWAYS = """
socket 41 198       socketpair 53 199   connect 42 203      bind 49 200
listen 50 201       accept 43 202       accept4 288 242

execve 59 221       execveat 322 281    fork 57 -           vfork 58 -
ptrace 101 117      kcmp 312 272        process_vm_readv 310 270
process_vm_writev 311 271               process_madvise 440 440
pidfd_open 434 434  pidfd_getfd 438 438 pidfd_send_signal 424 424
tkill 200 130       rt_sigqueueinfo 129 138                 rt_tgsigqueueinfo 297 240
setpriority 141 140 ioprio_set 251 30   sched_setattr 314 274
sched_setparam 142 118                  sched_setscheduler 144 119
sched_setaffinity 203 122               migrate_pages 256 238
move_pages 279 239  process_mrelease 448 448

chmod 90 -          fchmod 91 52        fchmodat 268 53     fchmodat2 452 452
chown 92 -          fchown 93 55        lchown 94 -         fchownat 260 54
utime 132 -         utimes 235 -        futimesat 261 -     utimensat 280 88
setxattr 188 5      lsetxattr 189 6     fsetxattr 190 7     setxattrat 463 463
removexattr 197 14  lremovexattr 198 15 fremovexattr 199 16 removexattrat 466 466
file_setattr 469 469
creat 85 -          mknod 133 -         mknodat 259 33      mkdir 83 -
mkdirat 258 34      link 86 -           linkat 265 37       symlink 88 -
symlinkat 266 36    rename 82 -         renameat 264 38     renameat2 316 276
unlink 87 -         unlinkat 263 35     rmdir 84 -          truncate 76 45
ftruncate 77 46     fallocate 285 47    memfd_create 319 279
memfd_secret 447 447

name_to_handle_at 303 264               open_by_handle_at 304 265
mount 165 40        umount2 166 39      pivot_root 155 41   move_mount 429 429
open_tree 428 428   open_tree_attr 467 467                  fsopen 430 430
fsconfig 431 431    fsmount 432 432     fspick 433 433      mount_setattr 442 442
unshare 272 97      setns 308 268       swapon 167 224      swapoff 168 225
quotactl 179 60     quotactl_fd 443 443 acct 163 89

mq_open 240 180     mq_unlink 241 181   shmget 29 194       shmat 30 196
shmctl 31 195       semget 64 190       semop 65 193        semtimedop 220 192
semctl 66 191       msgget 68 186       msgsnd 69 189       msgrcv 70 188
msgctl 71 187       keyctl 250 219      add_key 248 217     request_key 249 218

bpf 321 280         perf_event_open 298 241                 userfaultfd 323 282
io_uring_setup 425 425                  io_uring_enter 426 426
io_uring_register 427 427               fanotify_init 300 262
inotify_init 253 -  inotify_init1 294 26
init_module 175 105 finit_module 313 273                    delete_module 176 106
kexec_load 246 104  kexec_file_load 320 294                 reboot 169 142
syslog 103 116      settimeofday 164 170                    clock_settime 227 112
clock_adjtime 305 266                   adjtimex 159 171    sethostname 170 161
setdomainname 171 162                   personality 135 92  modify_ldt 154 -
iopl 172 -          ioperm 173 -

setuid 105 146      setgid 106 144      setreuid 113 145    setregid 114 143
setfsuid 122 151    setfsgid 123 152
"""
# What `cage.enter` itself has to do, and nobody after it.
_BEFORE_LOGIN_ONLY = """
setresuid 117 147   setresgid 119 149   setgroups 116 159   capset 126 91
chroot 161 51
"""
_WITH_ARGUMENTS = """
clone 56 220        clone3 435 435      kill 62 129         tgkill 234 131
ioctl 16 29         fcntl 72 25         prlimit64 302 261
"""


class Stage(Enum):
    """When a filter is installed: as soon as the child is forked, or after the login."""

    BEFORE_LOGIN = 1
    IN_TREE = 2


@dataclass(frozen=True, slots=True)
class _Architecture:
    audit: int
    column: int


_ARCHITECTURES = {"x86_64": _Architecture(0xC000003E, 0), "aarch64": _Architecture(0xC00000B7, 1)}
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def supported(machine: str = platform.machine()) -> bool:
    """Say whether the kernel takes filters, and the processor is one whose calls are known."""
    # EFAULT, for the filter that is not there: the mode is known (seccomp(2), "Notes").
    refused = _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    return refused == -1 and ctypes.get_errno() == errno.EFAULT and machine in _ARCHITECTURES


def program(stage: Stage, pid: int, machine: str = platform.machine()) -> bytes:
    """Return the filter for the process `pid`, 8 bytes an instruction.

    KeyError for a machine whose calls are not known.
    """
    known = _ARCHITECTURES[machine]
    checked = _call_numbers(_WITH_ARGUMENTS, known)
    code = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_EQUAL, known.audit, 1, 0),
        _deny(),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        code += [_instruction(_AT_LEAST, _X32, 0, 1), _deny()]
    in_tree = stage is Stage.IN_TREE
    code.append(_denied_calls(in_tree, machine))
    # Its flags stand in memory, which no filter can read; libc then takes clone.
    code += [_instruction(_EQUAL, checked["clone3"], 0, 1), _deny(errno.ENOSYS)]
    # Before the login a password may be hashed, which argon2 does in four threads.
    allowed = [] if in_tree else [_instruction(_HAS_BITS, _CLONE_THREAD, 0, 1), _allow()]
    code += _check_argument(checked["clone"], 0, [*allowed, _deny()])
    for call in ("kill", "tgkill"):
        code += _check_argument(
            checked[call], 0, [_instruction(_EQUAL, pid, 0, 1), _allow(), _deny()]
        )
    own = [step for each in (0, pid) for step in (_instruction(_EQUAL, each, 0, 1), _allow())]
    code += _check_argument(checked["prlimit64"], 0, [*own, _deny()])
    for call, asks in _DENIED_REQUESTS.items():
        denied = [step for ask in asks for step in (_instruction(_EQUAL, ask, 0, 1), _deny())]
        code += _check_argument(checked[call], 1, [*denied, _allow()])
    return b"".join([*code, _allow()])


@cache
def _denied_calls(in_tree: bool, machine: str) -> bytes:
    denied = _call_numbers(
        _ALWAYS + (_BEFORE_LOGIN_ONLY if in_tree else ""), _ARCHITECTURES[machine]
    )
    pairs = ((_instruction(_EQUAL, number, 0, 1), _deny()) for number in denied.values())
    return b"".join(step for pair in pairs for step in pair)


def install(stage: Stage) -> None:
    """Put the filter over this thread and whatever it starts; needs no_new_privs.

    Raises OSError if the kernel will not have it.
    """
    code = program(stage, os.getpid())
    whole = _Program(len(code) // 8, code)
    if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole), 0, 0) != 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))


def _call_numbers(table: str, machine: _Architecture) -> dict[str, int]:
    words = table.split()
    columns = words[1::3], words[2::3]
    stated = zip(words[::3], columns[machine.column], strict=True)
    return {name: int(number) for name, number in stated if number != "-"}


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return pack("=HBBI", code, if_true, if_false, operand)


def _allow() -> bytes:
    return _instruction(_RETURN, _ALLOW)


def _deny(number: int = errno.EPERM) -> bytes:
    return _instruction(_RETURN, _DENY | number)


def _check_argument(call: int, argument: int, steps: list[bytes]) -> list[bytes]:
    # The low half is enough: the kernel takes an int or unsigned int here. Both machines are
    # little-endian. The steps end by returning, so the call's number need not be loaded again.
    load = _instruction(_LOAD, _FIRST_ARGUMENT + 8 * argument)
    return [_instruction(_EQUAL, call, 0, len(steps) + 1), load, *steps]
