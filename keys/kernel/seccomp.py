"""Denies system calls to a process that handles what strangers send, as a seccomp filter.

Landlock covers files, TCP and abstract sockets. What it does not cover is denied here, to sessions
(sftpd/sandbox) and to the web daemons (portal/sandbox) alike:

- new sockets, other programs and processes, signals to other processes;
- other processes' limits, priorities and processors;
- changes of a file's mode, owner or times; links and devices; writing all files of the machine to
  the disk (sync);
- extended attributes by path: Landlock does not cover them. Those of open files can be read;
- requests to file systems (ioctl), because some of them change a file that is open for reading, and
  leases, because other processes that open the file have to wait: Landlock covers neither;
- IPC that outlives the process, keyrings, mounts;
- the calls through which kernels are often attacked: bpf, io_uring, userfaultfd, perf, splice.

A denied call fails with EPERM; the process is never killed for it. So a call made by mistake is an
error with a traceback, not a process that ends without a message.

This is a list of denied calls, not of allowed ones. Python, its memory allocator and OpenSSL make
calls that differ between versions of libc. So after an upgrade a list of allowed calls could stop
the server on polling night. A call that is missing from this list is still limited by Landlock, by
the unprivileged user and by the missing capabilities.

Calls of another architecture (i386, x32) are always denied.
"""

import errno
import platform
from functools import cache

from keys.kernel import bpf
from keys.kernel.bpf import instruction

_X32 = 0x40000000
_CLONE_THREAD = 0x00010000
# The only requests of ioctl that are allowed: whether a descriptor is a terminal and how wide it is
# (TCGETS, TIOCGWINSZ), what has arrived (FIONREAD), whether to wait (FIONBIO), whether a program
# inherits it (FIONCLEX, FIOCLEX). Each file system and device has others. FS_IOC_SETFLAGS needs no
# descriptor for writing.
_ALLOWED_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Requests that are denied, and the argument that has the request. fcntl: choosing who gets a signal
# when data arrives (F_SETOWN, F_SETSIG, F_SETOWN_EX), leases (F_SETLEASE, F_NOTIFY). prctl: living
# on after the monitor (PR_SET_PDEATHSIG), core files and other processes that read the memory
# (PR_SET_DUMPABLE, PR_SET_PTRACER), keeping or passing on capabilities (PR_SET_KEEPCAPS,
# PR_SET_SECUREBITS, PR_CAP_AMBIENT), adopting processes (PR_SET_CHILD_SUBREAPER), looking like
# another program (PR_SET_MM), choosing with whom to share a processor (PR_SCHED_CORE).
_DENIED_REQUESTS = {
    "fcntl": (1, (8, 10, 15, 1024, 1026)),
    "prctl": (0, (1, 4, 0x59616D61, 8, 28, 47, 36, 35, 62)),
}

# The format of these tables is that of bpf.call_numbers. A process that still has to change its
# user denies itself ALWAYS first.
ALWAYS = """
socket 41 198       connect 42 203      bind 49 200         listen 50 201

execve 59 221       execveat 322 281    fork 57 -           vfork 58 -
ptrace 101 117      kcmp 312 272        process_vm_readv 310 270
process_vm_writev 311 271               process_madvise 440 440
pidfd_open 434 434  pidfd_getfd 438 438 pidfd_send_signal 424 424
tkill 200 130       rt_sigqueueinfo 129 138                 rt_tgsigqueueinfo 297 240
setpriority 141 140 ioprio_set 251 30   sched_setattr 314 274
sched_setparam 142 118                  sched_setscheduler 144 119
sched_setaffinity 203 122               migrate_pages 256 238
move_pages 279 239  process_mrelease 448 448

chmod 90 -          fchmod 91 52        fchmodat 268 53     fchmodat2 452 452   chown 92 -
fchown 93 55        lchown 94 -         fchownat 260 54     utime 132 -         utimes 235 -
futimesat 261 -     utimensat 280 88    setxattr 188 5      lsetxattr 189 6
fsetxattr 190 7     setxattrat 463 463  removexattr 197 14  lremovexattr 198 15
fremovexattr 199 16 removexattrat 466 466                   getxattr 191 8
lgetxattr 192 9     getxattrat 464 464  listxattr 194 11    llistxattr 195 12
flistxattr 196 13   listxattrat 465 465 sync 162 81         syncfs 306 267
sync_file_range 277 84                  file_setattr 469 469                    mknod 133 -
mknodat 259 33      link 86 -           linkat 265 37       symlink 88 -
symlinkat 266 36    memfd_secret 447 447

name_to_handle_at 303 264               open_by_handle_at 304 265               mount 165 40
umount2 166 39      pivot_root 155 41   move_mount 429 429  open_tree 428 428
open_tree_attr 467 467                  fsopen 430 430      fsconfig 431 431
fsmount 432 432     fspick 433 433      mount_setattr 442 442
unshare 272 97      setns 308 268       swapon 167 224      swapoff 168 225
quotactl 179 60     quotactl_fd 443 443 acct 163 89

mq_open 240 180     mq_unlink 241 181   shmget 29 194       shmat 30 196
shmctl 31 195       semget 64 190       semop 65 193        semtimedop 220 192
semctl 66 191       msgget 68 186       msgsnd 69 189       msgrcv 70 188
msgctl 71 187       keyctl 250 219      add_key 248 217     request_key 249 218

bpf 321 280         perf_event_open 298 241                 userfaultfd 323 282
io_uring_setup 425 425                  io_uring_enter 426 426
io_uring_register 427 427               io_setup 206 0      fanotify_init 300 262
splice 275 76       tee 276 77          vmsplice 278 75
inotify_init 253 -  inotify_init1 294 26                    init_module 175 105
finit_module 313 273                    delete_module 176 106
kexec_load 246 104  kexec_file_load 320 294                 reboot 169 142
syslog 103 116      settimeofday 164 170                    clock_settime 227 112
clock_adjtime 305 266                   adjtimex 159 171    sethostname 170 161
setdomainname 171 162                   personality 135 92  modify_ldt 154 -    iopl 172 -
ioperm 173 -
"""
CHANGE_OF_USER = """
setuid 105 146      setgid 106 144      setreuid 113 145    setregid 114 143
setfsuid 122 151    setfsgid 123 152    setresuid 117 147   setresgid 119 149
setgroups 116 159
"""
NEVER = ALWAYS + CHANGE_OF_USER
# Calls that set up a sandbox.
SETUP = """
capset 126 91       chroot 161 51
"""
WITH_ARGUMENTS = """
clone 56 220        clone3 435 435      kill 62 129         tgkill 234 131
ioctl 16 29         fcntl 72 25         prlimit64 302 261
prctl 157 167       sendto 44 206       sendmsg 46 211      sendmmsg 307 269
"""
_FAST_OPEN = 0x20000000  # a flag with which sending connects a TCP socket (tcp(7))
_FLAGS_OF_SENDING = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}


def program(
    denied: str,
    pid: int,
    machine: str = platform.machine(),
    *,
    threads: bool = False,
    ignored: str = "",
    asked: str = "",
) -> bytes:
    """Return the filter of the process `pid`, which denies the calls in the table `denied`.

    Those in `ignored` have no effect either, but do not fail. Those in `asked` are answered by the
    filter's listener (keys/kernel/connections), also if they are in `denied`.
    Beside them it denies what arguments make dangerous: new processes, threads unless `threads` is
    True, signals to other processes, and the requests above. KeyError for an unknown machine.
    """
    checked = bpf.call_numbers(WITH_ARGUMENTS, machine)
    code = _start(machine)
    for number in bpf.call_numbers(asked, machine).values():
        code += [instruction(bpf.EQUAL, number, 0, 1), bpf.ask()]
    code += [_refused_calls(ignored, machine, 0), _refused_calls(denied, machine, errno.EPERM)]
    # The flags of clone3 are in memory, where no filter can read them. After ENOSYS libc calls
    # clone instead.
    code += [instruction(bpf.EQUAL, checked["clone3"], 0, 1), bpf.deny(errno.ENOSYS)]
    thread = [instruction(bpf.HAS_BITS, _CLONE_THREAD, 0, 1), bpf.allow()] if threads else []
    code += _check_argument(checked["clone"], 0, [*thread, bpf.deny()])
    for call in ("kill", "tgkill"):
        itself = [instruction(bpf.EQUAL, pid, 0, 1), bpf.allow()]
        code += _check_argument(checked[call], 0, [*itself, bpf.deny()])
    itself = [step for own in (0, pid) for step in (instruction(bpf.EQUAL, own, 0, 1), bpf.allow())]
    code += _check_argument(checked["prlimit64"], 0, [*itself, bpf.deny()])
    for call, argument in _FLAGS_OF_SENDING.items() if asked else ():
        fast_open = [instruction(bpf.HAS_BITS, _FAST_OPEN, 0, 1), bpf.deny()]
        code += _check_argument(checked[call], argument, [*fast_open, bpf.allow()])
    permitted = [
        step
        for request in _ALLOWED_IOCTLS
        for step in (instruction(bpf.EQUAL, request, 0, 1), bpf.allow())
    ]
    code += _check_argument(checked["ioctl"], 1, [*permitted, bpf.deny()])
    for call, (argument, requests) in _DENIED_REQUESTS.items():
        refused = [
            step
            for request in requests
            for step in (instruction(bpf.EQUAL, request, 0, 1), bpf.deny())
        ]
        code += _check_argument(checked[call], argument, [*refused, bpf.allow()])
    return b"".join([*code, bpf.allow()])


def table_program(denied: str, machine: str = platform.machine()) -> bytes:
    """Return a filter that denies the calls in the table `denied`, and nothing else."""
    refused = _refused_calls(denied, machine, errno.EPERM)
    return b"".join([*_start(machine), refused, bpf.allow()])


def _start(machine: str) -> list[bytes]:
    code = bpf.require_architecture(machine)
    if machine == "x86_64":
        code += [instruction(bpf.AT_LEAST, _X32, 0, 1), bpf.deny()]
    return code


@cache
def _refused_calls(table: str, machine: str, error: int) -> bytes:
    numbers = bpf.call_numbers(table, machine).values()
    return b"".join(
        step
        for number in numbers
        for step in (instruction(bpf.EQUAL, number, 0, 1), bpf.deny(error))
    )


def _check_argument(call: int, index: int, steps: list[bytes]) -> list[bytes]:
    """Return the steps that decide on one call by one of its arguments; `steps` must return."""
    return [
        instruction(bpf.EQUAL, call, 0, len(steps) + 1),
        bpf.load_argument(index),
        *steps,
    ]
