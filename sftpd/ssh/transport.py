"""paramiko's transport, made to run in the one thread of a connection's child.

What differs from `paramiko.Transport`: `run` is called, not started as a thread, so that login
and cage happen where the packets are read; no timer threads; no packet over 256 KiB; until the
login a deadline and a budget of bytes (sftpd/ssh/client_socket); only algorithms that stand up
today; channels
are held until they close; global requests are the caller's to answer; and nothing blocks the
reading thread while keys are exchanged. The private names of paramiko that this leans on are those
of 5.1 (see `_TypedTransport`), which is why setup.cfg pins it.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from paramiko import packet
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    MSG_NAMES,
    cMSG_REQUEST_FAILURE,
    cMSG_REQUEST_SUCCESS,
    cMSG_UNIMPLEMENTED,
)
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.server import ServerInterface
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport as ParamikoTransport

from keys.credentials import fido
from sftpd.ssh.client_socket import ClientSocket

MAX_PACKET = 256 * 1024 + 4096
_FIRST_USER_MESSAGE = 50  # message numbers below are the transport's own, RFC 4250 section 4.1
_MAX_HELD_MESSAGES = 1024
_OUR_PACKAGES = ("sftpd", "keys", "config")

KEX = ("mlkem768x25519-sha256", "curve25519-sha256@libssh.org", "diffie-hellman-group16-sha512")
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
PLAIN_MACS = ("hmac-sha2-256", "hmac-sha2-512")  # not encrypt-then-MAC
PQ_KEX = KEX[:1]
HOST_KEYS = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
PUBLIC_KEYS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    *fido.KINDS,
)


def is_client_fault(failure: BaseException) -> bool:
    """Say whether a connection broke over what the client sent, and not over a fault of ours.

    Our own code raises SSHException over a malformed message, paramiko and what it calls raise
    anything at all: what counts is where it was raised.
    """
    step = failure.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    raised_in = "" if step is None else str(step.tb_frame.f_globals.get("__name__"))
    return isinstance(failure, SSHException) or raised_in.split(".")[0] not in _OUR_PACKAGES


class PlainPacketizer(packet.Packetizer):
    """paramiko's packet layer without its timer thread, and with a bound on what it will read."""

    if TYPE_CHECKING:
        _initial_kex_done: bool

    def read_message(self) -> tuple[int, Message]:
        """Return the next packet's type and content."""
        while True:
            kind, message = super().read_message()
            if kind in MSG_NAMES:
                return kind, message
            # paramiko would look for the name of a type that has none.
            if not self._initial_kex_done:
                raise SSHException(f"a packet of type {kind} in the first key exchange")
            reply = Message()
            reply.add_byte(cMSG_UNIMPLEMENTED)
            reply.add_int(message.seqno)
            self.send_message(reply)

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """Read exactly `n` bytes."""
        if n > MAX_PACKET:
            raise SSHException(f"a packet of {n} bytes")
        return super().read_all(n, check_rekey)

    def start_handshake(self, timeout: float) -> None:
        """Leave the time to the ClientSocket."""

    def complete_handshake(self) -> None:
        """Leave the time to the ClientSocket."""


class _TypedTransport(ParamikoTransport):
    """The private names of paramiko 5.1 that are used or replaced here."""

    if TYPE_CHECKING:
        active: bool
        host_key_type: str | None
        _kex_info: dict[str, type]

        def _send_message(self, data: Message) -> None: ...
        def _send_user_message(self, data: Message) -> None: ...

        _channel_handler_table: dict[int, Callable[[Any, Message], None]]

        def _parse_newkeys(self, m: Message) -> None: ...
        def _parse_ext_info(self, msg: Message) -> None: ...
        def _parse_kex_init(self, m: Message) -> None: ...
        def _parse_global_request(self, m: Message) -> None: ...
        def _queue_incoming_channel(self, channel: Channel) -> None: ...
        def _unlink_channel(self, chanid: int) -> None: ...
        def _send_kex_init(self) -> None: ...


class Transport(_TypedTransport):
    """One client's SSH connection; `run` serves it until it ends.

    `make_auth_handler` makes the handler of the user authentication. `on_global_request` is told
    the name of each global request and what it asks, and returns what the success carries, None to
    refuse.
    """

    def __init__(
        self,
        wire: ClientSocket,
        host_keys: Iterable[PKey],
        server: ServerInterface,
        make_auth_handler: Callable[["Transport"], AuthHandler],
        on_global_request: Callable[[str, bytes], bytes | None],
        kex: Sequence[str] = KEX,
        macs: Sequence[str] = MACS,
        packetizer: type = PlainPacketizer,
    ) -> None:
        super().__init__(wire, packetizer_class=packetizer)  # type: ignore[arg-type]
        self._make_auth_handler = make_auth_handler
        self._on_global_request = on_global_request
        self._reader = threading.get_ident()
        self._held_messages: list[Message] = []
        self._open_channels: dict[int, Channel] = {}
        self._after_reply: list[Callable[[], None]] = []
        self.kex_name = ""
        self.local_version = "SSH-2.0-ssps"
        self.server_mode = True
        self.server_object = server
        self.completion_event = threading.Event()
        self.active = True
        self._preferred_pubkeys = PUBLIC_KEYS
        options = self.get_security_options()
        options.kex, options.ciphers, options.digests = kex, CIPHERS, macs
        options.key_types = HOST_KEYS
        for key in host_keys:
            self.add_server_key(key)
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_DATA: _feed_data,
            MSG_CHANNEL_EXTENDED_DATA: _feed_extended,
            MSG_CHANNEL_REQUEST: self._handle_channel_request,
        }

    def call_after_reply(self, what: Callable[[], None]) -> None:
        """Have something done once the channel request that is being judged is answered."""
        self._after_reply.append(what)

    def _handle_channel_request(self, channel: Any, m: Message) -> None:
        channel._handle_request(m)
        due, self._after_reply = self._after_reply, []
        for what in due:
            what()

    def send_unasked(self, message: Message) -> None:
        """Send something that the client has not on_global_request for."""
        self._send_user_message(message)

    @property
    def channels(self) -> int:
        """How many channels are open."""
        return len(self._open_channels)

    def _parse_kex_init(self, m: Message) -> None:
        super()._parse_kex_init(m)
        chosen = type(self.kex_engine)
        self.kex_name = next(name for name in KEX if self._kex_info[name] is chosen)

    def _parse_ext_info(self, msg: Message) -> None:
        # Nothing that a client extends is used, and paramiko would count to what it says.
        pass

    def _parse_newkeys(self, m: Message) -> None:
        if self.kex_engine is None:
            raise SSHException("new keys without a key exchange")
        if self.auth_handler is None:
            self.auth_handler = self._make_auth_handler(self)
        super()._parse_newkeys(m)
        held_messages, self._held_messages = self._held_messages, []
        for message in held_messages:
            self._send_user_message(message)

    def _send_user_message(self, data: Message) -> None:
        # Only this thread can finish the key exchange that it would be waiting for.
        if threading.get_ident() == self._reader and not self.clear_to_send.is_set():
            self._hold_message(data)
        else:
            super()._send_user_message(data)

    def _send_message(self, data: Message) -> None:
        # paramiko answers the opening of a channel even while keys are exchanged.
        if data.asbytes()[0] >= _FIRST_USER_MESSAGE and not self.clear_to_send.is_set():
            self._hold_message(data)
        else:
            super()._send_message(data)

    def _hold_message(self, data: Message) -> None:
        if len(self._held_messages) >= _MAX_HELD_MESSAGES:
            raise SSHException("too many requests in a key exchange")
        self._held_messages.append(data)

    def _parse_global_request(self, m: Message) -> None:
        kind = m.get_binary().decode("utf-8", "replace")
        wants_reply = m.get_boolean()
        answer = self._on_global_request(kind, m.get_remainder())
        if wants_reply:
            reply = Message()
            reply.add_byte(cMSG_REQUEST_FAILURE if answer is None else cMSG_REQUEST_SUCCESS)
            reply.add_bytes(answer or b"")
            self._send_user_message(reply)

    def _queue_incoming_channel(self, channel: Channel) -> None:
        # paramiko itself holds channels weakly, and closes one that nobody holds.
        self._open_channels[channel.chanid] = channel

    def _unlink_channel(self, chanid: int) -> None:
        super()._unlink_channel(chanid)
        self._open_channels.pop(chanid, None)


def _feed_data(channel: Any, m: Message) -> None:
    # paramiko takes whatever comes, as long as there is memory.
    _within_window(channel, channel.in_buffer, m.get_string())


def _feed_extended(channel: Any, m: Message) -> None:
    # Of no use to SFTP: kept unread, until the window is full of it.
    m.get_int()
    _within_window(channel, channel.in_stderr_buffer, m.get_string())


def _within_window(channel: Any, pipe: Any, data: bytes) -> None:
    if len(pipe) + len(data) > channel.in_window_size:
        raise SSHException("more data than a channel's window")
    pipe.feed(data)
