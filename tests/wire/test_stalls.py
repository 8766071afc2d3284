"""Clients that stop without disconnecting are disconnected after a while."""

import os
import signal
import subprocess
import time
from pathlib import Path

import paramiko
import pytest
from wire.server import RunningServer, StartServer, setting, until
from wire.slow_link import slow_link

SIZE = 2_000_000_000
SHORT_STALL = setting("stall_seconds = 1.5")


def start(serve: StartServer) -> RunningServer:
    server: RunningServer = serve(before=SHORT_STALL)
    with (server.site / "trees/parti-a/buyuk").open("wb") as file:
        file.truncate(SIZE)
        os.fchmod(file.fileno(), 0o444)
    return server


def test_a_stopped_client_is_disconnected(serve: StartServer, tmp_path: Path) -> None:
    server = start(serve)
    client = subprocess.Popen(
        ["sftp", "-q", *server.ssh("parti-a"), "-b", "-", "127.0.0.1"],
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
        # By then it has requested far more than its window and the sockets hold.
        until(
            lambda: (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 100_000_000
        )
        children = Path(f"/proc/{client.pid}/task/{client.pid}/children")
        stopped += map(int, children.read_text().split())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

        until(lambda: not server.children())

        [close] = [r.event.detail for r in server.records("close")]
        assert (close["complete"], close["reason"]) == (False, "session ended")
        assert 0 < int(str(close["bytes"])) < SIZE
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        client.communicate()


def test_a_client_that_never_opens_its_window_is_disconnected(serve: StartServer) -> None:
    server = start(serve)
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        client.connect(
            "127.0.0.1",
            server.port,
            "parti-a",
            key_filename=str(server.site / "clients/parti-a"),
            allow_agent=False,
            look_for_keys=False,
        )
        transport = client.get_transport()
        assert transport is not None
        channel = transport.open_session(window_size=65536)
        channel.invoke_subsystem("sftp")
        # INIT, OPEN, and far more READs than the window has room for; the client never reads.
        asked = [bytes.fromhex("00000005 01 00000003")]
        asked += [bytes.fromhex("00000017 03 00000001 00000006") + b"buyuk\0"[:5].rjust(6, b"/")]
        asked[-1] += bytes.fromhex("00000001 00000000")
        for _ in range(64):
            asked.append(
                bytes.fromhex("00000019 05 00000002 00000004 00000001 0000000000000000 00008000")
            )
        channel.sendall(b"".join(asked))

        until(lambda: not server.children())

    [close] = [r.event.detail for r in server.records("close")]
    assert close["reason"] == "session ended"
    assert int(str(close["bytes"])) <= 65536


def test_an_idle_client_stays_connected(serve: StartServer) -> None:
    server = start(serve)
    client = subprocess.Popen(
        ["sftp", "-q", *server.ssh("parti-a"), "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    until(lambda: server.records("login"))

    time.sleep(3)

    assert len(server.children()) == 1
    out, _ = client.communicate("pwd\n", timeout=10)
    assert "/" in out


def download_over_a_link_that_is_out(
    server: RunningServer, into: Path, seconds: float, *more: str
) -> tuple[int, bytes]:
    """Fetch a file with `sftp` while the link is out for a while; return exit code and file."""
    size = (server.site / "trees/parti-a/sayfa").stat().st_size
    with slow_link(server.port, mbit=60.0, round_trip=0.02) as link:
        hosts = into.with_name("known_hosts")
        name, kind, blob = (server.site / "known_hosts").read_text().split()[:3]
        hosts.write_text(f"{name.replace(str(server.port), str(link.listen_port))} {kind} {blob}\n")
        ssh = [
            word for word in server.ssh("parti-a") if "Port=" not in word and "Hosts" not in word
        ]
        ssh += [f"-oPort={link.listen_port}", f"-oUserKnownHostsFile={hosts}"]
        client = subprocess.Popen(
            ["sftp", "-q", *more, *ssh, "-b", "-", "127.0.0.1"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert client.stdin is not None
            client.stdin.write(f"get sayfa {into}\n")
            client.stdin.flush()
            until(lambda: link.bytes_to_client > size // 3, 60)
            link.hold()
            end = time.monotonic() + seconds
            until(lambda: time.monotonic() > end or not server.children(), seconds + 60)
            link.release()
            client.communicate(timeout=120)
        finally:
            client.kill()
            client.wait()
    return client.returncode, into.read_bytes() if into.exists() else b""


def test_a_link_that_is_out_for_less_than_the_limit_interrupts_nothing(
    serve: StartServer, tmp_path: Path
) -> None:
    server = serve(before=setting("stall_seconds = 60"))
    content = server.add_file("sayfa", 8_000_000)

    assert download_over_a_link_that_is_out(server, tmp_path / "got", 3.0) == (0, content)

    until(lambda: server.records("session-end"))
    assert [end["reason"] for end in server.details("session-end")] == ["closed"]
    [close] = server.details("close")
    assert (close["bytes"], close["complete"]) == (len(content), True)


def test_a_link_that_is_out_for_longer_is_recorded_as_a_stalled_client(
    serve: StartServer, tmp_path: Path
) -> None:
    server = start(serve)
    server.add_file("sayfa", 40_000_000)

    # It requests more than its window takes, so data waits for it at the server.
    code, got = download_over_a_link_that_is_out(server, tmp_path / "got", 60.0, "-R", "512")

    assert code != 0
    assert len(got) < 40_000_000
    assert [end["reason"] for end in server.details("session-end")] == ["client stalled"]


@pytest.mark.slow
def test_a_link_may_be_out_for_ninety_seconds(serve: StartServer, tmp_path: Path) -> None:
    server = serve()
    content = server.add_file("sayfa", 8_000_000)

    assert download_over_a_link_that_is_out(server, tmp_path / "got", 90.0) == (0, content)

    until(lambda: server.records("session-end"))
    assert [end["reason"] for end in server.details("session-end")] == ["closed"]
