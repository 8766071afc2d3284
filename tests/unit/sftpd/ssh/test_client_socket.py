import socket
from collections.abc import Iterator

import pytest
from paramiko.ssh_exception import SSHException

from sftpd.ssh.client_socket import LOGIN_BYTES, ClientSocket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end and the client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def client_socket(
    connection: socket.socket, grace: float = 60, max_login_bytes: int = LOGIN_BYTES
) -> ClientSocket:
    made = ClientSocket(max_login_bytes)
    made.start(connection, grace)
    return made


def receive(connection: ClientSocket, size: int = 100) -> bytes:
    buffer = memoryview(bytearray(size))
    return bytes(buffer[: connection.recv_into(buffer, wait=True)])


def test_reading_without_waiting_raises_if_nothing_has_arrived(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = client_socket(pair[0])
    with pytest.raises(BlockingIOError):
        connection.recv_into(memoryview(bytearray(10)), wait=False)


def test_the_end_of_the_connection_is_an_eof_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = client_socket(pair[0])
    pair[1].shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        receive(connection)


def test_a_login_has_a_deadline_until_it_succeeds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = client_socket(pair[0], grace=0)
    pair[1].sendall(b"S")

    with pytest.raises(EOFError):
        receive(connection)
    with pytest.raises(EOFError):
        connection.send_nowait(memoryview(b"x"))
    with pytest.raises(EOFError):
        connection.login_seconds_left()
    assert connection.login_timed_out

    connection.lift_login_limits()
    assert receive(connection) == b"S"
    assert connection.login_seconds_left() is None


def test_a_login_has_a_limit_on_bytes(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = client_socket(pair[0], max_login_bytes=100)
    pair[1].sendall(b"SSH-" + bytes(97))

    assert len(receive(connection, 200)) == 101
    with pytest.raises(EOFError):
        receive(connection)
    assert connection.login_timed_out


@pytest.mark.parametrize("sent", [b"PROXY TCP4", b"\r\n\r\n\0\r\nQUIT\n", b"SSX", b"GET / HTTP"])
def test_data_before_the_version_is_refused(
    pair: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    for size in range(1, len(sent) + 1):
        connection = client_socket(pair[0])
        pair[1].sendall(sent[:size])
        if b"SSH-".startswith(sent[:size]):
            assert receive(connection) == sent[:size]
            continue
        with pytest.raises(SSHException):
            receive(connection)


def test_a_version_may_arrive_in_pieces(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = client_socket(pair[0])
    for piece in (b"S", b"SH", b"-2.0-", b"x"):
        pair[1].sendall(piece)
        assert receive(connection) == piece


def test_the_round_trip_is_that_of_the_kernel_or_unknown(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    assert client_socket(pair[0]).round_trip() == 0.0  # a pair of Unix sockets

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert 0.0 < client_socket(accepted).round_trip() < 1.0
