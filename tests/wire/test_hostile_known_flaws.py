"""Flaws that other SSH and SFTP servers had from 2023 to 2025, tried on this one.

CVE-2023-48795    Terrapin: packets that are injected before the keys are in force
CVE-2023-46446    AsyncSSH: a login that is injected before the keys are in force
CVE-2024-45337    Go: the key of the last question is taken for the one that has signed
CVE-2025-5318     libssh: a handle is used as an index without a check
CVE-2025-26466    OpenSSH: each PING during a key exchange takes memory
CVE-2025-32433    Erlang/OTP: channels are served before the login
CVE-2025-48038    Erlang/OTP: handles longer than 256 bytes are processed
"""

import os
from struct import pack, unpack_from

import paramiko
from wire.attacker import (
    CLOSE,
    DENIED,
    FAILURE,
    NAME,
    OPENDIR,
    READ,
    READDIR,
    STATUS,
    RawSftp,
    after_version_line,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    kexinit,
    logged_in,
    read_to_end,
    ssh_packet,
    string,
)
from wire.login_client import DISCONNECT, PK_OK, SUCCESS, login_client
from wire.login_client import FAILURE as LOGIN_REFUSED
from wire.server import RunningServer, StartServer, until

CURVE, STRICT = b"curve25519-sha256@libssh.org", b"kex-strict-c-v00@openssh.com"
KEX_INIT, KEX_REPLY = b"\x1e", 31
FSTAT = 8
REQUESTS = (CLOSE, b""), (READ, pack(">QI", 0, 9)), (READDIR, b""), (FSTAT, b"")
SIZES = 0, 1, 3, 5, 8, 257, 30_000  # of handles; ours have four bytes
LOGIN = b"\x32" + b"".join(map(string, (b"parti-a", b"ssh-connection", b"none")))
OPEN_CHANNEL = b"\x5a" + string(b"session") + pack(">III", 0, 1 << 20, 1 << 15)
RUN_COMMAND = b"\x62" + pack(">I", 0) + string(b"exec") + b"\1" + string(b"sha256sum /BENIOKU.txt")
# Allowed during a key exchange (RFC 4253 section 7.1), but not during a strict one.
HARMLESS = {
    "ignore": b"\x02" + string(b"x"),
    "debug": b"\x04\0" + string(b"x") + string(b""),
}
FORBIDDEN = {
    "unimplemented": b"\x03" + pack(">I", 0),
    "service request": b"\x05" + string(b"ssh-userauth"),
    "extensions": b"\x07" + pack(">I", 0),
    "login": LOGIN,
    "channel": OPEN_CHANNEL,
    "command": RUN_COMMAND,
    "ping": b"\xc0" + string(b"x" * 256),
}


def replies_to(server: RunningServer, kex: bytes, injected: bytes) -> set[int]:
    """Return the types of the server's packets in a key exchange with packets injected."""
    with after_version_line(server) as sock:
        sock.sendall(b"SSH-2.0-attacker\r\n" + ssh_packet(kexinit(kex=kex)) + injected)
        sock.sendall(ssh_packet(KEX_INIT + string(os.urandom(32))))
        sock.settimeout(5)
        received, kinds = b"", set[int]()
        while KEX_REPLY not in kinds:
            try:
                more = sock.recv(65536)
            except ConnectionResetError:
                break
            if not more:
                break
            received += more
            while len(received) >= 6:
                (length,) = unpack_from(">I", received)
                if len(received) < 4 + length:
                    break
                kinds.add(received[5])
                received = received[4 + length :]
    return kinds


def test_what_is_injected_into_a_key_exchange_ends_it(serve: StartServer) -> None:
    server = serve()
    assert KEX_REPLY in replies_to(server, CURVE, b"")
    assert KEX_REPLY in replies_to(server, CURVE + b"," + STRICT, b"")
    for packet in HARMLESS.values():
        assert KEX_REPLY in replies_to(server, CURVE, ssh_packet(packet))
    refused = {
        (name, strict)
        for packets, ways in ((HARMLESS, (True,)), (FORBIDDEN, (False, True)))
        for name, packet in packets.items()
        for strict in ways
        if KEX_REPLY
        not in replies_to(server, CURVE + (b"," + STRICT if strict else b""), ssh_packet(packet))
    }
    assert refused == {
        *((name, True) for name in HARMLESS),
        *((name, strict) for name in FORBIDDEN for strict in (False, True)),
    }
    assert not server.records("login")
    until(lambda: len(end_reasons(server)) == len(refused) + 4)
    assert end_reasons(server).count("protocol error") == len(refused)


def test_a_packet_before_a_strict_key_exchange_ends_it(serve: StartServer) -> None:
    server = serve()
    for packet in HARMLESS.values():
        with after_version_line(server) as sock:
            sock.sendall(b"SSH-2.0-attacker\r\n" + ssh_packet(packet))
            sock.sendall(ssh_packet(kexinit(kex=CURVE + b"," + STRICT)))
            sock.sendall(ssh_packet(KEX_INIT + string(os.urandom(32))))
            read_to_end(sock)
    until(lambda: end_reasons(server) == ["protocol error"] * len(HARMLESS))


def test_a_login_belongs_to_the_key_that_has_signed(serve: StartServer) -> None:
    server = serve()
    own, other = (
        paramiko.Ed25519Key(filename=str(server.site / "clients" / name))
        for name in ("parti-a", "stranger")
    )
    with login_client(server) as client:
        assert client.probe("parti-a", own)[0] == PK_OK
        assert client.sign("parti-a", other)[0] == LOGIN_REFUSED
        assert client.sign("parti-a", other, public=own.asbytes())[0] == LOGIN_REFUSED
        assert client.probe("parti-a", own)[0] == PK_OK
        assert client.sign("parti-b", own)[0] == DISCONNECT  # another user than before
    assert not server.records("login")

    with login_client(server) as client:
        assert client.probe("parti-a", own)[0] == PK_OK
        assert client.probe("parti-a", other)[0] == LOGIN_REFUSED
        assert client.sign("parti-a", own)[0] == SUCCESS
    [login] = server.records("login")
    assert login.event.who == "parti-a"
    assert login.event.detail["credential"] == own.fingerprint


def test_a_handle_that_the_server_never_gave_fails_and_the_session_goes_on(
    serve: StartServer,
) -> None:
    server = serve()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        held = sftp.open(b"BENIOKU.txt")
        numbers = held[4:], b"\xff" * 4, b"\x80\0\0\0", b"\0\0\x08\0"
        forged = [(number * (size // 4 + 1))[:size] for number in numbers for size in SIZES]
        for handle in (*forged, *numbers[1:]):
            for kind, rest in REQUESTS:
                answer, body = sftp.request(kind, string(handle) + rest)
                assert answer == STATUS
                assert unpack_from(">I", body)[0] in (FAILURE, DENIED)
        answer, folder = sftp.request(OPENDIR, string(b"/"))
        assert sftp.request(READDIR, folder)[0] == NAME
        sftp.close(held)
    assert_record_complete(server)
    assert_still_serves(server)
