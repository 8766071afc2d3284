import re
from collections.abc import Callable
from pathlib import Path
from struct import iter_unpack, pack, unpack_from

import pytest

from keys.kernel import bpf
from keys.kernel import seccomp as calls
from sftpd.sandbox import seccomp
from sftpd.sandbox.seccomp import Stage

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003
AUDIT = {"x86_64": X86_64, "aarch64": AARCH64}
PID = 4711
BEFORE_LOGIN, SERVING, RESPONDER = Stage.BEFORE_LOGIN, Stage.IN_TREE, Stage.RESPONDER


def answer(
    stage: Stage, machine: str, number: int, *arguments: int, audit: int | None = None
) -> int:
    """Return the answer to one call of the filters that a process at that stage has."""
    given = [*arguments, *[0] * (6 - len(arguments))]
    call = pack("<iIQ6Q", number, AUDIT[machine] if audit is None else audit, 0, *given)
    forked = [Stage.FORKER, Stage.BEFORE_LOGIN, Stage.IN_TREE]
    if stage not in forked:
        return interpreted(seccomp.program(stage, PID, machine), call)
    # The kernel takes the strictest answer, which is the smallest number.
    alone, inherited = (
        min(
            interpreted(seccomp.program(each, PID, machine, inherited=inherited), call)
            for each in forked[first : forked.index(stage) + 1]
        )
        for inherited, first in ((False, 1), (True, 0))
    )
    assert alone == inherited
    return alone


def interpreted(program: bytes, call: bytes) -> int:
    """Return a filter's answer, by interpreting the filter as the kernel does."""
    steps = list(iter_unpack("=HBBI", program))
    held, at = 0, 0
    tests: dict[int, Callable[[int, int], object]] = {
        0x15: int.__eq__,
        0x35: int.__ge__,
        0x45: int.__and__,
    }
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x20:
            (held,) = unpack_from("<I", call, operand)
        elif code == 0x06:
            return int(operand)
        else:
            at += if_true if tests[code](held, operand) else if_false


@pytest.mark.parametrize(
    ("machine", "call", "number"),
    [
        ("x86_64", "socket", 41),
        ("x86_64", "execve", 59),
        ("x86_64", "fork", 57),
        ("x86_64", "ptrace", 101),
        ("x86_64", "io_uring_setup", 425),
        ("x86_64", "setuid", 105),
        ("aarch64", "socket", 198),
        ("aarch64", "execve", 221),
        ("aarch64", "ptrace", 117),
        ("aarch64", "bpf", 280),
        ("x86_64", "setpriority", 141),
        ("x86_64", "sched_setaffinity", 203),
        ("aarch64", "ioprio_set", 30),
        ("x86_64", "splice", 275),
        ("aarch64", "vmsplice", 75),
    ],
)
def test_a_call_is_denied_at_every_stage(machine: str, call: str, number: int) -> None:
    assert answer(BEFORE_LOGIN, machine, number) == EPERM
    assert answer(SERVING, machine, number) == EPERM


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [
        # read write close fstat poll lseek mmap pread64 sendto recvfrom futex getdents64 openat2
        ("x86_64", [0, 1, 3, 5, 7, 8, 9, 17, 44, 45, 202, 217, 437]),
        ("aarch64", [63, 64, 57, 80, 73, 62, 222, 67, 206, 207, 98, 61, 437]),
    ],
)
def test_what_a_session_needs_is_allowed(machine: str, numbers: list[int]) -> None:
    assert {answer(SERVING, machine, number) for number in numbers} == {ALLOW}


def test_the_forker_may_fork_and_its_children_change_their_user() -> None:
    clone, setresuid, socket, execve = 56, 117, 41, 59
    forker = seccomp.program(Stage.FORKER, PID, "x86_64")
    for number, expected in ((clone, ALLOW), (setresuid, ALLOW), (socket, EPERM), (execve, EPERM)):
        call = pack("<iIQ6Q", number, X86_64, 0, *[0] * 6)
        assert interpreted(forker, call) == expected


def test_the_calls_that_set_up_the_sandbox_are_denied_after_the_login() -> None:
    capset, chroot = 126, 161
    for call in (capset, chroot):
        assert answer(BEFORE_LOGIN, "x86_64", call) == ALLOW
        assert answer(SERVING, "x86_64", call) == answer(RESPONDER, "x86_64", call) == EPERM


@pytest.mark.parametrize("stage", [BEFORE_LOGIN, SERVING, RESPONDER])
def test_nothing_that_protects_the_process_can_be_switched_off(stage: Stage) -> None:
    prctl, set_name, get_dumpable = 157, 15, 3
    death_signal, dumpable, ptracer, keep_capabilities, ambient = 1, 4, 0x59616D61, 8, 47
    memory_map, core_scheduling = 35, 62
    for option in (death_signal, dumpable, ptracer, keep_capabilities, ambient, memory_map,
                   core_scheduling):  # fmt: skip
        assert answer(stage, "x86_64", prctl, option) == EPERM
        assert answer(stage, "aarch64", 167, option) == EPERM
        assert answer(stage, "x86_64", prctl, option | 1 << 32) == EPERM
    for option in (set_name, get_dumpable):
        assert answer(stage, "x86_64", prctl, option) == ALLOW


@pytest.mark.parametrize("stage", [BEFORE_LOGIN, SERVING, RESPONDER])
def test_attributes_are_read_only_of_open_files_and_no_disk_is_synced(stage: Stage) -> None:
    x86_64 = {"getxattr": 191, "lgetxattr": 192, "listxattr": 194, "llistxattr": 195, "sync": 162}
    aarch64 = {"getxattr": 8, "lgetxattr": 9, "listxattr": 11, "llistxattr": 12, "sync": 81}
    for machine, listed in (("x86_64", x86_64), ("aarch64", aarch64)):
        for number in (*listed.values(), 464, 465):  # getxattrat, listxattrat
            assert answer(stage, machine, number) == EPERM
    fgetxattr = 193
    assert answer(stage, "x86_64", fgetxattr) == ALLOW


def test_only_a_helper_may_start_threads_and_nobody_processes() -> None:
    clone, clone3, thread, process = 56, 435, 0x3D0F00, 0x01200011
    for stage in (BEFORE_LOGIN, SERVING, RESPONDER):
        assert answer(stage, "x86_64", clone, process) == EPERM
    assert answer(RESPONDER, "x86_64", clone, thread) == ALLOW
    assert answer(BEFORE_LOGIN, "x86_64", clone, thread) == EPERM
    assert answer(SERVING, "x86_64", clone, thread) == EPERM
    assert answer(SERVING, "x86_64", clone3) == ENOSYS


def test_a_process_may_signal_only_itself() -> None:
    kill, tgkill = 62, 234
    assert answer(SERVING, "x86_64", kill, PID, 9) == ALLOW
    assert answer(SERVING, "x86_64", tgkill, PID, PID + 1, 9) == ALLOW
    for other in (1, 0, PID + 1, (1 << 64) - 1):
        assert answer(SERVING, "x86_64", kill, other, 9) == EPERM
        assert answer(SERVING, "x86_64", tgkill, other, PID, 9) == EPERM


def test_a_process_may_set_only_its_own_limits() -> None:
    prlimit64 = 302
    assert answer(SERVING, "x86_64", prlimit64, 0, 7) == ALLOW
    assert answer(SERVING, "x86_64", prlimit64, PID, 7) == ALLOW
    for other in (1, PID + 1, (1 << 32) - 1):
        assert answer(SERVING, "x86_64", prlimit64, other, 7) == EPERM
        assert answer(BEFORE_LOGIN, "x86_64", prlimit64, other, 7) == EPERM


def test_terminals_may_be_queried_but_not_typed_into() -> None:
    ioctl, tcgets, tiocsti, tioclinux = 16, 0x5401, 0x5412, 0x541C
    assert answer(SERVING, "x86_64", ioctl, 0, tcgets) == ALLOW
    assert answer(SERVING, "x86_64", ioctl, 0, tiocsti) == EPERM
    assert answer(SERVING, "x86_64", ioctl, 0, tioclinux) == EPERM
    # The kernel uses only the lower half of the argument, so the filter must do the same.
    assert answer(SERVING, "x86_64", ioctl, 0, tiocsti | 1 << 32) == EPERM


@pytest.mark.parametrize("stage", [BEFORE_LOGIN, SERVING, RESPONDER])
def test_no_request_to_a_file_system_and_no_lease_is_allowed(stage: Stage) -> None:
    ioctl, fcntl, fionbio = {"x86_64": 16, "aarch64": 29}, {"x86_64": 72, "aarch64": 25}, 0x5421
    set_flags, set_attributes, deduplicate, verity = 0x40086602, 0x401C5820, 0xC0189436, 0x40806685
    set_lease, notify = 1024, 1026
    for machine in AUDIT:
        for request in (set_flags, set_attributes, deduplicate, verity, 0, fionbio + 1):
            assert answer(stage, machine, ioctl[machine], 3, request) == EPERM
        assert answer(stage, machine, ioctl[machine], 3, fionbio) == ALLOW
        for request in (set_lease, notify):
            assert answer(stage, machine, fcntl[machine], 3, request) == EPERM


def test_no_other_process_can_be_signalled_when_data_arrives() -> None:
    fcntl, ioctl, getfl, setfl, setown, setsig, setown_ex = 72, 16, 3, 4, 8, 10, 15
    fiosetown, siocspgrp = 0x8901, 0x8902
    assert answer(SERVING, "x86_64", fcntl, 0, getfl) == ALLOW
    assert answer(SERVING, "x86_64", fcntl, 0, setfl) == ALLOW
    for command in (setown, setsig, setown_ex):
        assert answer(BEFORE_LOGIN, "x86_64", fcntl, 0, command) == EPERM
        assert answer(SERVING, "aarch64", 25, 0, command) == EPERM
    for request in (fiosetown, siocspgrp):
        assert answer(SERVING, "x86_64", ioctl, 0, request) == EPERM


def test_calls_of_another_architecture_are_denied() -> None:
    read, x32 = 0, 0x40000000
    assert answer(SERVING, "x86_64", read, audit=I386) == EPERM
    assert answer(SERVING, "x86_64", read, audit=AARCH64) == EPERM
    assert answer(SERVING, "x86_64", x32 | read) == EPERM


def test_an_unknown_architecture_has_no_filter() -> None:
    assert not bpf.supported("riscv64")
    with pytest.raises(KeyError):
        seccomp.program(SERVING, PID, "riscv64")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")),
        ("aarch64", Path("/usr/include/asm-generic/unistd.h")),
    ],
)
def test_the_numbers_are_those_of_the_kernel_headers(machine: str, header: Path) -> None:
    if not header.exists():
        pytest.skip("no kernel headers here")
    stated = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s", header.read_text())
    known = {name: int(number) for name, number in stated}
    column = ["x86_64", "aarch64"].index(machine)
    shared = calls.NEVER + calls.SETUP + calls.WITH_ARGUMENTS
    words = (shared + seccomp._SESSION).split()
    table = dict(zip(words[::3], words[1 + column :: 3], strict=True))
    assert len(table) == 172
    for name, number in table.items():
        # Old headers lack the newest calls; from 424 on the numbers are the same everywhere.
        if name in known or int(number if number != "-" else 0) < 424:
            assert (name, number) == (name, str(known.get(name, "-")))
