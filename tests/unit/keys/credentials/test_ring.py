import base64
import dataclasses
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from config.fault import Faults
from config.site import HOST_KEYS, SIGNING_KEYS
from keys.credentials import ring, rotation
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.server_keys import host

NOW = datetime(2023, 5, 14, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def line(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def blob(public: str) -> bytes:
    return base64.b64decode(public.split()[1])


def key_credential(public: str, label: str = "") -> Credential:
    return ring.key_credential(
        public, label=label, not_before=NOW, not_after=NOW + HOUR, added_by="op"
    )


def password_credential(text: str) -> Credential:
    return ring.password_credential(
        text, label="", not_before=NOW, not_after=NOW + HOUR, added_by="op"
    )


A = line(ed25519.Ed25519PrivateKey.generate())
B = line(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(autouse=True)
def cheap_passwords() -> None:
    """Hash at the real cost."""


def test_a_public_key_is_valid_only_within_its_time() -> None:
    held = Ring("parti-a", (key_credential(A),))

    assert held.by_key(blob(A), NOW) is held.credentials[0]
    assert held.by_key(blob(A), NOW + HOUR - SECOND) is held.credentials[0]
    assert held.by_key(blob(A), NOW - SECOND) is None
    assert held.by_key(blob(A), NOW + HOUR) is None
    assert held.by_key(blob(B), NOW) is None
    assert Ring("parti-a").by_key(blob(A), NOW) is None


@pytest.mark.slow
def test_a_password_is_valid_only_within_its_time() -> None:
    held = Ring("parti-a", (password_credential("dogru-sifre"), password_credential("ikinci")))

    assert held.by_password("dogru-sifre", NOW) is held.credentials[0]
    assert held.by_password("ikinci", NOW) is held.credentials[1]
    assert held.by_password("dogru-sifre", NOW + HOUR) is None
    assert held.by_password("Dogru-sifre", NOW) is None
    assert held.by_password("", NOW) is None
    assert Ring("parti-a").by_password("dogru-sifre", NOW) is None


def test_a_password_is_kept_as_argon2id_and_never_shown() -> None:
    credential = password_credential("dogru-sifre")

    assert credential.secret.startswith("$argon2id$")
    assert "dogru" not in ring.format_ring(Ring("parti-a", (credential,))).decode()
    assert credential.secret not in repr(Ring("parti-a", (credential,)))


def test_a_fingerprint_is_the_one_that_openssh_prints(tmp_path: Path) -> None:
    public = tmp_path / "id.pub"
    public.write_text(A + " mirror 1\n")

    credential = key_credential(public.read_text())

    shown = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True)
    assert credential.label == "mirror 1"
    assert credential.fingerprint == shown.stdout.split()[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not one OpenSSH public key line"),
        ("hello", "not one OpenSSH public key line"),
        ("ssh-ed25519 AAAA", "not an OpenSSH public key"),
        ("ssh-ed25519 !!!!", "not an OpenSSH public key"),
        (f"{A}\n{A}", "not one OpenSSH public key line"),
        (f"{A} \x1b[2J", "the label '\\x1b[2J' is not printable"),
        (f"sk-{A}", "'sk-ssh-ed25519' is not a key type that is served"),
        (f"ssh-ed25519-cert-v01@openssh.com {A.split()[1]}", "'ssh-ed25519-cert-v01@openssh.com'"),
        (line(rsa.generate_private_key(65537, 2048)), "an RSA key of 2048 bits, at least 3072"),
        (
            ed25519.Ed25519PrivateKey.generate()
            .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            .decode(),
            "a private key, which must stay with the party",
        ),
    ],
    ids=[
        "empty",
        "word",
        "short",
        "no base64",
        "two lines",
        "escape",
        "sk",
        "cert",
        "weak",
        "private",
    ],
)
def test_an_unusable_public_key_is_refused_with_the_cause(text: str, fault: str) -> None:
    with pytest.raises(ValueError) as error:
        key_credential(text)

    assert str(error.value).startswith(fault)


def test_strong_keys_of_three_types_are_accepted() -> None:
    for public in (A, B, line(rsa.generate_private_key(65537, 3072))):
        assert key_credential(public).kind is CredentialKind.PUBLIC_KEY


def test_a_ring_is_the_same_when_it_is_read_back() -> None:
    held = Ring("parti-a", (key_credential(A, "ayna-1"), password_credential("dogru-sifre")))
    endless = dataclasses.replace(key_credential(B), not_after=None)
    held = rotation.add(held, endless)

    assert ring.parse_ring(ring.format_ring(held).decode()) == held


def test_a_party_without_a_file_has_an_empty_ring(tmp_path: Path) -> None:
    assert ring.load(tmp_path, "parti-a") == Ring("parti-a")


def test_the_same_key_twice_is_refused() -> None:
    held = Ring("parti-a", (key_credential(A),))

    with pytest.raises(ValueError, match=r"already has SHA256:"):
        rotation.add(held, key_credential(A, "again"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rubbish", "Expected"),
        ("party = 1", "not a key file"),
        ('party = "parti-b"', "party is 'parti-b', but the file name says 'parti-a'"),
        ('party = "parti-a"\nowner = 1', "not a key file"),
        (
            'party = "parti-a"\n[[credential]]\nkind = "password"',
            "credential 1: missing or unknown",
        ),
        ("\x00", ""),
        ('party = "parti-a"\ncredential = ["x"]', "each credential must be a table"),
        ('party = "parti-a"\ncredential = 7', "each credential must be a table"),
        pytest.param("party = " + "[" * 100_000, "maximum recursion", id="nested without end"),
    ],
)
def test_a_damaged_key_file_is_a_fault_with_its_name(tmp_path: Path, text: str, fault: str) -> None:
    path = ring.ring_path(tmp_path, "parti-a")
    path.parent.mkdir(parents=True)
    path.write_text(text)

    with pytest.raises(Faults) as error:
        ring.load(tmp_path, "parti-a")

    (found,) = error.value.faults
    assert found.file == "keys/parties/parti-a.toml"
    assert found.message.startswith(fault)
    assert "restore it from a backup" in found.message


def test_a_fingerprint_of_another_secret_is_a_fault() -> None:
    one, other = key_credential(A), key_credential(B)
    text = ring.format_ring(Ring("parti-a", (one,))).decode()

    with pytest.raises(ValueError, match="the fingerprint does not match the secret"):
        ring.parse_ring(text.replace(one.fingerprint, other.fingerprint))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('kind = "public-key"', 'kind = "guess"'),
        ("not_before = 2023-05-14 12:00:00Z", "not_before = 2023-05-14 12:00:00"),
        ("not_before = 2023-05-14 12:00:00Z", 'not_before = "today"'),
        ("not_after = 2023-05-14 13:00:00Z", "not_after = 1"),
        ('label = ""', "label = 1"),
    ],
)
def test_a_credential_with_a_wrong_value_is_a_fault(old: str, new: str) -> None:
    text = ring.format_ring(Ring("parti-a", (key_credential(A),))).decode().replace("+00:00", "Z")
    assert old in text

    with pytest.raises(ValueError):
        ring.parse_ring(text.replace(old, new))


def test_known_hosts_lines_name_host_and_port(tmp_path: Path) -> None:
    host.create_key(tmp_path / HOST_KEYS / "ssh_host_ed25519_key", "ssps")

    lines = host.known_hosts(tmp_path, "192.0.2.1", 2222)

    assert lines.startswith("[192.0.2.1]:2222 ssh-ed25519 AAAA")
    assert host.known_hosts(tmp_path, "192.0.2.1", 22).startswith("192.0.2.1 ssh-ed25519 ")
    assert [str(f) for f in host.faults(tmp_path)] == [
        "keys/signing: no signing key, restore it from a backup",
        f"keys: permissions {(tmp_path / 'keys').stat().st_mode & 0o777:04o} are too open, "
        f"run `chmod 700 {tmp_path / 'keys'}`",
    ]


@pytest.mark.slow
def test_files_that_others_can_read_are_faults_with_the_command_to_run(tmp_path: Path) -> None:
    host.create_site_keys(tmp_path)
    (tmp_path / "keys").chmod(0o700)
    assert host.faults(tmp_path) == []
    loose = tmp_path / "keys/host/ssh_host_ed25519_key"

    loose.chmod(0o640)

    assert [str(f) for f in host.faults(tmp_path)] == [
        f"keys/host/ssh_host_ed25519_key: permissions 0640 are too open, run `chmod 600 {loose}`"
    ]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAA\n"])
def test_a_damaged_key_of_our_own_is_a_fault_that_names_it(tmp_path: Path, content: bytes) -> None:
    host.create_key(tmp_path / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    host.create_key(tmp_path / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    (tmp_path / "keys").chmod(0o700)

    (tmp_path / SIGNING_KEYS / host.SIGNING_KEY).write_bytes(content)

    (found,) = host.faults(tmp_path)
    assert found.file == "keys/signing/signing_key"
    assert found.message.startswith("not a usable key (")
