"""A FIDO token in software, which signs like an authenticator (OpenSSH's PROTOCOL.u2f)."""

import base64
import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keys.credentials import fido

COUNTER = 7


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


class SoftwareToken:
    """One key pair, for the application `ssh:`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind == fido.ED25519:
            self._ed = ed25519.Ed25519PrivateKey.generate()
            raw = self._ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            public = string(raw)
        else:
            self._ec = ec.generate_private_key(ec.SECP256R1())
            point = self._ec.public_key().public_bytes(
                Encoding.X962, PublicFormat.UncompressedPoint
            )
            public = string(b"nistp256") + string(point)
        self.blob = string(kind.encode()) + public + string(b"ssh:")

    @property
    def public_line(self) -> str:
        """The key in OpenSSH's form."""
        return f"{self.kind} {base64.b64encode(self.blob).decode()}"

    def sign(self, message: bytes, flags: int = fido.PRESENT, app: bytes = b"ssh:") -> bytes:
        tail = bytes([flags]) + COUNTER.to_bytes(4, "big")
        signed = hashlib.sha256(app).digest() + tail + hashlib.sha256(message).digest()
        if self.kind == fido.ED25519:
            made = self._ed.sign(signed)
        else:
            r, s = decode_dss_signature(self._ec.sign(signed, ec.ECDSA(SHA256())))
            made = mpint(r) + mpint(s)
        return string(self.kind.encode()) + string(made) + tail
