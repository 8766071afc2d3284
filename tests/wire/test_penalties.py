import socket
import time
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest
from wire.served import Serve, until
from wire.test_lifecycle import TWO, banner
from wire.test_server import told


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_an_unregistered_address_costs_next_to_nothing(serve: Serve) -> None:
    served = serve(limited=True)
    before = cpu_seconds(served.process.pid)
    knocks = 2000
    for _ in range(knocks):
        with (
            suppress(ConnectionResetError),
            socket.create_connection(
                ("127.0.0.1", served.port), source_address=("127.0.0.3", 0)
            ) as s,
        ):
            s.recv(1)
    each = (cpu_seconds(served.process.pid) - before) / knocks
    print(f"\nan unregistered address costs {each * 1e3:.3f} ms")
    assert each < 0.0002
    until(lambda: sum(int(str(d["count"])) for d in told(served, "connection-refused")) == knocks)
    assert len(served.records()) < 30


def test_guesses_slow_the_address_they_come_from_for_seconds(serve: Serve) -> None:
    served = serve(TWO, limited=True)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            transport = paramiko.Transport(sock)
            try:
                transport.start_client(timeout=10)
                for _ in range(6):
                    with pytest.raises(paramiko.SSHException):
                        transport.auth_password("parti-b", "wrong", fallback=False)
            finally:
                transport.close()
    until(lambda: not served.children())
    until(lambda: banner(served) == b"")
    # Whose name was guessed under is not slowed, and nobody is for long.
    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    began = time.monotonic()
    until(lambda: served.sftp("parti-a", "ls\n").returncode == 0)
    assert time.monotonic() - began < 6.0
    assert {d["reason"] for d in told(served, "connection-refused")} == {"penalty"}


def test_a_client_of_many_connections_is_not_slowed(serve: Serve) -> None:
    served = serve(limited=True)
    for _ in range(20):
        assert served.sftp("parti-a", "ls\n").returncode == 0
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(40)]
    for sock in held:
        sock.settimeout(10)
        assert sock.recv(4) == b"SSH-"
        sock.close()
    assert not told(served, "connection-refused")


def test_a_flood_from_a_registered_address_is_thinned(serve: Serve) -> None:
    served = serve(limited=True, rates="ConnectionRates(burst=30, per_second=5)")
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(100)]
    heard = []
    for sock in held:
        sock.settimeout(10)
        try:
            heard.append(sock.recv(4))
        except ConnectionResetError:
            heard.append(b"")
    for sock in held:
        sock.close()
    assert heard[:30] == [b"SSH-"] * 30
    assert 30 <= heard.count(b"SSH-") < 60
    until(
        lambda: (
            sum(int(str(d["count"])) for d in told(served, "connection-refused"))
            == heard.count(b"")
        )
    )
    assert {d["reason"] for d in told(served, "connection-refused")} == {"rate"}
    until(lambda: served.sftp("parti-a", "ls\n").returncode == 0)
