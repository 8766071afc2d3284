"""Hostile clients after the login: the session stays small, or it ends."""

import hashlib
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from struct import pack

import paramiko
import pytest
from paramiko.message import Message
from unit.sftpd.fuzz import seeded
from wire.attacker import (
    DATA,
    READ,
    RawSftp,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    logged_in,
    only_child,
    packet,
    peak_memory,
    private_memory,
    send_raw,
    ssh_message,
    string,
)
from wire.server import StartServer, until

MIB = 1 << 20
STAT = 17
IGNORE, UNIMPLEMENTED, DEBUG, EXT_INFO = 2, 3, 4, 7
CHANNEL_WINDOW_ADJUST, CHANNEL_DATA, CHANNEL_EXTENDED_DATA = 93, 94, 95
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
LOST = (paramiko.SSHException, EOFError, OSError)


def test_garbage_after_the_login_ends_the_session(serve: StartServer) -> None:
    server = serve()
    for size in (1, 16, 1000, 400_000):
        with logged_in(server) as transport:
            sftp = RawSftp.on_channel(transport.open_session())
            sftp.open(b"BENIOKU.txt")
            with suppress(OSError):
                transport.sock.sendall(b"\0\0" + os.urandom(size))
                transport.sock.shutdown(socket.SHUT_WR)
            until(lambda: not server.children())
    assert set(end_reasons(server)) <= {"protocol error", "closed"}
    assert_record_complete(server)
    assert_still_serves(server)


@pytest.mark.parametrize("size", [300_000, 2_000_000])
def test_an_oversized_packet_ends_the_session(serve: StartServer, size: int) -> None:
    server = serve()
    with logged_in(server) as transport:
        channel = transport.open_session()
        RawSftp.on_channel(channel)
        child = only_child(server)
        before = private_memory(child)
        with suppress(*LOST):
            send_raw(transport, ssh_message(CHANNEL_DATA, channel.remote_chanid, b"x" * size))
        until(lambda: not server.children())
        assert before < 16 * MIB
    assert end_reasons(server) == ["protocol error"]
    assert_still_serves(server)


@pytest.mark.parametrize("kind", [CHANNEL_DATA, CHANNEL_EXTENDED_DATA])
@pytest.mark.parametrize("subsystem", [True, False])
def test_data_beyond_the_window_does_not_use_up_memory(
    serve: StartServer, kind: int, subsystem: bool
) -> None:
    server = serve()
    parts = (1,) if kind == CHANNEL_EXTENDED_DATA else ()
    with logged_in(server) as transport:
        channel = transport.open_session(window_size=1 << 15)
        if subsystem:
            sftp = RawSftp.on_channel(channel)
            # Nobody reads the answers, so from now on the server has to wait.
            ask = packet(READ, 1, sftp.open(b"BENIOKU.txt") + pack(">QI", 0, 9))
            channel.sendall(ask * 3000)
        stuffing = packet(STAT, 7, string(b"/")) * 1500
        with peak_memory(only_child(server)) as most:
            with suppress(*LOST):
                for _ in range(48 * MIB // len(stuffing)):
                    send_raw(transport, ssh_message(kind, channel.remote_chanid, *parts, stuffing))
            with suppress(AssertionError):
                until(lambda: not server.children(), 1)
        assert most[-1] - most[0] < 16 * MIB
    assert_still_serves(server)


def test_a_closed_window_costs_no_cpu(serve: StartServer) -> None:
    server = serve()
    server.add_file("big", 20 * MIB)
    with logged_in(server) as transport:
        held = []
        for _ in range(4):
            sftp = RawSftp.on_channel(transport.open_session(window_size=1 << 15))
            handle = sftp.open(b"big")
            held.append(sftp)
            for number in range(64):
                body = handle + pack(">QI", number << 18, 255 * 1024)
                sftp.send(packet(READ, number, body))
        child = only_child(server)
        time.sleep(0.5)
        stat = Path(f"/proc/{child}/stat").read_text().split()
        assert_still_serves(server)
        assert private_memory(child) < 24 * MIB
        time.sleep(0.5)
        now = Path(f"/proc/{child}/stat").read_text().split()
        assert int(now[13]) + int(now[14]) - int(stat[13]) - int(stat[14]) < 10  # 0.1 s
    until(lambda: not server.children())
    assert_record_complete(server)


def test_a_client_that_stops_reading_does_not_slow_others_or_use_memory(
    serve: StartServer, tmp_path: Path
) -> None:
    server = serve()
    server.add_file("big", 100 * MIB)
    with subprocess.Popen(
        ["sftp", "-q", "-R", "64", *server.ssh("parti-a"), "-b", "-", "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as client:
        assert client.stdin is not None
        client.stdin.write(f"get big {tmp_path}/got\n")
        client.stdin.flush()
        got = tmp_path / "got"
        until(lambda: got.exists() and got.stat().st_size > MIB)
        os.killpg(client.pid, signal.SIGSTOP)
        try:
            child = only_child(server)
            before = private_memory(child)
            for _ in range(5):
                assert_still_serves(server)
                time.sleep(0.1)
            assert private_memory(child) - before < 4 * MIB
            assert private_memory(child) < 24 * MIB
        finally:
            os.killpg(client.pid, signal.SIGKILL)
    until(lambda: not server.children())
    assert_record_complete(server)


def test_a_connection_reset_in_mid_file_is_recorded_and_leaves_no_child(serve: StartServer) -> None:
    server = serve()
    content = server.add_file("big", 8 * MIB)
    for _ in range(5):
        with logged_in(server) as transport:
            sftp = RawSftp.on_channel(transport.open_session())
            handle = sftp.open(b"big")
            for number in range(16):
                sftp.send(packet(READ, number, handle + pack(">QI", number << 15, 1 << 15)))
            answer, _, rest = sftp.receive()
            assert (answer, rest[4:]) == (DATA, content[: 1 << 15])
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.sock.close()
            until(lambda: not server.children(), 3)
    closes = [dict(record.event.detail) for record in server.records("close")]
    assert [(c["complete"], c["reason"]) for c in closes] == [(False, "session ended")] * 5
    assert all(1 << 15 <= int(str(c["bytes"])) <= 16 << 15 for c in closes)
    assert_record_complete(server)
    assert "error" not in server.log.read_text()


def test_constant_key_exchanges_do_not_disturb_a_download(serve: StartServer) -> None:
    server = serve()
    content = server.add_file("big", 6 * MIB)
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        child = only_child(server)
        handle = sftp.open(b"big")
        got = bytearray()
        for number in range(24):
            for part in range(4):
                at = (number * 4 + part) << 16
                sftp.send(packet(READ, 0, handle + pack(">QI", at, 1 << 16)))
            transport.renegotiate_keys()
            for _ in range(4):
                got += sftp.receive()[2][4:]
        sftp.close(handle)
        assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
        assert private_memory(child) < 24 * MIB
    until(lambda: end_reasons(server) == ["closed"])
    [close] = [record.event.detail for record in server.records("close")]
    assert (close["complete"], close["bytes"]) == (True, 6 * MIB)


def test_key_exchanges_one_after_the_other_end_the_session(serve: StartServer) -> None:
    server = serve()
    exchanges = 0
    with logged_in(server) as transport, suppress(*LOST):
        for _ in range(3000):
            transport.renegotiate_keys()
            exchanges += 1
    until(lambda: end_reasons(server) == ["protocol error"])
    assert 16 < exchanges < 100
    assert_still_serves(server)


def test_an_unfinished_key_exchange_does_not_block_others_or_use_memory(serve: StartServer) -> None:
    server = serve()
    server.add_file("big", 4 * MIB)
    with logged_in(server) as transport:
        channel = transport.open_session()
        handle = RawSftp.on_channel(channel).open(b"big")
        ask = packet(READ, 1, handle + pack(">QI", 0, 1 << 15))
        # Send a KEXINIT, and go on as if it had not been sent.
        transport._send_kex_init()  # type: ignore[attr-defined]
        transport.clear_to_send.set()
        with peak_memory(only_child(server)) as most, suppress(*LOST):
            for _ in range(2000):
                send_raw(transport, ssh_message(80, b"keepalive@openssh.com", True))
                send_raw(transport, ssh_message(CHANNEL_DATA, channel.remote_chanid, ask))
        assert_still_serves(server)
    assert most[-1] - most[0] < 8 * MIB
    until(lambda: not server.children())
    assert "server error" not in end_reasons(server)
    assert_record_complete(server)


def test_unknown_requests_are_refused_and_the_session_continues(serve: StartServer) -> None:
    server = serve()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        answers: list[object] = []

        def ask() -> None:
            for kind in ("keepalive@openssh.com", "no-more-sessions@openssh.com", "x" * 30_000, ""):
                for _ in range(250):
                    answers.append(transport.global_request(kind, None, wait=True))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(20)
        assert answers == [None] * 1000
        send_raw(transport, ssh_message(EXT_INFO, 2**32 - 1))
        for number in (53, 83, 120, 192, 255):
            send_raw(transport, ssh_message(number, b"?"))
        for kind in ("\x00", "simple@putty.projects.tartarus.org", "signal", "x" * 1000):
            channel = transport.open_session(timeout=10)
            with pytest.raises(paramiko.SSHException):
                channel.invoke_subsystem(kind)
            channel.close()
        sftp.close(sftp.open(b"BENIOKU.txt"))
    until(lambda: end_reasons(server) == ["closed"])
    assert_record_complete(server)


def hostile_message(rng: random.Random, channels: list[int]) -> Message:
    """Return a random message that could upset some part of the server."""
    channel = rng.choice([*channels, 0, 1, 99, 2**32 - 1])
    sizes = (0, 1, 2**15, 2**31, 2**32 - 1)
    text = rng.choice((b"", b"sftp", b"\xff\xfe\x80", b"a\0b\n", rng.randbytes(200)))
    message = ssh_message(rng.randrange(1, 256))
    match rng.randrange(10):
        case 0:
            message = ssh_message(90, rng.choice((b"session", b"direct-tcpip", text)), channel)
            message.add_int(rng.choice(sizes))
            message.add_int(rng.choice(sizes))
        case 1:
            message = ssh_message(
                98, channel, rng.choice((b"subsystem", b"exec", b"env", text)), True
            )
            message.add_string(text)
        case 2:
            message = ssh_message(CHANNEL_DATA, channel, rng.randbytes(rng.randrange(300)))
        case 3:
            message = ssh_message(CHANNEL_WINDOW_ADJUST, channel, rng.choice(sizes))
        case 4:
            message = ssh_message(rng.choice((91, 92, 96, 97, 99, 100)), channel)
        case 5:
            message = ssh_message(
                80, rng.choice((b"tcpip-forward", b"streamlocal-forward@openssh.com"))
            )
            message.add_boolean(bool(rng.randrange(2)))
            message.add_string(text)
        case 6:
            message = ssh_message(rng.choice((IGNORE, UNIMPLEMENTED, DEBUG, 5, 6, 7, 21)), text)
        case 7:
            message = ssh_message(
                rng.choice((50, 60, 61, 66)), text, b"ssh-connection", b"password"
            )
        case _:
            for byte in rng.randbytes(rng.randrange(60)):
                message.add_byte(bytes([byte]))
    return message


@pytest.mark.parametrize("seed", range(2))
def test_random_messages_after_the_login_do_no_harm(serve: StartServer, seed: int) -> None:
    server = serve()
    rng = seeded(seed)
    for _ in range(30):
        with logged_in(server) as transport:
            with suppress(*LOST):
                channel = transport.open_session(timeout=5)
                RawSftp.on_channel(channel).open(b"BENIOKU.txt")
                for _ in range(60):
                    send_raw(transport, hostile_message(rng, [int(channel.remote_chanid)]))
            with suppress(OSError):
                transport.sock.shutdown(socket.SHUT_WR)
            until(lambda: not server.children())
    assert set(end_reasons(server)) <= {"protocol error", "closed"}
    assert len(end_reasons(server)) == 30
    assert_record_complete(server)
    assert_still_serves(server)
