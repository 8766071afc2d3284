"""A token in software, which signs as PROTOCOL.u2f says an authenticator does."""

import base64
import hashlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keys import publickey, ring, token

MESSAGE = b"what is to be signed"
COUNTER = 7


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


class Token:
    """One key pair, for the application `ssh:`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind == token.ED25519:
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

    def sign(self, message: bytes, flags: int = token.PRESENT, app: bytes = b"ssh:") -> bytes:
        tail = bytes([flags]) + COUNTER.to_bytes(4, "big")
        signed = hashlib.sha256(app).digest() + tail + hashlib.sha256(message).digest()
        if self.kind == token.ED25519:
            made = self._ed.sign(signed)
        else:
            r, s = decode_dss_signature(self._ec.sign(signed, ec.ECDSA(SHA256())))
            made = mpint(r) + mpint(s)
        return string(self.kind.encode()) + string(made) + tail


@pytest.fixture(params=token.KINDS)
def key(request: pytest.FixtureRequest) -> Token:
    return Token(request.param)


def test_what_a_touched_token_signed_is_its_own(key: Token) -> None:
    assert token.verifies(key.blob, MESSAGE, key.sign(MESSAGE))
    assert token.verifies(key.blob, MESSAGE, key.sign(MESSAGE, flags=0x05))


def test_nobody_touched_it_so_it_does_not_count(key: Token) -> None:
    assert not token.verifies(key.blob, MESSAGE, key.sign(MESSAGE, flags=0))
    assert not token.verifies(key.blob, MESSAGE, key.sign(MESSAGE, flags=0x04))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key.sign(b"something else"),
        lambda key: key.sign(MESSAGE, app=b"ssh:other"),
        lambda key: Token(key.kind).sign(MESSAGE),
        lambda key: key.sign(MESSAGE)[:-1] + b"\x08",
        lambda key: key.sign(MESSAGE) + b"\0",
        lambda key: key.sign(MESSAGE)[:-1],
        lambda key: key.sign(MESSAGE).replace(key.kind.encode()[:6], b"sk-ssl"),
        lambda key: b"",
        lambda key: b"\xff" * 40,
    ],
)
def test_anything_else_is_no_signature(key: Token, spoil: Callable[[Token], bytes]) -> None:
    assert not token.verifies(key.blob, MESSAGE, spoil(key))


def test_every_bit_counts(key: Token) -> None:
    whole = key.sign(MESSAGE)
    for place in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 0x10
        assert not token.verifies(key.blob, MESSAGE, bytes(spoiled)), place


def test_a_tokens_key_becomes_a_credential(key: Token) -> None:
    line = public_line(key)
    assert publickey.read(line + " anahtarlik")[1] == "anahtarlik"
    times = {"not_before": datetime(2023, 5, 14, tzinfo=UTC), "not_after": None}

    held = ring.Ring("parti-a", (ring.public_key(line, label="", **times, added_by=""),))

    assert ring.loads(ring.dumps(held).decode()) == held


def test_openssh_takes_these_signatures_too(key: Token, tmp_path: Path) -> None:
    head = string(b"ssps") + string(b"") + string(b"sha256")
    signed = key.sign(b"SSHSIG" + head + string(hashlib.sha256(MESSAGE).digest()))
    whole = b"SSHSIG" + (1).to_bytes(4, "big") + string(key.blob) + head + string(signed)
    armored = base64.encodebytes(whole).decode()
    (tmp_path / "sig").write_text(
        f"-----BEGIN SSH SIGNATURE-----\n{armored}-----END SSH SIGNATURE-----\n"
    )
    (tmp_path / "allowed").write_text(f"parti-a {public_line(key)}\n")

    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "parti-a", "-n", "ssps"]
    done = subprocess.run(
        [*command, "-s", "sig"], input=MESSAGE, cwd=tmp_path, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr


def public_line(key: Token) -> str:
    return f"{key.kind} {base64.b64encode(key.blob).decode()}"
