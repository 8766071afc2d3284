import socket
import time
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest
from wire.server import TWO_PARTIES, StartServer, until


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_refusing_an_unregistered_address_costs_little_cpu(serve: StartServer) -> None:
    server = serve(limited=True)
    before = cpu_seconds(server.process.pid)
    connections = 2000
    for _ in range(connections):
        with (
            suppress(ConnectionResetError),
            socket.create_connection(
                ("127.0.0.1", server.port), source_address=("127.0.0.3", 0)
            ) as s,
        ):
            s.recv(1)
    each = (cpu_seconds(server.process.pid) - before) / connections
    print(f"\nan unregistered address costs {each * 1e3:.3f} ms")
    assert each < 0.0002
    until(
        lambda: (
            sum(int(str(d["count"])) for d in server.details("connection-refused")) == connections
        )
    )
    assert len(server.records()) < 30


def test_wrong_passwords_block_their_address_for_some_seconds(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, limited=True)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            transport = paramiko.Transport(sock)
            try:
                transport.start_client(timeout=10)
                for _ in range(6):
                    with pytest.raises(paramiko.SSHException):
                        transport.auth_password("parti-b", "wrong", fallback=False)
            finally:
                transport.close()
    until(lambda: not server.children())
    until(lambda: server.first_bytes() == b"")
    # The party whose password was guessed is not blocked, and the address not for long.
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    began = time.monotonic()
    until(lambda: server.sftp("parti-a", "ls\n").returncode == 0)
    assert time.monotonic() - began < 6.0
    assert {d["reason"] for d in server.details("connection-refused")} == {"penalty"}


def test_an_honest_client_with_many_connections_is_not_refused(serve: StartServer) -> None:
    server = serve(limited=True)
    for _ in range(20):
        assert server.sftp("parti-a", "ls\n").returncode == 0
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    for sock in held:
        sock.settimeout(10)
        assert sock.recv(4) == b"SSH-"
        sock.close()
    assert not server.details("connection-refused")


def test_a_suspended_party_is_told_so_at_every_attempt(serve: StartServer) -> None:
    server = serve(limited=True)
    server.edit("parties.toml", 'scope = "all"', 'scope = "all"\nsuspended = true')
    server.reload()

    said = [server.sftp("parti-a", "ls\n").stderr for _ in range(12)]

    assert [text for text in said if "access is suspended" not in text] == []
    assert not server.details("connection-refused")


def test_a_flood_from_a_registered_address_is_limited(serve: StartServer) -> None:
    server = serve(limited=True, rates="ConnectionRates(burst=30, per_second=5)")
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    received = []
    for sock in held:
        sock.settimeout(10)
        try:
            received.append(sock.recv(4))
        except ConnectionResetError:
            received.append(b"")
    for sock in held:
        sock.close()
    assert received[:30] == [b"SSH-"] * 30
    assert 30 <= received.count(b"SSH-") < 60
    until(
        lambda: (
            sum(int(str(d["count"])) for d in server.details("connection-refused"))
            == received.count(b"")
        )
    )
    assert {d["reason"] for d in server.details("connection-refused")} == {"rate"}
    until(lambda: server.sftp("parti-a", "ls\n").returncode == 0)
