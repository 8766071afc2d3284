import hashlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from wire.served import OPENS, SECRET, Serve, Served, until

SECOND = timedelta(seconds=1)


@contextmanager
def connected(
    served: Served, user: str, *, password: str | None = None, source: str = "127.0.0.1"
) -> Iterator[paramiko.SSHClient]:
    client = paramiko.SSHClient()
    client.load_host_keys(str(served.site / "known_hosts"))
    key = str(served.site / "clients" / user) if password is None else None
    with (
        socket.create_connection(("127.0.0.1", served.port), source_address=(source, 0)) as sock,
        client,
    ):
        client.connect(
            "127.0.0.1",
            served.port,
            user,
            password,
            key_filename=key,
            sock=sock,
            allow_agent=False,
            look_for_keys=False,
        )
        yield client


def told(served: Served, event: str) -> list[dict[str, object]]:
    return [dict(record.event.detail) for record in served.records(event)]


def add_file(served: Served, name: str, size: int, party: str = "parti-a") -> str:
    content = os.urandom(size)
    (served.site / "trees" / party / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_key_lets_its_party_in(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    done = served.sftp("parti-a", f"get BENIOKU.txt {tmp_path}/got\n")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_text() == "parti-a\n"
    until(lambda: told(served, "session-end"))
    assert [r.event.event for r in served.records()] == ["login", "open", "close", "session-end"]
    [login] = told(served, "login")
    assert (login["method"], login["kex"]) == ("publickey", "curve25519-sha256@libssh.org")
    assert {r.event.who for r in served.records()} == {"parti-a"}
    assert {r.event.origin for r in served.records()} == {"127.0.0.1"}


def test_a_password_lets_its_party_in(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a", password=SECRET) as client:
        with client.open_sftp() as sftp:
            assert sftp.listdir("/") == ["2023-05-14-cb-mv", "BENIOKU.txt"]
        transport = client.get_transport()
        assert transport is not None
        assert transport.remote_version == "SSH-2.0-ssps"
    [login] = told(served, "login")
    assert (login["method"], login["kex"]) == ("password", "mlkem768x25519-sha256")
    assert SECRET not in served.log.read_text()


def test_what_writes_is_refused_over_the_wire(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a") as client, client.open_sftp() as sftp:
        for write in (
            lambda: sftp.open("new", "w"),
            lambda: sftp.remove("BENIOKU.txt"),
            lambda: sftp.mkdir("new"),
            lambda: sftp.rename("BENIOKU.txt", "b"),
            lambda: sftp.chmod("BENIOKU.txt", 0o777),
        ):
            with pytest.raises(PermissionError):
                write()
    verbs = [detail["verb"] for detail in told(served, "denied")]
    assert verbs == ["open", "remove", "mkdir", "rename", "setstat"]


def test_the_wrong_credential_is_refused(serve: Serve) -> None:
    served = serve()
    done = served.sftp("parti-a", "ls\n", key="stranger")
    with (
        pytest.raises(paramiko.AuthenticationException),
        connected(served, "parti-a", password="wrong"),
    ):
        pass

    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    until(lambda: len(told(served, "session-end")) == 2)
    refused = [(d["method"], d["reason"]) for d in told(served, "login-refused")]
    assert refused == [("publickey", "wrong credential"), ("password", "wrong credential")]
    assert not told(served, "login")


def test_a_key_whose_private_half_is_elsewhere_is_refused(serve: Serve) -> None:
    served = serve()
    mine = paramiko.Ed25519Key(filename=str(served.site / "clients" / "stranger"))
    theirs = paramiko.Ed25519Key(filename=str(served.site / "clients" / "parti-a"))
    mine.asbytes = theirs.asbytes  # type: ignore[method-assign]
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("parti-a", mine)
        finally:
            transport.close()
    [refused] = told(served, "login-refused")
    assert refused["reason"] == "wrong signature"


def test_an_address_of_another_party_is_refused(serve: Serve) -> None:
    served = serve({"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"})
    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    assert served.sftp("parti-b", "ls\n").returncode == 255
    until(lambda: len(told(served, "session-end")) == 2)
    [refused] = told(served, "login-refused")
    assert refused["reason"] == "wrong address"
    [login] = told(served, "login")
    told_of_both = ("client", "cipher", "kex", "method")
    assert [refused[name] for name in told_of_both] == [login[name] for name in told_of_both]


def test_an_address_that_nobody_registered_hears_nothing(serve: Serve) -> None:
    served = serve()
    for _ in range(20):
        with socket.create_connection(
            ("127.0.0.1", served.port), source_address=("127.0.0.3", 0)
        ) as stranger:
            stranger.settimeout(5)
            with suppress(ConnectionResetError):
                assert stranger.recv(100) == b""
    until(lambda: sum(int(str(d["count"])) for d in told(served, "connection-refused")) == 20)
    refused = served.records("connection-refused")
    assert len(refused) <= 3
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        ("127.0.0.3", "address")
    }


def test_access_opens_at_the_instant(serve: Serve) -> None:
    served = serve(now=OPENS - SECOND)
    early = served.sftp("parti-a", "ls\n")
    stranger = served.sftp("parti-a", "ls\n", key="stranger")
    served.at(OPENS)
    in_time = served.sftp("parti-a", "ls\n")

    assert early.returncode == 255
    assert "Access opens on 2023-05-14 at 17:00:00 (UTC+03:00)." in early.stderr
    assert "Erisim 14.05.2023 saat 17.00.00" in early.stderr
    assert "opens" not in stranger.stderr
    assert in_time.returncode == 0, in_time.stderr
    assert [d["reason"] for d in told(served, "login-refused")] == [
        "not yet open",
        "wrong credential",
    ]


def test_a_key_added_while_running_lets_in_and_a_spoilt_file_leaves_in_force_what_was(
    serve: Serve,
) -> None:
    from keys.credentials import ring, rotation
    from keys.operations import ring_files

    served = serve()
    line = (served.site / "clients" / "stranger.pub").read_text()
    new = ring.key_credential(
        line, label="new", not_before=OPENS, not_after=None, added_by="operator"
    )
    ring_files.apply(served.site, rotation.add(ring.load(served.site, "parti-a"), new))
    assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 0

    ring.ring_path(served.site, "parti-a").write_text("not TOML")
    assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 0
    until(lambda: "parti-a.toml" in served.log.read_text())


def test_the_cap_on_a_partys_sessions_is_exact_under_a_stampede(serve: Serve) -> None:
    served = serve(per_party=3)
    clients = [
        subprocess.Popen(
            ["sftp", "-q", *served.ssh("parti-a"), "-b", "-", "127.0.0.1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(8)
    ]
    try:
        until(lambda: len(told(served, "login")) + len(told(served, "login-refused")) >= 8)
        assert len(told(served, "login")) == 3
        assert {d["reason"] for d in told(served, "login-refused")} == {"too many sessions"}
    finally:
        for client in clients:
            client.communicate(b"bye\n", timeout=20)
    assert sorted(c.returncode for c in clients) == [0, 0, 0] + [255] * 5
    until(lambda: not served.children())
    assert served.sftp("parti-a", "ls\n").returncode == 0


def test_the_cap_on_all_sessions_is_exact(serve: Serve) -> None:
    served = serve(sessions=2)
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(5)]
    try:
        heard = []
        for sock in held:
            sock.settimeout(10)
            try:
                heard.append(sock.recv(8))
            except ConnectionResetError:
                heard.append(b"")
        assert heard == [b"SSH-2.0-", b"SSH-2.0-", b"", b"", b""]
        assert len(served.children()) == 2
    finally:
        for sock in held:
            sock.close()
    until(lambda: not served.children())


def test_who_does_not_log_in_is_hung_up_on(serve: Serve) -> None:
    served = serve(grace=0.5)
    with socket.create_connection(("127.0.0.1", served.port)) as silent:
        silent.settimeout(10)
        while silent.recv(1000):
            pass
    until(lambda: told(served, "session-end"))
    assert told(served, "session-end")[0]["reason"] == "no login in time"


def test_who_pours_in_bytes_before_the_login_is_hung_up_on(serve: Serve) -> None:
    served = serve()
    with (
        socket.create_connection(("127.0.0.1", served.port)) as loud,
        pytest.raises(OSError, match=r"reset|[Bb]roken"),
    ):
        for _ in range(1000):
            loud.sendall(b"x" * 65536)
    until(lambda: not served.children())


def test_six_attempts_are_enough(serve: Serve) -> None:
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            for _ in range(6):
                with pytest.raises(paramiko.SSHException):
                    transport.auth_password("parti-a", "wrong", fallback=False)
            until(lambda: not transport.is_active())
        finally:
            transport.close()
    until(lambda: told(served, "session-end"))
    assert len(told(served, "login-refused")) == 6


def test_only_sftp_is_served(serve: Serve) -> None:
    served = serve()
    done = subprocess.run(
        ["ssh", *served.ssh("parti-a"), "127.0.0.1", "id"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    with connected(served, "parti-a") as client:
        transport = client.get_transport()
        assert transport is not None
        asks: list[Callable[[], object]] = [
            lambda: transport.open_session().invoke_shell(),
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
    assert [d["verb"] for d in told(served, "denied")] == [
        "exec",
        "shell",
        "pty",
        "subsystem netconf",
        "direct-tcpip",
        "tcpip-forward",
    ]


def test_several_channels_on_one_connection(serve: Serve) -> None:
    served = serve()
    digest = add_file(served, "big", 2_000_000)
    with connected(served, "parti-a") as client:
        sessions = [client.open_sftp() for _ in range(8)]
        with pytest.raises(paramiko.ChannelException):
            client.open_sftp()
        for sftp in sessions:
            with sftp.open("big") as file:
                file.prefetch()
                assert hashlib.sha256(file.read()).hexdigest() == digest
        for sftp in sessions:
            sftp.close()
        until(lambda: client.open_sftp().listdir("/"))
    until(lambda: told(served, "session-end"))
    handles = [d["handle"] for d in told(served, "open")]
    assert handles == list(range(1, 9))
    assert [d["complete"] for d in told(served, "close")] == [True] * 8


@pytest.mark.parametrize("whom", ["sftp", "ssh"])
def test_a_client_killed_in_mid_download_leaves_nothing_behind(
    serve: Serve, tmp_path: Path, whom: str
) -> None:
    served = serve()
    add_file(served, "big", 200_000_000)
    client = subprocess.Popen(
        ["sftp", "-q", *served.ssh("parti-a"), "-l", "80000", "-b", "-", "127.0.0.1"],
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

    until(lambda: not served.children())
    client.kill()
    client.communicate()
    [close] = told(served, "close")
    assert (close["complete"], close["reason"]) == (False, "session ended")
    assert 100_000 <= int(str(close["bytes"])) < 200_000_000
    assert [d["files"] for d in told(served, "session-end")] == [1]


def test_a_child_killed_leaves_its_record_whole(serve: Serve) -> None:
    served = serve()
    with (
        connected(served, "parti-a") as client,
        client.open_sftp() as sftp,
        sftp.open("BENIOKU.txt"),
    ):
        [child] = served.children()
        os.kill(child, signal.SIGKILL)
        until(lambda: told(served, "session-end"))
    assert [r.event.event for r in served.records()] == ["login", "open", "close", "session-end"]
    assert told(served, "close")[0]["reason"] == "session ended"
    assert told(served, "session-end")[0]["reason"] == "killed"
    logged = [
        line
        for line in map(json.loads, served.log.read_text().splitlines())
        if line["level"] == "error"
    ]
    assert [(line["event"], line["signal"]) for line in logged] == [("child-died", 9)]


def test_a_parent_killed_takes_its_children_along(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a"):
        [child] = served.children()
        served.process.kill()
        until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))
        served.process.wait()
    served.forget()


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_sigterm_ends_sessions_in_good_order(serve: Serve) -> None:
    served = serve()
    with (
        connected(served, "parti-a") as client,
        client.open_sftp() as sftp,
        sftp.open("BENIOKU.txt") as file,
    ):
        assert file.read(4) == b"part"
        started = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - started < 3
    [close] = told(served, "close")
    assert close["reason"] == "session ended"
    assert close["bytes"] in (4, 8)  # the client may read ahead
    assert told(served, "session-end")[0]["reason"] == "server stopped"


def test_a_full_ledger_serves_nothing(serve: Serve) -> None:
    # The disk is full as soon as a file named `full` stands in the site.
    patch = (
        "import os, errno\n"
        "write = os.write\n"
        "def full(fd, data):\n"
        "    if (site / 'full').exists(): raise OSError(errno.ENOSPC, 'No space left')\n"
        "    return write(fd, data)\n"
        "os.write = full\n"
    )
    served = serve(patch=patch)
    with connected(served, "parti-a") as client, client.open_sftp() as sftp:
        assert sftp.listdir("/")
        early = sftp.open("BENIOKU.txt")
        (served.site / "full").touch()
        early.close()
        with pytest.raises(OSError, match="Failure"):
            sftp.open("BENIOKU.txt")
        with pytest.raises(OSError, match="Failure"):
            sftp.listdir("/")
        assert served.sftp("parti-a", "ls\n").returncode == 255
        (served.site / "full").unlink()
        with sftp.open("BENIOKU.txt") as file:
            assert file.read() == b"parti-a\n"
        until(lambda: len(served.records("close")) == 2)


def test_weak_algorithms_are_not_offered(serve: Serve) -> None:
    served = serve()
    for weak in (
        "-oKexAlgorithms=diffie-hellman-group14-sha1",
        "-oKexAlgorithms=ecdh-sha2-nistp256",
        "-oCiphers=aes128-cbc",
        "-oCiphers=chacha20-poly1305@openssh.com",
        "-oHostKeyAlgorithms=ssh-rsa",
    ):
        assert served.sftp("parti-a", "ls\n", weak).returncode == 255
    plain = served.sftp("parti-a", "ls\n", "-oCiphers=aes256-ctr", "-oMACs=hmac-sha2-256")
    assert plain.returncode == 255
    for strong in ("-oCiphers=aes256-ctr", "-oKexAlgorithms=diffie-hellman-group16-sha512"):
        assert served.sftp("parti-a", "ls\n", strong).returncode == 0
