"""Serves SFTP channels in the thread that reads the connection (RFC 4254 section 5).

An SftpChannel collects the data of one channel, feeds it to a Session, and seals as much of the
replies as the client's window allows. Flow control works in both directions:

- If the client's window is closed, or the socket is full, the session's generator is not advanced.
  What the client sends in the meantime is kept in the inbox.
- The window in which the client may send opens only as the inbox is processed, so the inbox stays
  small.

The channels of a connection take turns.
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

MAX_DATA = 32768  # bytes of data in one packet, in either direction
_MAX_WINDOW = 0xFFFFFFFF
_MAX_FED = 32768  # bytes of requests that a session gets at a time
_MIN_WINDOW_UPDATE = 32768  # processed bytes before the client's window is opened again
_WINDOW_ADJUST = 93
_two_u32 = Struct(">II")

Pace = Callable[[int], float]

_log = structlog.get_logger()


class Sealer(Protocol):
    """Seals a channel's data; see sftpd/ssh/packetizer."""

    def send_data(
        self, recipient: int, stream: memoryview, at: int, end: int, max_size: int
    ) -> int:
        """Seal some of `stream[at:end]` and return how many bytes."""


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
        self._processed = 0  # bytes that were processed since the client's window was last opened
        self._inbox = bytearray()
        self._eof = False
        self._replies: Iterator[memoryview] | None = None
        self._fed = 0
        self._at = self._end = 0

    def receive(self, data: memoryview) -> None:
        """Keep data from the client; raise SSHException if it exceeds the client's window."""
        if self._eof:
            raise SSHException("data after the end of a channel")
        if len(data) > min(self._client_window, MAX_DATA):
            raise SSHException(f"{len(data)} bytes of data with a window of {self._client_window}")
        self._client_window -= len(data)
        self._inbox += data

    def add_window(self, size: int) -> None:
        """Add `size` bytes to the client's window; raise SSHException if it overflows."""
        if self._window + size > _MAX_WINDOW:
            raise SSHException(f"a window of {self._window + size} bytes")
        self._window += size

    def end_of_file(self) -> None:
        """The client sends no more data."""
        self._eof = True

    @property
    def window_closed(self) -> bool:
        """Return whether replies wait for the client's window."""
        return self._at < self._end and not self._window

    @property
    def ready(self) -> bool:
        """Return whether replies can be sealed now."""
        return self._at < self._end and self._window > 0

    def send_some(self, sealer: Sealer) -> int:
        """Seal some replies; return how many bytes, 0 if nothing can be done now."""
        while not self.ended:
            if self._at < self._end:
                return self._seal_replies(sealer)
            if self._replies is not None:
                replies = next(self._replies, None)
                if replies is None:
                    self._replies = None
                    self._open_client_window()
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
                # A client that was killed leaves its ssh process behind, which sends EOF and never
                # opens the window again.
                self.end()
            return 0
        stream = self._session.stream
        sealed = sealer.send_data(self.channel.remote_chanid, stream, self._at, end, self._max_data)
        self._at += sealed
        self._window -= sealed
        return sealed

    def _open_client_window(self) -> None:
        self._processed += self._fed
        if self._processed < _MIN_WINDOW_UPDATE or self._eof:
            return
        message = Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(self.channel.remote_chanid)
        message.add_int(self._processed)
        self._client_window += self._processed
        self._processed = 0
        self._send_message(message)

    def end(self, success: bool = True) -> None:
        """End the session and close the channel; send exit status 0 after a success."""
        self.discard()
        with suppress(OSError, EOFError, SSHException):
            if success:
                self.channel.send_exit_status(0)
            self.channel.close()

    def discard(self) -> None:
        """End the session; nothing more is sent."""
        self.ended = True
        replies, self._replies = self._replies, None
        self._at = self._end = 0
        if replies is not None:
            replies.close()  # type: ignore[attr-defined]
        self._inbox.clear()
        self._session.end()


class SftpChannels:
    """All SFTP channels of one connection.

    `pace` is called with the number of bytes sealed, and returns the seconds to wait before more
    are sealed.
    """

    def __init__(
        self, sealer: Sealer, clock: Callable[[], float], pace: Pace | None = None
    ) -> None:
        self._sealer = sealer
        self._clock = clock
        self.pace = pace
        self._channels: dict[int, SftpChannel] = {}
        self._busy: dict[int, SftpChannel] = {}  # channels that may have something to do, in turn
        self._next_send = 0.0

    def add(
        self, channel: Channel, session: Session, send_message: Callable[[Message], None]
    ) -> None:
        """Serve a session on a channel; `send_message` sends what is not data."""
        self._channels[channel.chanid] = SftpChannel(channel, session, send_message)

    def end_of_file(self, chanid: int) -> None:
        """The client sends no more data on a channel."""
        channel = self._channels.get(chanid)
        if channel is not None:
            channel.end_of_file()
            self._busy[chanid] = channel

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Handle CHANNEL_DATA or WINDOW_ADJUST; return False if the channel is not one of these."""
        if len(payload) < 9:
            raise SSHException("a packet is too short")
        chanid, size = _two_u32.unpack_from(payload, 1)
        channel = self._channels.get(chanid)
        if channel is None:
            return False
        self._busy[chanid] = channel
        if kind == _WINDOW_ADJUST:
            channel.add_window(size)
            return True
        data = payload[9:]
        if len(data) != size:
            raise SSHException("a packet is too short")
        channel.receive(data)
        return True

    def send_some(self) -> bool:
        """Let the next channel that can seal replies do so; return False if none can."""
        while self._busy and not (self._next_send and self.seconds_to_pause()):
            chanid, channel = next(iter(self._busy.items()))
            del self._busy[chanid]
            sealed = self._send_some(channel)
            if channel.ended:
                self._channels.pop(chanid, None)
            elif sealed or channel.ready:
                self._busy[chanid] = channel  # behind the others
            if sealed and self.pace is not None and (wait := self.pace(sealed)) > 0:
                self._next_send = self._clock() + wait
            if sealed or channel.ended:
                return True
            if channel.ready:
                break  # the packetizer seals nothing more until there are new keys
        return False

    def _send_some(self, channel: SftpChannel) -> int:
        try:
            return channel.send_some(self._sealer)
        except ProtocolError as error:
            _log.warning("client-dropped", cause=str(error))
        except (OSError, EOFError, SSHException):
            raise
        except Exception:
            _log.exception("session-failed")
        channel.end(success=False)
        return 0

    def waits_for_client(self) -> bool:
        """Return whether replies wait for a client's window."""
        for channel in self._channels.values():  # noqa: SIM110 - called for every packet
            if channel.window_closed:
                return True
        return False

    def seconds_to_pause(self) -> float:
        """Return the seconds until the bandwidth limit allows more data."""
        if not self._next_send:
            return 0.0
        left = self._next_send - self._clock()
        if left <= 0:
            self._next_send = left = 0.0
        return left

    def discard(self, chanid: int) -> None:
        """End the session of a channel that the client has closed."""
        self._busy.pop(chanid, None)
        channel = self._channels.pop(chanid, None)
        if channel is not None:
            channel.discard()

    def end(self) -> None:
        """End all sessions: the connection has ended."""
        for chanid in list(self._channels):
            self.discard(chanid)
