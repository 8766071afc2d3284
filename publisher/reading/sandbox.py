"""What the kernel enforces on a reading worker before it sees its first page.

A page may take a worker over; what it has taken over then is a process that can compute, answer
on the one socket it was given, and end:

- rlimits: bounded memory, no file written, no core file, processor time by the page.
- no_new_privs, and no life beyond the publisher's.
- Landlock, where the kernel has it (landlock(7), 5.13 or later): no file is opened at all.
- seccomp(2), where the processor is one whose calls are known: a list of what is allowed. All
  else is refused with EPERM, so that a library that asks for more than it needs gets an error
  and goes on: no sockets, no programs, no threads or processes, no files.

A worker computes and does little else, so that what it needs fits on a few lines; sftpd, whose
sessions open files and log, lists what it denies instead. Whatever has to be loaded from the
disk must have been loaded, and used once, before. The kernel's interface is too small to share
between the two packages, which may not import each other and have no common ground for it.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
from struct import pack

MEMORY = 1536 << 20
CPU_SECONDS = 8
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 1, 38, 22
_CREATE_RULESET, _RESTRICT_SELF, _RULESET_VERSION = 444, 446, 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # Landlock's ABI: how many, from bit 0 on
_MODE_FILTER = 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name, number on x86_64, number on aarch64 (asm/unistd.h); "-" where there is none.
_ALLOWED = """
read 0 63           write 1 64          recvfrom 45 207     sendto 44 206
recvmsg 47 212      sendmsg 46 211      poll 7 -            ppoll 271 73
close 3 57          dup2 33 -           dup3 292 24
fstat 5 80          lseek 8 62          fcntl 72 25
mmap 9 222          munmap 11 215       mremap 25 216       mprotect 10 226
madvise 28 233      brk 12 214          membarrier 324 283  futex 202 98
clock_gettime 228 113                   clock_getres 229 114
clock_nanosleep 230 115                 nanosleep 35 101    gettimeofday 96 169
getrandom 318 278   getpid 39 172       gettid 186 178      getppid 110 173
sched_yield 24 124  sched_getaffinity 204 123               getcpu 309 168
getrusage 98 165    prlimit64 302 261   getrlimit 97 163    setrlimit 160 164
rt_sigaction 13 134 rt_sigprocmask 14 135                   rt_sigreturn 15 139
sigaltstack 131 132 restart_syscall 219 128                 rseq 334 293
exit 60 93          exit_group 231 94
"""

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def confine(parent: int) -> None:
    """Shut this process in, for good; `parent` is the process with which it is to end.

    Raises OSError if the kernel has a part of the cage but will not put it up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's, meant for the publisher
    _control(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it died before we asked
        raise SystemExit(1)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (most, most))
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    _open_nothing()
    if platform.machine() in _MACHINES:
        code = program(platform.machine())
        whole = _Program(len(code) // 8, code)
        if _libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole), 0, 0) != 0:
            raise _failed()


def allow_cpu() -> None:
    """Let the next page have its processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, hard))


def program(machine: str) -> bytes:
    """Return the filter, 8 bytes an instruction; KeyError for a machine that is not known."""
    audit, column = _MACHINES[machine]
    words = _ALLOWED.split()
    numbers = [int(number) for number in words[1 + column :: 3] if number != "-"]
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, audit, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),  # x32's numbers are others, and so refused
    ]
    for number in numbers:
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ALLOW)]
    return b"".join([*code, _step(_RETURN, _REFUSE)])


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return pack("=HBBI", code, if_true, if_false, operand)


def _open_nothing() -> None:
    version = ctypes.c_uint32(_RULESET_VERSION)
    abi = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), version)
    if abi <= 0:
        return
    handled = ctypes.c_uint64((1 << _FILE_RIGHTS[min(abi, max(_FILE_RIGHTS))]) - 1)
    ruleset = _libc.syscall(
        _CREATE_RULESET, ctypes.byref(handled), ctypes.c_size_t(8), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        raise _failed()
    if _libc.syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
        raise _failed()
    os.close(ruleset)


def _control(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise _failed()


def _failed() -> OSError:
    number = ctypes.get_errno() or errno.EPERM
    return OSError(number, os.strerror(number))
