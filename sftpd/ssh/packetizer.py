"""SSH's binary packets (RFC 4253 section 6), sealed and opened many at a time by one thread.

What paramiko's Packetizer does, for a connection that has only one thread: the socket is read in
large pieces and never waited for but in `poll`, packets are sealed one after the other into one
buffer that leaves in one send, and a channel's data is sealed from where it was read to.
`read_message` is the connection's loop: between two packets it sends what is sealed and lets
`ChannelService` seal more, so that nothing that a client does or leaves undone stops the reading.
It is one piece because every packet, either way, touches the buffers, the counts that call for new
keys and the loop alike.

Ciphers stand in sftpd/ssh/ciphers. For example, `SSH_MSG_NEWKEYS` before there are keys:

    0000000c 0a 15 00000000000000000000
"""

import select
import time
from collections.abc import Callable
from contextlib import suppress
from logging import Logger
from struct import Struct
from typing import Any, Protocol

from paramiko.common import MSG_NAMES, cMSG_UNIMPLEMENTED
from paramiko.message import Message
from paramiko.packet import NeedRekeyException
from paramiko.ssh_exception import SSHException

from sftpd.ssh import ciphers
from sftpd.ssh.ciphers import Cipher, Clear, CtrAndMac

MAX_PACKET = 256 * 1024 + 4096
HEADROOM, TAILROOM = 16, 32  # bytes around a stream that are written over while it is sealed
_MAX_LINE = 1024
_MAX_KEXINIT = 35_000  # bytes of a KEXINIT that is looked at ahead of its turn
_CHUNK = 1 << 16
_MAX_QUEUED = (
    128 * 1024
)  # bytes sealed ahead of the socket: while a client opens these, more are sealed
_BATCH = _MAX_QUEUED + 40_000  # and one packet more
_MAX_UNSENT = 1 << 20  # bytes unsent above which no more is read
_SENDS_PER_READ = 4  # pieces of work before the client is heard again
_CHANNEL_DATA = 94
_KEXINIT = 20
_LAST_NUMBER = 0xFFFFFFFF
_DATA_HEADER = 14
_ZEROS = [bytes(size) for size in range(TAILROOM)]
_data_header = Struct(">IBBII")
_u32 = Struct(">I")


class ClientSocket(Protocol):
    """What the packets go through, see connection.ClientSocket."""

    def fileno(self) -> int:
        """Return the descriptor, for poll."""

    def recv_into(self, buffer: memoryview, wait: bool) -> int:
        """Read what is there, if asked to as soon as something is; raise EOFError at the end.

        If there is nothing and it does not wait, raise BlockingIOError.
        """

    def send_nowait(self, data: memoryview) -> int:
        """Write what there is room for; raise BlockingIOError if there is none."""

    def seconds_left(self) -> float | None:
        """Return the seconds until the login is overdue; raise EOFError if it is."""

    def close(self) -> None:
        """Hang up."""


class ChannelService(Protocol):
    """What there is to do between two packets."""

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Take a packet of a channel; False if it is for others."""

    def send_some(self) -> bool:
        """Seal a little more; False if there is nothing that can be sealed now."""

    def flush_due_closes(self) -> float | None:
        """Do what may wait a little; return the seconds until more of it is due, if it is."""

    def waits_for_client(self) -> bool:
        """Say whether something waits for the client."""

    def seconds_to_pause(self) -> float:
        """Return the seconds until more may be sealed."""


class Packetizer:
    """The packet layer of one connection; paramiko's Transport takes it for its Packetizer."""

    REKEY_PACKETS = 1 << 29
    REKEY_BYTES = 1 << 30
    # What a client may still send after it was asked for new keys.
    OVERFLOW_PACKETS = 1 << 29
    OVERFLOW_BYTES = 1 << 29
    STALL = 120.0  # seconds in which a client that is due something takes none of it

    def __init__(
        self, connection: ClientSocket, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.service: ChannelService | None = None
        self.stalled = False
        self.closed = False
        self._initial_kex_done = False  # paramiko's Transport sets it
        self._socket = connection
        self._clock = clock
        self._stalled_since: float | None = None
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._polled = select.POLLIN
        self._sealing: Cipher = Clear()
        self._opening: Cipher = Clear()
        self._number_out = self._number_in = 0
        self._bytes_out = self._packets_out = 0
        self._bytes_in = self._packets_in = 0
        self._overflow_bytes = self._overflow_packets = 0
        self._changed_directions = 0  # which directions have new keys: 1 out, 2 in
        self._need_rekey = self._rekey_requested = False
        self._in = memoryview(bytearray(_CHUNK // 4))
        self._in_start = self._in_end = 0
        self._out = memoryview(bytearray(_CHUNK // 4))
        self._out_start = self._out_end = HEADROOM

    # What paramiko's Transport asks.

    def set_log(self, logger: Logger) -> None:
        """Leave the log to the session."""

    def set_outbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: bytes | None,
        sdctr: bool = False,
        etm: bool = False,
        aead: bool = False,
        iv_out: bytes | None = None,
    ) -> None:
        """Seal with new keys from now on."""
        self._sealing = ciphers.cipher(
            block_engine, mac_engine, mac_size, mac_key, etm, aead, iv_out
        )
        self._bytes_out = self._packets_out = 0
        self._key_changed(1)

    def set_inbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: bytes | None,
        etm: bool = False,
        aead: bool = False,
        iv_in: bytes | None = None,
    ) -> None:
        """Open with new keys from now on."""
        self._opening = ciphers.cipher(
            block_engine, mac_engine, mac_size, mac_key, etm, aead, iv_in
        )
        self._bytes_in = self._packets_in = 0
        self._overflow_bytes = self._overflow_packets = 0
        self._key_changed(2)

    def _key_changed(self, direction: int) -> None:
        self._changed_directions |= direction
        if self._changed_directions == 3:
            self._changed_directions = 0
            self._need_rekey = self._rekey_requested = False

    def set_outbound_compressor(self, _: Any) -> None:
        """Refuse: no compression is offered."""
        raise SSHException("compression")

    set_inbound_compressor = set_outbound_compressor

    def reset_seqno_out(self) -> None:
        """Count from zero again, as strict key exchange wants after NEWKEYS."""
        self._number_out = 0

    def reset_seqno_in(self) -> None:
        """The same for what comes in."""
        self._number_in = 0

    def need_rekey(self) -> bool:
        """Say whether a new key exchange is to begin; not between its two NEWKEYS."""
        return self._need_rekey and not self._changed_directions

    def start_handshake(self, timeout: float) -> None:
        """Leave the time to the ClientSocket."""

    def complete_handshake(self) -> None:
        """Leave the time to the ClientSocket."""

    def close(self) -> None:
        """Send what can be sent at once, and hang up."""
        if not self.closed:
            self.closed = True
            with suppress(OSError, EOFError):
                self._flush()
            self._socket.close()

    def write_all(self, data: bytes) -> None:
        """Queue bytes as they are."""
        self._make_room(len(data))
        self._out[self._out_end : self._out_end + len(data)] = data
        self._out_end += len(data)

    def readline(self, timeout: float) -> str:
        """Read the client's greeting; raise TimeoutError."""
        until = self._clock() + timeout
        while True:
            seen = bytes(self._in[self._in_start : self._in_end])
            line, end, _ = seen.partition(b"\n")
            if end:
                self._in_start += len(line) + 1
                return line.removesuffix(b"\r").decode("utf-8", "replace")
            if len(seen) > _MAX_LINE:
                raise SSHException("a greeting that does not end")
            self._flush()
            if not self._poll_and_read(self._time_until(until)) and self._clock() >= until:
                raise TimeoutError

    def send_message(self, message: Message) -> None:
        """Seal one packet, to leave before the next is read."""
        payload = message.asbytes()
        cipher = self._sealing
        padding = 3 + cipher.block - (len(payload) + 1 + 3 + cipher.counted) % cipher.block
        packet_size = b"".join(
            (_u32.pack(1 + len(payload) + padding), bytes([padding]), payload, _ZEROS[padding])
        )
        self._make_room(len(packet_size) + cipher.tag)
        cipher.seal(self._number_out, memoryview(packet_size), self._out, self._out_end)
        self._count_sealed(len(packet_size) + cipher.tag)

    def read_message(self) -> tuple[int, Message]:
        """Return the next packet's type and content, serving the ChannelService meanwhile.

        Raises NeedRekeyException, once, if it is time for new keys; EOFError at the end.
        """
        while True:
            payload = self._next_packet()
            if payload is None:
                self._wait()
                continue
            kind = payload[0]
            if (
                self.service is not None
                and kind in (93, 94)
                and self.service.handle_packet(kind, payload)
            ):
                continue
            number = (self._number_in - 1) & _LAST_NUMBER
            if kind not in MSG_NAMES:
                self._unimplemented(kind, number)
                continue
            message = Message(bytes(payload[1:]))
            message.seqno = number
            return kind, message

    def _unimplemented(self, kind: int, number: int) -> None:
        if not self._initial_kex_done:
            raise SSHException(f"a packet of type {kind} in the first key exchange")
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(number)
        self.send_message(reply)

    # What the channels and the transport ask.

    @property
    def unsent(self) -> int:
        """How many sealed bytes the socket has not taken yet."""
        return self._out_end - self._out_start

    def send_data(self, recipient: int, stream: memoryview, at: int, end: int, most: int) -> int:
        """Seal `stream[at:end]` as CHANNEL_DATA of up to `most` bytes a packet.

        Returns how much was sealed, which is less if there is too much already. Of the stream,
        HEADROOM bytes before `at` are written over; TAILROOM bytes must stand after `end`.
        """
        cipher, start = self._sealing, at
        block, tag = cipher.block, cipher.tag
        base = 1 + 3 + 9 + cipher.counted
        while at < end and self._out_end < _MAX_QUEUED and not self._need_rekey:
            size = min(most, end - at)
            padding = 3 + block - (size + base) % block
            stop = at + size
            over = stop + padding
            after = bytes(stream[stop:over])
            _data_header.pack_into(
                stream,
                at - _DATA_HEADER,
                10 + size + padding,
                padding,
                _CHANNEL_DATA,
                recipient,
                size,
            )
            stream[stop:over] = _ZEROS[padding]
            packet_size = _DATA_HEADER + size + padding
            self._make_room(packet_size + tag)
            cipher.seal(
                self._number_out, stream[at - _DATA_HEADER : over], self._out, self._out_end
            )
            stream[stop:over] = after
            self._count_sealed(packet_size + tag)
            at = stop
        return at - start

    def peek_client_kexinit(self, seconds_left: float) -> bytes | None:
        """Wait up to `seconds_left` seconds for the client's KEXINIT, and return it unread."""
        until = self._clock() + seconds_left
        while True:
            seen = self._in[self._in_start : self._in_end]
            if len(seen) >= 6:
                (length,) = _u32.unpack_from(seen)
                if length > _MAX_KEXINIT or seen[5] != _KEXINIT:
                    return None
                if len(seen) >= 4 + length:
                    return bytes(seen[5 : max(4 + length - seen[4], 5)])
            self._flush()
            if not self._poll_and_read(self._time_until(until)) and self._clock() >= until:
                return None

    def _time_until(self, until: float) -> float:
        left = self._socket.seconds_left()
        wanted = until - self._clock()
        return wanted if left is None else min(left, wanted)

    # The loop.

    def _wait(self) -> None:
        """Send, work, and wait until something has been read."""
        service = self.service
        while True:
            if self.closed:
                raise EOFError
            more = False
            for _ in range(_SENDS_PER_READ):
                if self._out_start != self._out_end:
                    self._flush()
                more = (
                    self._out_start == self._out_end and service is not None and service.send_some()
                )
                if not more:
                    break
            self._flush()
            if self._need_rekey and not self._rekey_requested and not self._changed_directions:
                self._rekey_requested = True
                raise NeedRekeyException
            if self._poll_and_read(0.0 if more and not self.unsent else self._poll_timeout()):
                return

    def _poll_timeout(self) -> float | None:
        """Return how long nothing may happen, in seconds; raise EOFError after too long."""
        left, service = self._socket.seconds_left(), self.service
        if left is not None or service is None:
            return left
        left, unsent = service.flush_due_closes(), self._out_start != self._out_end
        if unsent or service.waits_for_client():
            now = self._clock()
            if self._stalled_since is None:
                self._stalled_since = now
            until = self._stalled_since + self.STALL - now
            if until <= 0:
                self.stalled = True
                raise EOFError
            left = until if left is None else min(left, until)
        else:
            self._stalled_since = None
        if not unsent and (pause := service.seconds_to_pause()) > 0:
            left = pause if left is None else min(pause, left)
        return left

    def _poll_and_read(self, seconds_left: float | None) -> bool:
        """Wait for the socket, up to some seconds, and say whether something was read."""
        if seconds_left is None and not self.unsent:
            return self._fill(wait=True)
        events = select.POLLIN if self.unsent < _MAX_UNSENT else 0
        if self.unsent:
            events |= select.POLLOUT
        if events != self._polled:
            self._poll.modify(self._socket.fileno(), events)
            self._polled = events
        found = self._poll.poll(None if seconds_left is None else max(seconds_left, 0.0) * 1000)
        if not found:
            return False
        if self._polled & select.POLLIN and found[0][1] & ~select.POLLOUT:
            return self._fill(wait=False)
        if not self._polled & select.POLLIN:
            self._flush()
        return False

    def _fill(self, wait: bool) -> bool:
        if self._in_start == self._in_end:
            self._in_start = self._in_end = 0
        elif len(self._in) - self._in_end < _CHUNK // 4:
            rest = bytes(self._in[self._in_start : self._in_end])
            if len(self._in) - len(rest) < _CHUNK // 2:
                self._in = memoryview(bytearray(len(rest) + _CHUNK))
            self._in[: len(rest)] = rest
            self._in_start, self._in_end = 0, len(rest)
        try:
            self._in_end += self._socket.recv_into(self._in[self._in_end :], wait)
        except BlockingIOError:
            return False
        return True

    def _flush(self) -> None:
        if self._out_start == self._out_end:
            return
        while self._out_start < self._out_end:
            try:
                sent = self._socket.send_nowait(self._out[self._out_start : self._out_end])
            except BlockingIOError:
                return
            self._out_start += sent
            self._stalled_since = None
        self._out_start = self._out_end = HEADROOM

    def _make_room(self, size: int) -> None:
        if self._out_end + size <= len(self._out):
            return
        rest = bytes(self._out[self._out_start : self._out_end])
        wanted = HEADROOM + len(rest) + size
        if wanted > len(self._out):
            self._out = memoryview(bytearray(_BATCH if wanted <= _BATCH else 2 * wanted))
        self._out_start, self._out_end = HEADROOM, HEADROOM + len(rest)
        self._out[HEADROOM : self._out_end] = rest

    def _next_packet(self) -> memoryview | None:
        """Return the payload of the next packet, if it is all there."""
        start, cipher = self._in_start, self._opening
        have = self._in_end - start
        if have < cipher.head:
            return None
        if isinstance(cipher, CtrAndMac):
            (length,) = _u32.unpack(cipher.length(self._in[start : start + cipher.head]))
        else:
            (length,) = _u32.unpack_from(self._in, start)
        if not 6 <= length <= MAX_PACKET or (length + cipher.counted) % cipher.block:
            raise SSHException(f"a packet of {length} bytes")
        packet_size = 4 + length + cipher.tag
        if have < packet_size:
            return None
        body = cipher.open(self._number_in, self._in[start : start + packet_size])
        padding = body[0]
        if not 4 <= padding <= length - 2:
            raise SSHException(f"a packet of {length} bytes with {padding} of padding")
        self._in_start = start + packet_size
        self._number_in += 1
        self._bytes_in += packet_size
        self._packets_in += 1
        if (
            self._number_in > _LAST_NUMBER
            or self._need_rekey
            or self._bytes_in >= self.REKEY_BYTES
            or self._packets_in >= self.REKEY_PACKETS
        ):
            self._number_in = self._wrap_sequence_number(self._number_in)
            self._count_overflow(packet_size)
        return memoryview(body)[1 : length - padding]

    def _wrap_sequence_number(self, number: int) -> int:
        if number > _LAST_NUMBER and not self._initial_kex_done:
            raise SSHException("too many packets in the first key exchange")
        return number & _LAST_NUMBER

    def _count_sealed(self, size: int) -> None:
        self._out_end += size
        self._number_out += 1
        if self._number_out > _LAST_NUMBER:
            self._number_out = self._wrap_sequence_number(self._number_out)
        self._bytes_out += size
        self._packets_out += 1
        if self._bytes_out >= self.REKEY_BYTES or self._packets_out >= self.REKEY_PACKETS:
            self._need_rekey = True

    def _count_overflow(self, size: int) -> None:
        if self._need_rekey:
            self._overflow_bytes += size
            self._overflow_packets += 1
            if (
                self._overflow_bytes >= self.OVERFLOW_BYTES
                or self._overflow_packets >= self.OVERFLOW_PACKETS
            ):
                raise SSHException("a client that will not change keys")
        elif self._bytes_in >= self.REKEY_BYTES or self._packets_in >= self.REKEY_PACKETS:
            self._need_rekey = True
