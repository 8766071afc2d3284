"""Reads a public key in a form that parties send, and returns it as a line for a key file.

It reads two forms: OpenSSH's line, `ssh-ed25519 AAAAC3… comment`, and the SSH2 file of RFC 4716
that PuTTY writes:

    ---- BEGIN SSH2 PUBLIC KEY ----
    Comment: "mirror-1"
    AAAAC3NzaC1lZDI1NTE5AAAAI…
    ---- END SSH2 PUBLIC KEY ----

Key types that end in `@openssh.com` are keys on a FIDO token (keys/credentials/fido verifies their
signatures).
"""

import base64
import binascii
import warnings

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

MIN_RSA_BITS = 3072
KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_BEGIN, _END = "---- BEGIN SSH2 PUBLIC KEY ----", "---- END SSH2 PUBLIC KEY ----"
_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File")


def parse_public_key(text: str) -> tuple[str, str]:
    """Return a key's line, which is its type and base64, and its comment.

    Raises ValueError, whose text says what to ask the party for.
    """
    if any(mark in text for mark in _PRIVATE):
        raise ValueError("a private key, which must stay with the party: ask for the .pub file")
    text = text.removeprefix("\ufeff").strip()
    stated, encoded, comment = (
        _split_ssh2(text) if text.startswith(_BEGIN) else _split_openssh(text)
    )
    try:
        blob = base64.b64decode(encoded, validate=True)
        kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not an OpenSSH public key ({error})") from None
    if (stated or kind) not in KINDS:
        weak = ", which is too weak" if (stated or kind) == "ssh-dss" else ""
        wrong = f"{stated or kind!r} is not a key type that is served{weak}"
        raise ValueError(f"{wrong}, use one of {', '.join(KINDS)}")
    line = f"{stated or kind} {encoded}"
    try:
        # It warns about weak types, which are refused below.
        with warnings.catch_warnings(action="ignore"):
            key = load_ssh_public_key(line.encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise ValueError(f"not an OpenSSH public key ({error})") from None
    if isinstance(key, dsa.DSAPublicKey):
        raise ValueError("a DSA key, which is too weak: ask for an ed25519 key")
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ValueError(
            f"an RSA key of {key.key_size} bits, at least {MIN_RSA_BITS} are needed, "
            "or better an ed25519 key"
        )
    return line, comment


def _split_openssh(text: str) -> tuple[str, str, str]:
    parts = text.split(None, 2)
    if len(parts) < 2 or len(text.splitlines()) != 1:
        raise ValueError(
            "not one OpenSSH public key line, such as 'ssh-ed25519 AAAA… comment', "
            "and not an SSH2 file (RFC 4716)"
        )
    return parts[0], parts[1], parts[2].strip() if len(parts) > 2 else ""


def _split_ssh2(text: str) -> tuple[str, str, str]:
    lines = text.replace("\\\r\n", "").replace("\\\n", "").splitlines()
    if lines[-1].strip() != _END:
        raise ValueError(f"an SSH2 public key file without its last line, {_END!r}")
    comment, body = "", []
    for line in lines[1:-1]:
        name, colon, value = line.partition(":")
        if colon:
            if name.strip().lower() == "comment":
                comment = value.strip().removeprefix('"').removesuffix('"')
        else:
            body.append(line.strip())
    return "", "".join(body), comment
