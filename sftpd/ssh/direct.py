"""The fast transport: SFTP answered by the thread that reads, over our own packet layer.

It differs from the plain Transport in three things. Packetizer are sealed and opened by
sftpd/ssh/packetizer. The data of SFTP channels goes to sftpd/ssh/sftp_channels without passing
paramiko's channels and threads; opening, requests and closing stay paramiko's.

And AES-GCM is preferred. In SSH the client's order of ciphers decides, and OpenSSH's puts
AES-CTR before AES-GCM, which costs three times the CPU. So our own KEXINIT is held back until
the client's is here (it needs nothing of ours), and offers GCM alone if the client has it both
ways, everything if not; and so with encrypt-then-MAC on a site that has other MACs too. A client
whose KEXINIT is not here after `KEXINIT_WAIT` seconds, because it waits for ours or is far away, is
offered everything too: on such a link the cipher is not what limits. Both KEXINITs are under the
signature of the key exchange, as always.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
)
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.server import ServerInterface
from paramiko.ssh_exception import SSHException

from sftpd.sftp.session import Session
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.sftp_channels import Pace, SftpChannels
from sftpd.ssh.transport import CIPHERS, KEX, MACS, Transport

KEXINIT_WAIT = 0.05  # seconds
_CIPHERS_AT, _MACS_AT = 2, 4  # where a KEXINIT lists them, towards us and from us (RFC 4253 7.1)
_GCM = tuple(name for name in CIPHERS if "-gcm@" in name)


class _Channel(Channel):
    """The private names of paramiko's channel that are used here."""

    if TYPE_CHECKING:
        in_window_size: int

        def _handle_eof(self, m: Message) -> None: ...
        def _handle_close(self, m: Message) -> None: ...


class Direct(Transport):
    """One client's SSH connection, served whole by one thread; the packet layer's service.

    `pace` is told how many bytes were sealed, and returns the seconds to wait before more are;
    `flush_due_closes` is asked between two packets, and returns the seconds until it has to be
    again.
    """

    if TYPE_CHECKING:
        packetizer: Packetizer  # type: ignore[assignment]
        _expected_packet: tuple[int, ...]
        _channel_handler_table: dict[int, Callable[[_Channel, Message], None]]

    def __init__(
        self,
        wire: ClientSocket,
        host_keys: Iterable[PKey],
        server: ServerInterface,
        make_auth_handler: Callable[[Transport], AuthHandler],
        on_global_request: Callable[[str, bytes], bytes | None],
        kex: Sequence[str] = KEX,
        macs: Sequence[str] = MACS,
        pace: Pace | None = None,
        flush_due_closes: Callable[[], float | None] = lambda: None,
    ) -> None:
        wire.set_blocking()
        super().__init__(
            wire, host_keys, server, make_auth_handler, on_global_request, kex, macs, Packetizer
        )
        self._kexinit_seen = False
        self._flush_due_closes = flush_due_closes
        self._sftp_channels = SftpChannels(self.packetizer, time.monotonic, pace)
        self.packetizer.service = self
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_DATA: self._unexpected_data,
            MSG_CHANNEL_EXTENDED_DATA: self._unexpected_extended_data,
            MSG_CHANNEL_EOF: self._on_eof,
            MSG_CHANNEL_CLOSE: self._on_close,
        }

    def run(self) -> None:
        """Serve until the connection ends."""
        try:
            super().run()
        finally:
            self._sftp_channels.end()

    def serve(self, channel: Channel, session: Session) -> None:
        """Answer a channel's SFTP."""
        self._sftp_channels.serve(channel, session, self.send_unasked)

    @property
    def stalled(self) -> bool:
        """Whether it ended because the client took nothing of what was due."""
        return self.packetizer.stalled

    # What the packet layer asks between two packets.

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Take a channel's data or window; False if it is not its time."""
        if self._expected_packet or not self.authenticated:
            return False
        return self._sftp_channels.handle_packet(kind, payload)

    def send_some(self) -> bool:
        """Seal some replies; none while keys are exchanged."""
        self._flush_due_closes()
        return self.clear_to_send.is_set() and self._sftp_channels.send_some()

    def flush_due_closes(self) -> float | None:
        """Return the seconds until this wants to be called again, None if it does not."""
        return self._flush_due_closes()

    def waits_for_client(self) -> bool:
        """Say whether the client owes us something: keys, or room for replies."""
        return not self.clear_to_send.is_set() or self._sftp_channels.waits_for_client()

    def seconds_to_pause(self) -> float:
        """Return the seconds until more may be sealed."""
        return self._sftp_channels.seconds_to_pause()

    # What paramiko asks.

    def _send_kex_init(self) -> None:
        if not self._kexinit_seen:
            self._kexinit_seen = True
            theirs = self.packetizer.peek_client_kexinit(KEXINIT_WAIT)
            if theirs is not None:
                self._prefer_fast_algorithms(theirs)
        super()._send_kex_init()

    def _prefer_fast_algorithms(self, theirs: bytes) -> None:
        options = self.get_security_options()
        if _lists_any(theirs, _CIPHERS_AT, _GCM):
            options.ciphers = _GCM
        if _lists_any(theirs, _MACS_AT, MACS):
            options.digests = MACS

    def _unexpected_data(self, channel: _Channel, message: Message) -> None:
        # For a channel that serves nothing, or no longer. Its window never opens again.
        self._use_window(channel, len(message.get_string()))

    def _unexpected_extended_data(self, channel: _Channel, message: Message) -> None:
        message.get_int()
        self._use_window(channel, len(message.get_string()))

    def _use_window(self, channel: _Channel, size: int) -> None:
        channel.in_window_size -= size
        if channel.in_window_size < 0:
            raise SSHException("more data than a channel's window")

    def _on_eof(self, channel: _Channel, message: Message) -> None:
        self._sftp_channels.end_of_file(channel.chanid)
        channel._handle_eof(message)

    def _on_close(self, channel: _Channel, message: Message) -> None:
        self._sftp_channels.discard(channel.chanid)
        channel._handle_close(message)


def _lists_any(kexinit: bytes, at: int, names: Sequence[str]) -> bool:
    """Say whether a KEXINIT has one of the names in the list at that place, and in the next."""
    message = Message(kexinit[17:])  # after the type and the cookie
    both = [message.get_binary().split(b",") for _ in range(at + 2)][at:]
    wanted = {name.encode() for name in names}
    return not any(wanted.isdisjoint(each) for each in both)
