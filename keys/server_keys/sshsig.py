"""Makes and verifies signatures that `ssh-keygen -Y verify` accepts (SSHSIG).

The format is OpenSSH's PROTOCOL.sshsig, here with ed25519 keys and the namespace `ssps`. The signed
data is

    "SSHSIG", string namespace, string reserved (empty), string "sha512", string sha512(message)

and a signature is, in base64 between a BEGIN and an END line,

    "SSHSIG", uint32 1, string public key, string namespace, string reserved, string "sha512",
    string (string "ssh-ed25519", string of 64 bytes)

where a string is a uint32 length in network byte order and the bytes. OpenSSH 8.1 and later verify
it with

    ssh-keygen -Y verify -f allowed_signers -I ysk -n ssps -s FILE.sig < FILE

with this line (here broken into two) in `allowed_signers`, which each party also has on paper:

    ysk namespaces="ssps" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3
    chmQSVTG4
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable
from pathlib import Path
from struct import Struct
from textwrap import wrap

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from config.fault import Fault, Faults
from keys.server_keys import host

NAMESPACE, PRINCIPAL, ALLOWED_SIGNERS = "ssps", "ysk", "allowed_signers"
NO_KEY = "cannot be read ({}), restore it from a backup"
_MAGIC, _HASH, _KIND = b"SSHSIG", b"sha512", b"ssh-ed25519"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LINE = 70
_MAX_BYTES = 4096
_u32 = Struct(">I")


class BadSignature(Exception):
    """The signature is malformed, or of another message, namespace or key."""


def parse_signing_key(content: bytes, name: str) -> Ed25519PrivateKey:
    """Read the private signing key in the bytes of the file `name`; raise Faults if it is none.

    keys/operations/site_keys reads the file, and compares it with the record.
    """
    try:
        key = load_ssh_private_key(content, None)
    except ValueError as error:
        raise Faults([Fault(name, "", NO_KEY.format(error))]) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Faults([Fault(name, "", "not an ed25519 key, restore it from a backup")])
    return key


def sign(key: Ed25519PrivateKey, message: bytes) -> bytes:
    """Return the signature over `message`, in the form of a `.sig` file."""
    signature = _string(_KIND) + _string(key.sign(_text_to_sign(message)))
    blob = (
        _MAGIC
        + _u32.pack(1)
        + _string(_blob(key.public_key()))
        + _string(NAMESPACE.encode())
        + _string(b"")
        + _string(_HASH)
        + _string(signature)
    )
    lines = [_BEGIN, *wrap(base64.b64encode(blob).decode(), _LINE), _END, ""]
    return "\n".join(lines).encode()


def verify(key: Ed25519PublicKey, message: bytes, signature: bytes) -> None:
    """Raise BadSignature unless `signature` is by `key` over `message`."""
    try:
        key.verify(_parse_signature(signature, _blob(key)), _text_to_sign(message))
    except (InvalidSignature, ValueError) as error:
        raise BadSignature(str(error) or "it does not match the message") from error


def verify_any(keys: Iterable[Ed25519PublicKey], message: bytes, signature: bytes) -> None:
    """Raise BadSignature unless `signature` is by one of `keys` over `message`."""
    wrong = BadSignature("there is no key")
    for key in keys:
        try:
            verify(key, message, signature)
        except BadSignature as error:
            wrong = error
        else:
            return
    raise wrong


def public_key(line: str) -> Ed25519PublicKey:
    """Read the public key from an `allowed_signers` or `.pub` line; ValueError if not ed25519."""
    words = line.split()
    at = words.index(_KIND.decode()) if _KIND.decode() in words else len(words)
    key = load_ssh_public_key(" ".join(words[at : at + 2]).encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not an ed25519 key")
    return key


def allowed_signers(key: Ed25519PublicKey) -> str:
    """Return the allowed_signers line for one key."""
    public = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f'{PRINCIPAL} namespaces="{NAMESPACE}" {public}\n'


def site_allowed_signers(site: Path) -> str:
    """Return the allowed_signers lines of a site, with its former keys, for parties."""
    return host.allowed_signers(site, PRINCIPAL)


def _text_to_sign(message: bytes) -> bytes:
    digest = hashlib.sha512(message).digest()
    parts = (NAMESPACE.encode(), b"", _HASH, digest)
    return _MAGIC + b"".join(map(_string, parts))


def _parse_signature(signature: bytes, public: bytes) -> bytes:
    lines = signature[:_MAX_BYTES].decode("ascii").split("\n")
    if lines[0] != _BEGIN or lines[-2:] != [_END, ""]:
        raise ValueError("not an SSHSIG signature")
    try:
        blob = base64.b64decode("".join(lines[1:-2]), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    head = _MAGIC + _u32.pack(1)
    if not blob.startswith(head):
        raise ValueError("not an SSHSIG signature of version 1")
    key, namespace, _reserved, hashed, inner = _split_strings(blob[len(head) :], 5)
    if key != public:
        raise ValueError("by another key")
    if namespace != NAMESPACE.encode():
        raise ValueError("in another namespace")
    if hashed != _HASH:
        raise ValueError("over a hash other than sha512")
    kind, made = _split_strings(inner, 2)
    if kind != _KIND:
        raise ValueError("not an ed25519 signature")
    return made


def _blob(key: Ed25519PublicKey) -> bytes:
    return _string(_KIND) + _string(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def _string(data: bytes) -> bytes:
    return _u32.pack(len(data)) + data


def _split_strings(data: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    for _ in range(count):
        if len(data) < at + _u32.size:
            raise ValueError("too short")
        (size,) = _u32.unpack_from(data, at)
        at += _u32.size
        found.append(data[at : at + size])
        at += size
    if at != len(data):
        raise ValueError("longer than its fields")
    return found
