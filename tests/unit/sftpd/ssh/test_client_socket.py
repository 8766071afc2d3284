import socket
from collections.abc import Iterator

import pytest
from paramiko.ssh_exception import SSHException

from sftpd.ssh.client_socket import ClientSocket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_reads_come_in_the_sizes_that_are_asked_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire = ClientSocket(pair[0], grace=60)
    pair[1].sendall(b"SSH-456789")
    assert [wire.recv(4), wire.recv(4), wire.recv(4)] == [b"SSH-", b"4567", b"89"]


def test_there_is_an_end_to_a_login_s_time(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = ClientSocket(pair[0], grace=0)
    pair[1].sendall(b"S")
    with pytest.raises(EOFError):
        wire.recv(1)
    with pytest.raises(EOFError):
        wire.send(b"x")
    assert wire.login_timed_out
    wire.lift_login_limits()
    assert wire.recv(1) == b"S"


def test_there_is_an_end_to_a_login_s_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = ClientSocket(pair[0], grace=60, budget=100)
    pair[1].sendall(b"SSH-" + bytes(97))
    assert len(wire.recv(200)) == 101
    with pytest.raises(EOFError):
        wire.recv(1)


@pytest.mark.parametrize("said", [b"PROXY TCP4", b"\r\n\r\n\0\r\nQUIT\n", b"SSX", b"GET / HTTP"])
def test_a_client_says_nothing_before_its_version(
    pair: tuple[socket.socket, socket.socket], said: bytes
) -> None:
    for size in range(1, len(said) + 1):
        wire = ClientSocket(pair[0], grace=60)
        pair[1].sendall(said[:size])
        if b"SSH-".startswith(said[:size]):
            assert wire.recv(100) == said[:size]
            continue
        with pytest.raises(SSHException):
            wire.recv(100)


def test_a_version_may_come_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    wire = ClientSocket(pair[0], grace=60)
    room = memoryview(bytearray(8))
    for piece in (b"S", b"SH", b"-2.0-", b"x"):
        pair[1].sendall(piece)
        assert wire.recv_into(room, True) == len(piece)
