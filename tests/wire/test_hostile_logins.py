"""Clients that never log in, and mean harm: each is over at the grace time, having cost little."""

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
    message,
    only_child,
    peak_memory,
    plain,
    read_to_end,
    resident,
    send_raw,
    string,
)
from wire.served import Serve, Served, until

MIB = 1 << 20
BANNER = b"SSH-2.0-attacker\r\n"
IGNORE, EXT_INFO, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA = 2, 7, 80, 90, 94
HALF = plain(kexinit())[:100]
NONSENSE = {
    "protocol 1": b"SSH-1.5-OpenSSH_1.2.27\n",
    "banner without a name": b"SSH-2.0\r\n",
    "a browser": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\r\n" * 200,
    "no text": b"\xff\xfe\x80\r\n" * 200,
    "zeros": b"\0" * 1000 + b"\n",
    "a packet of 4 GiB": BANNER + pack(">I", 2**32 - 1) + b"x" * 100,
    "a packet of 2 GiB": BANNER + pack(">I", 2**31) + b"x" * 100,
    "a packet of 300 kB": BANNER + pack(">IB", 300_000, 4) + b"x" * 300_000,
    "a packet of nothing": BANNER + bytes(64),
    "a packet of one byte": BANNER + pack(">IB", 1, 0) + bytes(100),
    "all padding": BANNER + pack(">IB", 12, 11) + bytes(100),
    "more padding than packet": BANNER + pack(">IB", 12, 255) + bytes(100),
    "not in blocks": BANNER + pack(">I", 13) + bytes(100),
    "KEXINIT cut short": BANNER + plain(b"\x14" + bytes(16)),
    "KEXINIT of long lists": BANNER + plain(b"\x14" + b"\xff" * 100),
    "names that are no text": BANNER + plain(kexinit(kex=b"\xff\xfe,\x80")),
    "no key exchange in common": BANNER + plain(kexinit(kex=b"none")),
    "no cipher": BANNER + plain(kexinit(cipher=b"none")),
    "compression alone": BANNER + plain(kexinit(compression=b"zlib")),
    "login without keys": BANNER + plain(b"\x32" + string(b"parti-a")),
    "a message nobody knows": BANNER + plain(b"\xc8" + bytes(20)),
    "a long point": BANNER + plain(kexinit()) + plain(b"\x1e" + string(b"x" * 32_000)),
    "a point of zeros": BANNER + plain(kexinit()) + plain(b"\x1e" + string(bytes(32))),
    "KEXINIT twice": BANNER + plain(kexinit()) * 2,
    "NEWKEYS too early": BANNER + plain(kexinit()) + plain(b"\x15"),
}


def test_half_open_connections_end_at_the_grace_time(serve: Serve) -> None:
    served = serve(grace=1.0)
    said = [b"", b"SSH-", BANNER, BANNER + HALF, BANNER + plain(kexinit())]
    held = []
    for words in said:
        sock = socket.create_connection(("127.0.0.1", served.port))
        sock.settimeout(10)
        sock.sendall(words)
        held.append(sock)
    started = time.monotonic()
    with key_exchanged(served) as transport:
        until(lambda: not transport.is_active())
    for sock in held:
        read_to_end(sock)
        sock.close()

    assert 0.5 < time.monotonic() - started < 4
    until(lambda: not served.children())
    assert end_reasons(served) == ["no login in time"] * 6
    assert_record_complete(served)
    assert_still_serves(served)


def test_a_byte_now_and_then_wins_no_time(serve: Serve) -> None:
    served = serve(grace=1.0)
    started = time.monotonic()
    with after_version_line(served) as sock, suppress(OSError):
        for byte in BANNER + plain(kexinit()):
            sock.sendall(bytes([byte]))
            time.sleep(0.05)
    assert time.monotonic() - started < 4
    until(lambda: end_reasons(served) == ["no login in time"])


def test_logins_that_go_on_for_ever_end_at_the_grace_time(serve: Serve) -> None:
    served = serve(grace=1.0)
    started = time.monotonic()
    with key_exchanged(served) as transport:
        while transport.is_active():
            send_raw(transport, message(IGNORE, b"still here"))
            time.sleep(0.05)
            assert time.monotonic() - started < 4
    until(lambda: end_reasons(served) == ["no login in time"])


def refused_since(served: Served, before: int) -> bool:
    return len(end_reasons(served)) > before


def test_nonsense_before_the_keys_is_the_clients_fault_and_no_alarm(serve: Serve) -> None:
    served = serve(grace=2.0)
    ended = {}
    for name, words in NONSENSE.items():
        so_far = len(end_reasons(served))
        with after_version_line(served) as sock:
            with suppress(OSError):
                sock.sendall(words)
                sock.shutdown(socket.SHUT_WR)
            read_to_end(sock)
        until(partial(refused_since, served, so_far))
        ended[name] = end_reasons(served)[-1]

    assert ended == dict.fromkeys(NONSENSE, "protocol error")
    assert '"level": "error"' not in served.log.read_text()
    assert_record_complete(served)
    assert_still_serves(served)


def test_a_banner_of_ten_megabytes_is_not_read_to_its_end(serve: Serve) -> None:
    served = serve()
    with after_version_line(served) as sock, peak_memory(only_child(served)) as most:
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            for _ in range(1000):
                sock.sendall(b"SSH-2.0-" + b"x" * 100_000)
        until(lambda: not served.children())
    assert most[-1] - most[0] < 8 * MIB
    assert len(end_reasons(served)) == 1


@pytest.mark.parametrize("kind", [IGNORE, GLOBAL_REQUEST, CHANNEL_OPEN, CHANNEL_DATA])
def test_three_hundred_megabytes_before_the_login_are_not_taken(serve: Serve, kind: int) -> None:
    served = serve()
    sent = 0
    with key_exchanged(served) as transport, peak_memory(only_child(served)) as most:
        with suppress(OSError, EOFError, paramiko.SSHException):
            while sent < 300 * MIB and transport.is_active():
                send_raw(transport, message(kind, b"x" * 32_000))
                sent += 32_000
        until(lambda: not served.children())
    assert sent < 30 * MIB  # what the socket's own buffers may hold, and no more
    assert most[-1] - most[0] < 8 * MIB
    assert_still_serves(served)


def test_a_count_of_four_billion_is_not_counted_to(serve: Serve) -> None:
    # SSH_MSG_EXT_INFO (RFC 8308) says how many extensions follow, and here none does.
    served = serve(grace=1.0)
    with key_exchanged(served) as transport:
        send_raw(transport, message(EXT_INFO, 2**32 - 1))
        started = time.monotonic()
        until(lambda: not served.children(), 6)
        assert time.monotonic() - started < 4
    assert_still_serves(served)


def test_what_comes_before_the_login_is_not_obeyed(serve: Serve) -> None:
    served = serve()
    asks: list[Callable[[paramiko.Transport], object]] = [
        lambda t: send_raw(t, message(CHANNEL_OPEN, b"session", 0, 1 << 20, 1 << 15)),
        lambda t: send_raw(t, message(GLOBAL_REQUEST, b"tcpip-forward", True, b"", 0)),
        lambda t: send_raw(t, message(CHANNEL_DATA, 0, b"x")),
        lambda t: send_raw(t, message(98, 0, b"subsystem", True, b"sftp")),
        lambda t: send_raw(t, message(52)),
        lambda t: send_raw(t, message(200, b"x")),
        lambda t: send_raw(t, message(61, 0)),
        lambda t: send_raw(t, message(50, b"parti-a", b"ssh-connection", b"hostbased", b"")),
        lambda t: send_raw(t, message(50, b"parti-a", b"ssh-connection", b"none")),
        lambda t: send_raw(t, message(50, b"\xff" * 30_000, b"ssh-connection", b"password", True)),
    ]
    for ask in asks:
        with key_exchanged(served) as transport:
            ask(transport)
            with pytest.raises((paramiko.SSHException, EOFError, OSError)):
                transport.open_session(timeout=1)
            assert not transport.is_authenticated()
    until(lambda: len(end_reasons(served)) == len(asks))
    assert not served.records("login")
    assert "server error" not in end_reasons(served)
    assert_record_complete(served)
    assert_still_serves(served)


@pytest.mark.parametrize("seed", range(2))
def test_random_bytes_before_the_login(serve: Serve, seed: int) -> None:
    served = serve(grace=3.0)
    rng = seeded(seed)
    for _ in range(60):
        words = bytearray(BANNER + plain(kexinit()) + plain(b"\x1e" + string(os.urandom(32))))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(BANNER), len(words))
            match rng.randrange(3):
                case 0:
                    words[at] ^= 1 << rng.randrange(8)
                case 1:
                    words[at:at] = plain(rng.randbytes(rng.randrange(1, 200)))
                case _:
                    del words[at : at + rng.randrange(40)]
        with after_version_line(served) as sock, suppress(OSError):
            sock.sendall(bytes(words))
            sock.shutdown(socket.SHUT_WR)
            read_to_end(sock)
    until(lambda: len(end_reasons(served)) == 60)
    assert set(end_reasons(served)) <= {"protocol error", "closed"}
    assert_still_serves(served)


def test_a_client_that_asks_for_compression_goes_without(serve: Serve) -> None:
    served = serve()
    done = served.sftp("parti-a", "ls\n", "-C")
    assert done.returncode == 0, done.stderr
    assert "BENIOKU.txt" in done.stdout


def test_a_child_that_is_stuck_before_the_login_is_ended_by_its_parent(serve: Serve) -> None:
    # Something that never returns, as a fault in a library might not.
    patch = (
        "from sftpd.ssh.userauth import UserauthHandler\n"
        "def stuck(*_):\n"
        "    while True: pass\n"
        "UserauthHandler._parse_service_request = stuck\n"
    )
    served = serve(grace=1.0, patch=patch)
    with key_exchanged(served) as transport:
        send_raw(transport, message(5, b"ssh-userauth"))
        until(lambda: not served.children(), 8)
    assert end_reasons(served) == ["no login in time"]


def test_passwords_tried_on_many_connections_at_once_share_the_memory(serve: Serve) -> None:
    served = serve(grace=50.0)
    many = 12
    start, answers = threading.Barrier(many), []

    def client() -> None:
        with key_exchanged(served) as transport:
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
            most = max(most, sum(resident(child) for child in served.children()))
    for thread in clients:
        thread.join(20)
    # Each hashes in 64 MiB. One that hands them on while we add up is counted more than once.
    assert most < 500 * MIB
