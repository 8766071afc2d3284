import inspect
import socket
from collections.abc import Iterator

import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport as ParamikoTransport

from keys import token
from sftpd.transport import CIPHERS, KEX, MACS, PUBLIC_KEYS, Packetizer, Wire


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_paramiko_has_the_private_names_that_are_built_upon() -> None:
    taken = {
        "_send_message": ["self", "data"],
        "_send_user_message": ["self", "data"],
        "_parse_newkeys": ["self", "m"],
        "_parse_kex_init": ["self", "m"],
        "_parse_global_request": ["self", "m"],
        "_queue_incoming_channel": ["self", "channel"],
        "_unlink_channel": ["self", "chanid"],
    }
    for name, arguments in taken.items():
        assert list(inspect.signature(getattr(ParamikoTransport, name)).parameters) == arguments
    assert hasattr(AuthHandler, "_parse_userauth_request")
    assert hasattr(AuthHandler, "_parse_userauth_info_response")
    assert hasattr(Channel, "send_exit_status")


def test_paramiko_knows_every_algorithm_that_is_offered() -> None:
    assert set(KEX) <= set(ParamikoTransport._kex_info)  # type: ignore[attr-defined]
    assert set(CIPHERS) <= set(ParamikoTransport._cipher_info)  # type: ignore[attr-defined]
    assert set(MACS) <= set(ParamikoTransport._mac_info)  # type: ignore[attr-defined]
    assert set(PUBLIC_KEYS) - set(token.KINDS) <= set(ParamikoTransport._key_info)  # type: ignore[attr-defined]
    assert KEX[0] == "mlkem768x25519-sha256"
    assert "ssh-rsa" not in PUBLIC_KEYS


def test_reads_come_in_the_sizes_that_are_asked_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire = Wire(pair[0], grace=60)
    pair[1].sendall(b"SSH-456789")
    assert [wire.recv(4), wire.recv(4), wire.recv(4)] == [b"SSH-", b"4567", b"89"]


def test_there_is_an_end_to_a_login_s_time(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = Wire(pair[0], grace=0)
    pair[1].sendall(b"S")
    with pytest.raises(EOFError):
        wire.recv(1)
    with pytest.raises(EOFError):
        wire.send(b"x")
    assert wire.late
    wire.trusted()
    assert wire.recv(1) == b"S"


def test_there_is_an_end_to_a_login_s_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = Wire(pair[0], grace=60, budget=100)
    pair[1].sendall(b"SSH-" + bytes(97))
    assert len(wire.recv(200)) == 101
    with pytest.raises(EOFError):
        wire.recv(1)


@pytest.mark.parametrize("said", [b"PROXY TCP4", b"\r\n\r\n\0\r\nQUIT\n", b"SSX", b"GET / HTTP"])
def test_a_client_says_nothing_before_its_version(
    pair: tuple[socket.socket, socket.socket], said: bytes
) -> None:
    for size in range(1, len(said) + 1):
        wire = Wire(pair[0], grace=60)
        pair[1].sendall(said[:size])
        if b"SSH-".startswith(said[:size]):
            assert wire.recv(100) == said[:size]
            continue
        with pytest.raises(SSHException):
            wire.recv(100)


def test_a_version_may_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = Wire(pair[0], grace=60)
    room = memoryview(bytearray(8))
    for piece in (b"S", b"SH", b"-2.0-", b"x"):
        pair[1].sendall(piece)
        assert wire.take(room, True) == len(piece)


def test_a_packet_has_a_longest_length(pair: tuple[socket.socket, socket.socket]) -> None:
    packetizer = Packetizer(Wire(pair[0], grace=60))  # type: ignore[arg-type]
    with pytest.raises(SSHException, match="packet"):
        packetizer.read_all(300_000)
