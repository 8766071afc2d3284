"""Our packetizer against paramiko's: each opens what the other seals, and refuses all else."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256, sha512
from itertools import count
from struct import pack

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.message import Message
from paramiko.packet import NeedRekeyException
from paramiko.packet import Packetizer as ParamikoPacketizer
from paramiko.ssh_exception import SSHException

from sftpd.sftp import session
from sftpd.sftp.session import HEADROOM, TAILROOM
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.packetizer import Packetizer

IGNORE, UNIMPLEMENTED, DATA = 2, 3, 94
SIZES = [0, 1, *range(2, 52), 255, 256, 4095, 4096, 32767, 32768, 32769, 255 * 1024, 262_000]


class FakeConnection:
    """A connection in memory, for either packetizer."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.waiting = bytearray()

    def fileno(self) -> int:
        return 0

    def send_nowait(self, data: memoryview) -> int:
        self.sent += data
        return len(data)

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def recv_into(self, room: memoryview, _wait: bool) -> int:
        found = self.recv(len(room))
        if not found:
            raise EOFError
        room[: len(found)] = found
        return len(found)

    def recv(self, size: int) -> bytes:
        found = bytes(self.waiting[:size])
        del self.waiting[:size]
        return found

    def login_seconds_left(self) -> None:
        return None

    def close(self) -> None:
        pass


@dataclass
class Keys:
    """The keys of a cipher, for either packetizer."""

    ctr: int
    gcm: int = 0
    digest: Callable[..., object] = sha256
    nonce: bytes = b"\1\2\3\4" + bytes(8)
    etm: bool = True

    @property
    def hides_length(self) -> bool:
        return not self.gcm and not self.etm

    def engine(self, inbound: bool) -> object:
        if self.gcm:
            return AESGCM(b"k" * self.gcm)
        cipher = Cipher(algorithms.AES(b"k" * self.ctr), modes.CTR(b"\xff" * 16))
        return cipher.decryptor() if inbound else cipher.encryptor()

    def out(self, packets: "Packetizer | ParamikoPacketizer") -> None:
        self._set(packets.set_outbound_cipher, False, {"sdctr": not self.gcm}, "iv_out")

    def into(self, packets: "Packetizer | ParamikoPacketizer") -> None:
        self._set(packets.set_inbound_cipher, True, {}, "iv_in")

    def _set(
        self, change: Callable[..., None], inbound: bool, more: dict[str, bool], iv: str
    ) -> None:
        mac = None if self.gcm else self.digest
        change(
            block_engine=self.engine(inbound),
            block_size=16,
            mac_engine=mac,
            mac_size=16 if self.gcm else self.digest().digest_size,  # type: ignore[attr-defined]
            mac_key=None if self.gcm else b"m" * 64,
            etm=self.etm and not self.gcm,
            aead=bool(self.gcm),
            **{iv: self.nonce if self.gcm else None},
            **more,
        )


CIPHERS = {
    "aes128-gcm": Keys(0, gcm=16),
    "aes256-gcm": Keys(0, gcm=32),
    "aes128-ctr-sha256-etm": Keys(16),
    "aes192-ctr-sha256-etm": Keys(24),
    "aes256-ctr-sha512-etm": Keys(32, digest=sha512),
    "aes128-ctr-sha256": Keys(16, etm=False),
    "aes256-ctr-sha512": Keys(32, digest=sha512, etm=False),
}
keyed = pytest.mark.parametrize("keys", CIPHERS.values(), ids=CIPHERS)


def message(size: int, kind: int = IGNORE) -> Message:
    return Message(bytes([kind]) + os.urandom(size))


def ours(keys: Keys | None = None) -> tuple[Packetizer, FakeConnection]:
    end = FakeConnection()
    packets = Packetizer(end)
    packets._initial_kex_done = True
    if keys:
        keys.out(packets)
        keys.into(packets)
    return packets, end


def theirs(keys: Keys | None = None) -> tuple[ParamikoPacketizer, FakeConnection]:
    end = FakeConnection()
    packets = ParamikoPacketizer(end)  # type: ignore[arg-type]
    packets._initial_kex_done = True  # type: ignore[attr-defined]
    if keys:
        keys.out(packets)
        keys.into(packets)
    return packets, end


def flushed(packets: Packetizer, end: FakeConnection) -> bytes:
    with pytest.raises(EOFError):
        packets.read_message()
    sent = bytes(end.sent)
    end.sent.clear()
    return sent


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
def test_paramiko_opens_what_we_seal(keys: Keys | None) -> None:
    us, our_end = ours(keys)
    them, their_end = theirs(keys)
    for size in SIZES:
        sealed = message(size)
        us.send_message(sealed)
        their_end.waiting += flushed(us, our_end)

        kind, opened = them.read_message()

        assert (kind, opened.asbytes()) == (IGNORE, sealed.asbytes()[1:])
    assert not their_end.waiting


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
def test_we_open_what_paramiko_seals(keys: Keys | None) -> None:
    us, our_end = ours(keys)
    them, their_end = theirs(keys)
    sealed = [message(size) for size in SIZES]
    for each in sealed:
        them.send_message(each)
    our_end.waiting += their_end.sent

    for each in sealed:
        assert us.read_message()[1].asbytes() == each.asbytes()[1:]
    assert not our_end.waiting


@keyed
@pytest.mark.parametrize("most", [100, 4096, 32768])
def test_a_stream_is_split_into_packets_of_the_client_s_size_and_not_changed(
    keys: Keys, most: int
) -> None:
    us, our_end = ours(keys)
    them, their_end = theirs(keys)
    content = os.urandom(100_001)
    stream = memoryview(bytearray(HEADROOM) + content + b"t" * TAILROOM)
    at, end = HEADROOM, HEADROOM + 90_000

    while at < end:
        at += us.send_data(7, stream, at, end, most)
        their_end.waiting += flushed(us, our_end)

    got = bytearray()
    while len(got) < 90_000:
        kind, opened = them.read_message()
        assert (kind, opened.get_int()) == (DATA, 7)
        piece = opened.get_binary()
        assert len(piece) == min(most, 90_000 - len(got))
        assert not opened.get_remainder()
        got += piece
    assert got == content[:90_000]
    assert stream[end:] == content[90_000:] + b"t" * TAILROOM


def test_a_session_s_stream_has_the_headroom_and_tailroom_that_sealing_needs() -> None:
    assert (session.HEADROOM, session.TAILROOM) == (HEADROOM, TAILROOM)


def test_padding_contains_no_bytes_of_the_stream() -> None:
    keys = CIPHERS["aes128-gcm"]
    us, our_end = ours(keys)
    stream = memoryview(bytearray(HEADROOM) + b"x" * 1000 + b"secret" * 10)
    us.send_data(0, stream, HEADROOM, HEADROOM + 1000, 100)
    sent = flushed(us, our_end)
    for number in range(10):
        (length,) = (int.from_bytes(sent[:4], "big"),)
        nonce = keys.nonce[:4] + pack(">Q", number)
        plain = AESGCM(b"k" * 16).decrypt(nonce, sent[4 : 20 + length], sent[:4])
        assert plain[0] >= 4
        assert plain[-plain[0] :] == bytes(plain[0])
        sent = sent[20 + length :]
    assert not sent


@keyed
def test_a_packet_with_a_flipped_bit_is_refused(keys: Keys) -> None:
    them, their_end = theirs(keys)
    them.send_message(message(20))
    sealed = bytes(their_end.sent)
    for bit in range(len(sealed) * 8):
        us, our_end = ours(keys)
        our_end.waiting += sealed
        our_end.waiting[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SSHException, EOFError)) as refusal:
            us.read_message()
        # If the flipped bit makes the length larger, the packetizer waits for bytes until the end.
        assert bit < 32 or "Mismatched MAC" in str(refusal.value)


@keyed
def test_a_packet_that_is_cut_off_is_never_returned(keys: Keys) -> None:
    them, their_end = theirs(keys)
    them.send_message(message(20))
    sealed = bytes(their_end.sent)
    for size in range(len(sealed)):
        us, our_end = ours(keys)
        our_end.waiting += sealed[:size]
        with pytest.raises(EOFError):
            us.read_message()


@keyed
def test_a_repeated_or_reordered_packet_is_refused(keys: Keys) -> None:
    them, their_end = theirs(keys)
    sealed = []
    for _ in range(3):
        them.send_message(message(20))
        sealed.append(bytes(their_end.sent))
        their_end.sent.clear()
    for wrong in ([0, 0], [1], [0, 2]):
        us, our_end = ours(keys)
        our_end.waiting += b"".join(sealed[number] for number in wrong)
        # If the length is encrypted, it is the first field that decrypts to something else.
        with pytest.raises(SSHException, match="packet of" if keys.hides_length else "MAC"):
            for _ in wrong:
                us.read_message()


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
@pytest.mark.parametrize("length", [0, 1, 5, 17, 270_000, 266_240 + 16, 2**31, 2**32 - 4])
def test_an_invalid_length_is_refused_as_soon_as_it_has_arrived(
    keys: Keys | None, length: int
) -> None:
    us, our_end = ours(keys)
    head = pack(">I", length)
    if keys and keys.hides_length:
        head = keys.engine(False).update(head + bytes(12))  # type: ignore[attr-defined]
    our_end.waiting += head
    with pytest.raises(SSHException, match=f"packet of {length} bytes"):
        us.read_message()


@pytest.mark.parametrize("padding", [0, 3, 11, 12, 255])
def test_an_invalid_padding_is_refused(padding: int) -> None:
    us, our_end = ours()
    our_end.waiting += pack(">IB", 12, padding) + bytes([IGNORE]) + bytes(10)
    with pytest.raises(SSHException, match="padding"):
        us.read_message()


def test_the_nonce_counts_packets_and_wraps_at_64_bits() -> None:
    keys = Keys(0, gcm=16, nonce=b"abcd" + b"\xff" * 8)
    us, our_end = ours(keys)
    for _ in range(2):
        us.send_message(message(20))
    sent = flushed(us, our_end)
    half = len(sent) // 2
    for nonce, packet in ((b"abcd" + b"\xff" * 8, sent[:half]), (b"abcd" + bytes(8), sent[half:])):
        AESGCM(b"k" * 16).decrypt(nonce, packet[4:], packet[:4])


def test_sequence_numbers_wrap_at_32_bits_and_can_be_reset() -> None:
    keys = CIPHERS["aes128-ctr-sha256-etm"]
    us, our_end = ours(keys)
    them, their_end = theirs(keys)
    us._number_out = us._number_in = 0xFFFFFFFF
    them._Packetizer__sequence_number_in = 0xFFFFFFFF  # type: ignore[attr-defined]
    them._Packetizer__sequence_number_out = 0xFFFFFFFF  # type: ignore[attr-defined]
    for reset in (False, False, True, False):
        if reset:
            us.reset_seqno_out()
            us.reset_seqno_in()
            them.reset_seqno_in()
            them.reset_seqno_out()
        us.send_message(message(3))
        their_end.waiting += flushed(us, our_end)
        assert them.read_message()[0] == IGNORE
        them.send_message(message(3))
        our_end.waiting += their_end.sent
        their_end.sent.clear()
        assert us.read_message()[0] == IGNORE


def test_the_sequence_number_must_not_wrap_in_the_first_key_exchange() -> None:
    us, _ = ours()
    us._initial_kex_done = False
    us._number_out = 0xFFFFFFFF
    with pytest.raises(SSHException, match="sequence number"):
        us.send_message(message(3))


def test_a_packet_of_an_unknown_type_gets_unimplemented() -> None:
    us, our_end = ours()
    them, their_end = theirs()
    for kind in (IGNORE, 77, IGNORE):
        them.send_message(message(5, kind))
    our_end.waiting += their_end.sent

    assert [us.read_message()[0], us.read_message()[0]] == [IGNORE, IGNORE]

    their_end.waiting += flushed(us, our_end)
    kind, answer = them.read_message()
    assert (kind, answer.get_int()) == (UNIMPLEMENTED, 1)


@pytest.mark.parametrize(
    "given",
    [
        {"etm": False, "aead": False, "mac_engine": sha256, "mac_key": b"m", "mac_size": 12},
        {"etm": True, "aead": False, "mac_engine": sha256, "mac_key": b"m", "mac_size": 12},
        {"etm": False, "aead": True, "mac_engine": None, "mac_key": None, "mac_size": 16},
    ],
    ids=["a MAC of the plaintext cut short", "a MAC cut short", "no nonce"],
)
def test_an_unknown_cipher_is_refused(given: dict[str, object]) -> None:
    us, _ = ours()
    with pytest.raises(SSHException, match="unknown cipher"):
        us.set_outbound_cipher(block_engine=None, block_size=16, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", ["REKEY_BYTES", "REKEY_PACKETS"])
@pytest.mark.parametrize("sending", [True, False], ids=["sent", "received"])
def test_a_rekey_is_requested_once_and_not_between_the_two_newkeys(
    monkeypatch: pytest.MonkeyPatch, limit: str, sending: bool
) -> None:
    monkeypatch.setattr(Packetizer, limit, 3 if limit == "REKEY_PACKETS" else 150)
    keys = CIPHERS["aes128-gcm"]
    us, our_end = ours(keys)
    them, their_end = theirs(keys)
    for _ in range(3):
        (us if sending else them).send_message(message(30))
    our_end.waiting += their_end.sent
    seen = 0
    with pytest.raises(NeedRekeyException):
        while True:
            us.read_message()
            seen += 1
    assert seen == (0 if sending else 3)
    assert us.need_rekey()
    with pytest.raises(EOFError):
        us.read_message()

    keys.out(us)
    assert not us.need_rekey()
    us.send_message(message(500))
    keys.into(us)
    assert not us.need_rekey()


def test_no_data_is_sealed_while_new_keys_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_PACKETS", 3)
    us, _ = ours(CIPHERS["aes128-gcm"])
    stream = memoryview(bytearray(HEADROOM + 1000 + TAILROOM))
    assert us.send_data(0, stream, HEADROOM, HEADROOM + 1000, 100) == 300
    assert us.send_data(0, stream, HEADROOM + 300, HEADROOM + 1000, 100) == 0


def test_a_client_that_ignores_the_key_exchange_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_PACKETS", 3)
    monkeypatch.setattr(Packetizer, "OVERFLOW_PACKETS", 10)
    us, our_end = ours()
    them, their_end = theirs()
    for _ in range(20):
        them.send_message(message(5))
    our_end.waiting += their_end.sent
    taken = 0
    with pytest.raises(SSHException, match="key exchange"):
        for _ in range(20):
            us.read_message()
            taken += 1
    assert taken == 12


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


class Idle:
    """A ChannelService that always waits for the client."""

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        return False

    def send_some(self) -> bool:
        return False

    def flush_due_closes(self) -> float | None:
        return None

    def waits_for_client(self) -> bool:
        return True

    def seconds_to_pause(self) -> float:
        return 0.0


def test_a_client_that_makes_no_progress_is_disconnected(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = ClientSocket()
    connection.start(pair[0], grace=60)
    connection.lift_login_limits()
    us = Packetizer(connection)
    us.STALL_SECONDS = 0.001
    us.service = Idle()
    with pytest.raises(EOFError):
        us.read_message()
    assert us.stalled


class Ready(Idle):
    """A ChannelService that waits for requests."""

    def handle_packet(self, kind: int, payload: memoryview) -> bool:
        return kind == DATA

    def waits_for_client(self) -> bool:
        return False


def test_a_client_that_requests_nothing_is_disconnected_in_spite_of_keepalives(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = ClientSocket()
    connection.start(pair[0], grace=60)
    connection.lift_login_limits()
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, pack("@ll", 0, 1000))
    ticks = count(100.0)
    us = Packetizer(connection, lambda: next(ticks))
    us.IDLE_SECONDS = 60.0
    us.service = Ready()
    us._initial_kex_done = True
    them, their_end = theirs()
    pair[1].sendall(b"SSH-2.0-x\r\n")
    us.readline(10.0)
    for kind in (DATA, IGNORE):
        them.send_message(message(20, kind))
    pair[1].sendall(their_end.sent)
    us.read_message()
    with pytest.raises(EOFError):
        for _ in range(100):
            their_end.sent.clear()
            them.send_message(message(20))
            pair[1].sendall(their_end.sent)
            us.read_message()

    assert us.idle
    assert 160 <= next(ticks) < 170


def test_a_client_that_reads_nothing_is_not_read_from(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = ClientSocket()
    connection.start(pair[0], grace=60)
    connection.lift_login_limits()
    us = Packetizer(connection)
    us.STALL_SECONDS = 0.001
    us.service = Idle()
    us._initial_kex_done = True
    them, their_end = theirs()
    for _ in range(4):
        us.send_message(message(500_000))
    them.send_message(message(5))
    pair[1].sendall(their_end.sent)
    with pytest.raises(EOFError):
        us.read_message()
    assert us.stalled
    assert us.unsent > 1 << 20


def test_peeking_at_the_client_s_kexinit_does_not_consume_it() -> None:
    us, our_end = ours()
    them, their_end = theirs()
    them.send_message(message(600, kind=20))
    our_end.waiting += b"SSH-2.0-client\r\n" + their_end.sent
    assert us.readline(1.0) == "SSH-2.0-client"

    seen = us.peek_client_kexinit(1.0)

    assert seen is not None
    kind, read = us.read_message()
    assert (kind, bytes([kind]) + read.asbytes()) == (20, seen)


def test_waiting_for_the_client_s_kexinit_has_a_timeout(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    connection = ClientSocket()
    connection.start(pair[0], grace=60)
    us = Packetizer(connection)
    pair[1].sendall(b"SSH-2.0-client\r\n" + pack(">IBB", 636, 10, 20))
    assert us.readline(1.0) == "SSH-2.0-client"
    assert us.peek_client_kexinit(0.001) is None


def test_a_version_line_that_is_too_long_is_refused() -> None:
    us, our_end = ours()
    our_end.waiting += b"SSH-2.0-" + b"x" * 2000
    with pytest.raises(SSHException, match="version line"):
        us.readline(1.0)
