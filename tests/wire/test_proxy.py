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
from wire.served import Serve, Served, setting, until
from wire.test_lifecycle import TWO
from wire.test_server import add_file, sum_of, told

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


def stated(source: str, version: int = 2) -> bytes:
    if version == 1:
        return f"PROXY TCP4 {source} 203.0.113.1 51842 22\r\n".encode()
    ends = IPv4Address(source).packed + IPv4Address("203.0.113.1").packed + pack(">HH", 51842, 22)
    return SIGNATURE + bytes.fromhex("2111") + pack(">H", len(ends)) + ends


def answered(served: Served, *sent: bytes, source: str = BALANCER, hush: float = 0.0) -> bytes:
    """What comes back on what was sent, piece by piece."""
    found = b""
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", served.port), source_address=(source, 0)) as sock,
    ):
        sock.settimeout(10)
        for piece in sent:
            sock.send(piece)
            time.sleep(hush)
        found = sock.recv(8)
    return found


@pytest.fixture
def served(serve: Serve) -> Served:
    found: Served = serve(TWO, before=setting(f'proxies = ["{BALANCER}"]'))
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_a_balancer_speaks_for_an_address(served: Served, version: int) -> None:
    assert answered(served, stated("127.0.0.1", version) + HELLO) == b"SSH-2.0-"
    pieces = [bytes([byte]) for byte in stated("127.0.0.2", version)]
    assert answered(served, *pieces, hush=0.001) == b"SSH-2.0-"
    assert answered(served, stated("127.0.0.3", version) + HELLO) == b""
    until(lambda: len(told(served, "session-end")) == 2)
    ends = {(r.event.origin, r.event.detail["via"]) for r in served.records("session-end")}
    assert ends == {("127.0.0.1", BALANCER), ("127.0.0.2", BALANCER)}
    [refused] = served.records("connection-refused")
    assert refused.event.origin == "127.0.0.3"
    assert refused.event.detail == {"reason": "address", "count": 1, "via": BALANCER}


def test_a_balancer_has_to_speak_for_somebody(served: Served) -> None:
    assert answered(served, HELLO) == b""
    assert answered(served, stated("127.0.0.1")[:20] + b"x") == b""  # waits in vain for the rest
    until(lambda: len(told(served, "connection-refused")) >= 1)
    refused = served.records("connection-refused")
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        (BALANCER, "proxy header")
    }
    assert not served.children()


def test_a_balancers_look_at_the_server_leaves_no_trace(served: Served) -> None:
    for look in (
        SIGNATURE + bytes.fromhex("20000000"),
        b"PROXY UNKNOWN\r\n",
        stated(BALANCER, 1),  # as haproxy's check does
        stated(BALANCER, 2),
    ):
        assert answered(served, look) == b""
    socket.create_connection(("127.0.0.1", served.port), source_address=(BALANCER, 0)).close()
    assert answered(served, stated("127.0.0.1") + HELLO) == b"SSH-2.0-"
    until(lambda: served.records())
    assert [r.event.event for r in served.records()] == ["session-end"]


def test_anyone_else_who_states_an_address_is_dropped(serve: Serve) -> None:
    served = serve(TWO, before=setting(f'proxies = ["{BALANCER}"]'))
    for version in (1, 2):
        with socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.settimeout(5)
            assert sock.recv(100).startswith(b"SSH-2.0-")
            sock.send(stated("127.0.0.2", version) + HELLO)
            # Nothing of a key exchange follows.
            with suppress(ConnectionResetError):
                assert sock.recv(100) == b""
    assert answered(served, stated("127.0.0.1") + HELLO, source="127.0.0.3") == b""
    until(lambda: len(told(served, "session-end")) == 2)
    ends = served.records("session-end")
    assert {(r.event.origin, r.event.detail["reason"]) for r in ends} == {
        ("127.0.0.1", "protocol error")
    }


def test_those_who_wait_are_bounded_and_keep_nobody_out(served: Served) -> None:
    waiting = [
        socket.create_connection(("127.0.0.1", served.port), source_address=(BALANCER, 0))
        for _ in range(300)
    ]
    assert served.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: sum(int(str(d["count"])) for d in told(served, "connection-refused")) == 300)
    reasons = {d["reason"] for d in told(served, "connection-refused")}
    assert reasons == {"sessions", "proxy header"}
    for sock in waiting:
        sock.close()
    assert answered(served, stated("127.0.0.1") + HELLO) == b"SSH-2.0-"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def balanced(folder: Path, one: Served, two: Served) -> Iterator[int]:
    """haproxy in front of two servers, on the port that it listens on."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, balancer=BALANCER, one=one.port, two=two.port))
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", str(config)]) as balancer:
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


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_the_address_rule_holds_behind_haproxy(serve: Serve, tmp_path: Path) -> None:
    behind = setting(f'proxies = ["{BALANCER}"]')
    one = serve(TWO, before=behind)

    def twin(site: Path) -> None:
        behind(site)
        for name in ("keys", "clients"):
            shutil.rmtree(site / name)
            shutil.copytree(one.site / name, site / name)

    two = serve(TWO, before=twin, name="twin")
    digest = add_file(one, "big", 1_000_000)
    shutil.copy(one.site / "trees/parti-a/big", two.site / "trees/parti-a/big")
    with balanced(tmp_path, one, two) as port:
        known = (one.site / "known_hosts").read_text()
        (one.site / "known_hosts").write_text(known.replace(f":{one.port} ", f":{port} "))
        one_port, one.port = one.port, port
        for number in range(4):
            done = one.sftp("parti-a", f"get big {tmp_path}/{number}\n")
            assert done.returncode == 0, done.stderr
            assert sum_of(tmp_path / str(number)) == digest
        # The right key from another party's address, and an address that nobody registered.
        assert one.sftp("parti-b", "ls\n").returncode == 255
        assert one.sftp("parti-b", "ls\n").returncode == 255
        assert one.sftp("parti-a", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255
        one.port = one_port
    until(lambda: not one.children() and not two.children())
    for served in (one, two):
        logins = served.records("login")
        assert len(logins) >= 2
        assert {(r.event.origin, r.event.detail["via"]) for r in logins} == {
            ("127.0.0.1", BALANCER)
        }
        assert {d["reason"] for d in told(served, "login-refused")} == {"wrong address"}
    refused = one.records("connection-refused") + two.records("connection-refused")
    assert {(r.event.origin, r.event.detail["reason"]) for r in refused} == {
        ("127.0.0.3", "address")
    }
