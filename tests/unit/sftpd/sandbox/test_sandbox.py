import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from config.fault import Faults
from config.settings import SandboxMode, SftpSettings
from keys.kernel import capabilities, user_namespace
from sftpd import sessions
from sftpd.sandbox import sandbox
from sftpd.sandbox.sandbox import KernelFeatures, SandboxPolicy, User
from sftpd.sftp.view import View

THIS_KERNEL = sandbox.kernel()
FULL_KERNEL = KernelFeatures(landlock=7, seccomp=True, openat2=True)
SFTP = SftpSettings("127.0.0.1", 0, 9, 9)
needs_landlock = pytest.mark.skipif(THIS_KERNEL.landlock == 0, reason="the kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not THIS_KERNEL.seccomp, reason="the kernel has no seccomp")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
NOBODY = User("nobody", 65534, 65534)


@pytest.fixture(autouse=True, params=[False, True], ids=["", "by-the-forker"])
def forked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let each test's children restrict themselves alone, and again as those of the forker do."""
    if not request.param:
        return False
    before_login = sandbox.restrict_before_login

    def as_forked(policy: SandboxPolicy, trees: Iterable[int], empty: int) -> None:
        sandbox.restrict_forker(policy)
        before_login(replace(policy, inherited=True), trees, empty)

    monkeypatch.setattr(sandbox, "restrict_before_login", as_forked)
    return True


def in_sandbox(
    tree: Path,
    action: Callable[[View], object],
    policy: SandboxPolicy = SandboxPolicy(THIS_KERNEL),  # noqa: B008
    prepare: Callable[[], object] = lambda: None,
) -> str:
    """Return the result of `action` in a child restricted to `tree`: a value or an errno name."""
    pid, reading = start(tree, action, policy, prepare)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    return found


def ignoring(action: Callable[..., object], *words: object) -> Callable[[View], object]:
    return lambda _: action(*words)


def start(
    tree: Path,
    action: Callable[[View], object],
    policy: SandboxPolicy,
    prepare: Callable[[], object] = lambda: None,
) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            root = os.open(tree, os.O_PATH | os.O_DIRECTORY) if tree.exists() else None
            readable, empty = [] if root is None else [root], sessions.empty_folder()
            sandbox.restrict_before_login(policy, readable, empty)
            os.close(empty)
            view = View(root)
            try:
                sandbox.restrict_to_tree(view.root, policy)
                results = str(action(view))
            except OSError as error:
                results = errno.errorcode[error.errno or 0]
            os.write(writing, results.encode())
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


def read(view: View) -> bytes:
    found = view.open_file(b"BENIOKU.txt")
    return os.pread(found.descriptor, 100, 0)  # type: ignore[union-attr]


def test_the_party_s_own_tree_can_be_read(tree: Path) -> None:
    assert in_sandbox(tree, read) == "b'oku beni\\n'"
    assert in_sandbox(tree, lambda _: (tree / "BENIOKU.txt").read_bytes()) == "b'oku beni\\n'"
    assert in_sandbox(tree, lambda _: sorted(p.name for p in tree.iterdir())) == (
        "['BENIOKU.txt', 'akis']"
    )


@needs_landlock
def test_no_file_outside_the_tree_can_be_read(site: Path, tree: Path) -> None:
    for path in (Path("/etc/passwd"), site / "trees/parti-b/gizli.txt", site / "store/gizli.txt"):
        assert in_sandbox(tree, ignoring(path.read_bytes)) == "EACCES"
    assert in_sandbox(tree, lambda _: os.listdir(site)) == "EACCES"  # noqa: PTH208
    assert in_sandbox(tree, lambda _: Path("/proc/self/environ").read_bytes()) == "EACCES"


@needs_landlock
def test_nothing_can_be_written(site: Path, tree: Path) -> None:
    for path in (tree / "new", site / "new", Path("/tmp/new-in-sandbox")):
        assert in_sandbox(tree, ignoring(path.write_bytes, b"x")) == "EACCES"
        assert not path.exists()
    readme = tree / "BENIOKU.txt"
    before = readme.stat()
    for action in (
        lambda _: readme.unlink(),
        lambda _: readme.rename(tree / "b"),
        lambda _: readme.hardlink_to(tree / "b"),
        lambda _: (tree / "b").symlink_to("/etc/passwd"),
        lambda _: (tree / "new").mkdir(),
        lambda _: os.mkfifo(tree / "new"),
        lambda _: os.truncate(readme, 0),
        lambda _: readme.chmod(0o777),
        lambda _: os.chown(readme, 1, 1),
        lambda _: os.utime(readme, (0, 0)),
        lambda _: os.setxattr(readme, "user.x", b"x"),
        lambda _: os.memfd_create("new"),
    ):
        assert in_sandbox(tree, action) in ("EPERM", "EACCES")
    assert readme.read_bytes() == b"oku beni\n"
    after = readme.stat()
    assert (after.st_mode, after.st_mtime) == (before.st_mode, before.st_mtime)


@needs_landlock
@needs_seccomp
def test_modes_of_files_outside_the_tree_cannot_be_changed(site: Path, tree: Path) -> None:
    # Landlock does not stop the owner of a file from changing its mode; seccomp does.
    secret = site / "store/gizli.txt"
    secret.chmod(0o644)
    assert in_sandbox(tree, lambda _: secret.chmod(0o777)) == "EPERM"
    assert secret.stat().st_mode & 0o777 == 0o644


@needs_seccomp
def test_an_open_file_cannot_be_changed_or_kept_from_others(tree: Path) -> None:
    # Neither needs a descriptor for writing, only the owner of the file.
    def request(number: int, value: int) -> Callable[[View], object]:
        return lambda view: fcntl.ioctl(_descriptor(view), number, value.to_bytes(32, "little"))

    def lease(view: View) -> None:
        fcntl.fcntl(_descriptor(view), fcntl.F_SETLEASE, fcntl.F_WRLCK)

    no_dump = 0x40
    before = (tree / "BENIOKU.txt").stat()
    for action in (request(0x40086602, no_dump), request(0x401C5820, 0x80), lease):
        assert in_sandbox(tree, action) == "EPERM"
    assert (tree / "BENIOKU.txt").stat().st_ctime_ns == before.st_ctime_ns


def _descriptor(view: View) -> int:
    return view.open_file(b"BENIOKU.txt").descriptor  # type: ignore[union-attr]


@needs_landlock
def test_landlock_alone_prevents_tcp_connections(tree: Path) -> None:
    if THIS_KERNEL.landlock < 4:
        pytest.skip("this kernel's Landlock does not know TCP")
    policy = SandboxPolicy(replace(THIS_KERNEL, seccomp=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        name = listener.getsockname()
        assert in_sandbox(tree, lambda _: socket.create_connection(name), policy) == "EACCES"
        assert (
            in_sandbox(tree, lambda _: socket.create_server(("127.0.0.1", 0)), policy) == "EACCES"
        )


@needs_landlock
def test_landlock_alone_prevents_signals_to_other_processes(tree: Path) -> None:
    if THIS_KERNEL.landlock < 6:
        pytest.skip("this kernel's Landlock does not know signals")
    policy = SandboxPolicy(replace(THIS_KERNEL, seccomp=False))
    assert in_sandbox(tree, lambda _: os.kill(os.getppid(), 0), policy) == "EPERM"


@needs_seccomp
@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_STREAM),
        (socket.AF_INET6, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_INET, socket.SOCK_RAW),
        (socket.AF_PACKET, socket.SOCK_RAW),
        (socket.AF_NETLINK, socket.SOCK_RAW),
        (socket.AF_VSOCK, socket.SOCK_STREAM),
    ],
)
def test_no_socket_of_any_kind_can_be_created(tree: Path, family: int, kind: int) -> None:
    assert in_sandbox(tree, lambda _: socket.socket(family, kind)) == "EPERM"


@needs_seccomp
def test_an_open_socket_cannot_be_connected_to_another_address(tree: Path) -> None:
    with socket.socket() as held, socket.create_server(("127.0.0.1", 0)) as listener:
        name = listener.getsockname()
        assert in_sandbox(tree, lambda _: held.connect(name)) == "EPERM"
        assert in_sandbox(tree, lambda _: held.bind(("127.0.0.1", 0))) == "EPERM"
        assert in_sandbox(tree, lambda _: held.listen()) == "EPERM"
        assert in_sandbox(tree, lambda _: listener.accept()) == "EPERM"
    assert in_sandbox(tree, lambda _: socket.socketpair()) == "EPERM"


@needs_seccomp
def test_no_program_and_no_process_can_be_started(tree: Path) -> None:
    assert in_sandbox(tree, lambda _: os.execv("/bin/true", ["true"])) == "EPERM"  # noqa: S606
    assert in_sandbox(tree, lambda _: os.fork()) == "EPERM"
    assert in_sandbox(tree, lambda _: subprocess.run(["/bin/true"], check=False)) == "EPERM"
    assert in_sandbox(tree, lambda _: os.posix_spawn("/bin/true", ["true"], {})) == "EPERM"


@needs_seccomp
def test_other_processes_cannot_be_touched(tree: Path) -> None:
    def ptrace(_: View) -> None:
        attach = 16
        if ctypes.CDLL(None, use_errno=True).ptrace(attach, os.getppid(), None, None) != 0:
            raise OSError(ctypes.get_errno(), "")

    for action in (
        ptrace,
        lambda _: os.kill(os.getppid(), 0),
        lambda _: os.kill(-1, 0),
        lambda _: os.kill(0, 0),
        lambda _: os.pidfd_open(os.getppid()),
        lambda _: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
        lambda _: fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL),
        lambda _: resource.prlimit(os.getppid(), resource.RLIMIT_CPU),
        lambda _: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
        lambda _: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0)),
        lambda _: os.sched_setscheduler(os.getppid(), os.SCHED_OTHER, os.sched_param(0)),
    ):
        assert in_sandbox(tree, action) == "EPERM"


@needs_seccomp
def test_the_process_can_signal_itself(tree: Path) -> None:
    assert in_sandbox(tree, lambda _: os.kill(os.getpid(), 0)) == "None"
    assert in_sandbox(tree, lambda _: signal.raise_signal(signal.SIGKILL)) == ""
    assert (
        in_sandbox(tree, lambda _: resource.prlimit(os.getpid(), resource.RLIMIT_CORE)) == "(0, 0)"
    )
    assert in_sandbox(tree, lambda _: resource.getrlimit(resource.RLIMIT_CORE)) == "(0, 0)"


@needs_seccomp
def test_nothing_can_be_typed_into_the_operator_s_terminal(tree: Path) -> None:
    leader, follower = os.openpty()
    try:
        typing = 0x5412
        assert in_sandbox(tree, lambda _: fcntl.ioctl(follower, typing, b"x")) == "EPERM"
        assert in_sandbox(tree, lambda _: os.isatty(follower)) == "True"
    finally:
        os.close(leader)
        os.close(follower)


def before_login(
    policy: SandboxPolicy,
    *actions: Callable[[], object],
    trees: Iterable[Path] = (),
    prepare: Callable[[], object] = lambda: None,
) -> list[str]:
    """Return what each action returns in a child before its login: a value or an errno name."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            readable = [os.open(tree, os.O_PATH | os.O_DIRECTORY) for tree in trees]
            empty = sessions.empty_folder()
            sandbox.restrict_before_login(policy, readable, empty)
            for folder in (*readable, empty):
                os.close(folder)
            results = []
            for action in actions:
                try:
                    results.append(str(action()))
                except OSError as error:
                    results.append(errno.errorcode[error.errno or 0])
                except RuntimeError as error:
                    results.append(str(error))
            os.write(writing, json.dumps(results).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    return list(json.loads(found or "[]"))


@needs_seccomp
def test_no_socket_no_program_and_no_thread_before_the_login_either() -> None:
    found = before_login(
        SandboxPolicy(THIS_KERNEL),
        socket.socket,
        lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
        os.fork,
        threading.Thread(target=lambda: None).start,
        lambda: resource.getrlimit(resource.RLIMIT_AS)[0] < 8 << 30,
        lambda: resource.getrlimit(resource.RLIMIT_CORE),
    )

    assert found == ["EPERM", "EPERM", "EPERM", "can't start new thread", "True", "(0, 0)"]


@needs_landlock
def test_nothing_can_be_written_before_the_login_either(site: Path, tree: Path) -> None:
    # Not even a file that the server's user may write, such as a ledger on a site without root.
    ledger = tree / "ledger"
    ledger.write_text("record")
    ledger.chmod(0o600)

    found = before_login(
        SandboxPolicy(replace(THIS_KERNEL, seccomp=False)),
        lambda: ledger.write_text("forged"),
        lambda: os.open(ledger, os.O_RDONLY | os.O_TRUNC),
        lambda: os.open(ledger, os.O_WRONLY | os.O_APPEND),
        lambda: (site / "new").write_text("x"),
        ledger.unlink,
        lambda: ledger.rename(site / "new"),
        trees=[tree],
    )

    assert set(found) == {"EACCES"}
    assert ledger.read_text() == "record"


def enter_namespace() -> None:
    """Do what the forker of a server without privileges does.

    The kernel lets user 0 keep its number in a namespace only with CAP_SETFCAP.
    """
    if os.geteuid() == 0:
        capabilities.limit_to(31)
    user_namespace.enter()


def nothing() -> None:
    """Go on as the user who runs the tests."""


needs_namespaces = pytest.mark.skipif(
    not user_namespace.lets_change_root(), reason="this machine refuses user namespaces"
)
WAYS = [
    pytest.param(SandboxPolicy(THIS_KERNEL), capabilities.limit_to, id="root-directory-kept"),
    pytest.param(
        SandboxPolicy(THIS_KERNEL, chroot=True),
        enter_namespace,
        id="user-namespace",
        marks=needs_namespaces,
    ),
    pytest.param(
        SandboxPolicy(THIS_KERNEL, chroot=True), nothing, id="with-CAP_SYS_CHROOT", marks=needs_root
    ),
    pytest.param(
        SandboxPolicy(THIS_KERNEL, NOBODY), nothing, id="root-as-nobody", marks=needs_root
    ),
]


@needs_landlock
@pytest.mark.parametrize(("policy", "prepare"), WAYS)
def test_before_the_login_no_file_but_the_tree_of_that_address_can_be_read(
    site: Path, tree: Path, policy: SandboxPolicy, prepare: Callable[[], object]
) -> None:
    others = [
        Path("/etc/shadow"),
        Path("/etc/passwd"),
        Path("/proc/self/environ"),
        site / "trees/parti-b/gizli.txt",
        site / "store/gizli.txt",
    ]

    def is_open(path: Path) -> bool:
        with suppress(OSError):
            path.read_bytes()
            return True
        return False

    def is_there(path: Path) -> bool:
        with suppress(OSError):
            path.stat()
            return True
        return False

    found = before_login(
        policy,
        lambda: [path for path in others if is_open(path)],
        lambda: is_open(tree / "BENIOKU.txt"),
        lambda: [path for path in (*others, tree) if is_there(path)] if policy.changes_root else [],
        trees=[tree],
        prepare=prepare,
    )

    # Where the root directory cannot be changed, Landlock must allow from the start what the login
    # will open.
    assert found == ["[]", str(not policy.changes_root), "[]"]


@pytest.mark.parametrize(("policy", "prepare"), WAYS[1:])
def test_the_empty_root_directory_cannot_be_left(
    tree: Path, policy: SandboxPolicy, prepare: Callable[[], object]
) -> None:
    # With CAP_SYS_CHROOT a process leaves a root directory if it has a descriptor outside of it, or
    # can make a folder.
    def climb() -> str:
        os.chroot("/")
        for _ in range(20):
            os.chdir("..")
        os.chroot(".")
        return str(os.listdir("/"))  # noqa: PTH208

    actions = climb, lambda: Path("/x").mkdir()
    found = before_login(policy, *actions, trees=[tree], prepare=prepare)
    assert found[0] in ("[]", "EACCES")
    assert found[1] in ("EPERM", "EACCES", "ENOENT")


@needs_root
def test_root_becomes_an_unprivileged_user_permanently(site: Path, tree: Path) -> None:
    def action(view: View) -> object:
        results: list[object] = [os.getresuid(), os.getresgid(), os.getgroups()]
        for regain in (partial(os.setresuid, 0, 0, 0), partial(os.setgroups, [0])):
            try:
                regain()
            except PermissionError:
                results.append("no")
        return [*results, read(view)]

    for policy in (
        SandboxPolicy(THIS_KERNEL, NOBODY),
        SandboxPolicy(KernelFeatures(0, False, True), NOBODY),
    ):
        assert in_sandbox(tree, action, policy) == (
            "[(65534, 65534, 65534), (65534, 65534, 65534), [], 'no', 'no', b'oku beni\\n']"
        )


@pytest.mark.parametrize(("policy", "prepare"), WAYS[1:])
def test_a_child_with_its_own_root_directory_cannot_even_stat_a_path_outside_its_tree(
    site: Path, tree: Path, policy: SandboxPolicy, prepare: Callable[[], object]
) -> None:
    def of(action: Callable[[View], object]) -> str:
        return in_sandbox(tree, action, policy, prepare)

    for path in (site / "store/gizli.txt", Path("/etc/passwd")):
        assert of(ignoring(path.stat)) == "ENOENT"
        assert of(ignoring(os.getxattr, path, "user.x")) == "EPERM"
    assert of(lambda _: sorted(os.listdir("/"))) == "['BENIOKU.txt', 'akis']"  # noqa: PTH208
    assert of(lambda view: view.stat(b"gizli.txt")) == "NotFound()"
    assert of(read) == "b'oku beni\\n'"


@needs_seccomp
def test_the_protection_of_the_process_cannot_be_switched_off(tree: Path) -> None:
    def prctl(option: int, value: int) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "")

    dumpable, death_signal = 4, 1
    for option, value in ((dumpable, 1), (death_signal, 0)):
        assert in_sandbox(tree, ignoring(prctl, option, value)) == "EPERM"
        assert before_login(SandboxPolicy(THIS_KERNEL), partial(prctl, option, value)) == ["EPERM"]
    assert in_sandbox(tree, ignoring(os.sync)) == "None"  # glibc's sync cannot fail
    assert in_sandbox(tree, lambda view: os.fsync(view.root or 0)) in ("EPERM", "EBADF")


@needs_root
def test_no_group_is_left(tree: Path) -> None:
    before = os.getgroups()
    os.setgroups([7, 8])
    try:
        assert (
            in_sandbox(tree, lambda _: os.getgroups(), SandboxPolicy(THIS_KERNEL, NOBODY)) == "[]"
        )
    finally:
        os.setgroups(before)


@needs_root
@pytest.mark.parametrize("user", [None, NOBODY])
def test_no_capability_is_left(tree: Path, user: User | None, forked: bool) -> None:
    filters = 3 if forked else 2
    release, held = os.pipe()

    def wait(_: View) -> None:
        os.read(release, 1)

    pid, answer = start(tree, wait, SandboxPolicy(THIS_KERNEL, user))
    status = ""
    while f"Seccomp_filters:\t{filters}\n" not in status:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "State:\tZ" not in status
    os.write(held, b".")
    os.waitpid(pid, 0)
    for end in (release, held, answer):
        os.close(end)
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if user else [])):
        assert f"{name}:\t0000000000000000\n" in status
    assert "NoNewPrivs:\t1\n" in status


@needs_root
def test_a_tree_that_the_user_may_not_read_cannot_be_its_root_directory(tree: Path) -> None:
    tree.chmod(0o700)

    assert in_sandbox(tree, read, SandboxPolicy(THIS_KERNEL, NOBODY)) == "EACCES"


@pytest.mark.parametrize(
    ("kernel", "uid", "sftp", "keys"),
    [
        (FULL_KERNEL, 1000, SFTP, []),
        (FULL_KERNEL, 0, SFTP, []),
        (replace(FULL_KERNEL, landlock=0), 1000, SFTP, ["sftp.cage"]),
        (replace(FULL_KERNEL, seccomp=False), 1000, SFTP, ["sftp.cage"]),
        (replace(FULL_KERNEL, landlock=0), 1000, replace(SFTP, cage=SandboxMode.BEST_EFFORT), []),
        (
            replace(FULL_KERNEL, openat2=False),
            1000,
            replace(SFTP, cage=SandboxMode.BEST_EFFORT),
            [""],
        ),
        (FULL_KERNEL, 0, replace(SFTP, user="no-such-user"), ["sftp.user"]),
        (FULL_KERNEL, 1000, replace(SFTP, user="no-such-user"), []),
        (FULL_KERNEL, 0, replace(SFTP, user="root"), ["sftp.user"]),
        (KernelFeatures(0, False, True), 0, replace(SFTP, user="root"), ["sftp.cage", "sftp.user"]),
    ],
)
def test_a_server_that_cannot_meet_its_settings_does_not_start(
    kernel: KernelFeatures, uid: int, sftp: SftpSettings, keys: list[str]
) -> None:
    assert [(fault.file, fault.key) for fault in sandbox.faults(sftp, kernel, uid)] == [
        ("site.toml", key) for key in keys
    ]
    if keys:
        with pytest.raises(Faults):
            sandbox.policy(sftp, kernel, uid)
    else:
        found = sandbox.policy(sftp, kernel, uid)
        assert (found.kernel, found.user) == (kernel, NOBODY if uid == 0 else None)


def test_the_fault_for_a_missing_landlock_says_what_to_do() -> None:
    [fault] = sandbox.faults(SFTP, replace(FULL_KERNEL, landlock=0), 1000)
    assert str(fault) == (
        'site.toml: sftp.cage: "required", but this kernel has no Landlock, seccomp, openat2: '
        "boot Linux 5.13 or later with landlock in lsm= (see /sys/kernel/security/lsm), "
        'or write "best-effort"'
    )


def test_a_party_without_a_tree_can_read_nothing(site: Path) -> None:
    def action(view: View) -> object:
        assert view.open_file(b"BENIOKU.txt")
        return Path("/etc/passwd").read_bytes()

    wanted = "EACCES" if THIS_KERNEL.landlock else None
    assert wanted is None or in_sandbox(site / "none", action) == wanted


def test_other_processes_of_the_same_user_cannot_read_its_memory(tree: Path) -> None:
    dumpable = 3
    assert in_sandbox(tree, lambda _: ctypes.CDLL(None).prctl(dumpable, 0, 0, 0, 0)) == "0"


@needs_root
def test_a_child_that_changed_its_user_still_ends_with_its_parent(tree: Path) -> None:
    def action(_: View) -> object:
        found = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(found), 0, 0, 0)
        return found.value == signal.SIGKILL

    assert in_sandbox(tree, action, SandboxPolicy(THIS_KERNEL, NOBODY)) == "True"


def test_limits_are_set(tree: Path) -> None:
    limits = in_sandbox(
        tree,
        lambda _: [
            resource.getrlimit(resource.RLIMIT_CORE),
            resource.getrlimit(resource.RLIMIT_NOFILE)[1] <= 2304,
            resource.getrlimit(resource.RLIMIT_AS)[1] < 8 << 30,
        ],
    )
    assert limits == "[(0, 0), True, True]"


def test_memory_is_limited(tree: Path) -> None:
    def action(_: View) -> object:
        try:
            return len(bytearray(1 << 30))
        except MemoryError:
            return "none left"

    assert in_sandbox(tree, action) == "none left"


@needs_seccomp
def test_no_thread_can_be_started_after_the_login(tree: Path) -> None:
    def action(_: View) -> object:
        thread = threading.Thread(target=lambda: None)
        try:
            thread.start()
        except RuntimeError as error:
            return error
        thread.join()
        return "started"

    assert in_sandbox(tree, action) == "can't start new thread"


def test_python_still_works_in_the_sandbox(tree: Path) -> None:
    def action(view: View) -> object:
        import time
        import traceback

        results: list[object] = []
        try:
            raise ValueError
        except ValueError:
            results.append(bool(traceback.format_exc()))
        results.append(bool(read(view)))
        results.append(bool(time.strftime("%c")))
        results.append(
            b"\xff".decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace")
        )
        results.append(len(os.urandom(8)))
        return results

    results = in_sandbox(tree, action)
    assert results == "[True, True, True, b'\\\\udcff', 8]"


@needs_root
def test_root_gives_up_all_but_one_capability_before_the_login(site: Path, tree: Path) -> None:
    key, ledger = site / "key", site / "ledger"
    for private in (key, ledger):
        private.write_text("x")
        private.chmod(0o600)
    tree.chmod(0o700)

    found = before_login(
        SandboxPolicy(THIS_KERNEL, NOBODY),
        lambda: [os.getresuid(), os.getresgid(), os.getgroups()],
        lambda: ledger.write_text("y"),
        lambda: os.setresuid(0, 0, 0),
        lambda: os.setgroups([0]),
        lambda: os.kill(os.getppid(), 0),
        key.read_text,
        (tree / "BENIOKU.txt").read_text,
        held_capabilities,
        trees=[tree],
    )

    ids, *denied, held = found
    assert ids == "[(65534, 65534, 65534), (65534, 65534, 65534), []]"
    assert set(denied) <= {"EACCES", "ENOENT", "EPERM"}
    chroot = 1 << 18
    assert held == f"[{chroot}, {chroot}, 0]"


def held_capabilities() -> list[int]:
    """Return the effective, permitted and inheritable capabilities below 32."""
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(ctypes.byref(header), ctypes.byref(sets)) == 0
    return list(sets[:3])
