"""paramiko's transport, made to run in the one thread of a connection's child.

What differs from `paramiko.Transport`: `run` is called, not started as a thread, so that login
and cage happen where the packets are read; no timer threads; no packet over 256 KiB; until the
login a deadline and a budget of bytes; only algorithms that stand up today; channels are held
until they close; every global request is refused; and nothing blocks the reading thread while
keys are exchanged. The private names of paramiko that this leans on are those of 5.1 (see
`_Paramiko`), which is why setup.cfg pins it.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from paramiko import packet
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import cMSG_REQUEST_FAILURE
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.server import ServerInterface
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport as ParamikoTransport

LONGEST_PACKET = 256 * 1024 + 4096
BUDGET = 1 << 20  # bytes before the login; a real one takes some ten thousand
_CHUNK = 1 << 16
_WAKE = 1.0  # seconds between looks at the deadline

KEX = ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512")
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
HOST_KEYS = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
PUBLIC_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


class Wire:
    """The socket as paramiko sees it: buffered reads, and limits that end with the login."""

    def __init__(self, connection: socket.socket, grace: float, budget: int = BUDGET) -> None:
        self._socket = connection
        self._buffer = b""
        self._at = 0
        self._deadline: float | None = time.monotonic() + grace
        self._budget = budget
        self.late = False
        connection.settimeout(_WAKE)

    def trusted(self) -> None:
        """Lift the limits: the client has logged in."""
        self._deadline = None

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end; raise TimeoutError now and then."""
        if self._at >= len(self._buffer):
            self._check()
            self._buffer, self._at = self._socket.recv(_CHUNK), 0
            if self._deadline is not None:
                self._budget -= len(self._buffer)
        found = self._buffer[self._at : self._at + size]
        self._at += len(found)
        return found

    def send(self, data: bytes) -> int:
        """Send some of `data`; raise TimeoutError now and then."""
        self._check()
        return self._socket.send(data)

    def _check(self) -> None:
        if self._deadline is None:
            return
        if time.monotonic() >= self._deadline or self._budget < 0:
            self.late = True
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


class Packetizer(packet.Packetizer):
    """paramiko's packet layer without its timer thread, and with a bound on what it will read."""

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read exactly `n` bytes."""
        if n > LONGEST_PACKET:
            raise SSHException(f"a packet of {n} bytes")
        return super().read_all(n, check_rekey)

    def start_handshake(self, timeout: float) -> None:
        """Leave the time to the Wire."""

    def complete_handshake(self) -> None:
        """Leave the time to the Wire."""


class _Paramiko(ParamikoTransport):
    """The private names of paramiko 5.1 that are used or replaced here."""

    if TYPE_CHECKING:
        active: bool
        _kex_info: dict[str, type]

        def _send_message(self, data: Message) -> None: ...
        def _send_user_message(self, data: Message) -> None: ...
        def _parse_newkeys(self, m: Message) -> None: ...
        def _parse_kex_init(self, m: Message) -> None: ...
        def _parse_global_request(self, m: Message) -> None: ...
        def _queue_incoming_channel(self, channel: Channel) -> None: ...
        def _unlink_channel(self, chanid: int) -> None: ...


class Transport(_Paramiko):
    """One client's SSH connection; `run` serves it until it ends.

    `authenticate` makes the handler of the user authentication, `refused` is told the name of
    each global request that asks for something.
    """

    def __init__(
        self,
        wire: Wire,
        host_keys: Iterable[PKey],
        server: ServerInterface,
        authenticate: Callable[["Transport"], AuthHandler],
        refused: Callable[[str], None],
    ) -> None:
        super().__init__(wire, packetizer_class=Packetizer)  # type: ignore[arg-type]
        self._authenticate = authenticate
        self._refused = refused
        self._reader = threading.get_ident()
        self._withheld: list[Message] = []
        self._open_channels: dict[int, Channel] = {}
        self.kex_name = ""
        self.local_version = "SSH-2.0-ssps"
        self.server_mode = True
        self.server_object = server
        self.completion_event = threading.Event()
        self.active = True
        self._preferred_pubkeys = PUBLIC_KEYS
        options = self.get_security_options()
        options.kex, options.ciphers, options.digests = KEX, CIPHERS, MACS
        options.key_types = HOST_KEYS
        for key in host_keys:
            self.add_server_key(key)

    @property
    def channels(self) -> int:
        """How many channels are open."""
        return len(self._open_channels)

    def _parse_kex_init(self, m: Message) -> None:
        super()._parse_kex_init(m)
        chosen = type(self.kex_engine)
        self.kex_name = next(name for name in KEX if self._kex_info[name] is chosen)

    def _parse_newkeys(self, m: Message) -> None:
        if self.auth_handler is None:
            self.auth_handler = self._authenticate(self)
        super()._parse_newkeys(m)
        withheld, self._withheld = self._withheld, []
        for message in withheld:
            self._send_user_message(message)

    def _send_user_message(self, data: Message) -> None:
        # Only this thread can finish the key exchange that it would be waiting for.
        if threading.get_ident() == self._reader and not self.clear_to_send.is_set():
            self._withheld.append(data)
            return
        super()._send_user_message(data)

    def _parse_global_request(self, m: Message) -> None:
        kind = m.get_binary().decode("utf-8", "replace")
        wants_reply = m.get_boolean()
        if "forward" in kind:
            self._refused(kind)
        if wants_reply:
            reply = Message()
            reply.add_byte(cMSG_REQUEST_FAILURE)
            self._send_user_message(reply)

    def _queue_incoming_channel(self, channel: Channel) -> None:
        # paramiko itself holds channels weakly, and closes one that nobody holds.
        self._open_channels[channel.chanid] = channel

    def _unlink_channel(self, chanid: int) -> None:
        super()._unlink_channel(chanid)
        self._open_channels.pop(chanid, None)
