import os
import pwd
import socket
from pathlib import Path

import pytest
from wire.served import Serve, Served, lay_out, setting, until
from wire.test_server import connected

from config import load
from config.fault import Faults
from sftpd import server
from sftpd.sandbox import sandbox

NONE_OF_IT = (
    "from sftpd.sandbox import sandbox\n"
    "sandbox.kernel = lambda: sandbox.KernelFeatures(0, False, True)\n"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
needs_landlock = pytest.mark.skipif(
    not sandbox.kernel().landlock, reason="the kernel has no Landlock"
)


def status(served: Served) -> dict[str, str]:
    """What /proc says of the one child."""
    [child] = served.children()
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@needs_landlock
def test_a_child_is_shut_in_before_and_after_the_login(serve: Serve) -> None:
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.recv(8)
        before = status(served)
    until(lambda: not served.children())
    with connected(served, "parti-a") as client, client.open_sftp() as sftp:
        assert sftp.listdir("/")
        after = status(served)

    assert (before["NoNewPrivs"], before["Seccomp"], before["Seccomp_filters"]) == ("1", "2", "1")
    assert (after["NoNewPrivs"], after["Seccomp"], after["Seccomp_filters"]) == ("1", "2", "2")
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(after[name], 16) == 0


@needs_root
@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_a_child_of_root_is_nobody(serve: Serve, user: str) -> None:
    served = serve(before=setting(f'user = "{user}"'))
    with connected(served, "parti-a") as client, client.open_sftp() as sftp:
        assert sftp.open("BENIOKU.txt").read() == b"parti-a\n"
        found = status(served)
        [child] = served.children()
        root = Path(f"/proc/{child}/root").readlink()

    who = pwd.getpwnam(user)
    assert found["Uid"].split() == [str(who.pw_uid)] * 4
    assert found["Gid"].split() == [str(who.pw_gid)] * 4
    assert found["Groups"] == ""
    assert int(found["CapBnd"], 16) == 0
    assert root == served.site / "trees" / "parti-a"


@needs_root
def test_a_tree_that_nobody_may_read_is_an_error_and_not_an_empty_one(serve: Serve) -> None:
    served = serve()
    tree = served.site / "trees" / "parti-a"
    tree.chmod(0o700)
    assert served.sftp("parti-a", "ls\n").returncode == 255
    assert "tree-unreadable" in served.log.read_text()

    tree.chmod(0o755)
    (tree / "BENIOKU.txt").chmod(0o400)
    assert served.sftp("parti-a", "get BENIOKU.txt /dev/null\n").returncode == 1
    assert "file-unreadable" in served.log.read_text().splitlines()[-1]


def test_what_is_poured_in_before_the_login_takes_no_memory(serve: Serve) -> None:
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as loud:
        until(served.children)  # it may be gone before it is looked at among what comes
        most = max(map(_peak, served.children()))
        loud.sendall(b"SSH-2.0-loud\r\n")
        try:
            for _ in range(4800):
                loud.sendall(b"x" * 65536)
                for child in served.children():
                    most = max(most, _peak(child))
        except OSError:
            pass
    until(lambda: not served.children())
    assert 0 < most < 100 << 10
    assert served.sftp("parti-a", "ls\n").returncode == 0


def _peak(pid: int) -> int:
    """The most memory that a process has had resident, in KiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_without_a_kernel_that_can_the_server_does_not_start(tmp_path: Path) -> None:
    site = tmp_path / "site"
    lay_out(site, {"parti-a": "127.0.0.1"}, 9, 9)
    (site / "now").touch()
    with pytest.raises(Faults, match=r'site\.toml: sftp\.cage: "required", but this kernel has no'):
        server.serve(load.load(site), kernel=sandbox.KernelFeatures(0, False, True))


def test_unless_the_best_effort_is_asked_for(serve: Serve) -> None:
    served = serve(before=setting('cage = "best-effort"'), patch=NONE_OF_IT)
    assert served.sftp("parti-a", "ls\n").returncode == 0
    with connected(served, "parti-a"):
        assert status(served)["Seccomp"] == "0"
        assert int(status(served)["CapEff"], 16) == 0
    assert "sandbox-incomplete" in served.log.read_text()
