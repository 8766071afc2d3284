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

from sftpd.sftp.session import LEAD, Broken, Session

LONGEST_DATA = 32768  # bytes of data in one packet, either way
_WIDEST = 0xFFFFFFFF
_FED = 32768  # bytes of requests that a session is given at a time
_CREDIT = 32768  # bytes used up before the client is told
_ADJUST, _DATA = 93, 94
_two = Struct(">II")

Pace = Callable[[int], float]

_log = structlog.get_logger()


class Sealer(Protocol):
    """Who seals a channel's data, see packets.Packets."""

    def send_data(self, recipient: int, stream: memoryview, at: int, end: int, most: int) -> int:
        """Seal some of `stream[at:end]`, and say how much."""


class Carrier:
    """One channel and its session."""

    def __init__(self, channel: Channel, session: Session, tell: Callable[[Message], None]) -> None:
        self.channel = channel
        self.over = False
        self._session = session
        self._tell = tell
        self._window = channel.out_window_size
        self._most = min(channel.out_max_packet_size, LONGEST_DATA)
        self._granted = channel.in_window_size
        self._used = 0
        self._inbox = bytearray()
        self._eof = False
        self._replies: Iterator[memoryview] | None = None
        self._fed = 0
        self._at = self._end = 0

    def take(self, data: memoryview) -> None:
        """Keep what the client sent; raise SSHException if it may not send that much."""
        if self._eof:
            raise SSHException("data after the end of a channel")
        if len(data) > min(self._granted, LONGEST_DATA):
            raise SSHException(f"{len(data)} bytes of data with a window of {self._granted}")
        self._granted -= len(data)
        self._inbox += data

    def widen(self, size: int) -> None:
        """The client has room for `size` bytes more; raise SSHException if that cannot be."""
        if self._window + size > _WIDEST:
            raise SSHException(f"a window of {self._window + size} bytes")
        self._window += size

    def end_of_file(self) -> None:
        """The client will send nothing more."""
        self._eof = True

    @property
    def shut(self) -> bool:
        """Whether replies wait for the client's window."""
        return self._at < self._end and not self._window

    @property
    def ready(self) -> bool:
        """Whether replies wait for nothing but to be sealed."""
        return self._at < self._end and self._window > 0

    def step(self, sealer: Sealer) -> int:
        """Seal some replies; return how many bytes, 0 if there is nothing to be done now."""
        while not self.over:
            if self._at < self._end:
                return self._seal(sealer)
            if self._replies is not None:
                replies = next(self._replies, None)
                if replies is None:
                    self._replies = None
                    self._credit()
                else:
                    self._at, self._end = LEAD, LEAD + len(replies)
            elif self._inbox:
                fed = bytes(self._inbox[:_FED])
                del self._inbox[:_FED]
                self._fed = len(fed)
                self._replies = self._session.feed(fed)
            elif self._eof:
                self.end()
            else:
                break
        return 0

    def _seal(self, sealer: Sealer) -> int:
        end = min(self._end, self._at + self._window)
        if self._at == end:
            if self._eof:
                # A client that was killed leaves its ssh behind, which never opens the window.
                self.end()
            return 0
        stream = self._session.stream
        sealed = sealer.send_data(self.channel.remote_chanid, stream, self._at, end, self._most)
        self._at += sealed
        self._window -= sealed
        return sealed

    def _credit(self) -> None:
        self._used += self._fed
        if self._used < _CREDIT or self._eof:
            return
        message = Message()
        message.add_byte(cMSG_CHANNEL_WINDOW_ADJUST)
        message.add_int(self.channel.remote_chanid)
        message.add_int(self._used)
        self._granted += self._used
        self._used = 0
        self._tell(message)

    def end(self, well: bool = True) -> None:
        """Let go of the session and close its channel; say so if all went well."""
        self.drop()
        with suppress(OSError, EOFError, SSHException):
            if well:
                self.channel.send_exit_status(0)
            self.channel.close()

    def drop(self) -> None:
        """Let go of the session: nothing is sent any more."""
        self.over = True
        replies, self._replies = self._replies, None
        self._at = self._end = 0
        if replies is not None:
            replies.close()  # type: ignore[attr-defined]
        self._inbox.clear()
        self._session.end()


class Carriers:
    """All channels of one connection that carry SFTP; the packet layer's Work.

    `pace` is told how many bytes were sealed, and returns the seconds to wait before more are.
    """

    def __init__(
        self, sealer: Sealer, clock: Callable[[], float], pace: Pace | None = None
    ) -> None:
        self._sealer = sealer
        self._clock = clock
        self._pace = pace
        self._carriers: dict[int, Carrier] = {}
        self._busy: dict[int, Carrier] = {}  # who may have something to do, in their order
        self._next = 0.0

    def carry(self, channel: Channel, session: Session, tell: Callable[[Message], None]) -> None:
        """Serve a session on a channel; `tell` sends what is not data."""
        self._carriers[channel.chanid] = Carrier(channel, session, tell)

    def end_of_file(self, chanid: int) -> None:
        """The client sends nothing more on a channel."""
        carrier = self._carriers.get(chanid)
        if carrier is not None:
            carrier.end_of_file()
            self._busy[chanid] = carrier

    def take(self, kind: int, payload: memoryview) -> bool:
        """Take CHANNEL_DATA or WINDOW_ADJUST; False if there is no such channel here."""
        if len(payload) < 9:
            raise SSHException("a packet that ends too early")
        chanid, size = _two.unpack_from(payload, 1)
        carrier = self._carriers.get(chanid)
        if carrier is None:
            return False
        self._busy[chanid] = carrier
        if kind == _ADJUST:
            carrier.widen(size)
            return True
        data = payload[9:]
        if len(data) != size:
            raise SSHException("a packet that ends too early")
        carrier.take(data)
        return True

    def step(self) -> bool:
        """Let the next channel that can seal something do so."""
        while self._busy and not (self._next and self.pause()):
            chanid, carrier = next(iter(self._busy.items()))
            del self._busy[chanid]
            sealed = self._stepped(carrier)
            if carrier.over:
                self._carriers.pop(chanid, None)
            elif sealed or carrier.ready:
                self._busy[chanid] = carrier  # behind the others
            if sealed and self._pace is not None and (wait := self._pace(sealed)) > 0:
                self._next = self._clock() + wait
            if sealed or carrier.over:
                return True
            if carrier.ready:
                break  # the packet layer seals nothing more before there are new keys
        return False

    def _stepped(self, carrier: Carrier) -> int:
        try:
            return carrier.step(self._sealer)
        except Broken as error:
            _log.warning("client dropped", cause=str(error))
        except (OSError, EOFError, SSHException):
            raise
        except Exception:
            _log.exception("session failed")
        carrier.end(well=False)
        return 0

    def due(self) -> bool:
        """Say whether replies wait for a client's window."""
        for carrier in self._carriers.values():  # noqa: SIM110 - asked for every packet
            if carrier.shut:
                return True
        return False

    def pause(self) -> float:
        """Return the seconds until the pace allows more."""
        if not self._next:
            return 0.0
        left = self._next - self._clock()
        if left <= 0:
            self._next = left = 0.0
        return left

    def drop(self, chanid: int) -> None:
        """The client has closed a channel."""
        self._busy.pop(chanid, None)
        carrier = self._carriers.pop(chanid, None)
        if carrier is not None:
            carrier.drop()

    def end(self) -> None:
        """The connection is over."""
        for chanid in list(self._carriers):
            self.drop(chanid)
