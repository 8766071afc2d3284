"""Signs the file of a party's ring or users, and verifies that this site has written it.

The last line of the file is a comment with an ed25519 signature by the site's signing key:

    party = "parti-a"
    …                                       as keys/credentials/ring has it
    # signature: f31c…0a                     64 bytes in hexadecimal

The signed data is `ssps ring v1`, a line feed, and every byte before the comment; of a file of
users (keys/credentials/users) it is `ssps users v1`, so neither passes for the other. A TOML reader
skips the comment, so software that knows nothing about signatures can still read the ring. The same
ring and key always give the same bytes.

A signature does not say that a ring is the newest one: keys/operations/ring_files compares its
digest with the operations ledger.
"""

import re
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from keys.credentials import ring
from keys.credentials.ring import Ring

RING, USERS = b"ssps ring v1\n", b"ssps users v1\n"
_LINE = re.compile(rb"# signature: ([0-9a-f]{128})\n")


class Unsigned(ValueError):
    """The file has no signature, or none by a key of this site."""


def format_signed(new: Ring, key: Ed25519PrivateKey) -> bytes:
    """Write a ring with its signature; AssertionError if it would not be read back the same."""
    content = ring.format_ring(new)
    if ring.parse_ring(content.decode()) != new:
        raise AssertionError("a ring must be the same when it is read back")
    return signed(content, key, RING)


def signed(content: bytes, key: Ed25519PrivateKey, context: bytes) -> bytes:
    """Return a file's content with its signature as the last line."""
    return content + b"# signature: " + key.sign(context + content).hex().encode() + b"\n"


def is_signed(content: bytes) -> bool:
    """Say whether a ring's file has a signature, right or wrong."""
    return b"\n# signature:" in content


def verify(content: bytes, keys: Iterable[Ed25519PublicKey], context: bytes = RING) -> None:
    """Raise Unsigned unless one of `keys` has signed these bytes of a file of that kind."""
    at = content.rstrip(b"\n").rfind(b"\n") + 1
    line = _LINE.fullmatch(content[at:])
    if line is None:
        raise Unsigned("it has no signature")
    signature = bytes.fromhex(line[1].decode())
    for key in keys:
        try:
            key.verify(signature, context + content[:at])
        except InvalidSignature:
            continue
        return
    raise Unsigned("its signature does not match")
