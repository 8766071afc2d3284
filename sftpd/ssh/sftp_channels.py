"""SFTP channels served by the thread that reads the connection (RFC 4254 section 5).

A Carrier takes its channel's data from the packet layer, feeds it to a Session, and has the
replies sealed as far as the client's window allows. When the window is shut, or the socket
full, the session's generator stands still until the next step; what the client sends meanwhile
is kept, and the client's own window opens again only as that is used up. The channels of a
connection take turns.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from struct import Struct
from typing import Protocol

import structlog
from paramiko.channel import Channel
from paramiko.common import cMSG_CHANNEL_WINDOW_ADJUST
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from sftpd.sftp.session import HEADROOM, ProtocolError, Session

MAX_DATA = 32768  # bytes of data in one packet, either way
_MAX_WINDOW = 0xFFFFFFFF
_MAX_FED = 32768  # bytes of requests that a session is given at a time
_MIN_WINDOW_UPDATE = 32768  # bytes used up before the client is told
_ADJUST, _DATA = 93, 94
_two = Struct(">II")

Pace = Callable[[int], float]

_log = structlog.get_logger()


class Sealer(Protocol):
    """Who seals a channel's data, see packets.Packets."""

    def send_data(self, recipient: int, stream: memoryview, at: int, end: int, most: int) -> int:
        """Seal some of `stream[at:end]`, and say how much."""


class SftpChannel:
    """One channel and its session."""

    def __init__(
        self, channel: Channel, session: Session, send_message: Callable[[Message], None]
    ) -> None:
        self.channel = channel
        self.ended = False
        self._session = session
        self._send_message = send_message
        self._window = channel.out_window_size
        self._max_data = min(channel.out_max_packet_size, MAX_DATA)
        self._client_window = channel.in_window_size
        self._consumed = 0
        self._inbox = bytearray()
        self._eof = False
        self._replies: Iterator[memoryview] | None = None
        self._fed = 0
        self._at = self._end = 0

    def receive(self, data: memoryview) -> None:
        """Keep what the client sent; raise SSHException if it may not send that much."""
        if self._eof:
            raise SSHException("data after the end of a channel")
        if len(data) > min(self._client_window, MAX_DATA):
            raise SSHException(f"{len(data)} bytes of data with a window of {self._client_window}")
        self._client_window -= len(data)
        self._inbox += data

    def add_window(self, size: int) -> None:
        """The client has room for `size` bytes more; raise SSHException if that cannot be."""
        if self._window + size > _MAX_WINDOW:
            raise SSHException(f"a window of {self._window + size} bytes")
        self._window += size

    def end_of_file(self) -> None:
        """The client will send nothing more."""
        self._eof = True

    @property
    def window_closed(self) -> bool:
        """Whether replies wait for the client's window."""
        return self._at < self._end and not self._window

    @property
    def ready(self) -> bool:
        """Whether replies wait for nothing but to be sealed."""
        return self._at < self._end and self._window > 0

    def send_some(self, sealer: Sealer) -> int:
        """Seal some replies; return how many bytes, 0 if there is nothing to be done now."""
        while not self.ended:
            if self._at < self._end:
                return self._seal_replies(sealer)
            if self._replies is not None:
                replies = next(self._replies, None)
                if replies is None:
                    self._replies = None
                    self._return_window()
                else:
                    self._at, self._end = HEADROOM, HEADROOM + len(replies)
            elif self._inbox:
                fed = bytes(self._inbox[:_MAX_FED])
                del self._inbox[:_MAX_FED]
                self._fed = len(fed)
                self._replies = self._session.feed(fed)
            elif self._eof:
                self.end()
            else:
                break
        return 0

    def _seal_replies(self, sealer: Sealer) -> int:
        end = min(self._end, self._at + self._window)
        if self._at == end:
            if self._eof:
                # A client that was killed leaves its ssh behind, which never opens the window.
                self.end()
            return 0
        stream = self._session.stream
        sealed = sealer.send_data(self.channel.remote_chanid, stream, self._at, end, self._max_data)
        self._at += sealed
        self._window -= sealed
        return sealed

    def _return_window(self) -> None:
        self._consumed += self._fed
        if self._consumed < _MIN_WINDOW_UPDATE or self._eof:
            return
        message = Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(self.channel.remote_chanid)
        message.add_int(self._consumed)
        self._client_window += self._consumed
        self._consumed = 0
        self._send_message(message)

    def end(self, well: bool = True) -> None:
        """Let go of the session and close its channel; say so if all went well."""
        self.discard()
        with suppress(OSError, EOFError, SSHException):
            if well:
                self.channel.send_exit_status(0)
            self.channel.close()

    def discard(self) -> None:
        """Let go of the session: nothing is sent any more."""
        self.ended = True
        replies, self._replies = self._replies, None
        self._at = self._end = 0
        if replies is not None:
            replies.close()  # type: ignore[attr-defined]
        self._inbox.clear()
        self._session.end()


class SftpChannels:
    """All channels of one connection that carry SFTP; the packet layer's Work.

    `pace` is told how many bytes were sealed, and returns the seconds to wait before more are.
    """

    def __init__(
        self, sealer: Sealer, clock: Callable[[], float], pace: Pace | None = None
    ) -> None:
        self._sealer = sealer
        self._clock = clock
        self._pace = pace
        self._channels: dict[int, SftpChannel] = {}
        self._busy: dict[int, SftpChannel] = {}  # who may have something to do, in their order
        self._next_send = 0.0

    def serve(
        self, channel: Channel, session: Session, send_message: Callable[[Message], None]
    ) -> None:
        """Serve a session on a channel; `send_message` sends what is not data."""
        self._channels[channel.chanid] = SftpChannel(channel, session, send_message)

    def end_of_file(self, chanid: int) -> None:
        """The client sends nothing more on a channel."""
        each_channel = self._channels.get(chanid)
        if each_channel is not None:
            each_channel.end_of_file()
            self._busy[chanid] = each_channel

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Take CHANNEL_DATA or WINDOW_ADJUST; False if there is no such channel here."""
        if len(payload) < 9:
            raise SSHException("a packet that ends too early")
        chanid, size = _two.unpack_from(payload, 1)
        each_channel = self._channels.get(chanid)
        if each_channel is None:
            return False
        self._busy[chanid] = each_channel
        if kind == _ADJUST:
            each_channel.add_window(size)
            return True
        data = payload[9:]
        if len(data) != size:
            raise SSHException("a packet that ends too early")
        each_channel.receive(data)
        return True

    def send_some(self) -> bool:
        """Let the next channel that can seal something do so."""
        while self._busy and not (self._next_send and self.seconds_to_pause()):
            chanid, each_channel = next(iter(self._busy.items()))
            del self._busy[chanid]
            sealed = self._send_some(each_channel)
            if each_channel.ended:
                self._channels.pop(chanid, None)
            elif sealed or each_channel.ready:
                self._busy[chanid] = each_channel  # behind the others
            if sealed and self._pace is not None and (wait := self._pace(sealed)) > 0:
                self._next_send = self._clock() + wait
            if sealed or each_channel.ended:
                return True
            if each_channel.ready:
                break  # the packet layer seals nothing more before there are new keys
        return False

    def _send_some(self, each_channel: SftpChannel) -> int:
        try:
            return each_channel.send_some(self._sealer)
        except ProtocolError as error:
            _log.warning("client dropped", cause=str(error))
        except (OSError, EOFError, SSHException):
            raise
        except Exception:
            _log.exception("session failed")
        each_channel.end(well=False)
        return 0

    def waits_for_client(self) -> bool:
        """Say whether replies wait for a client's window."""
        for each_channel in self._channels.values():  # noqa: SIM110 - asked for every packet
            if each_channel.window_closed:
                return True
        return False

    def seconds_to_pause(self) -> float:
        """Return the seconds until the pace allows more."""
        if not self._next_send:
            return 0.0
        left = self._next_send - self._clock()
        if left <= 0:
            self._next_send = left = 0.0
        return left

    def discard(self, chanid: int) -> None:
        """The client has closed a channel."""
        self._busy.pop(chanid, None)
        each_channel = self._channels.pop(chanid, None)
        if each_channel is not None:
            each_channel.discard()

    def end(self) -> None:
        """The connection is over."""
        for chanid in list(self._channels):
            self.discard(chanid)
