import base64
import hashlib
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fido_token import SoftwareToken, string

from keys.credentials import fido, publickey, ring

MESSAGE = b"what is to be signed"


@pytest.fixture(params=fido.KINDS)
def key(request: pytest.FixtureRequest) -> SoftwareToken:
    return SoftwareToken(request.param)


def test_a_signature_with_user_presence_is_valid(key: SoftwareToken) -> None:
    assert fido.signature_is_valid(key.blob, MESSAGE, key.sign(MESSAGE))
    assert fido.signature_is_valid(key.blob, MESSAGE, key.sign(MESSAGE, flags=0x05))


def test_a_signature_without_user_presence_is_refused(key: SoftwareToken) -> None:
    assert not fido.signature_is_valid(key.blob, MESSAGE, key.sign(MESSAGE, flags=0))
    assert not fido.signature_is_valid(key.blob, MESSAGE, key.sign(MESSAGE, flags=0x04))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key.sign(b"something else"),
        lambda key: key.sign(MESSAGE, app=b"ssh:other"),
        lambda key: SoftwareToken(key.kind).sign(MESSAGE),
        lambda key: key.sign(MESSAGE)[:-1] + b"\x08",
        lambda key: key.sign(MESSAGE) + b"\0",
        lambda key: key.sign(MESSAGE)[:-1],
        lambda key: key.sign(MESSAGE).replace(key.kind.encode()[:6], b"sk-ssl"),
        lambda key: b"",
        lambda key: b"\xff" * 40,
    ],
)
def test_a_malformed_or_foreign_signature_is_refused(
    key: SoftwareToken, spoil: Callable[[SoftwareToken], bytes]
) -> None:
    assert not fido.signature_is_valid(key.blob, MESSAGE, spoil(key))


def test_a_signature_with_any_byte_changed_is_refused(key: SoftwareToken) -> None:
    whole = key.sign(MESSAGE)
    for place in range(len(whole)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 0x10
        assert not fido.signature_is_valid(key.blob, MESSAGE, bytes(spoiled)), place


def test_a_token_key_can_be_a_credential(key: SoftwareToken) -> None:
    line = key.public_line
    assert publickey.parse_public_key(line + " anahtarlik")[1] == "anahtarlik"

    since = datetime(2023, 5, 14, tzinfo=UTC)
    added = ring.key_credential(line, label="", not_before=since, not_after=None, added_by="")
    held = ring.Ring("parti-a", (added,))

    assert ring.parse_ring(ring.format_ring(held).decode()) == held


def test_openssh_accepts_the_test_tokens_signatures(key: SoftwareToken, tmp_path: Path) -> None:
    head = string(b"ssps") + string(b"") + string(b"sha256")
    signed = key.sign(b"SSHSIG" + head + string(hashlib.sha256(MESSAGE).digest()))
    whole = b"SSHSIG" + (1).to_bytes(4, "big") + string(key.blob) + head + string(signed)
    armored = base64.encodebytes(whole).decode()
    (tmp_path / "sig").write_text(
        f"-----BEGIN SSH SIGNATURE-----\n{armored}-----END SSH SIGNATURE-----\n"
    )
    (tmp_path / "allowed").write_text(f"parti-a {key.public_line}\n")

    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "parti-a", "-n", "ssps"]
    done = subprocess.run(
        [*command, "-s", "sig"], input=MESSAGE, cwd=tmp_path, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stderr
