"""Parties that are logged in, and mean harm to the connection: it stays small, or it ends."""

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
    Raw,
    add_file,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    logged_in,
    message,
    only_child,
    packet,
    peak_memory,
    resident,
    send_raw,
    string,
)
from wire.served import Serve, until

MIB = 1 << 20
STAT = 17
IGNORE, UNIMPLEMENTED, DEBUG, EXT_INFO = 2, 3, 4, 7
CHANNEL_WINDOW_ADJUST, CHANNEL_DATA, CHANNEL_EXTENDED_DATA = 93, 94, 95
RESET = struct.pack("ii", 1, 0)  # SO_LINGER that makes of a close a reset
LOST = (paramiko.SSHException, EOFError, OSError)


def test_garbage_after_the_login_ends_the_session(serve: Serve) -> None:
    served = serve()
    for size in (1, 16, 1000, 400_000):
        with logged_in(served) as transport:
            raw = Raw.on(transport.open_session())
            raw.open(b"BENIOKU.txt")
            with suppress(OSError):
                transport.sock.sendall(b"\0\0" + os.urandom(size))
                transport.sock.shutdown(socket.SHUT_WR)
            until(lambda: not served.children())
    assert set(end_reasons(served)) <= {"protocol error", "closed"}
    assert_record_complete(served)
    assert_still_serves(served)


@pytest.mark.parametrize("size", [300_000, 2_000_000])
def test_an_oversized_packet_ends_the_session(serve: Serve, size: int) -> None:
    served = serve()
    with logged_in(served) as transport:
        channel = transport.open_session()
        Raw.on(channel)
        child = only_child(served)
        before = resident(child)
        with suppress(*LOST):
            send_raw(transport, message(CHANNEL_DATA, channel.remote_chanid, b"x" * size))
        until(lambda: not served.children())
        assert before < 16 * MIB
    assert end_reasons(served) == ["protocol error"]
    assert_still_serves(served)


@pytest.mark.parametrize("kind", [CHANNEL_DATA, CHANNEL_EXTENDED_DATA])
@pytest.mark.parametrize("subsystem", [True, False])
def test_data_beyond_the_window_does_not_pile_up(serve: Serve, kind: int, subsystem: bool) -> None:
    served = serve()
    parts = (1,) if kind == CHANNEL_EXTENDED_DATA else ()
    with logged_in(served) as transport:
        channel = transport.open_session(window_size=1 << 15)
        if subsystem:
            raw = Raw.on(channel)
            # Answers that nobody takes: from now on the server has to wait.
            ask = packet(READ, 1, raw.open(b"BENIOKU.txt") + pack(">QI", 0, 9))
            channel.sendall(ask * 3000)
        stuffing = packet(STAT, 7, string(b"/")) * 1500
        with peak_memory(only_child(served)) as most:
            with suppress(*LOST):
                for _ in range(48 * MIB // len(stuffing)):
                    send_raw(transport, message(kind, channel.remote_chanid, *parts, stuffing))
            with suppress(AssertionError):
                until(lambda: not served.children(), 1)
        assert most[-1] - most[0] < 16 * MIB
    assert_still_serves(served)


def test_a_window_that_is_never_opened_costs_the_server_nothing(serve: Serve) -> None:
    served = serve()
    add_file(served, "big", 20 * MIB)
    with logged_in(served) as transport:
        held = []
        for _ in range(4):
            raw = Raw.on(transport.open_session(window_size=1 << 15))
            handle = raw.open(b"big")
            held.append(raw)
            for number in range(64):
                body = handle + pack(">QI", number << 18, 255 * 1024)
                raw.send(packet(READ, number, body))
        child = only_child(served)
        time.sleep(0.5)
        stat = Path(f"/proc/{child}/stat").read_text().split()
        assert_still_serves(served)
        assert resident(child) < 24 * MIB
        time.sleep(0.5)
        now = Path(f"/proc/{child}/stat").read_text().split()
        assert int(now[13]) + int(now[14]) - int(stat[13]) - int(stat[14]) < 10  # 0.1 s
    until(lambda: not served.children())
    assert_record_complete(served)


def test_a_client_that_stops_reading_slows_nobody_and_grows_nothing(
    serve: Serve, tmp_path: Path
) -> None:
    served = serve()
    add_file(served, "big", 100 * MIB)
    with subprocess.Popen(
        ["sftp", "-q", "-R", "64", *served.ssh("parti-a"), "-b", "-", "127.0.0.1"],
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
            child = only_child(served)
            before = resident(child)
            for _ in range(5):
                assert_still_serves(served)
                time.sleep(0.1)
            assert resident(child) - before < 4 * MIB
            assert resident(child) < 24 * MIB
        finally:
            os.killpg(client.pid, signal.SIGKILL)
    until(lambda: not served.children())
    assert_record_complete(served)


def test_a_client_that_is_reset_in_mid_file_leaves_a_close_and_no_child(serve: Serve) -> None:
    served = serve()
    content = add_file(served, "big", 8 * MIB)
    for _ in range(5):
        with logged_in(served) as transport:
            raw = Raw.on(transport.open_session())
            handle = raw.open(b"big")
            for number in range(16):
                raw.send(packet(READ, number, handle + pack(">QI", number << 15, 1 << 15)))
            answer, _, rest = raw.receive()
            assert (answer, rest[4:]) == (DATA, content[: 1 << 15])
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.sock.close()
            until(lambda: not served.children(), 3)
    closes = [dict(record.event.detail) for record in served.records("close")]
    assert [(c["complete"], c["reason"]) for c in closes] == [(False, "session ended")] * 5
    assert all(1 << 15 <= int(str(c["bytes"])) <= 16 << 15 for c in closes)
    assert_record_complete(served)
    assert "error" not in served.log.read_text()


def test_keys_renewed_over_and_over_do_not_disturb_a_download(serve: Serve) -> None:
    served = serve()
    content = add_file(served, "big", 6 * MIB)
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        child = only_child(served)
        handle = raw.open(b"big")
        got = bytearray()
        for number in range(24):
            for part in range(4):
                at = (number * 4 + part) << 16
                raw.send(packet(READ, 0, handle + pack(">QI", at, 1 << 16)))
            transport.renegotiate_keys()
            for _ in range(4):
                got += raw.receive()[2][4:]
        raw.close(handle)
        assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
        assert resident(child) < 24 * MIB
    until(lambda: end_reasons(served) == ["closed"])
    [close] = [record.event.detail for record in served.records("close")]
    assert (close["complete"], close["bytes"]) == (True, 6 * MIB)


def test_a_key_exchange_begun_and_never_finished_holds_nothing_up(serve: Serve) -> None:
    served = serve()
    add_file(served, "big", 4 * MIB)
    with logged_in(served) as transport:
        channel = transport.open_session()
        handle = Raw.on(channel).open(b"big")
        ask = packet(READ, 1, handle + pack(">QI", 0, 1 << 15))
        # A KEXINIT, and then as if there had been none.
        transport._send_kex_init()  # type: ignore[attr-defined]
        transport.clear_to_send.set()
        with peak_memory(only_child(served)) as most, suppress(*LOST):
            for _ in range(2000):
                send_raw(transport, message(80, b"keepalive@openssh.com", True))
                send_raw(transport, message(CHANNEL_DATA, channel.remote_chanid, ask))
        assert_still_serves(served)
    assert most[-1] - most[0] < 8 * MIB
    until(lambda: not served.children())
    assert "server error" not in end_reasons(served)
    assert_record_complete(served)


def test_unknown_requests_are_each_refused_and_the_session_goes_on(serve: Serve) -> None:
    served = serve()
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        answers: list[object] = []

        def ask() -> None:
            for kind in ("keepalive@openssh.com", "no-more-sessions@openssh.com", "x" * 30_000, ""):
                for _ in range(250):
                    answers.append(transport.global_request(kind, None, wait=True))

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(20)
        assert answers == [None] * 1000
        send_raw(transport, message(EXT_INFO, 2**32 - 1))
        for number in (53, 83, 120, 192, 255):
            send_raw(transport, message(number, b"?"))
        for kind in ("\x00", "simple@putty.projects.tartarus.org", "signal", "x" * 1000):
            channel = transport.open_session(timeout=10)
            with pytest.raises(paramiko.SSHException):
                channel.invoke_subsystem(kind)
            channel.close()
        raw.close(raw.open(b"BENIOKU.txt"))
    until(lambda: end_reasons(served) == ["closed"])
    assert_record_complete(served)


def hostile(rng: random.Random, channels: list[int]) -> Message:
    """A message that any part of a server might trip over."""
    channel = rng.choice([*channels, 0, 1, 99, 2**32 - 1])
    sizes = (0, 1, 2**15, 2**31, 2**32 - 1)
    text = rng.choice((b"", b"sftp", b"\xff\xfe\x80", b"a\0b\n", rng.randbytes(200)))
    made = message(rng.randrange(1, 256))
    match rng.randrange(10):
        case 0:
            made = message(90, rng.choice((b"session", b"direct-tcpip", text)), channel)
            made.add_int(rng.choice(sizes))
            made.add_int(rng.choice(sizes))
        case 1:
            made = message(98, channel, rng.choice((b"subsystem", b"exec", b"env", text)), True)
            made.add_string(text)
        case 2:
            made = message(CHANNEL_DATA, channel, rng.randbytes(rng.randrange(300)))
        case 3:
            made = message(CHANNEL_WINDOW_ADJUST, channel, rng.choice(sizes))
        case 4:
            made = message(rng.choice((91, 92, 96, 97, 99, 100)), channel)
        case 5:
            made = message(80, rng.choice((b"tcpip-forward", b"streamlocal-forward@openssh.com")))
            made.add_boolean(bool(rng.randrange(2)))
            made.add_string(text)
        case 6:
            made = message(rng.choice((IGNORE, UNIMPLEMENTED, DEBUG, 5, 6, 7, 21)), text)
        case 7:
            made = message(rng.choice((50, 60, 61, 66)), text, b"ssh-connection", b"password")
        case _:
            for byte in rng.randbytes(rng.randrange(60)):
                made.add_byte(bytes([byte]))
    return made


@pytest.mark.parametrize("seed", range(2))
def test_random_messages_after_the_login(serve: Serve, seed: int) -> None:
    served = serve()
    rng = seeded(seed)
    for _ in range(30):
        with logged_in(served) as transport:
            with suppress(*LOST):
                channel = transport.open_session(timeout=5)
                Raw.on(channel).open(b"BENIOKU.txt")
                for _ in range(60):
                    send_raw(transport, hostile(rng, [int(channel.remote_chanid)]))
            with suppress(OSError):
                transport.sock.shutdown(socket.SHUT_WR)
            until(lambda: not served.children())
    assert set(end_reasons(served)) <= {"protocol error", "closed"}
    assert len(end_reasons(served)) == 30
    assert_record_complete(served)
    assert_still_serves(served)
