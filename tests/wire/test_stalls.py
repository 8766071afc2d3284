"""Clients that stop without disconnecting are disconnected after a while."""

import os
import signal
import subprocess
import time
from pathlib import Path

import paramiko
from wire.served import Serve, Served, until

SIZE = 2_000_000_000
SOON = """
from sftpd.ssh.packetizer import Packetizer
Packetizer.STALL_SECONDS = 1.5
"""


def start(serve: Serve) -> Served:
    served: Served = serve(patch=SOON)
    with (served.site / "trees/parti-a/buyuk").open("wb") as file:
        file.truncate(SIZE)
    return served


def test_a_client_that_is_stopped_is_let_go(serve: Serve, tmp_path: Path) -> None:
    served = start(serve)
    client = subprocess.Popen(
        ["sftp", "-q", *served.ssh("parti-a"), "-b", "-", "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    stopped = [client.pid]
    try:
        assert client.stdin is not None
        client.stdin.write(f"get buyuk {tmp_path}/got\n")
        client.stdin.flush()
        # By then it has asked for far more than its window and the sockets hold.
        until(
            lambda: (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 100_000_000
        )
        children = Path(f"/proc/{client.pid}/task/{client.pid}/children")
        stopped += map(int, children.read_text().split())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

        until(lambda: not served.children())

        [close] = [r.event.detail for r in served.records("close")]
        assert (close["complete"], close["reason"]) == (False, "session ended")
        assert 0 < int(str(close["bytes"])) < SIZE
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        client.communicate()


def test_a_client_that_never_opens_its_window_is_let_go(serve: Serve) -> None:
    served = start(serve)
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1",
            served.port,
            "parti-a",
            key_filename=str(served.site / "clients/parti-a"),
            allow_agent=False,
            look_for_keys=False,
        )
        transport = client.get_transport()
        assert transport is not None
        channel = transport.open_session(window_size=65536)
        channel.invoke_subsystem("sftp")
        # Greeting, open, and far more reads than the window has room for; nothing is ever read.
        asked = [bytes.fromhex("00000005 01 00000003")]
        asked += [bytes.fromhex("00000017 03 00000001 00000006") + b"buyuk\0"[:5].rjust(6, b"/")]
        asked[-1] += bytes.fromhex("00000001 00000000")
        for _ in range(64):
            asked.append(
                bytes.fromhex("00000019 05 00000002 00000004 00000001 0000000000000000 00008000")
            )
        channel.sendall(b"".join(asked))

        until(lambda: not served.children())

    [close] = [r.event.detail for r in served.records("close")]
    assert close["reason"] == "session ended"
    assert int(str(close["bytes"])) <= 65536


def test_a_client_that_only_idles_stays(serve: Serve) -> None:
    served = start(serve)
    client = subprocess.Popen(
        ["sftp", "-q", *served.ssh("parti-a"), "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    until(lambda: served.records("login"))

    time.sleep(3)

    assert len(served.children()) == 1
    out, _ = client.communicate("pwd\n", timeout=10)
    assert "/" in out
