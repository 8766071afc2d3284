"""Restricts a reading worker by means of the kernel, before it gets its first page.

A malicious page may take over a worker. The process can then still compute, answer on the one
socket that it has, and exit:

- rlimits: limited memory, no file written, no core file, limited CPU time for each page.
- no_new_privs, and it ends when the publisher ends.
- Landlock, if the kernel has it (keys/kernel/landlock): no file is opened.
- seccomp, if the architecture is known (keys/kernel/bpf): only the calls listed here. Every other
  call fails with EPERM, so that a library that asks for more than it needs gets an error and goes
  on: no sockets, no programs, no threads or processes, no files.

A worker only computes, so the calls that it needs are few and can be listed. sftpd's sessions open
files and write a log; for them the denied calls are listed instead (sftpd/sandbox/seccomp).
Whatever a library loads from the disk must be loaded before: the worker uses each library once.
"""

import platform
import resource
import signal

from keys.kernel import bpf, landlock, process
from keys.kernel.bpf import instruction

MEMORY = 1536 << 20
CPU_SECONDS = 8

# The format of this table is that of bpf.call_numbers.
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


def confine(parent: int) -> None:
    """Restrict this process permanently; it ends when the process `parent` ends.

    Raises OSError if the kernel has a part of the sandbox and refuses to set it up, and SystemExit
    if the parent has ended already.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is for the publisher
    try:
        process.end_with_parent(parent)
    except ProcessLookupError:
        raise SystemExit(1) from None
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        resource.setrlimit(what, (limit, limit))
    process.forbid_new_privileges()
    if abi := landlock.abi():
        landlock.deny_files(abi)
    if platform.machine() in bpf.ARCHITECTURES:
        bpf.install(program(platform.machine()))


def allow_cpu() -> None:
    """Allow CPU_SECONDS of CPU time for the next page."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (spent + CPU_SECONDS, hard))


def program(machine: str) -> bytes:
    """Return the filter; KeyError for an unknown machine."""
    code = bpf.require_architecture(machine)  # x32 has other numbers, which are denied
    for number in bpf.call_numbers(_ALLOWED, machine).values():
        code += [instruction(bpf.EQUAL, number, 0, 1), bpf.allow()]
    return b"".join([*code, bpf.deny()])
