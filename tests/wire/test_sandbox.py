import os
import pwd
import socket
from pathlib import Path

import pytest
from wire.server import RunningServer, StartServer, make_site, setting, until

from config import load
from config.fault import Faults
from sftpd import server as sftp_server
from sftpd.sandbox import sandbox

NO_SANDBOX = (
    "from sftpd.sandbox import sandbox\n"
    "sandbox.kernel = lambda: sandbox.KernelFeatures(0, False, True)\n"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")
needs_landlock = pytest.mark.skipif(
    not sandbox.kernel().landlock, reason="the kernel has no Landlock"
)


def status(server: RunningServer) -> dict[str, str]:
    """Return /proc/PID/status of the only child."""
    [child] = server.children()
    lines = Path(f"/proc/{child}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@needs_landlock
def test_a_child_is_sandboxed_before_and_after_the_login(serve: StartServer) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.recv(8)
        before = status(server)
    until(lambda: not server.children())
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        assert sftp.listdir("/")
        after = status(server)

    assert (before["NoNewPrivs"], before["Seccomp"], before["Seccomp_filters"]) == ("1", "2", "2")
    assert (after["NoNewPrivs"], after["Seccomp"], after["Seccomp_filters"]) == ("1", "2", "3")
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(after[name], 16) == 0


@needs_root
@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_a_child_of_root_runs_as_the_configured_user(serve: StartServer, user: str) -> None:
    server = serve(before=setting(f'user = "{user}"'))
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        assert sftp.open("BENIOKU.txt").read() == b"parti-a\n"
        found = status(server)
        [child] = server.children()
        root = Path(f"/proc/{child}/root").readlink()

    who = pwd.getpwnam(user)
    assert found["Uid"].split() == [str(who.pw_uid)] * 4
    assert found["Gid"].split() == [str(who.pw_gid)] * 4
    assert found["Groups"] == ""
    assert int(found["CapBnd"], 16) == 0
    assert root == server.site / "trees" / "parti-a"


@needs_root
def test_an_unreadable_tree_is_an_error_and_not_an_empty_listing(serve: StartServer) -> None:
    server = serve()
    tree = server.site / "trees" / "parti-a"
    tree.chmod(0o700)
    assert server.sftp("parti-a", "ls\n").returncode == 255
    assert "tree-unreadable" in server.log.read_text()

    tree.chmod(0o755)
    (tree / "BENIOKU.txt").chmod(0o400)
    assert server.sftp("parti-a", "get BENIOKU.txt /dev/null\n").returncode == 1
    assert "file-not-published" in server.log.read_text().splitlines()[-1]


def test_data_before_the_login_uses_no_memory(serve: StartServer) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as loud:
        until(server.children)  # it may end before the loop looks at it
        most = max(map(_peak, server.children()))
        loud.sendall(b"SSH-2.0-loud\r\n")
        try:
            for _ in range(4800):
                loud.sendall(b"x" * 65536)
                for child in server.children():
                    most = max(most, _peak(child))
        except OSError:
            pass
    until(lambda: not server.children())
    assert 0 < most < 100 << 10
    assert server.sftp("parti-a", "ls\n").returncode == 0


def _peak(pid: int) -> int:
    """Return the peak resident memory of a process in KiB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def test_the_server_does_not_start_if_the_kernel_lacks_the_sandbox(tmp_path: Path) -> None:
    site = tmp_path / "site"
    make_site(site, {"parti-a": "127.0.0.1"}, 9, 9)
    (site / "now").touch()
    with pytest.raises(Faults, match=r'site\.toml: sftp\.cage: "required", but this kernel has no'):
        sftp_server.serve(load.load(site), kernel=sandbox.KernelFeatures(0, False, True))


def test_the_server_starts_without_the_sandbox_if_best_effort_is_set(serve: StartServer) -> None:
    server = serve(before=setting('cage = "best-effort"'), patch=NO_SANDBOX)
    assert server.sftp("parti-a", "ls\n").returncode == 0
    with server.connect("parti-a"):
        assert status(server)["Seccomp"] == "0"
        assert int(status(server)["CapEff"], 16) == 0
    assert "sandbox-incomplete" in server.log.read_text()
