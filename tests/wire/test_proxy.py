import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from struct import pack

import pytest
from machines import HAPROXY_PROGRAM, needs_haproxy
from wire.server import TWO_PARTIES, RunningServer, StartServer, setting, until

BALANCER = "127.0.0.9"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
HELLO = b"SSH-2.0-test\r\n"
CONFIG = """\
global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen ssps
    bind 127.0.0.1:{port}
    bind 127.0.0.2:{port}
    balance roundrobin
    source {balancer}
    server one 127.0.0.1:{one} check inter 100ms send-proxy-v2 check-send-proxy
    server two 127.0.0.1:{two} check inter 100ms send-proxy check-send-proxy
"""


def proxy_header(source: str, version: int = 2) -> bytes:
    if version == 1:
        return f"PROXY TCP4 {source} 203.0.113.1 51842 22\r\n".encode()
    ends = IPv4Address(source).packed + IPv4Address("203.0.113.1").packed + pack(">HH", 51842, 22)
    return SIGNATURE + bytes.fromhex("2111") + pack(">H", len(ends)) + ends


def response_to(
    server: RunningServer, *sent: bytes, source: str = BALANCER, quiet_seconds: float = 0.0
) -> bytes:
    """Send these pieces, with a pause after each, and return the first bytes of the answer."""
    found = b""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0)) as sock,
    ):
        sock.settimeout(10)
        for piece in sent:
            sock.send(piece)
            time.sleep(quiet_seconds)
        found = sock.recv(8)
    return found


@pytest.fixture
def server(serve: StartServer) -> RunningServer:
    found: RunningServer = serve(TWO_PARTIES, before=setting(f'proxies = ["{BALANCER}"]'))
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_the_clients_address_comes_from_the_proxy_header(
    server: RunningServer, version: int
) -> None:
    assert response_to(server, proxy_header("127.0.0.1", version) + HELLO) == b"SSH-2.0-"
    pieces = [bytes([byte]) for byte in proxy_header("127.0.0.2", version)]
    assert response_to(server, *pieces, quiet_seconds=0.001) == b"SSH-2.0-"
    assert response_to(server, proxy_header("127.0.0.3", version) + HELLO) == b""
    until(lambda: len(server.details("session-end")) == 2)
    ends = {(r.event.origin, r.event.detail["via"]) for r in server.records("session-end")}
    assert ends == {("127.0.0.1", BALANCER), ("127.0.0.2", BALANCER)}
    [refused] = server.records("connection-refused")
    assert refused.event.origin == "127.0.0.3"
    assert refused.event.detail == {"reason": "address", "count": 1, "via": BALANCER}


def test_a_balancer_must_send_a_complete_proxy_header(server: RunningServer) -> None:
    assert response_to(server, HELLO) == b""
    assert response_to(server, proxy_header("127.0.0.1")[:20] + b"x") == b""  # the rest never comes
    until(lambda: len(server.details("connection-refused")) >= 1)
    refused = server.records("connection-refused")
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        (BALANCER, "proxy header")
    }
    assert not server.children()


def test_a_health_check_is_answered_and_leaves_no_record(server: RunningServer) -> None:
    for look in (
        SIGNATURE + bytes.fromhex("20000000"),
        b"PROXY UNKNOWN\r\n",
        proxy_header(BALANCER, 1),  # as in HAProxy's health check
        proxy_header(BALANCER, 2),
    ):
        assert response_to(server, look) == b"SSH-2.0-"
    socket.create_connection(("127.0.0.1", server.port), source_address=(BALANCER, 0)).close()
    assert response_to(server, proxy_header("127.0.0.1") + HELLO) == b"SSH-2.0-"
    until(lambda: server.records())
    assert [r.event.event for r in server.records()] == ["session-end"]


def test_a_proxy_header_from_any_other_address_ends_the_connection(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, before=setting(f'proxies = ["{BALANCER}"]'))
    for version in (1, 2):
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(5)
            assert sock.recv(100).startswith(b"SSH-2.0-")
            sock.send(proxy_header("127.0.0.2", version) + HELLO)
            # No key exchange follows.
            with suppress(ConnectionResetError):
                assert sock.recv(100) == b""
    assert response_to(server, proxy_header("127.0.0.1") + HELLO, source="127.0.0.3") == b""
    until(lambda: len(server.details("session-end")) == 2)
    ends = server.records("session-end")
    assert {(r.event.origin, r.event.detail["reason"]) for r in ends} == {
        ("127.0.0.1", "protocol error")
    }


def test_connections_without_a_header_are_limited_and_do_not_block_others(
    server: RunningServer,
) -> None:
    waiting = [
        socket.create_connection(("127.0.0.1", server.port), source_address=(BALANCER, 0))
        for _ in range(300)
    ]
    assert server.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: sum(int(str(d["count"])) for d in server.details("connection-refused")) == 300)
    reasons = {d["reason"] for d in server.details("connection-refused")}
    assert reasons == {"sessions", "proxy header"}
    for sock in waiting:
        sock.close()
    assert response_to(server, proxy_header("127.0.0.1") + HELLO) == b"SSH-2.0-"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def haproxy(folder: Path, one: RunningServer, two: RunningServer) -> Iterator[int]:
    """Run HAProxy in front of two servers; return its port."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, balancer=BALANCER, one=one.port, two=two.port))
    with subprocess.Popen([HAPROXY_PROGRAM, "-db", "-q", "-f", str(config)]) as balancer:
        try:
            until(lambda: _open(port))
            yield port
        finally:
            balancer.terminate()


def _open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(2)
        return sock.recv(4) == b"SSH-"
    return False


@needs_haproxy
def test_registered_addresses_are_checked_behind_haproxy(
    serve: StartServer, tmp_path: Path
) -> None:
    behind = setting(f'proxies = ["{BALANCER}"]')
    one = serve(TWO_PARTIES, before=behind)

    def copy_keys(site: Path) -> None:
        behind(site)
        for name in ("keys", "clients"):
            shutil.rmtree(site / name)
            shutil.copytree(one.site / name, site / name)

    two = serve(TWO_PARTIES, before=copy_keys, name="twin")
    content = one.add_file("big", 1_000_000)
    shutil.copy(one.site / "trees/parti-a/big", two.site / "trees/parti-a/big")
    with haproxy(tmp_path, one, two) as port:
        known = (one.site / "known_hosts").read_text()
        (one.site / "known_hosts").write_text(known.replace(f":{one.port} ", f":{port} "))
        one_port, one.port = one.port, port
        for number in range(4):
            done = one.sftp("parti-a", f"get big {tmp_path}/{number}\n")
            assert done.returncode == 0, done.stderr
            assert (tmp_path / str(number)).read_bytes() == content
        # A right key from another party's address, and an unregistered address.
        assert one.sftp("parti-b", "ls\n").returncode == 255
        assert one.sftp("parti-b", "ls\n").returncode == 255
        assert one.sftp("parti-a", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255
        one.port = one_port
    until(lambda: not one.children() and not two.children())
    for server in (one, two):
        logins = server.records("login")
        assert len(logins) >= 2
        assert {(r.event.origin, r.event.detail["via"]) for r in logins} == {
            ("127.0.0.1", BALANCER)
        }
        assert {d["reason"] for d in server.details("login-refused")} == {"wrong address"}
    refused = one.records("connection-refused") + two.records("connection-refused")
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        ("127.0.0.3", "address")
    }
