"""One client's SSH connection: paramiko's Transport, changed to run in the child's only thread.

paramiko does the key exchange, checks the order of messages and opens channels. This class differs
from `paramiko.Transport` in these points:

- `serve` is called; it is not started as a thread. So the login and the sandbox happen in the
  thread that reads the packets. There are no timer threads.
- Packets are sealed and opened by our own packetizer (sftpd/ssh/packetizer).
- The data of SFTP channels goes to sftpd/ssh/sftp_channels. In paramiko each channel needs a thread
  of its own. Opening, requests and closing of channels remain paramiko's.
- A client may start a key exchange only after its login, and not too often (sftpd/ssh/rekey_limit).
- Nothing blocks during a key exchange, because only this thread can finish it. Messages that may
  not be sent during the key exchange are held, and sent after it.
- AES-GCM is preferred (sftpd/ssh/algorithms): the server's KEXINIT waits for the client's, up to
  KEXINIT_WAIT seconds. A client whose KEXINIT has not arrived by then waits for ours; it is offered
  all algorithms. So is a client that is far away, at once, because waiting would cost it a round
  trip, and on such a link the cipher is not the bottleneck. The signature of the key exchange
  covers both KEXINITs, as always.
- Global requests go to the Application.
- Channels are kept until they close. paramiko keeps weak references only, and closes a channel that
  no one references.

This depends on private names of paramiko 5.1. setup.cfg pins that version, and
tests/unit/sftpd/ssh/test_transport.py checks each name.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
    cMSG_KEXINIT,
    cMSG_REQUEST_FAILURE,
    cMSG_REQUEST_SUCCESS,
)
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.ssh_exception import IncompatiblePeer, SSHException
from paramiko.transport import Transport as ParamikoTransport

from sftpd.sftp.session import Session
from sftpd.ssh import algorithms, key_exchanges
from sftpd.ssh.algorithms import CIPHERS, RSA_SHA2, SHA1, Offer
from sftpd.ssh.channel_policy import ChannelBackend, ChannelPolicy
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.rekey_limit import RekeyLimit
from sftpd.ssh.sftp_channels import Pace, SftpChannels

KEXINIT_WAIT = 0.05  # seconds
FAR = 0.01  # seconds of a round trip
_FIRST_USER_MESSAGE = 50  # lower message numbers belong to the transport, RFC 4250 section 4.1
_MAX_HELD_MESSAGES = 1024
_OUR_PACKAGES = ("sftpd", "keys", "config")


class Application(ChannelBackend, Protocol):
    """What the connection is for; see sftpd/connection."""

    def new_auth_handler(self, transport: "Transport") -> AuthHandler:
        """Make the handler of the user authentication; called once, after the key exchange."""

    def handle_global_request(self, name: str, data: bytes) -> bytes | None:
        """Return the content of the success reply to a global request, None to refuse it."""


class _TypedChannel(Channel):
    """paramiko's Channel, with types for the private names used here."""

    if TYPE_CHECKING:
        in_window_size: int

        def _handle_request(self, m: Message) -> None: ...
        def _handle_eof(self, m: Message) -> None: ...
        def _handle_close(self, m: Message) -> None: ...


class _TypedTransport(ParamikoTransport):
    """paramiko's Transport, with types for the private names used here."""

    if TYPE_CHECKING:
        active: bool
        host_key_type: str | None
        packetizer: Packetizer  # type: ignore[assignment]
        _expected_packet: tuple[int, ...]
        agreed_on_strict_kex: bool
        initial_kex_done: bool
        local_kex_init: bytes | None
        kex_engine: Any
        server_key_dict: dict[str, PKey]
        _remote_ext_info: str | None
        _kex_info: dict[str, type]
        _channel_handler_table: dict[int, Callable[[Any, Message], None]]

        def _send_message(self, data: Message) -> None: ...
        def _send_user_message(self, data: Message) -> None: ...
        def _send_kex_init(self) -> None: ...
        def _negotiate_keys(self, m: Message) -> None: ...
        def _parse_newkeys(self, m: Message) -> None: ...
        def _parse_ext_info(self, msg: Message) -> None: ...
        def _parse_kex_init(self, m: Message) -> None: ...
        def _parse_global_request(self, m: Message) -> None: ...
        def _sanitize_packet_size(self, max_packet_size: int | None) -> int: ...
        def _queue_incoming_channel(self, channel: Channel) -> None: ...
        def _unlink_channel(self, chanid: int) -> None: ...


class Transport(_TypedTransport):
    """One client's connection; `serve` serves it until it ends.

    It is the ChannelService of its packetizer and the Channels of its ChannelPolicy.
    """

    _kex_info: ClassVar[dict[str, type]] = {**ParamikoTransport._kex_info, **key_exchanges.OURS}  # type: ignore[attr-defined,misc]

    def __init__(
        self,
        connection: ClientSocket,
        host_keys: Iterable[PKey],
        application: Application,
        *,
        offer: Offer = Offer(),  # noqa: B008 - it is frozen
    ) -> None:
        """Prepare a connection, whose client may not be there yet."""
        super().__init__(connection, packetizer_class=Packetizer)  # type: ignore[arg-type]
        self._connection = connection
        self._began = time.monotonic()
        self._application = application
        self._flush_due_closes: Callable[[], float | None] = lambda: None
        self._sftp_channels = SftpChannels(self.packetizer, time.monotonic)
        self._open_channels: dict[int, Channel] = {}
        self._held_messages: list[Message] = []
        self._after_reply: list[Callable[[], None]] = []
        self._kexinit_peeked = False
        self._rekey_limit = RekeyLimit()
        self.kex_name = ""
        self.nothing_in_common = ""  # see algorithms.nothing_in_common
        self.packetizer.service = self
        self.local_version = "SSH-2.0-ssps"
        self.server_mode = True
        self.server_object = ChannelPolicy(self, application)
        self.completion_event = threading.Event()
        self.active = True
        self._offer = offer
        self._preferred_pubkeys = offer.public_keys
        self._preferred_keys = offer.host_keys
        options = self.get_security_options()
        options.kex, options.ciphers, options.digests = offer.kex, CIPHERS, offer.macs
        for key in host_keys:
            self.add_server_key(key)
            if key.get_name() == SHA1:  # paramiko does this only for keys of its own class
                self.server_key_dict |= dict.fromkeys(RSA_SHA2, key)
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_DATA: self._on_unexpected_data,
            MSG_CHANNEL_EXTENDED_DATA: self._on_unexpected_extended_data,
            MSG_CHANNEL_EOF: self._on_eof,
            MSG_CHANNEL_CLOSE: self._on_close,
            MSG_CHANNEL_REQUEST: self._on_channel_request,
        }

    def serve(
        self, pace: Pace | None = None, flush_due_closes: Callable[[], float | None] | None = None
    ) -> None:
        """Serve until the connection ends.

        `pace` is called with the number of bytes sealed, and returns the seconds to wait before
        more are sealed. `flush_due_closes` is called between two packets, and returns the seconds
        until it has to be called again, or None.
        """
        self._sftp_channels.pace = pace
        if flush_due_closes is not None:
            self._flush_due_closes = flush_due_closes
        self._began = time.monotonic()
        try:
            self.run()
        finally:
            self._sftp_channels.end()

    def send_unasked(self, message: Message) -> None:
        """Send a message that is not a reply."""
        self._send_user_message(message)

    @property
    def stalled(self) -> bool:
        """Return whether the connection ended because the client took no data."""
        return self.packetizer.stalled

    # Channels, for the ChannelPolicy.

    @property
    def channel_count(self) -> int:
        """Return how many channels are open."""
        return len(self._open_channels)

    def serve_sftp(self, channel: Channel, session: Session) -> None:
        """Let `session` answer the channel's SFTP requests from now on."""
        self._sftp_channels.add(channel, session, self.send_unasked)

    def call_after_reply(self, action: Callable[[], None]) -> None:
        """Call `action` as soon as the reply to the current channel request has been sent."""
        self._after_reply.append(action)

    # ChannelService, for the packetizer.

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Handle CHANNEL_DATA or WINDOW_ADJUST; return False to leave the packet to paramiko."""
        if self._expected_packet or not self.authenticated:
            return False
        return self._sftp_channels.handle_packet(kind, payload)

    def send_some(self) -> bool:
        """Seal some replies, unless a key exchange is going on."""
        self._flush_due_closes()
        return self.clear_to_send.is_set() and self._sftp_channels.send_some()

    def flush_due_closes(self) -> float | None:
        """Send the CLOSE records if they are due; return the seconds until then, or None."""
        return self._flush_due_closes()

    def waits_for_client(self) -> bool:
        """Return whether the server waits for the client's keys, or for a window to open."""
        return not self.clear_to_send.is_set() or self._sftp_channels.waits_for_client()

    def seconds_to_pause(self) -> float:
        """Return the seconds until the bandwidth limit allows more data."""
        return self._sftp_channels.seconds_to_pause()

    @property
    def public_keys(self) -> Sequence[str]:
        """Return the algorithms with which a client may sign its login."""
        return self._offer.public_keys

    # Key exchange.

    def _negotiate_keys(self, m: Message) -> None:
        # A key exchange costs the server more than the client, so a client may not request many.
        if self.initial_kex_done and self.local_kex_init is None:
            if not self.authenticated:
                raise SSHException("a second key exchange before the login")
            if not self._rekey_limit.allow(self.packetizer.bytes_since_new_keys):
                raise SSHException("too many key exchanges")
        super()._negotiate_keys(m)

    def _send_kex_init(self) -> None:
        if not self._kexinit_peeked:
            self._kexinit_peeked = True
            wait = 0.0 if self._is_far_away() else KEXINIT_WAIT
            kexinit = self.packetizer.peek_client_kexinit(wait)
            if kexinit is not None:
                self._offer_preferred_algorithms(kexinit)
        super()._send_kex_init()

    def _is_far_away(self) -> bool:
        # A client sends its version at once, so it arrives with the connection, or after half of a
        # round trip if a relay has accepted the connection in the client's place.
        waited = time.monotonic() - self._began
        return max(waited, self._connection.round_trip()) > FAR

    def _offer_preferred_algorithms(self, kexinit: bytes) -> None:
        options = self.get_security_options()
        if kex := algorithms.preferred_kex(kexinit, self._offer.kex):
            options.kex = kex
        if ciphers := algorithms.preferred_ciphers(kexinit):
            options.ciphers = ciphers
        if macs := algorithms.preferred_macs(kexinit):
            options.digests = macs

    def _parse_kex_init(self, m: Message) -> None:
        # Strict key exchange and EXT_INFO belong to the first exchange only (OpenSSH PROTOCOL,
        # section 1.10; RFC 8308 section 2.4). paramiko would agree on them again each time. But the
        # name of strict key exchange stays in our KEXINITs, as in sshd's: phpseclib 2 looks for it
        # in the newest one, and resets its sequence numbers only if it is there.
        kexinit, ours = cMSG_KEXINIT + m.asbytes(), self.local_kex_init or b""
        strict = self.agreed_on_strict_kex
        try:
            super()._parse_kex_init(m)
        except IncompatiblePeer:
            self.nothing_in_common = algorithms.nothing_in_common(kexinit, ours)
            raise
        if self.initial_kex_done:
            self.agreed_on_strict_kex, self._remote_ext_info = strict, None
        if algorithms.guess_is_wrong(kexinit, ours):
            self.packetizer.drop_guess()
        chosen = type(self.kex_engine)
        self.kex_name = next(name for name, kex in self._kex_info.items() if kex is chosen)

    def _parse_ext_info(self, msg: Message) -> None:
        # We use no extension of a client, and paramiko would loop as many times as the client says.
        pass

    def _parse_newkeys(self, m: Message) -> None:
        if self.kex_engine is None:
            raise SSHException("NEWKEYS without a key exchange")
        if self.auth_handler is None:
            self.auth_handler = self._application.new_auth_handler(self)
        super()._parse_newkeys(m)
        messages, self._held_messages = self._held_messages, []
        for message in messages:
            self._send_user_message(message)

    def _sanitize_packet_size(self, max_packet_size: int | None) -> int:
        # paramiko would send packets of 4,096 bytes to a client that takes only smaller ones.
        if max_packet_size is None:
            return super()._sanitize_packet_size(max_packet_size)
        if not max_packet_size:
            raise SSHException("a channel whose packets may not contain anything")
        return max_packet_size

    def _send_user_message(self, data: Message) -> None:
        if self.clear_to_send.is_set():
            super()._send_user_message(data)
        else:
            self._hold_message(data)

    def _send_message(self, data: Message) -> None:
        # paramiko calls this for the reply to a channel's opening, even during a key exchange.
        if data.asbytes()[0] >= _FIRST_USER_MESSAGE and not self.clear_to_send.is_set():
            self._hold_message(data)
        else:
            super()._send_message(data)

    def _hold_message(self, data: Message) -> None:
        if len(self._held_messages) >= _MAX_HELD_MESSAGES:
            raise SSHException("too many requests during a key exchange")
        self._held_messages.append(data)

    # Requests and channels.

    def _parse_global_request(self, m: Message) -> None:
        name = m.get_binary().decode("utf-8", "replace")
        wants_reply = m.get_boolean()
        answer = self._application.handle_global_request(name, m.get_remainder())
        if wants_reply:
            reply = Message()
            reply.add_byte(cMSG_REQUEST_FAILURE if answer is None else cMSG_REQUEST_SUCCESS)
            reply.add_bytes(answer or b"")
            self._send_user_message(reply)

    def _queue_incoming_channel(self, channel: Channel) -> None:
        self._open_channels[channel.chanid] = channel

    def _unlink_channel(self, chanid: int) -> None:
        super()._unlink_channel(chanid)
        self._open_channels.pop(chanid, None)

    def _on_channel_request(self, channel: _TypedChannel, message: Message) -> None:
        channel._handle_request(message)
        actions, self._after_reply = self._after_reply, []
        for action in actions:
            action()

    def _on_unexpected_data(self, channel: _TypedChannel, message: Message) -> None:
        # Data for a channel without an SFTP session, or whose session has ended.
        self._use_window(channel, len(message.get_string()))

    def _on_unexpected_extended_data(self, channel: _TypedChannel, message: Message) -> None:
        message.get_int()
        self._use_window(channel, len(message.get_string()))

    def _use_window(self, channel: _TypedChannel, size: int) -> None:
        # The data is dropped and the window is never opened again, so a client can send this way
        # only as much as one window.
        channel.in_window_size -= size
        if channel.in_window_size < 0:
            raise SSHException("more data than the channel's window")

    def _on_eof(self, channel: _TypedChannel, message: Message) -> None:
        self._sftp_channels.end_of_file(channel.chanid)
        channel._handle_eof(message)

    def _on_close(self, channel: _TypedChannel, message: Message) -> None:
        self._sftp_channels.discard(channel.chanid)
        channel._handle_close(message)


def is_client_fault(failure: BaseException) -> bool:
    """Return whether a connection failed because of what the client sent, not because of our bug.

    Our own code raises SSHException for a malformed message. paramiko and the libraries that it
    calls raise many kinds of exceptions. So every exception counts as the client's fault, unless
    our own code raised it and it is not an SSHException.
    """
    frame = failure.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    raised_in = "" if frame is None else str(frame.tb_frame.f_globals.get("__name__"))
    return isinstance(failure, SSHException) or raised_in.split(".")[0] not in _OUR_PACKAGES
