import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.fault import Faults
from keys.operations import site_keys
from keys.server_keys import host, sshsig
from keys.server_keys.sshsig import BadSignature

# Ed25519 signatures are deterministic.
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key()
MESSAGE = b"a list of sums\n"
GOLDEN = b"""\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgA6EHv/POEL4dcN0Y50vAmWfk1j
CbpQ1fHdyGZBJVMbgAAAAEc3NwcwAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUx
OQAAAEDujtu9kx1JEdT9fSQwkjcOQmQANf9vTH9jkke6Dp9Tuq9yuE6Ms0OQGXRAehcjBn
XBWMe4870Rx6sGg0NeXPwH
-----END SSH SIGNATURE-----
"""


def ssh_keygen(*words: object, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *map(str, words)], input=given, capture_output=True, timeout=30, check=False
    )


def keygen_verifies(folder: Path, allowed: str, signature: bytes, message: bytes) -> bool:
    (folder / "allowed_signers").write_text(allowed)
    (folder / "a.sig").write_bytes(signature)
    words = ["-Y", "verify", "-f", folder / "allowed_signers", "-I", "ysk", "-n", "ssps"]
    return ssh_keygen(*words, "-s", folder / "a.sig", given=message).returncode == 0


def test_a_signature_has_the_golden_bytes() -> None:
    assert sshsig.sign(KEY, MESSAGE) == GOLDEN


def test_openssh_accepts_our_signatures_and_no_others(tmp_path: Path) -> None:
    allowed = sshsig.allowed_signers(PUBLIC)
    signature = sshsig.sign(KEY, MESSAGE)
    other = sshsig.allowed_signers(Ed25519PrivateKey.generate().public_key())

    assert keygen_verifies(tmp_path, allowed, signature, MESSAGE)
    assert not keygen_verifies(tmp_path, allowed, signature, MESSAGE + b" ")
    assert not keygen_verifies(tmp_path, other, signature, MESSAGE)
    assert not keygen_verifies(tmp_path, allowed.replace("ssps", "file"), signature, MESSAGE)


def test_signatures_by_openssh_verify(tmp_path: Path) -> None:
    host.create_key(tmp_path / "key", "test")
    key = sshsig.public_key((tmp_path / "key.pub").read_text())

    made = ssh_keygen("-Y", "sign", "-f", tmp_path / "key", "-n", "ssps", given=MESSAGE)
    elsewhere = ssh_keygen("-Y", "sign", "-f", tmp_path / "key", "-n", "file", given=MESSAGE)

    sshsig.verify(key, MESSAGE, made.stdout)
    with pytest.raises(BadSignature, match="another namespace"):
        sshsig.verify(key, MESSAGE, elsewhere.stdout)
    with pytest.raises(BadSignature, match="another key"):
        sshsig.verify(PUBLIC, MESSAGE, made.stdout)


def test_a_signature_with_a_flipped_bit_is_refused() -> None:
    signature = sshsig.sign(KEY, MESSAGE)

    for at in range(len(signature)):
        for bit in (0, 5, 7):
            flipped = bytearray(signature)
            flipped[at] ^= 1 << bit
            with pytest.raises(BadSignature):
                sshsig.verify(PUBLIC, MESSAGE, bytes(flipped))


def test_a_changed_message_is_refused() -> None:
    signature = sshsig.sign(KEY, MESSAGE)

    for other in (b"", MESSAGE[:-1], MESSAGE + b"\n", MESSAGE.upper()):
        with pytest.raises(BadSignature, match="does not match the message"):
            sshsig.verify(PUBLIC, other, signature)


def test_any_of_several_keys_may_have_signed() -> None:
    other = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()
    signature = sshsig.sign(KEY, MESSAGE)

    sshsig.verify_any([other, PUBLIC, other], MESSAGE, signature)
    for keys, cause in (([other], "by another key"), ([], "there is no key")):
        with pytest.raises(BadSignature, match=cause):
            sshsig.verify_any(keys, MESSAGE, signature)


def test_a_key_is_read_from_its_allowed_signers_line() -> None:
    line = sshsig.allowed_signers(PUBLIC)

    assert line.startswith('ysk namespaces="ssps" ssh-ed25519 AAAA')
    assert sshsig.public_key(line).public_bytes_raw() == PUBLIC.public_bytes_raw()
    for odd in ("", "ysk", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa AAAA"):
        with pytest.raises(ValueError):
            sshsig.public_key(odd)


def test_a_site_signs_with_its_own_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing" / "signing_key"
    with pytest.raises(Faults, match="keys/signing/signing_key: cannot be read"):
        site_keys.signing_key(tmp_path)
    host.create_key(path, "ssps")

    signature = sshsig.sign(site_keys.signing_key(tmp_path), MESSAGE)

    sshsig.verify(sshsig.public_key(sshsig.site_allowed_signers(tmp_path)), MESSAGE, signature)


def test_an_rsa_key_does_not_sign(tmp_path: Path) -> None:
    host.create_key(tmp_path / "keys" / "signing" / "signing_key", "ssps", bits=2048)

    with pytest.raises(Faults, match="not an ed25519 key"):
        site_keys.signing_key(tmp_path)
