"""Seals and opens a single packet: in clear text at first, then with AES-GCM or AES-CTR.

The plaintext of a packet is what RFC 4253 section 6 describes, from the length field to the
padding. A cipher has these attributes:

    block     the length of a packet is a multiple of it
    counted   how many bytes of the length field count towards that multiple
    tag       bytes of the tag or MAC after the ciphertext
    head      bytes that must have arrived before the length can be read

- AES-GCM as in OpenSSH (RFC 5647): the four bytes of length are authenticated and not encrypted.
  The last eight of the nonce's twelve bytes count the packets.
- AES-CTR with encrypt-then-MAC: the MAC covers sequence number, length and ciphertext. It is
  checked before anything is decrypted.
- AES-CTR with encrypt-and-MAC (RFC 4253 section 6.4), for clients that have nothing better: the
  MAC covers sequence number and plaintext, and the length is encrypted too.
"""

import hmac
from struct import Struct
from typing import Any

from cryptography.exceptions import InvalidTag
from paramiko.ssh_exception import SSHException

_u32 = Struct(">I")
_nonce = Struct(">4sQ")


class Clear:
    """Clear text, before the first key exchange."""

    block, tag, counted, head = 8, 0, 4, 4

    def seal(self, _number: int, plain: memoryview, out: memoryview, at: int) -> None:
        """Seal the packet `plain` into `out`, from `at` on."""
        out[at : at + len(plain)] = plain

    def open(self, _number: int, packet: memoryview) -> bytes:
        """Return what follows the length field; raise SSHException if the tag is wrong."""
        return bytes(packet[4:])


class Gcm:
    """AES-GCM, aes128-gcm@openssh.com and aes256-gcm@openssh.com."""

    block, tag, counted, head = 16, 16, 0, 4

    def __init__(self, engine: Any, nonce: bytes) -> None:
        self._engine = engine
        self._fixed, self._count = _nonce.unpack(nonce)

    def seal(self, _number: int, plain: memoryview, out: memoryview, at: int) -> None:
        """Seal the packet `plain` into `out`, from `at` on."""
        length = plain[:4]
        out[at : at + 4] = length
        end = at + len(plain) + 16
        self._engine.encrypt_into(self._nonce(), plain[4:], length, out[at + 4 : end])

    def open(self, _number: int, packet: memoryview) -> bytes:
        """Return what follows the length field; raise SSHException if the tag is wrong."""
        try:
            return self._engine.decrypt(self._nonce(), packet[4:], packet[:4])  # type: ignore[no-any-return]
        except InvalidTag as error:
            raise SSHException("Mismatched MAC") from error

    def _nonce(self) -> bytes:
        # No nonce is used twice: a packet that does not open ends the connection.
        nonce = _nonce.pack(self._fixed, self._count)
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce


class Ctr:
    """AES-CTR with a MAC over the ciphertext, hmac-sha2-...-etm@openssh.com."""

    block, counted, head = 16, 0, 4

    def __init__(self, engine: Any, key: bytes, digest: str, tag: int) -> None:
        self._engine = engine
        self._key = key
        self._digest = digest
        self.tag = tag

    def seal(self, number: int, plain: memoryview, out: memoryview, at: int) -> None:
        """Seal the packet `plain` with its sequence number into `out`, from `at` on."""
        end = at + len(plain)
        out[at : at + 4] = plain[:4]
        self._engine.update_into(plain[4:], out[at + 4 : end])
        # The MAC starts with the sequence number. To avoid a copy, it is written in front of the
        # packet, over the last bytes of the packet before, which are restored afterwards.
        before = bytes(out[at - 4 : at])
        _u32.pack_into(out, at - 4, number)
        out[end : end + self.tag] = hmac.digest(self._key, out[at - 4 : end], self._digest)
        out[at - 4 : at] = before

    def open(self, number: int, packet: memoryview) -> bytes:
        """Return what follows the length field; raise SSHException if the tag is wrong."""
        whole = len(packet) - self.tag
        expected = hmac.digest(self._key, _u32.pack(number) + packet[:whole], self._digest)
        if not hmac.compare_digest(expected, packet[whole:]):
            raise SSHException("Mismatched MAC")
        return self._engine.update(packet[4:whole])  # type: ignore[no-any-return]


class CtrAndMac:
    """AES-CTR with a MAC over the plaintext, hmac-sha2-256 and hmac-sha2-512."""

    block, counted, head = 16, 4, 16

    def __init__(self, engine: Any, key: bytes, digest: str, tag: int) -> None:
        self._engine = engine
        self._key = key
        self._digest = digest
        self._first: bytes = b""  # first block of the next packet, decrypted by `length`
        self.tag = tag

    def length(self, head: memoryview) -> bytes:
        """Return the four bytes of the next packet's length; may be called several times."""
        if not self._first:
            self._first = self._engine.update(head)
        return self._first[:4]

    def seal(self, number: int, plain: memoryview, out: memoryview, at: int) -> None:
        """Seal the packet `plain` with its sequence number into `out`, from `at` on."""
        end = at + len(plain)
        self._engine.update_into(plain, out[at:end])
        out[end : end + self.tag] = self._mac(number, plain)

    def open(self, number: int, packet: memoryview) -> bytes:
        """Return what follows the length field; raise SSHException if the tag is wrong."""
        whole = len(packet) - self.tag
        plain: bytes = self._first + self._engine.update(packet[len(self._first) : whole])
        self._first = b""
        if not hmac.compare_digest(self._mac(number, plain), packet[whole:]):
            raise SSHException("Mismatched MAC")
        return plain[4:]

    def _mac(self, number: int, plain: bytes | memoryview) -> bytes:
        return hmac.digest(self._key, b"".join((_u32.pack(number), plain)), self._digest)


Cipher = Clear | Gcm | Ctr | CtrAndMac


def cipher(
    engine: Any, mac: Any, tag: int, key: bytes | None, etm: bool, aead: bool, nonce: bytes | None
) -> Cipher:
    """Return the cipher that paramiko negotiated; raise SSHException if it is none of ours."""
    if aead and nonce is not None and tag == Gcm.tag:
        return Gcm(engine, nonce)
    if key is not None and tag == mac().digest_size:
        return (Ctr if etm else CtrAndMac)(engine, key, mac().name, tag)
    raise SSHException("unknown cipher")
