"""Key exchanges that paramiko lacks, or computes slowly.

    curve25519-sha256                 RFC 8731: `curve25519-sha256@libssh.org` by its own name
    diffie-hellman-group14-sha256     RFC 8268: 2,048 bits
    diffie-hellman-group16-sha512     RFC 8268: 4,096 bits

paramiko computes Diffie-Hellman in Python, which takes some eighty times as long as in OpenSSL, and
any client can request it before its login (CVE-2002-20001). So these replace paramiko's, and the
server offers no other exchange over a finite field. The messages are those of RFC 4253 section 8.
"""

import warnings
from typing import TYPE_CHECKING, Any

from cryptography.utils import CryptographyDeprecationWarning
from paramiko.kex_curve25519 import KexCurve25519
from paramiko.kex_group14 import KexGroup14SHA256
from paramiko.kex_group16 import KexGroup16SHA512
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

with warnings.catch_warnings():
    # cryptography warns that a future version will remove Diffie-Hellman. That version cannot be
    # used here: some clients support no other key exchange. `.ci/constraints.txt` names the version
    # that is tested.
    warnings.simplefilter("ignore", CryptographyDeprecationWarning)
    from cryptography.hazmat.primitives.asymmetric.dh import (
        DHParameterNumbers,
        DHPrivateKey,
        DHPublicNumbers,
    )

_INIT, _REPLY = 30, 31


class Curve25519(KexCurve25519):
    """`curve25519-sha256`."""

    name = "curve25519-sha256"


class _DiffieHellman:
    """The server's side of a Diffie-Hellman exchange in a fixed group, by OpenSSL."""

    P: int
    G: int
    hash_algo: Any
    _key: DHPrivateKey

    if TYPE_CHECKING:
        transport: Any

    def start_kex(self) -> None:
        """Make a key, and wait for the client's."""
        self._key = DHParameterNumbers(self.P, self.G).parameters().generate_private_key()
        self.transport._expect_packet(_INIT)

    def parse_next(self, kind: int, m: Message) -> None:
        """Answer the client's key, and switch to the new keys."""
        if kind != _INIT:
            raise SSHException(f"packet of type {kind} in a Diffie-Hellman exchange")
        theirs = m.get_mpint()
        if not 1 < theirs < self.P - 1:
            raise SSHException("the client's Diffie-Hellman value is out of range")
        group = DHParameterNumbers(self.P, self.G)
        try:
            public = DHPublicNumbers(theirs, group).public_key()
            secret = int.from_bytes(self._key.exchange(public), "big")
        except ValueError as error:
            raise SSHException("the client's Diffie-Hellman value cannot be used") from error
        ours = self._key.public_key().public_numbers().y
        transport = self.transport
        host_key = transport.get_server_key().asbytes()
        hashed = Message()
        hashed.add(
            transport.remote_version,
            transport.local_version,
            transport.remote_kex_init,
            transport.local_kex_init,
        )
        hashed.add_string(host_key)
        for number in (theirs, ours, secret):
            hashed.add_mpint(number)
        digest = self.hash_algo(hashed.asbytes()).digest()
        transport._set_K_H(secret, digest)
        signature = transport.get_server_key().sign_ssh_data(digest, transport.host_key_type)
        reply = Message()
        reply.add_byte(bytes([_REPLY]))
        reply.add_string(host_key)
        reply.add_mpint(ours)
        reply.add_string(signature)
        transport._send_message(reply)
        transport._activate_outbound()


class Group14(_DiffieHellman, KexGroup14SHA256):
    """`diffie-hellman-group14-sha256`."""


class Group16(_DiffieHellman, KexGroup16SHA512):
    """`diffie-hellman-group16-sha512`."""


OURS: dict[str, type] = {each.name: each for each in (Curve25519, Group14, Group16)}
