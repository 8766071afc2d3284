"""Seals and opens SSH's binary packets (RFC 4253 section 6), many at a time, in one thread.

This replaces paramiko's Packetizer, which needs a thread of its own. The socket is read in large
pieces. Packets are sealed one after the other into one buffer, and one send passes all of them to
the kernel. A channel's data is sealed directly from the buffer into which it was read from the
disk.

`read_message` is the main loop of a connection. Between two packets it sends what is sealed, and
asks the ChannelService to seal more. It never blocks on a full socket, so it can always read from
the client.

This is one module because every packet touches the buffers, the counters that request new keys,
and the loop. The ciphers are in sftpd/ssh/ciphers. Example: `SSH_MSG_NEWKEYS` before there are keys
is a length of 12, 10 bytes of padding, type 21 and the padding:

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

from sftpd.sftp.session import HEADROOM, TAILROOM
from sftpd.ssh import ciphers
from sftpd.ssh.ciphers import Cipher, Clear, CtrAndMac

MAX_PACKET = 256 * 1024 + 4096
_MAX_LINE = 1024
_MAX_KEXINIT = 35_000  # bytes
_CHUNK = 1 << 16
# Bytes sealed before the socket has to take them. More than one packet, so that the client opens
# some packets while the next ones are sealed.
_MAX_QUEUED = 128 * 1024
_BATCH = _MAX_QUEUED + 40_000  # room for one packet beyond _MAX_QUEUED
_MAX_UNSENT = 1 << 20  # nothing is read while more bytes than this are unsent
_SENDS_PER_READ = 4  # calls of `send_some` before the socket is read again
_FIRST_CHANNEL_MESSAGE = 90  # RFC 4250 section 4.1.2; keepalives are others
_WINDOW_ADJUST, _CHANNEL_DATA = 93, 94
_KEXINIT = 20
_KEX_METHOD = range(30, 50)  # messages of a key exchange method, RFC 4250 section 4.1.2
_OUT, _IN = 1, 2
_MAX_SEQUENCE_NUMBER = 0xFFFFFFFF
_DATA_HEADER = 14  # length, padding length, type, recipient channel, length of the data
_ZEROS = [bytes(size) for size in range(TAILROOM)]
_data_header = Struct(">IBBII")
_u32 = Struct(">I")


class Connection(Protocol):
    """The socket below; see sftpd/ssh/client_socket."""

    def fileno(self) -> int:
        """Return the descriptor, for poll."""

    def recv_into(self, buffer: memoryview, wait: bool) -> int:
        """Read what has arrived and return its size, waiting for it if `wait`.

        Raises EOFError at the end, BlockingIOError if nothing has arrived and it does not wait.
        """

    def send_nowait(self, data: memoryview) -> int:
        """Write what the socket takes and return its size; raise BlockingIOError if it is full."""

    def login_seconds_left(self) -> float | None:
        """Return the seconds left for the login, None after it; raise EOFError if none are left."""

    def close(self) -> None:
        """Close the connection."""


class ChannelService(Protocol):
    """The layer above that serves the channels, called between two packets."""

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        """Handle CHANNEL_DATA or WINDOW_ADJUST; return False to leave the packet to paramiko."""

    def send_some(self) -> bool:
        """Seal some replies; return False if nothing can be sealed now."""

    def flush_due_closes(self) -> float | None:
        """Send the CLOSE records if they are due; return the seconds until then, or None."""

    def waits_for_client(self) -> bool:
        """Return whether the server waits for the client, for example for a window to open."""

    def seconds_to_pause(self) -> float:
        """Return the seconds until the bandwidth limit allows more data."""


class Packetizer:
    """The packet layer of one connection, with the interface of paramiko's Packetizer."""

    # After this many packets or bytes in one direction the server starts a new key exchange.
    REKEY_PACKETS = 1 << 29
    REKEY_BYTES = 1 << 30
    # What a client may still send before it answers that key exchange.
    OVERFLOW_PACKETS = 1 << 29
    OVERFLOW_BYTES = 1 << 29
    # A client is disconnected if data waits for it and it takes none for this many seconds.
    STALL_SECONDS = 120.0
    # A client that has logged in is disconnected if it requests nothing for this many seconds.
    IDLE_SECONDS = 14_400.0

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self.service: ChannelService | None = None
        self.stalled = self.idle = False
        self.closed = False
        self._drops_guess = False
        self._initial_kex_done = False  # set by paramiko's Transport
        self._socket = connection
        self._clock = clock
        self._stalled_since: float | None = None
        self._requested, self._requested_at = True, 0.0  # since the last look, and when that was
        self._poll = select.poll()
        self._polled = 0  # what it is registered for; there may be no client yet
        self._sealing: Cipher = Clear()
        self._opening: Cipher = Clear()
        self._number_out = self._number_in = 0
        self._bytes_out = self._packets_out = 0
        self._bytes_in = self._packets_in = 0
        self._overflow_bytes = self._overflow_packets = 0
        self._rekeyed = 0  # the directions that have new keys in this key exchange, _OUT | _IN
        self._need_rekey = self._rekey_requested = False
        self._in = memoryview(bytearray(_CHUNK // 4))
        self._in_start = self._in_end = 0
        self._out = memoryview(bytearray(_CHUNK // 4))
        self._out_start = self._out_end = HEADROOM

    # The interface that paramiko's Transport uses.

    def set_log(self, logger: Logger) -> None:
        """Ignore it: the session logs by itself."""

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
        """Seal with these keys from now on."""
        self._sealing = ciphers.cipher(
            block_engine, mac_engine, mac_size, mac_key, etm, aead, iv_out
        )
        self._bytes_out = self._packets_out = 0
        self._key_changed(_OUT)

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
        """Open with these keys from now on."""
        self._opening = ciphers.cipher(
            block_engine, mac_engine, mac_size, mac_key, etm, aead, iv_in
        )
        self._bytes_in = self._packets_in = 0
        self._overflow_bytes = self._overflow_packets = 0
        self._key_changed(_IN)

    def _key_changed(self, direction: int) -> None:
        self._rekeyed |= direction
        if self._rekeyed == _OUT | _IN:
            self._rekeyed = 0
            self._need_rekey = self._rekey_requested = False

    def set_outbound_compressor(self, _: Any) -> None:
        """Refuse: the server offers no compression."""
        raise SSHException("compression is not offered")

    set_inbound_compressor = set_outbound_compressor

    def reset_seqno_out(self) -> None:
        """Count outbound packets from 0 again, as strict key exchange requires after NEWKEYS."""
        self._number_out = 0

    def reset_seqno_in(self) -> None:
        """Count inbound packets from 0 again."""
        self._number_in = 0

    def need_rekey(self) -> bool:
        """Return whether to start a key exchange; False between the two NEWKEYS of one."""
        return self._need_rekey and not self._rekeyed

    def start_handshake(self, timeout: float) -> None:
        """Ignore it: ClientSocket limits the time of the login."""

    def complete_handshake(self) -> None:
        """Ignore it: ClientSocket limits the time of the login."""

    def close(self) -> None:
        """Send what the socket takes at once, and close the connection."""
        if not self.closed:
            self.closed = True
            with suppress(OSError, EOFError):
                self._flush()
            self._socket.close()

    def write_all(self, data: bytes) -> None:
        """Queue bytes that are not a packet: the version line."""
        self._make_room(len(data))
        self._out[self._out_end : self._out_end + len(data)] = data
        self._out_end += len(data)

    def readline(self, timeout: float) -> str:
        """Read the client's version line; raise TimeoutError after `timeout` seconds."""
        until = self._clock() + timeout
        while True:
            seen = bytes(self._in[self._in_start : self._in_end])
            line, end, _ = seen.partition(b"\n")
            if end:
                self._in_start += len(line) + 1
                return line.removesuffix(b"\r").decode("utf-8", "replace")
            if len(seen) > _MAX_LINE:
                raise SSHException("the version line is too long")
            self._flush()
            if not self._poll_and_read(self._time_until(until)) and self._clock() >= until:
                raise TimeoutError

    def send_message(self, message: Message) -> None:
        """Seal one packet; it is sent before the next packet is read."""
        payload = message.asbytes()
        cipher = self._sealing
        padding = 3 + cipher.block - (len(payload) + 1 + 3 + cipher.counted) % cipher.block
        packet = b"".join(
            (_u32.pack(1 + len(payload) + padding), bytes([padding]), payload, _ZEROS[padding])
        )
        self._make_room(len(packet) + cipher.tag)
        cipher.seal(self._number_out, memoryview(packet), self._out, self._out_end)
        self._count_sealed(len(packet) + cipher.tag)

    def read_message(self) -> tuple[int, Message]:
        """Return the next packet's type and content; call the ChannelService until it arrives.

        Packets that the ChannelService handles are not returned. Raises NeedRekeyException once
        when a new key exchange must start, and EOFError at the end.
        """
        while True:
            payload = self._next_packet()
            if payload is None:
                self._wait()
                continue
            kind = payload[0]
            if kind >= _FIRST_CHANNEL_MESSAGE:
                self._requested = True
            if (
                self.service is not None
                and kind in (_WINDOW_ADJUST, _CHANNEL_DATA)
                and self.service.handle_packet(kind, payload)
            ):
                continue
            if self._drops_guess and kind in _KEX_METHOD:
                self._drops_guess = False
                continue
            number = (self._number_in - 1) & _MAX_SEQUENCE_NUMBER
            if kind not in MSG_NAMES:
                self._reply_unimplemented(kind, number)
                continue
            message = Message(bytes(payload[1:]))
            message.seqno = number
            return kind, message

    def drop_guess(self) -> None:
        """Drop the next packet of a key exchange: the client's guess was wrong."""
        self._drops_guess = True

    def _reply_unimplemented(self, kind: int, number: int) -> None:
        if not self._initial_kex_done:
            raise SSHException(f"packet of type {kind} in the first key exchange")
        reply = Message()
        reply.add_byte(cMSG_UNIMPLEMENTED)
        reply.add_int(number)
        self.send_message(reply)

    # The interface that our own Transport and channels use.

    @property
    def bytes_since_new_keys(self) -> int:
        """Return how many bytes the current keys have protected, in both directions."""
        return self._bytes_out + self._bytes_in

    @property
    def unsent(self) -> int:
        """Return how many sealed bytes the socket has not taken yet."""
        return self._out_end - self._out_start

    def send_data(
        self, recipient: int, stream: memoryview, at: int, end: int, max_size: int
    ) -> int:
        """Seal `stream[at:end]` as CHANNEL_DATA packets with up to `max_size` bytes of data each.

        Returns the number of bytes sealed, which is less if the queue is full or new keys are
        needed. The packet is built in place: HEADROOM bytes before `at` are overwritten, and at
        least TAILROOM bytes must follow `end`; those are restored.
        """
        cipher, start = self._sealing, at
        block, tag = cipher.block, cipher.tag
        base = 1 + 3 + 9 + cipher.counted
        while at < end and self._out_end < _MAX_QUEUED and not self._need_rekey:
            size = min(max_size, end - at)
            padding = 3 + block - (size + base) % block
            stop = at + size
            packet_end = stop + padding
            following = bytes(stream[stop:packet_end])
            _data_header.pack_into(
                stream,
                at - _DATA_HEADER,
                10 + size + padding,
                padding,
                _CHANNEL_DATA,
                recipient,
                size,
            )
            stream[stop:packet_end] = _ZEROS[padding]
            packet_size = _DATA_HEADER + size + padding
            self._make_room(packet_size + tag)
            packet = stream[at - _DATA_HEADER : packet_end]
            cipher.seal(self._number_out, packet, self._out, self._out_end)
            stream[stop:packet_end] = following
            self._count_sealed(packet_size + tag)
            at = stop
        return at - start

    def peek_client_kexinit(self, timeout: float) -> bytes | None:
        """Wait up to `timeout` seconds for the client's KEXINIT; return it without consuming it.

        Returns None if it does not arrive in time or something else arrives.
        """
        until = self._clock() + timeout
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
        left = self._socket.login_seconds_left()
        wanted = until - self._clock()
        return wanted if left is None else min(left, wanted)

    # The loop.

    def _wait(self) -> None:
        """Send, and let the ChannelService seal more, until something has been read."""
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
            if self._need_rekey and not self._rekey_requested and not self._rekeyed:
                self._rekey_requested = True
                raise NeedRekeyException
            if self._poll_and_read(0.0 if more and not self.unsent else self._poll_timeout()):
                return

    def _poll_timeout(self) -> float | None:
        """Return the seconds to wait in poll, None for no limit; raise EOFError on a stall."""
        left, service = self._socket.login_seconds_left(), self.service
        if left is not None or service is None:
            return left
        self._check_idle()
        left, unsent = service.flush_due_closes(), self._out_start != self._out_end
        if unsent or service.waits_for_client():
            now = self._clock()
            if self._stalled_since is None:
                self._stalled_since = now
            until = self._stalled_since + self.STALL_SECONDS - now
            if until <= 0:
                self.stalled = True
                raise EOFError
            left = until if left is None else min(left, until)
        else:
            self._stalled_since = None
        if not unsent and (pause := service.seconds_to_pause()) > 0:
            left = pause if left is None else min(pause, left)
        return left

    def _check_idle(self) -> None:
        """Raise EOFError if the client has requested nothing for too long.

        While nothing happens this is called as often as the socket's own timeout says (SO_RCVTIMEO,
        sftpd/connection).
        """
        now = self._clock()
        if self._requested:
            self._requested, self._requested_at = False, now
        elif now >= self._requested_at + self.IDLE_SECONDS:
            self.idle = True
            raise EOFError

    def _poll_and_read(self, timeout: float | None) -> bool:
        """Wait for the socket up to `timeout` seconds; return whether something was read."""
        if timeout is None and not self.unsent:
            return self._fill(wait=True)
        events = select.POLLIN if self.unsent < _MAX_UNSENT else 0
        if self.unsent:
            events |= select.POLLOUT
        if events != self._polled:
            self._poll.register(self._socket.fileno(), events)
            self._polled = events
        found = self._poll.poll(None if timeout is None else max(timeout, 0.0) * 1000)
        if not found:
            return False
        if self._polled & select.POLLIN and found[0][1] & ~select.POLLOUT:
            return self._fill(wait=False)
        if not self._polled & select.POLLIN:
            self._flush()
        return False

    def _fill(self, wait: bool) -> bool:
        """Read into the inbound buffer; return False if nothing has arrived."""
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
        """Send as many sealed bytes as the socket takes."""
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
        """Have room for `size` bytes more in the outbound buffer."""
        if self._out_end + size <= len(self._out):
            return
        rest = bytes(self._out[self._out_start : self._out_end])
        wanted = HEADROOM + len(rest) + size
        if wanted > len(self._out):
            self._out = memoryview(bytearray(_BATCH if wanted <= _BATCH else 2 * wanted))
        self._out_start, self._out_end = HEADROOM, HEADROOM + len(rest)
        self._out[HEADROOM : self._out_end] = rest

    def _next_packet(self) -> memoryview | None:
        """Return the payload of the next packet, None if it has not arrived completely."""
        start, cipher = self._in_start, self._opening
        have = self._in_end - start
        if have < cipher.head:
            return None
        if isinstance(cipher, CtrAndMac):
            (length,) = _u32.unpack(cipher.length(self._in[start : start + cipher.head]))
        else:
            (length,) = _u32.unpack_from(self._in, start)
        if not 6 <= length <= MAX_PACKET or (length + cipher.counted) % cipher.block:
            raise SSHException(f"packet of {length} bytes")
        packet_size = 4 + length + cipher.tag
        if have < packet_size:
            return None
        body = cipher.open(self._number_in, self._in[start : start + packet_size])
        padding = body[0]
        if not 4 <= padding <= length - 2:
            raise SSHException(f"packet of {length} bytes with {padding} bytes of padding")
        self._in_start = start + packet_size
        self._number_in += 1
        self._bytes_in += packet_size
        self._packets_in += 1
        if (
            self._number_in > _MAX_SEQUENCE_NUMBER
            or self._need_rekey
            or self._bytes_in >= self.REKEY_BYTES
            or self._packets_in >= self.REKEY_PACKETS
        ):
            self._number_in = self._wrap_sequence_number(self._number_in)
            self._count_overflow(packet_size)
        return memoryview(body)[1 : length - padding]

    def _wrap_sequence_number(self, number: int) -> int:
        if number > _MAX_SEQUENCE_NUMBER and not self._initial_kex_done:
            raise SSHException("sequence number wrapped in the first key exchange")
        return number & _MAX_SEQUENCE_NUMBER

    def _count_sealed(self, size: int) -> None:
        self._out_end += size
        self._number_out += 1
        if self._number_out > _MAX_SEQUENCE_NUMBER:
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
                raise SSHException("the client does not answer the key exchange")
        elif self._bytes_in >= self.REKEY_BYTES or self._packets_in >= self.REKEY_PACKETS:
            self._need_rekey = True
