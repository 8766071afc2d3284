"""A client's socket, with the limits that apply until the client has logged in.

Before the login there is a deadline, and a limit on the bytes that the client may send. The first
bytes must be the start of an SSH version line (RFC 4253 section 4.2). The login lifts the limits.
"""

import socket
import struct
import time
from contextlib import suppress

from paramiko.ssh_exception import SSHException

LOGIN_BYTES = 1 << 20  # limit before the login; a real login takes some ten thousand bytes
_VERSION_PREFIX = b"SSH-"
_RTT = struct.Struct("68xI")  # in struct tcp_info of linux/tcp.h, microseconds


class ClientSocket:
    """Reads and writes one client's connection, from `start` on."""

    def __init__(self, max_login_bytes: int = LOGIN_BYTES) -> None:
        self._socket: socket.socket
        self._deadline: float | None = None
        self._login_bytes_left = max_login_bytes
        self._expected_prefix = _VERSION_PREFIX  # the part that has not been received yet
        self.login_timed_out = False

    def start(self, connection: socket.socket, grace: float) -> None:
        """Take the connection, whose client has `grace` seconds to log in."""
        self._socket = connection
        self._deadline = time.monotonic() + grace
        connection.settimeout(None)

    def lift_login_limits(self) -> None:
        """Remove deadline and limit on bytes: the client has logged in."""
        self._deadline = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def round_trip(self) -> float:
        """Return the seconds of a round trip to the other end of the connection, 0 if unknown."""
        try:
            return (
                float(
                    _RTT.unpack(
                        self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT.size)
                    )[0]
                )
                / 1e6
            )
        except (OSError, struct.error):
            return 0.0

    def recv_into(self, buffer: memoryview, wait: bool) -> int:
        """Read what has arrived into `buffer` and return its size, waiting for it if `wait`.

        Raises EOFError at the end of the connection or beyond a login limit, and BlockingIOError
        if nothing has arrived and it does not wait.
        """
        if self._deadline is not None:
            self._check_login_limits()
        size = self._socket.recv_into(buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
        if not size:
            raise EOFError
        if self._deadline is not None:
            self._count_login_bytes(size)
        if self._expected_prefix:
            self._check_version(bytes(buffer[: min(size, len(self._expected_prefix))]))
        return size

    def send_nowait(self, data: memoryview) -> int:
        """Write what the socket takes and return its size; raise BlockingIOError if it is full."""
        if self._deadline is not None:
            self._check_login_limits()
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def login_seconds_left(self) -> float | None:
        """Return the seconds left for the login, None after it; raise EOFError if none are left."""
        if self._deadline is None:
            return None
        self._check_login_limits()
        return self._deadline - time.monotonic()

    def _check_version(self, data: bytes) -> None:
        # A client sends nothing before its version (RFC 4253 section 4.2). paramiko would skip up
        # to a hundred other lines, for example the PROXY header of an unknown balancer.
        if not self._expected_prefix.startswith(data):
            raise SSHException("data before the SSH version")
        self._expected_prefix = self._expected_prefix[len(data) :]

    def _count_login_bytes(self, size: int) -> None:
        self._login_bytes_left -= size
        # Until the login OpenSSH's client leaves Nagle's algorithm on: it does not send its next
        # packet until this one is acknowledged, and our kernel delays that ACK by 40 ms.
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _check_login_limits(self) -> None:
        if self._deadline is None:
            return
        if time.monotonic() >= self._deadline or self._login_bytes_left < 0:
            self.login_timed_out = True
            raise EOFError

    def settimeout(self, _: float) -> None:
        """Ignore it: paramiko's timeout would wake an idle child ten times a second."""

    def getpeername(self) -> object:
        """Return the peer's address."""
        return self._socket.getpeername()

    def hang_up(self) -> None:
        """Shut the connection down in both directions; a pending read or write returns."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up and close the socket."""
        self.hang_up()
        self._socket.close()

    @property
    def _closed(self) -> bool:
        # Transport.stop_thread of paramiko reads it.
        return self._socket.fileno() < 0
