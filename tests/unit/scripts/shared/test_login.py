"""Which account is at the keyboard is up to the kernel: no shell is two operators."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import confined
import pytest

from keys.kernel import process
from scripts.shared import console, login

NOT_SET = (1 << 32) - 1
OWN = pwd.getpwuid(os.getuid()).pw_name
DAEMON = 1  # the number of an account that every machine has
FIRST, OTHER = "cgroup:[4026531835]", "cgroup:[4026532617]"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc of a machine without systemd and without logins."""
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/uid_map").write_text("         0          0 4294967295\n")
    group(tmp_path, "0::/\n")
    return tmp_path


def group(proc: Path, text: str, namespace: str = FIRST) -> None:
    (proc / "self/cgroup").write_text(text)
    (proc / "self/ns/cgroup").unlink(missing_ok=True)
    (proc / "self/ns/cgroup").symlink_to(namespace)


def processes(proc: Path, *lines: tuple[int, int, int, int]) -> None:
    """Add processes: number, parent, real uid, login uid."""
    for pid, parent, uid, stated in lines:
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "loginuid").write_text(str(stated))
        (proc / str(pid) / "status").write_text(f"PPid:\t{parent}\nUid:\t{uid}\t0\t0\t0\n")


SSHD = ((1, 0, 0, NOT_SET), (10, 1, 0, NOT_SET), (11, 10, 0, DAEMON), (12, 11, 1000, DAEMON))


def test_the_account_that_sshd_let_in_counts_also_under_sudo(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes(proc, *SSHD, (13, 12, 0, DAEMON), (14, 13, 999, DAEMON))
    monkeypatch.setenv("SUDO_USER", "somebody-else")

    assert login.account(proc, 14) == "daemon"


@pytest.mark.parametrize(
    "above",
    [
        ((1, 0, 0, NOT_SET), (10, 1, 0, NOT_SET), (11, 10, 1000, NOT_SET), (12, 11, 1000, DAEMON)),
        ((1, 0, 0, NOT_SET), (10, 1, 0, NOT_SET), (12, 10, 1000, DAEMON)),
        ((1, 0, 0, NOT_SET), (12, 1, 0, DAEMON)),  # sudo, of a shell that has ended
        ((1, 0, 0, NOT_SET), (11, 1, 1000, NOT_SET), (12, 11, 0, DAEMON)),
    ],
    ids=["by a shell", "by the first process of a login", "before sudo", "below a subreaper"],
)
def test_a_login_uid_that_a_user_can_have_set_does_not_count(
    proc: Path, above: tuple[tuple[int, int, int, int], ...]
) -> None:
    processes(proc, *above, (14, 12, 999, DAEMON))

    assert login.account(proc, 14) == OWN


def test_without_a_login_uid_it_is_the_real_account_whatever_the_environment_says(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (14, 15):  # a login uid that is not set, and a kernel without any
        for name in ("ali", "ayse"):
            for variable in ("SUDO_USER", "SUDO_UID", "LOGNAME", "USER", "USERNAME", "LNAME"):
                monkeypatch.setenv(variable, name)
            assert login.account(proc, pid) == OWN
        if pid == 14:
            processes(proc, (1, 0, 0, NOT_SET), (15, 1, 0, NOT_SET))


@pytest.mark.parametrize(
    "text",
    [
        f"0::/user.slice/user-{DAEMON}.slice/session-3.scope\n",
        f"0::/user.slice/user-{DAEMON}.slice/user@{DAEMON}.service/app.slice/tmux.scope\n",
        f"2:cpu:/\n1:name=systemd:/user.slice/user-{DAEMON}.slice/session-3.scope\n0::/x\n",
    ],
)
def test_systemd_says_who_logged_in(proc: Path, text: str) -> None:
    processes(proc, (1, 0, 0, NOT_SET), (14, 1, 0, 2))
    group(proc, text)

    assert login.account(proc, 14) == "daemon"


@pytest.mark.parametrize(
    ("text", "namespace"),
    [
        (f"0::/user.slice/user-{DAEMON}.slice\n", OTHER),
        (f"0::/x/user.slice/user-{DAEMON}.slice\n", FIRST),
        (f"2:cpu:/user.slice/user-{DAEMON}.slice\n", FIRST),
    ],
)
def test_a_group_that_a_user_can_make_does_not_count(proc: Path, text: str, namespace: str) -> None:
    group(proc, text, namespace)

    assert login.account(proc, 14) == OWN


def test_accounts_without_a_name_are_named_by_number(proc: Path) -> None:
    group(proc, "0::/user.slice/user-4711471.slice/session-3.scope\n")

    assert login.account(proc, 14) == "uid 4711471"


@pytest.mark.parametrize("lines", ["1001 999 1\n", "0 1000 1\n1 100000 65536\n"])
def test_all_accounts_of_a_user_namespace_are_one(proc: Path, lines: str) -> None:
    (proc / "self/uid_map").write_text(lines)
    group(proc, f"0::/user.slice/user-{DAEMON}.slice/session-3.scope\n")

    assert login.account(proc, 14) == "user-namespace"


@pytest.mark.parametrize("uids", [(7, 7, 7), (DAEMON, 7, 7)], ids=["all", "the effective one"])
def test_a_range_of_subordinate_uids_that_lacks_the_own_one_is_such_a_namespace_too(
    proc: Path, monkeypatch: pytest.MonkeyPatch, uids: tuple[int, int, int]
) -> None:
    (proc / "sys/kernel").mkdir(parents=True)
    (proc / "sys/kernel/overflowuid").write_text("7\n")
    monkeypatch.setattr(os, "getresuid", lambda: uids)
    assert login.account(proc, 14) == OWN
    (proc / "self/uid_map").write_text("0 100000 65536\n")

    assert login.account(proc, 14) == "user-namespace"


def test_a_container_has_accounts_of_its_own(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getresuid", lambda: (DAEMON, DAEMON, DAEMON))  # not that of `nobody`
    (proc / "self/uid_map").write_text("0 100000 65536\n")

    assert login.account(proc, 14) == OWN


def in_a_child(action: Callable[[], object]) -> str:
    """Return the operator's name in a process of `nobody` that has done something."""

    def begin() -> None:
        os.setresuid(65534, 65534, 65534)
        with process.inspection_allowed():  # otherwise root owns the files of the process
            action()

    [found] = confined.answers(begin, console.operator)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
def test_a_shell_that_sets_its_login_uid_itself_is_still_the_same_operator() -> None:
    path = Path("/proc/self/loginuid")
    if not path.exists() or int(path.read_text()) != NOT_SET:
        pytest.skip("this kernel has no login uid, or the tests run in a login")

    names = {in_a_child(lambda n=n: path.write_text(str(n))) for n in (1, 2)}  # type: ignore[misc]

    assert names == {"nobody"}
