"""Verifies signatures made by a FIDO token, of OpenSSH's `sk-` key types (PROTOCOL.u2f).

A public key is

    string "sk-ssh-ed25519@openssh.com", string public key, string application
    string "sk-ecdsa-sha2-nistp256@openssh.com", string "nistp256", string point, string application

and a signature

    string key type, string signature, byte flags, uint32 counter

where an ECDSA signature is itself mpint r, mpint s. The token signs

    SHA-256 of the application, byte flags, uint32 counter, SHA-256 of the message

The flag for user presence (a touch) is required, as in sshd by default. The counter, which would
show a cloned token, is not checked: each gateway would have a different last value.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

ED25519, ECDSA256 = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
KINDS = (ED25519, ECDSA256)
PRESENT = 0x01  # the user touched the token


def signature_is_valid(blob: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` over `message` is by the token with the public key `blob`.

    Both are in SSH wire format. A malformed one is not valid.
    """
    try:
        return _verify(blob, message, signature)
    except (ValueError, InvalidSignature):
        return False


def _verify(blob: bytes, message: bytes, signature: bytes) -> bool:
    kind, rest = _string(blob)
    signed_as, tail = _string(signature)
    if signed_as != kind:
        return False
    made, tail = _string(tail)
    if len(tail) != 5 or not tail[0] & PRESENT:
        return False
    if kind == ED25519.encode():
        public, rest = _string(rest)
        application, rest = _string(rest)
        signed = _text_to_sign(application, tail, message)
        Ed25519PublicKey.from_public_bytes(public).verify(made, signed)
    elif kind == ECDSA256.encode():
        curve, rest = _string(rest)
        point, rest = _string(rest)
        application, rest = _string(rest)
        r, more = _string(made)
        s, more = _string(more)
        if curve != b"nistp256" or more or max(len(r), len(s)) > 33:
            return False
        whole = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        key.verify(whole, _text_to_sign(application, tail, message), ECDSA(SHA256()))
    else:
        return False
    return not rest


def _text_to_sign(application: bytes, tail: bytes, message: bytes) -> bytes:
    return hashlib.sha256(application).digest() + tail + hashlib.sha256(message).digest()


def _string(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 + size:
        raise ValueError("cut short")
    return data[4 : 4 + size], data[4 + size :]
