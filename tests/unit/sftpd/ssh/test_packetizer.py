"""The packet layer against paramiko's own: what one seals the other opens, and nothing else."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256, sha512
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


class End:
    """One end of a connection in memory, for either packet layer."""

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
    """A cipher's keys, for either end."""

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


def ours(keys: Keys | None = None) -> tuple[Packetizer, End]:
    end = End()
    packets = Packetizer(end)
    packets._initial_kex_done = True
    if keys:
        keys.out(packets)
        keys.into(packets)
    return packets, end


def theirs(keys: Keys | None = None) -> tuple[ParamikoPacketizer, End]:
    end = End()
    packets = ParamikoPacketizer(end)  # type: ignore[arg-type]
    packets._initial_kex_done = True  # type: ignore[attr-defined]
    if keys:
        keys.out(packets)
        keys.into(packets)
    return packets, end


def flushed(packets: Packetizer, end: End) -> bytes:
    with pytest.raises(EOFError):
        packets.read_message()
    sent = bytes(end.sent)
    end.sent.clear()
    return sent


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
def test_what_we_seal_paramiko_opens(keys: Keys | None) -> None:
    us, ourend = ours(keys)
    them, theirend = theirs(keys)
    for size in SIZES:
        sealed = message(size)
        us.send_message(sealed)
        theirend.waiting += flushed(us, ourend)

        kind, opened = them.read_message()

        assert (kind, opened.asbytes()) == (IGNORE, sealed.asbytes()[1:])
    assert not theirend.waiting


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
def test_what_paramiko_seals_we_open(keys: Keys | None) -> None:
    us, ourend = ours(keys)
    them, theirend = theirs(keys)
    sealed = [message(size) for size in SIZES]
    for each in sealed:
        them.send_message(each)
    ourend.waiting += theirend.sent

    for each in sealed:
        assert us.read_message()[1].asbytes() == each.asbytes()[1:]
    assert not ourend.waiting


@keyed
@pytest.mark.parametrize("most", [100, 4096, 32768])
def test_a_stream_leaves_in_packets_of_the_clients_size_and_stays_as_it_was(
    keys: Keys, most: int
) -> None:
    us, ourend = ours(keys)
    them, theirend = theirs(keys)
    content = os.urandom(100_001)
    stream = memoryview(bytearray(HEADROOM) + content + b"t" * TAILROOM)
    at, end = HEADROOM, HEADROOM + 90_000

    while at < end:
        at += us.send_data(7, stream, at, end, most)
        theirend.waiting += flushed(us, ourend)

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


def test_a_session_leaves_the_room_that_sealing_takes() -> None:
    assert (session.HEADROOM, session.TAILROOM) == (HEADROOM, TAILROOM)


def test_padding_carries_nothing_of_what_follows_in_the_stream() -> None:
    keys = CIPHERS["aes128-gcm"]
    us, ourend = ours(keys)
    stream = memoryview(bytearray(HEADROOM) + b"x" * 1000 + b"secret" * 10)
    us.send_data(0, stream, HEADROOM, HEADROOM + 1000, 100)
    sent = flushed(us, ourend)
    for number in range(10):
        (length,) = (int.from_bytes(sent[:4], "big"),)
        nonce = keys.nonce[:4] + pack(">Q", number)
        plain = AESGCM(b"k" * 16).decrypt(nonce, sent[4 : 20 + length], sent[:4])
        assert plain[0] >= 4
        assert plain[-plain[0] :] == bytes(plain[0])
        sent = sent[20 + length :]
    assert not sent


@keyed
def test_every_flipped_bit_is_refused(keys: Keys) -> None:
    them, theirend = theirs(keys)
    them.send_message(message(20))
    sealed = bytes(theirend.sent)
    for bit in range(len(sealed) * 8):
        us, ourend = ours(keys)
        ourend.waiting += sealed
        ourend.waiting[bit // 8] ^= 1 << bit % 8
        with pytest.raises((SSHException, EOFError)) as refusal:
            us.read_message()
        # A length that grew waits for bytes that do not come.
        assert bit < 32 or "Mismatched MAC" in str(refusal.value)


@keyed
def test_every_cut_is_an_end_and_no_message(keys: Keys) -> None:
    them, theirend = theirs(keys)
    them.send_message(message(20))
    sealed = bytes(theirend.sent)
    for size in range(len(sealed)):
        us, ourend = ours(keys)
        ourend.waiting += sealed[:size]
        with pytest.raises(EOFError):
            us.read_message()


@keyed
def test_a_packet_opens_once_and_in_its_place(keys: Keys) -> None:
    them, theirend = theirs(keys)
    sealed = []
    for _ in range(3):
        them.send_message(message(20))
        sealed.append(bytes(theirend.sent))
        theirend.sent.clear()
    for wrong in ([0, 0], [1], [0, 2]):
        us, ourend = ours(keys)
        ourend.waiting += b"".join(sealed[number] for number in wrong)
        # Where the length is encrypted, it is the first that is not what it was.
        with pytest.raises(SSHException, match="packet of" if keys.hides_length else "MAC"):
            for _ in wrong:
                us.read_message()


@pytest.mark.parametrize("keys", [None, *CIPHERS.values()], ids=["clear", *CIPHERS])
@pytest.mark.parametrize("length", [0, 1, 5, 17, 270_000, 266_240 + 16, 2**31, 2**32 - 4])
def test_a_length_that_cannot_be_is_refused_as_soon_as_it_can_be_read(
    keys: Keys | None, length: int
) -> None:
    us, ourend = ours(keys)
    head = pack(">I", length)
    if keys and keys.hides_length:
        head = keys.engine(False).update(head + bytes(12))  # type: ignore[attr-defined]
    ourend.waiting += head
    with pytest.raises(SSHException, match=f"packet of {length} bytes"):
        us.read_message()


@pytest.mark.parametrize("padding", [0, 3, 11, 12, 255])
def test_a_padding_that_cannot_be_is_refused(padding: int) -> None:
    us, ourend = ours()
    ourend.waiting += pack(">IB", 12, padding) + bytes([IGNORE]) + bytes(10)
    with pytest.raises(SSHException, match="padding"):
        us.read_message()


def test_the_nonce_counts_packets_and_comes_round_at_its_64_bits() -> None:
    keys = Keys(0, gcm=16, nonce=b"abcd" + b"\xff" * 8)
    us, ourend = ours(keys)
    for _ in range(2):
        us.send_message(message(20))
    sent = flushed(us, ourend)
    half = len(sent) // 2
    for nonce, packet in ((b"abcd" + b"\xff" * 8, sent[:half]), (b"abcd" + bytes(8), sent[half:])):
        AESGCM(b"k" * 16).decrypt(nonce, packet[4:], packet[:4])


def test_sequence_numbers_come_round_at_32_bits_and_start_anew_when_told() -> None:
    keys = CIPHERS["aes128-ctr-sha256-etm"]
    us, ourend = ours(keys)
    them, theirend = theirs(keys)
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
        theirend.waiting += flushed(us, ourend)
        assert them.read_message()[0] == IGNORE
        them.send_message(message(3))
        ourend.waiting += theirend.sent
        theirend.sent.clear()
        assert us.read_message()[0] == IGNORE


def test_the_first_key_exchange_ends_before_the_sequence_number_does() -> None:
    us, _ = ours()
    us._initial_kex_done = False
    us._number_out = 0xFFFFFFFF
    with pytest.raises(SSHException, match="sequence number"):
        us.send_message(message(3))


def test_a_packet_of_a_type_that_nobody_knows_is_answered_as_such() -> None:
    us, ourend = ours()
    them, theirend = theirs()
    for kind in (IGNORE, 77, IGNORE):
        them.send_message(message(5, kind))
    ourend.waiting += theirend.sent

    assert [us.read_message()[0], us.read_message()[0]] == [IGNORE, IGNORE]

    theirend.waiting += flushed(us, ourend)
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
def test_other_ciphers_are_refused(given: dict[str, object]) -> None:
    us, _ = ours()
    with pytest.raises(SSHException, match="unknown cipher"):
        us.set_outbound_cipher(block_engine=None, block_size=16, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", ["REKEY_BYTES", "REKEY_PACKETS"])
@pytest.mark.parametrize("sending", [True, False], ids=["sent", "received"])
def test_new_keys_are_asked_for_once_and_not_between_the_two_halves(
    monkeypatch: pytest.MonkeyPatch, limit: str, sending: bool
) -> None:
    monkeypatch.setattr(Packetizer, limit, 3 if limit == "REKEY_PACKETS" else 150)
    keys = CIPHERS["aes128-gcm"]
    us, ourend = ours(keys)
    them, theirend = theirs(keys)
    for _ in range(3):
        (us if sending else them).send_message(message(30))
    ourend.waiting += theirend.sent
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


def test_data_stops_where_new_keys_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_PACKETS", 3)
    us, _ = ours(CIPHERS["aes128-gcm"])
    stream = memoryview(bytearray(HEADROOM + 1000 + TAILROOM))
    assert us.send_data(0, stream, HEADROOM, HEADROOM + 1000, 100) == 300
    assert us.send_data(0, stream, HEADROOM + 300, HEADROOM + 1000, 100) == 0


def test_a_client_that_will_not_change_keys_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packetizer, "REKEY_PACKETS", 3)
    monkeypatch.setattr(Packetizer, "OVERFLOW_PACKETS", 10)
    us, ourend = ours()
    them, theirend = theirs()
    for _ in range(20):
        them.send_message(message(5))
    ourend.waiting += theirend.sent
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
    """ChannelService that waits for the client for ever."""

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


def test_a_client_that_does_nothing_while_something_is_due_is_dropped(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire = ClientSocket(pair[0], grace=60)
    wire.lift_login_limits()
    us = Packetizer(wire)
    us.STALL_SECONDS = 0.001
    us.service = Idle()
    with pytest.raises(EOFError):
        us.read_message()
    assert us.stalled


def test_a_client_that_reads_nothing_is_not_read_from_either(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    wire = ClientSocket(pair[0], grace=60)
    wire.lift_login_limits()
    us = Packetizer(wire)
    us.STALL_SECONDS = 0.001
    us.service = Idle()
    us._initial_kex_done = True
    them, theirend = theirs()
    for _ in range(4):
        us.send_message(message(500_000))
    them.send_message(message(5))
    pair[1].sendall(theirend.sent)
    with pytest.raises(EOFError):
        us.read_message()
    assert us.stalled
    assert us.unsent > 1 << 20


def test_the_clients_kexinit_is_seen_ahead_and_read_all_the_same() -> None:
    us, ourend = ours()
    them, theirend = theirs()
    them.send_message(message(600, kind=20))
    ourend.waiting += b"SSH-2.0-client\r\n" + theirend.sent
    assert us.readline(1.0) == "SSH-2.0-client"

    seen = us.peek_client_kexinit(1.0)

    assert seen is not None
    kind, read = us.read_message()
    assert (kind, bytes([kind]) + read.asbytes()) == (20, seen)


def test_a_kexinit_that_does_not_come_is_not_waited_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    us = Packetizer(ClientSocket(pair[0], grace=60))
    pair[1].sendall(b"SSH-2.0-client\r\n" + pack(">IBB", 636, 10, 20))
    assert us.readline(1.0) == "SSH-2.0-client"
    assert us.peek_client_kexinit(0.001) is None


def test_a_greeting_has_an_end() -> None:
    us, ourend = ours()
    ourend.waiting += b"SSH-2.0-" + b"x" * 2000
    with pytest.raises(SSHException, match="version line"):
        us.readline(1.0)
