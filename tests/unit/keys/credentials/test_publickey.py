import subprocess
from pathlib import Path

import pytest

from keys.credentials import publickey

# Made with OpenSSH.
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1V7sCtd9sbSNjUPMtlSSB7hcM7WSG2Cq0KuGwzwyUM"


def made(folder: Path, *words: str) -> Path:
    path = folder / "k"
    command = ["ssh-keygen", "-q", "-N", "", "-C", "ayna 1", "-f", str(path), *words]
    subprocess.run(command, check=True)
    return path.with_name("k.pub")


@pytest.mark.parametrize(
    "kind",
    [
        ["-t", "ed25519"],
        ["-t", "ecdsa", "-b", "256"],
        ["-t", "ecdsa", "-b", "384"],
        ["-t", "ecdsa", "-b", "521"],
        pytest.param(["-t", "rsa", "-b", "3072"], marks=pytest.mark.slow),
    ],
)
def test_the_same_key_is_read_from_openssh_and_rfc_4716(tmp_path: Path, kind: list[str]) -> None:
    path = made(tmp_path, *kind)
    ssh2 = subprocess.run(
        ["ssh-keygen", "-e", "-m", "RFC4716", "-f", str(path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    line, comment = publickey.parse_public_key(path.read_text())

    assert path.read_text() == f"{line} {comment}\n"
    assert comment == "ayna 1"
    assert publickey.parse_public_key(ssh2)[0] == line
    assert publickey.parse_public_key(ssh2.replace("\n", "\r\n"))[0] == line


def test_an_ssh2_file_may_have_a_comment_and_continued_headers(tmp_path: Path) -> None:
    text = (
        '---- BEGIN SSH2 PUBLIC KEY ----\nComment: "mirror-1"\nx-note: long \\\nand longer\n'
        "AAAAC3NzaC1lZDI1NTE5AAAAIB1V7sCtd9sbSNjUPMtlSSB7hcM7WSG2\nCq0KuGwzwyUM\n"
        "---- END SSH2 PUBLIC KEY ----\n"
    )
    assert publickey.parse_public_key(text) == (ED25519, "mirror-1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "a private key, which must stay with the party"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "a private key, which must stay with the party"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "without its last line"),
        (
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAAABAA==",
            "Need uncompressed point",
        ),
        ("ssh-ed25519", "not one OpenSSH public key line"),
        (f"{ED25519}\n{ED25519}", "not one OpenSSH public key line"),
        ("ssh-ed25519 AAAA====", "not an OpenSSH public key"),
        (ED25519.replace("ssh-ed25519", "ecdsa-sha2-nistp256"), "not an OpenSSH public key"),
        (
            "ssh-dss AAAAB3NzaC1kc3M=",
            "'ssh-dss' is not a key type that is served, which is too weak",
        ),
        ("ssh-ed448 AAAACXNzaC1lZDQ0OA==", "'ssh-ed448' is not a key type that is served"),
        ("", "not one OpenSSH public key line"),
    ],
)
def test_an_unusable_key_is_refused_with_the_cause(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        publickey.parse_public_key(text)


@pytest.mark.slow
def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an RSA key of 2048 bits, at least 3072 are needed"):
        publickey.parse_public_key(made(tmp_path, "-t", "rsa", "-b", "2048").read_text())
