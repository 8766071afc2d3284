"""A client's socket as its packet layer sees it, with the limits that end with the login.

Until then there is a deadline and a budget of bytes, and the first bytes have to be an SSH
version's (RFC 4253 section 4.2). `recv_into` and `send_nowait` are for our own packets
(sftpd/ssh/packetizer), `recv` and `send` for paramiko's.
"""

import socket
import time
from contextlib import suppress

from paramiko.ssh_exception import SSHException

LOGIN_BYTES = 1 << 20  # bytes before the login; a real one takes some ten thousand
STALL_SECONDS = 120.0  # seconds in which a client that is due something takes none of it
_CHUNK = 1 << 16
_WAKE = 1.0  # seconds between looks at the deadline


class ClientSocket:
    """One client's."""

    def __init__(self, connection: socket.socket, grace: float, budget: int = LOGIN_BYTES) -> None:
        self._socket = connection
        self._buffer = b""
        self._at = 0
        self._deadline: float | None = time.monotonic() + grace
        self._budget = budget
        self._expected_prefix = b"SSH-"  # what is still to come of it
        self._waited = 0.0
        self.login_timed_out = False
        connection.settimeout(_WAKE)

    def lift_login_limits(self) -> None:
        """Lift the limits: the client has logged in."""
        self._deadline = None

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def set_blocking(self) -> None:
        """From now on `recv_into` and `send_nowait` are used in place of `recv` and `send`."""
        self._socket.settimeout(None)

    def recv_into(self, buffer: memoryview, wait: bool) -> int:
        """Read what is there into `room`, if asked to as soon as something is.

        Raise EOFError at the end, and BlockingIOError if there is nothing and it does not wait.
        """
        if self._deadline is not None:
            self._check_limits()
        size = self._socket.recv_into(buffer, 0, 0 if wait else socket.MSG_DONTWAIT)
        if not size:
            raise EOFError
        if self._deadline is not None:
            self._spend_budget(size)
        if self._expected_prefix:
            self._check_version(bytes(buffer[: min(size, len(self._expected_prefix))]))
        return size

    def send_nowait(self, data: memoryview) -> int:
        """Write what there is room for; raise BlockingIOError if there is none."""
        if self._deadline is not None:
            self._check_limits()
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def seconds_left(self) -> float | None:
        """Return the seconds until the login is overdue, None after it; raise EOFError if it is."""
        if self._deadline is None:
            return None
        self._check_limits()
        return self._deadline - time.monotonic()

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end; raise TimeoutError now and then."""
        if self._at >= len(self._buffer):
            self._check_limits()
            self._buffer, self._at = self._socket.recv(_CHUNK), 0
            if self._deadline is not None:
                self._spend_budget(len(self._buffer))
            if self._expected_prefix:
                self._check_version(self._buffer[: len(self._expected_prefix)])
        found = self._buffer[self._at : self._at + size]
        self._at += len(found)
        return found

    def send(self, data: bytes) -> int:
        """Send some of `data`; raise TimeoutError now and then, and EOFError after STALL."""
        self._check_limits()
        try:
            sent = self._socket.send(data)
        except TimeoutError:
            self._waited += _WAKE
            if self._waited >= STALL_SECONDS:
                raise EOFError from None
            raise
        self._waited = 0.0
        return sent

    def _check_version(self, data: bytes) -> None:
        # RFC 4253 4.2: a client sends nothing before its version. paramiko would skip a hundred
        # lines, such as the PROXY header of one who is no balancer of ours.
        if not self._expected_prefix.startswith(data):
            raise SSHException("something else before the SSH version")
        self._expected_prefix = self._expected_prefix[len(data) :]

    def _spend_budget(self, size: int) -> None:
        self._budget -= size
        # Until the login OpenSSH's client leaves Nagle's algorithm on: it holds back its next
        # packet for as long as our kernel holds back the ACK for this one, which is 40 ms.
        if self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _check_limits(self) -> None:
        if self._deadline is None:
            return
        if time.monotonic() >= self._deadline or self._budget < 0:
            self.login_timed_out = True
            raise EOFError

    def settimeout(self, _: float) -> None:
        """Keep the timeout as it is: paramiko's own would wake an idle child ten times a second."""

    def getpeername(self) -> object:
        """Return the peer's address."""
        return self._socket.getpeername()

    def hang_up(self) -> None:
        """End the connection both ways, which wakes whoever reads or writes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up, and let go of the socket."""
        self.hang_up()
        self._socket.close()

    @property
    def _closed(self) -> bool:
        return self._socket.fileno() < 0
