"""Hostile clients that never log in: each ends by the grace time and costs little."""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from struct import pack

import paramiko
import pytest
from unit.sftpd.fuzz import seeded
from wire.attacker import (
    after_version_line,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    kexinit,
    key_exchanged,
    only_child,
    peak_memory,
    private_memory,
    read_to_end,
    send_raw,
    ssh_message,
    ssh_packet,
    string,
)
from wire.server import RunningServer, StartServer, until

MIB = 1 << 20
BANNER = b"SSH-2.0-attacker\r\n"
IGNORE, EXT_INFO, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA = 2, 7, 80, 90, 94
HALF_KEXINIT = ssh_packet(kexinit())[:100]
NONSENSE = {
    "protocol 1": b"SSH-1.5-OpenSSH_1.2.27\n",
    "banner without a name": b"SSH-2.0\r\n",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\r\n" * 200,
    "not text": b"\xff\xfe\x80\r\n" * 200,
    "zeros": b"\0" * 1000 + b"\n",
    "a packet of 4 GiB": BANNER + pack(">I", 2**32 - 1) + b"x" * 100,
    "a packet of 2 GiB": BANNER + pack(">I", 2**31) + b"x" * 100,
    "a packet of 300 kB": BANNER + pack(">IB", 300_000, 4) + b"x" * 300_000,
    "an empty packet": BANNER + bytes(64),
    "a packet of one byte": BANNER + pack(">IB", 1, 0) + bytes(100),
    "all padding": BANNER + pack(">IB", 12, 11) + bytes(100),
    "more padding than packet": BANNER + pack(">IB", 12, 255) + bytes(100),
    "length not a multiple of the block size": BANNER + pack(">I", 13) + bytes(100),
    "KEXINIT cut short": BANNER + ssh_packet(b"\x14" + bytes(16)),
    "KEXINIT of long lists": BANNER + ssh_packet(b"\x14" + b"\xff" * 100),
    "names that are not text": BANNER + ssh_packet(kexinit(kex=b"\xff\xfe,\x80")),
    "no key exchange in common": BANNER + ssh_packet(kexinit(kex=b"none")),
    "no cipher": BANNER + ssh_packet(kexinit(cipher=b"none")),
    "only zlib compression": BANNER + ssh_packet(kexinit(compression=b"zlib")),
    "login without keys": BANNER + ssh_packet(b"\x32" + string(b"parti-a")),
    "an unknown message": BANNER + ssh_packet(b"\xc8" + bytes(20)),
    "a long point": BANNER + ssh_packet(kexinit()) + ssh_packet(b"\x1e" + string(b"x" * 32_000)),
    "a point of zeros": BANNER + ssh_packet(kexinit()) + ssh_packet(b"\x1e" + string(bytes(32))),
    "KEXINIT twice": BANNER + ssh_packet(kexinit()) * 2,
    "NEWKEYS too early": BANNER + ssh_packet(kexinit()) + ssh_packet(b"\x15"),
}


def test_connections_without_a_login_end_at_the_grace_time(serve: StartServer) -> None:
    server = serve(grace=1.0)
    beginnings = [b"", b"SSH-", BANNER, BANNER + HALF_KEXINIT, BANNER + ssh_packet(kexinit())]
    held = []
    for data in beginnings:
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.settimeout(10)
        sock.sendall(data)
        held.append(sock)
    started = time.monotonic()
    with key_exchanged(server) as transport:
        until(lambda: not transport.is_active())
    for sock in held:
        read_to_end(sock)
        sock.close()

    assert 0.5 < time.monotonic() - started < 4
    until(lambda: not server.children())
    assert end_reasons(server) == ["no login in time"] * 6
    assert_record_complete(server)
    assert_still_serves(server)


def test_single_bytes_do_not_extend_the_grace_time(serve: StartServer) -> None:
    server = serve(grace=1.0)
    started = time.monotonic()
    with after_version_line(server) as sock, suppress(OSError):
        for byte in BANNER + ssh_packet(kexinit()):
            sock.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - started < 4
    until(lambda: end_reasons(server) == ["no login in time"])


def test_endless_messages_do_not_extend_the_grace_time(serve: StartServer) -> None:
    server = serve(grace=1.0)
    started = time.monotonic()
    with key_exchanged(server) as transport:
        while transport.is_active():
            send_raw(transport, ssh_message(IGNORE, b"still here"))
            time.sleep(0.05)
            assert time.monotonic() - started < 4
    until(lambda: end_reasons(server) == ["no login in time"])


def has_ended_since(server: RunningServer, before: int) -> bool:
    return len(end_reasons(server)) > before


def test_nonsense_before_the_key_exchange_is_a_protocol_error_and_no_alert(
    serve: StartServer,
) -> None:
    server = serve(grace=2.0)
    ended = {}
    for name, data in NONSENSE.items():
        so_far = len(end_reasons(server))
        with after_version_line(server) as sock:
            with suppress(OSError):
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            read_to_end(sock)
        until(partial(has_ended_since, server, so_far))
        ended[name] = end_reasons(server)[-1]

    assert ended == dict.fromkeys(NONSENSE, "protocol error")
    assert '"level": "error"' not in server.log.read_text()
    assert_record_complete(server)
    assert_still_serves(server)


def test_a_version_line_of_ten_megabytes_is_not_read(serve: StartServer) -> None:
    server = serve()
    with after_version_line(server) as sock, peak_memory(only_child(server)) as most:
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            for _ in range(1000):
                sock.sendall(b"SSH-2.0-" + b"x" * 100_000)
        until(lambda: not server.children())
    assert most[-1] - most[0] < 8 * MIB
    assert len(end_reasons(server)) == 1


@pytest.mark.parametrize("kind", [IGNORE, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA])
def test_three_hundred_megabytes_before_the_login_are_not_read(
    serve: StartServer, kind: int
) -> None:
    server = serve()
    sent = 0
    with key_exchanged(server) as transport, peak_memory(only_child(server)) as most:
        with suppress(OSError, EOFError, paramiko.SSHException):
            while sent < 300 * MIB and transport.is_active():
                send_raw(transport, ssh_message(kind, b"x" * 32_000))
                sent += 32_000
        until(lambda: not server.children())
    assert sent < 30 * MIB  # what the socket buffers can hold
    assert most[-1] - most[0] < 8 * MIB
    assert_still_serves(server)


def test_an_ext_info_with_a_count_of_four_billion_costs_nothing(serve: StartServer) -> None:
    # SSH_MSG_EXT_INFO (RFC 8308) announces how many extensions follow; here none do.
    server = serve(grace=1.0)
    with key_exchanged(server) as transport:
        send_raw(transport, ssh_message(EXT_INFO, 2**32 - 1))
        started = time.monotonic()
        until(lambda: not server.children(), 6)
        assert time.monotonic() - started < 4
    assert_still_serves(server)


def test_messages_that_need_a_login_are_not_obeyed_before_it(serve: StartServer) -> None:
    server = serve()
    asks: list[Callable[[paramiko.Transport], object]] = [
        lambda t: send_raw(t, ssh_message(CHANNEL_OPEN, b"session", 0, 1 << 20, 1 << 15)),
        lambda t: send_raw(t, ssh_message(GLOBAL_REQUEST, b"tcpip-forward", True, b"", 0)),
        lambda t: send_raw(t, ssh_message(CHANNEL_DATA, 0, b"x")),
        lambda t: send_raw(t, ssh_message(98, 0, b"subsystem", True, b"sftp")),
        lambda t: send_raw(t, ssh_message(52)),
        lambda t: send_raw(t, ssh_message(200, b"x")),
        lambda t: send_raw(t, ssh_message(61, 0)),
        lambda t: send_raw(t, ssh_message(50, b"parti-a", b"ssh-connection", b"hostbased", b"")),
        lambda t: send_raw(t, ssh_message(50, b"parti-a", b"ssh-connection", b"none")),
        lambda t: send_raw(
            t, ssh_message(50, b"\xff" * 30_000, b"ssh-connection", b"password", True)
        ),
    ]
    for ask in asks:
        with key_exchanged(server) as transport:
            ask(transport)
            with pytest.raises((paramiko.SSHException, EOFError, OSError)):
                transport.open_session(timeout=1)
            assert not transport.is_authenticated()
    until(lambda: len(end_reasons(server)) == len(asks))
    assert not server.records("login")
    assert "server error" not in end_reasons(server)
    assert_record_complete(server)
    assert_still_serves(server)


@pytest.mark.parametrize("seed", range(2))
def test_random_bytes_before_the_login_end_the_connection(serve: StartServer, seed: int) -> None:
    server = serve(grace=3.0)
    rng = seeded(seed)
    for _ in range(60):
        data = bytearray(
            BANNER + ssh_packet(kexinit()) + ssh_packet(b"\x1e" + string(os.urandom(32)))
        )
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(BANNER), len(data))
            match rng.randrange(3):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    data[at:at] = ssh_packet(rng.randbytes(rng.randrange(1, 200)))
                case _:
                    del data[at : at + rng.randrange(40)]
        with after_version_line(server) as sock, suppress(OSError):
            sock.sendall(bytes(data))
            sock.shutdown(socket.SHUT_WR)
            read_to_end(sock)
    until(lambda: len(end_reasons(server)) == 60)
    assert set(end_reasons(server)) <= {"protocol error", "closed"}
    assert_still_serves(server)


def test_a_second_key_exchange_before_the_login_ends_the_connection(serve: StartServer) -> None:
    server = serve()
    with key_exchanged(server) as transport:
        with pytest.raises((paramiko.SSHException, EOFError, OSError)):
            transport.renegotiate_keys()
        until(lambda: end_reasons(server) == ["protocol error"])
    assert_still_serves(server)


def test_compression_is_not_offered(serve: StartServer) -> None:
    server = serve()
    done = server.sftp("parti-a", "ls\n", "-C")
    assert done.returncode == 0, done.stderr
    assert "BENIOKU.txt" in done.stdout


def test_the_monitor_ends_a_child_that_is_stuck_before_the_login(serve: StartServer) -> None:
    # A call that never returns, as a bug in a library could cause.
    patch = (
        "from sftpd.ssh.userauth import UserauthHandler\n"
        "whole, calls = UserauthHandler._parse_service_request, []\n"
        "def stuck(*given):\n"
        "    calls.append(given)\n"
        "    while len(calls) > 1: pass\n"  # the first is the login that the forker makes itself
        "    return whole(*given)\n"
        "UserauthHandler._parse_service_request = stuck\n"
    )
    server = serve(grace=1.0, patch=patch)
    with key_exchanged(server) as transport:
        send_raw(transport, ssh_message(5, b"ssh-userauth"))
        until(lambda: end_reasons(server) == ["no login in time"], 8)


def test_passwords_on_many_connections_are_hashed_in_limited_memory(serve: StartServer) -> None:
    server = serve(grace=50.0)
    many = 12
    start, answers = threading.Barrier(many), []

    def client() -> None:
        with key_exchanged(server) as transport:
            start.wait(40)
            with suppress(paramiko.SSHException, EOFError):
                transport.auth_password("parti-a", "wrong", fallback=False)
            answers.append("refused")

    clients = [threading.Thread(target=client) for _ in range(many)]
    for thread in clients:
        thread.start()
    most = 0
    while len(answers) < many:
        with suppress(OSError):
            most = max(most, sum(private_memory(child) for child in server.children()))
    for thread in clients:
        thread.join(20)
    # Each hash takes 64 MiB. A slot that is passed on while we add up is counted twice.
    assert most < 500 * MIB
