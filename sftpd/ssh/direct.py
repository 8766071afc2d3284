"""The fast transport: SFTP answered by the thread that reads, over our own packet layer.

It differs from the plain Transport in three things. Packets are sealed and opened by
sftpd/ssh/packetizer. The data of SFTP channels goes to sftpd/ssh/sftp_channels without passing
paramiko's channels and threads; opening, requests and closing stay paramiko's.

And AES-GCM is preferred. In SSH the client's order of ciphers decides, and OpenSSH's puts
AES-CTR before AES-GCM, which costs three times the CPU. So our own KEXINIT is held back until
the client's is here (it needs nothing of ours), and offers GCM alone if the client has it both
ways, everything if not; and so with encrypt-then-MAC on a site that has other MACs too. A client
whose KEXINIT is not here after `HOLD` seconds, because it waits for ours or is far away, is
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
from sftpd.ssh.client_socket import Wire
from sftpd.ssh.packetizer import Packets
from sftpd.ssh.sftp_channels import Carriers, Pace
from sftpd.ssh.transport import CIPHERS, KEX, MACS, Transport

HOLD = 0.05  # seconds
_CIPHERS_AT, _MACS_AT = 2, 4  # where a KEXINIT lists them, towards us and from us (RFC 4253 7.1)
_GCM = tuple(name for name in CIPHERS if "-gcm@" in name)


class _Channel(Channel):
    """The private names of paramiko's channel that are used here."""

    if TYPE_CHECKING:
        in_window_size: int

        def _handle_eof(self, m: Message) -> None: ...
        def _handle_close(self, m: Message) -> None: ...


class Direct(Transport):
    """One client's SSH connection, served whole by one thread; it is the packet layer's Work.

    `pace` is told how many bytes were sealed, and returns the seconds to wait before more are;
    `linger` is asked between two packets, and returns the seconds until it has to be again.
    """

    if TYPE_CHECKING:
        packetizer: Packets  # type: ignore[assignment]
        _expected_packet: tuple[int, ...]
        _channel_handler_table: dict[int, Callable[[_Channel, Message], None]]

    def __init__(
        self,
        wire: Wire,
        host_keys: Iterable[PKey],
        server: ServerInterface,
        authenticate: Callable[[Transport], AuthHandler],
        asked: Callable[[str, bytes], bytes | None],
        kex: Sequence[str] = KEX,
        macs: Sequence[str] = MACS,
        pace: Pace | None = None,
        linger: Callable[[], float | None] = lambda: None,
    ) -> None:
        wire.unlimited()
        super().__init__(wire, host_keys, server, authenticate, asked, kex, macs, Packets)
        self._looked = False
        self._linger = linger
        self._carriers = Carriers(self.packetizer, time.monotonic, pace)
        self.packetizer.work = self
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_DATA: self._stray,
            MSG_CHANNEL_EXTENDED_DATA: self._stray_extended,
            MSG_CHANNEL_EOF: self._end_of_file,
            MSG_CHANNEL_CLOSE: self._closed,
        }

    def run(self) -> None:
        """Serve until the connection ends."""
        try:
            super().run()
        finally:
            self._carriers.end()

    def carry(self, channel: Channel, session: Session) -> None:
        """Answer a channel's SFTP."""
        self._carriers.carry(channel, session, self.tell)

    @property
    def stalled(self) -> bool:
        """Whether it ended because the client took nothing of what was due."""
        return self.packetizer.stalled

    # What the packet layer asks between two packets.

    def take(self, kind: int, payload: memoryview) -> bool:
        """Take a channel's data or window; False if it is not its time."""
        if self._expected_packet or not self.authenticated:
            return False
        return self._carriers.take(kind, payload)

    def step(self) -> bool:
        """Seal some replies; none while keys are exchanged."""
        self._linger()
        return self.clear_to_send.is_set() and self._carriers.step()

    def linger(self) -> float | None:
        """Return the seconds until this wants to be called again, None if it does not."""
        return self._linger()

    def due(self) -> bool:
        """Say whether the client owes us something: keys, or room for replies."""
        return not self.clear_to_send.is_set() or self._carriers.due()

    def pause(self) -> float:
        """Return the seconds until more may be sealed."""
        return self._carriers.pause()

    # What paramiko asks.

    def _send_kex_init(self) -> None:
        if not self._looked:
            self._looked = True
            theirs = self.packetizer.peek_kexinit(HOLD)
            if theirs is not None:
                self._prefer(theirs)
        super()._send_kex_init()

    def _prefer(self, theirs: bytes) -> None:
        options = self.get_security_options()
        if _lists(theirs, _CIPHERS_AT, _GCM):
            options.ciphers = _GCM
        if _lists(theirs, _MACS_AT, MACS):
            options.digests = MACS

    def _stray(self, channel: _Channel, message: Message) -> None:
        # For a channel that serves nothing, or no longer. Its window never opens again.
        self._spend(channel, len(message.get_string()))

    def _stray_extended(self, channel: _Channel, message: Message) -> None:
        message.get_int()
        self._spend(channel, len(message.get_string()))

    def _spend(self, channel: _Channel, size: int) -> None:
        channel.in_window_size -= size
        if channel.in_window_size < 0:
            raise SSHException("more data than a channel's window")

    def _end_of_file(self, channel: _Channel, message: Message) -> None:
        self._carriers.end_of_file(channel.chanid)
        channel._handle_eof(message)

    def _closed(self, channel: _Channel, message: Message) -> None:
        self._carriers.drop(channel.chanid)
        channel._handle_close(message)


def _lists(kexinit: bytes, at: int, names: Sequence[str]) -> bool:
    """Say whether a KEXINIT has one of the names in the list at that place, and in the next."""
    message = Message(kexinit[17:])  # after the type and the cookie
    both = [message.get_binary().split(b",") for _ in range(at + 2)][at:]
    wanted = {name.encode() for name in names}
    return not any(wanted.isdisjoint(each) for each in both)
