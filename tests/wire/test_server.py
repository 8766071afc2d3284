import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from wire.server import OPENS, SECRET, StartServer, until

SECOND = timedelta(seconds=1)


def test_a_party_logs_in_with_its_key(serve: StartServer, tmp_path: Path) -> None:
    server = serve()
    # The newest OpenSSH prefers another key exchange than that of Debian 12.
    kex = "curve25519-sha256@libssh.org"
    done = server.sftp("parti-a", f"get BENIOKU.txt {tmp_path}/got\n", f"-oKexAlgorithms={kex}")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text() == "parti-a\n"
    until(lambda: server.details("session-end"))
    assert [r.event.event for r in server.records()] == ["login", "open", "close", "session-end"]
    [login] = server.details("login")
    assert (login["method"], login["kex"]) == ("publickey", kex)
    assert {r.event.who for r in server.records()} == {"parti-a"}
    assert {r.event.origin for r in server.records()} == {"127.0.0.1"}


def test_a_party_logs_in_with_its_password(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a", password=SECRET) as client:
        with client.open_sftp() as sftp:
            assert sftp.listdir("/") == ["2023-05-14-cb-mv", "BENIOKU.txt"]
        transport = client.get_transport()
        assert transport is not None
        assert transport.remote_version == "SSH-2.0-ssps"
    [login] = server.details("login")
    assert (login["method"], login["kex"]) == ("password", "mlkem768x25519-sha256")
    assert SECRET not in server.log.read_text()


def test_writing_is_denied_and_recorded(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        for write in (
            lambda: sftp.open("new", "w"),
            lambda: sftp.remove("BENIOKU.txt"),
            lambda: sftp.mkdir("new"),
            lambda: sftp.rename("BENIOKU.txt", "b"),
            lambda: sftp.chmod("BENIOKU.txt", 0o777),
        ):
            with pytest.raises(PermissionError):
                write()
    verbs = [detail["verb"] for detail in server.details("denied")]
    assert verbs == ["open", "remove", "mkdir", "rename", "setstat"]


def test_a_wrong_credential_is_refused(serve: StartServer) -> None:
    server = serve()
    done = server.sftp("parti-a", "ls\n", key="stranger")
    with (
        pytest.raises(paramiko.AuthenticationException),
        server.connect("parti-a", password="wrong"),
    ):
        pass

    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    until(lambda: len(server.details("session-end")) == 2)
    refused = [(d["method"], d["reason"]) for d in server.details("login-refused")]
    assert refused == [("publickey", "wrong credential"), ("password", "wrong credential")]
    assert not server.details("login")


def test_a_public_key_without_its_private_key_is_refused(serve: StartServer) -> None:
    server = serve()
    mine = paramiko.Ed25519Key(filename=str(server.site / "clients" / "stranger"))
    theirs = paramiko.Ed25519Key(filename=str(server.site / "clients" / "parti-a"))
    mine.asbytes = theirs.asbytes  # type: ignore[method-assign]
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("parti-a", mine)
        finally:
            transport.close()
    [refused] = server.details("login-refused")
    assert refused["reason"] == "wrong signature"


def test_a_login_from_another_partys_address_is_refused(serve: StartServer) -> None:
    server = serve({"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"})
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    assert server.sftp("parti-b", "ls\n").returncode == 255
    until(lambda: len(server.details("session-end")) == 2)
    [refused] = server.details("login-refused")
    assert refused["reason"] == "wrong address"
    [login] = server.details("login")
    in_both = ("client", "cipher", "kex", "method")
    assert [refused[name] for name in in_both] == [login[name] for name in in_both]


def test_an_unregistered_address_gets_no_byte(serve: StartServer) -> None:
    server = serve()
    for _ in range(20):
        with socket.create_connection(
            ("127.0.0.1", server.port), source_address=("127.0.0.3", 0)
        ) as stranger:
            stranger.settimeout(5)
            with suppress(ConnectionResetError):
                assert stranger.recv(100) == b""
    until(lambda: sum(int(str(d["count"])) for d in server.details("connection-refused")) == 20)
    refused = server.records("connection-refused")
    assert len(refused) <= 3
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        ("127.0.0.3", "address")
    }


def test_access_opens_at_the_set_time(serve: StartServer) -> None:
    server = serve(now=OPENS - SECOND)
    early = server.sftp("parti-a", "ls\n")
    stranger = server.sftp("parti-a", "ls\n", key="stranger")
    server.set_time(OPENS)
    in_time = server.sftp("parti-a", "ls\n")

    assert early.returncode == 255
    assert "Access opens at 2023-05-14T17:00:00+03:00." in early.stderr
    assert "Erisim 2023-05-14T17:00:00+03:00" in early.stderr
    assert "opens" not in stranger.stderr
    assert in_time.returncode == 0, in_time.stderr
    assert [d["reason"] for d in server.details("login-refused")] == [
        "not yet open",
        "wrong credential",
    ]


def test_a_ring_is_reloaded_and_a_damaged_one_changes_nothing(
    serve: StartServer,
) -> None:
    from keys.credentials import ring, rotation
    from keys.operations import ring_files

    server = serve()
    line = (server.site / "clients" / "stranger.pub").read_text()
    new = ring.key_credential(
        line, label="new", not_before=OPENS, not_after=None, added_by="operator"
    )
    ring_files.apply(server.site, rotation.add(ring.load(server.site, "parti-a"), new))
    assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 0

    ring.ring_path(server.site, "parti-a").write_text("not TOML")
    assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 0
    until(lambda: "parti-a.toml" in server.log.read_text())


def test_simultaneous_logins_cannot_exceed_the_partys_maximum(serve: StartServer) -> None:
    server = serve(per_party=3)
    clients = [
        subprocess.Popen(
            ["sftp", "-q", *server.ssh("parti-a"), "-b", "-", "127.0.0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(8)
    ]
    try:
        until(lambda: len(server.details("login")) + len(server.details("login-refused")) >= 8)
        assert len(server.details("login")) == 3
        assert {d["reason"] for d in server.details("login-refused")} == {"too many sessions"}
    finally:
        for client in clients:
            client.communicate(b"bye\n", timeout=20)
    assert sorted(c.returncode for c in clients) == [0, 0, 0] + [255] * 5
    until(lambda: not server.children())
    assert server.sftp("parti-a", "ls\n").returncode == 0


def test_connections_cannot_exceed_max_sessions(serve: StartServer) -> None:
    server = serve(sessions=2)
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
    try:
        received = []
        for sock in held:
            sock.settimeout(10)
            try:
                received.append(sock.recv(8))
            except ConnectionResetError:
                received.append(b"")
        assert received == [b"SSH-2.0-", b"SSH-2.0-", b"", b"", b""]
        assert len(server.children()) == 2
    finally:
        for sock in held:
            sock.close()
    until(lambda: not server.children())


def test_a_client_that_does_not_log_in_is_disconnected(serve: StartServer) -> None:
    server = serve(grace=0.5)
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.settimeout(10)
        while silent.recv(1000):
            pass
    until(lambda: server.details("session-end"))
    assert server.details("session-end")[0]["reason"] == "no login in time"


def test_a_client_that_floods_before_the_login_is_disconnected(serve: StartServer) -> None:
    server = serve()
    with (
        socket.create_connection(("127.0.0.1", server.port)) as loud,
        pytest.raises(OSError, match=r"reset|[Bb]roken"),
    ):
        for _ in range(1000):
            loud.sendall(b"x" * 65536)
    until(lambda: not server.children())


def test_a_client_is_disconnected_after_six_attempts(serve: StartServer) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            for _ in range(6):
                with pytest.raises(paramiko.SSHException):
                    transport.auth_password("parti-a", "wrong", fallback=False)
            until(lambda: not transport.is_active())
        finally:
            transport.close()
    until(lambda: server.details("session-end"))
    assert len(server.details("login-refused")) == 6


def test_everything_but_sftp_is_refused_and_recorded(serve: StartServer) -> None:
    server = serve()
    done = subprocess.run(
        ["ssh", *server.ssh("parti-a"), "127.0.0.1", "id"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"This server offers SFTP only" in done.stderr
    with server.connect("parti-a") as client:
        transport = client.get_transport()
        assert transport is not None
        shell = transport.open_session()
        shell.invoke_shell()
        assert b"SFTP" in shell.makefile_stderr().read()
        assert shell.recv_exit_status() == 1
        asks: list[Callable[[], object]] = [
            lambda: transport.open_session().get_pty(),
            lambda: transport.open_session().invoke_subsystem("netconf"),
            lambda: transport.open_channel("direct-tcpip", ("127.0.0.1", 1), ("127.0.0.1", 1)),
            lambda: transport.request_port_forward("", 0),
        ]
        for ask in asks:
            with pytest.raises(paramiko.SSHException):
                ask()
        with client.open_sftp() as sftp:
            assert sftp.listdir("/")
    assert [d["verb"] for d in server.details("denied")] == [
        "exec",
        "shell",
        "pty",
        "subsystem netconf",
        "direct-tcpip",
        "tcpip-forward",
    ]


def test_a_connection_serves_eight_channels(serve: StartServer) -> None:
    server = serve()
    content = server.add_file("big", 2_000_000)
    with server.connect("parti-a") as client:
        sessions = [client.open_sftp() for _ in range(8)]
        with pytest.raises(paramiko.ChannelException):
            client.open_sftp()
        for sftp in sessions:
            with sftp.open("big") as file:
                file.prefetch()
                assert file.read() == content
        for sftp in sessions:
            sftp.close()
        until(lambda: client.open_sftp().listdir("/"))
    until(lambda: server.details("session-end"))
    handles = [d["handle"] for d in server.details("open")]
    assert handles == list(range(1, 9))
    assert [d["complete"] for d in server.details("close")] == [True] * 8


@pytest.mark.parametrize("whom", ["sftp", "ssh"])
def test_a_client_killed_in_mid_download_is_recorded_and_leaves_no_child(
    serve: StartServer, tmp_path: Path, whom: str
) -> None:
    server = serve()
    server.add_file("big", 200_000_000)
    client = subprocess.Popen(
        ["sftp", "-q", *server.ssh("parti-a"), "-l", "80000", "-b", "-", "127.0.0.1"],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert client.stdin is not None
    client.stdin.write(f"get big {tmp_path}/got\n")
    client.stdin.flush()
    until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 100_000)
    child = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()[0]

    os.kill(client.pid if whom == "sftp" else int(child), signal.SIGKILL)

    until(lambda: not server.children())
    client.kill()
    client.communicate()
    [close] = server.details("close")
    assert (close["complete"], close["reason"]) == (False, "session ended")
    assert 100_000 <= int(str(close["bytes"])) < 200_000_000
    assert [d["files"] for d in server.details("session-end")] == [1]


def test_a_killed_child_leaves_a_complete_record(serve: StartServer) -> None:
    server = serve()
    with (
        server.connect("parti-a") as client,
        client.open_sftp() as sftp,
        sftp.open("BENIOKU.txt"),
    ):
        [child] = server.children()
        os.kill(child, signal.SIGKILL)
        until(lambda: server.details("session-end"))
    assert [r.event.event for r in server.records()] == ["login", "open", "close", "session-end"]
    assert server.details("close")[0]["reason"] == "session ended"
    assert server.details("session-end")[0]["reason"] == "killed"
    logged = [
        line
        for line in map(json.loads, server.log.read_text().splitlines())
        if line["level"] == "error"
    ]
    assert [(line["event"], line["signal"]) for line in logged] == [("child-died", 9)]


def test_children_die_with_the_server(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a"):
        [child] = server.children()
        server.process.kill()
        until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))
        server.process.wait()
    server.mark_ended()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_sigterm_ends_and_records_all_sessions(serve: StartServer) -> None:
    server = serve()
    with (
        server.connect("parti-a") as client,
        client.open_sftp() as sftp,
        sftp.open("BENIOKU.txt") as file,
    ):
        assert file.read(4) == b"part"
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 3
    [close] = server.details("close")
    assert close["reason"] == "session ended"
    assert close["bytes"] in (4, 8)  # the client may read ahead
    assert server.details("session-end")[0]["reason"] == "server stopped"


def test_nothing_is_served_while_the_ledger_cannot_be_written(serve: StartServer) -> None:
    # The disk is full while a file named `full` is in the site.
    patch = (
        "import os, errno\n"
        "write = os.write\n"
        "def full(fd, data):\n"
        "    if (site / 'full').exists(): raise OSError(errno.ENOSPC, 'No space left')\n"
        "    return write(fd, data)\n"
        "os.write = full\n"
    )
    server = serve(patch=patch)
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        assert sftp.listdir("/")
        early = sftp.open("BENIOKU.txt")
        (server.site / "full").touch()
        early.close()
        with pytest.raises(OSError, match="cannot record this now"):
            sftp.open("BENIOKU.txt")
        with pytest.raises(OSError, match="cannot record this now"):
            sftp.listdir("/")
        assert server.sftp("parti-a", "ls\n").returncode == 255
        (server.site / "full").unlink()
        with sftp.open("BENIOKU.txt") as file:
            assert file.read() == b"parti-a\n"
        until(lambda: len(server.records("close")) == 2)


def test_weak_algorithms_are_not_offered(serve: StartServer) -> None:
    server = serve()
    for weak in (
        "-oKexAlgorithms=diffie-hellman-group14-sha1",
        "-oKexAlgorithms=ecdh-sha2-nistp256",
        "-oCiphers=aes128-cbc",
        "-oCiphers=chacha20-poly1305@openssh.com",
        "-oHostKeyAlgorithms=ssh-rsa",
    ):
        assert server.sftp("parti-a", "ls\n", weak).returncode == 255
    plain = server.sftp("parti-a", "ls\n", "-oCiphers=aes256-ctr", "-oMACs=hmac-sha2-256")
    assert plain.returncode == 255
    for strong in ("-oCiphers=aes256-ctr", "-oKexAlgorithms=diffie-hellman-group16-sha512"):
        assert server.sftp("parti-a", "ls\n", strong).returncode == 0
