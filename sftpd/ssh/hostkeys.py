"""The server's host keys: loaded for the key exchange, announced and proved after the login.

After the login the server announces all its host keys, including the prepared ones. So a client
learns the next key before the old one is removed (OpenSSH PROTOCOL section 2.5; `UpdateHostKeys`):

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-00@openssh.com", no reply wanted, string[] keys

The client asks for a proof of those that it does not know,

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-prove-00@openssh.com", reply wanted, string[] keys

and gets REQUEST_SUCCESS with one signature for each, in the same order, over

    string "hostkeys-prove-00@openssh.com", string session identifier, string key

The first string makes such a signature useless in a key exchange. A request that names a key that
is not ours is refused completely. A prepared key is not used in a key exchange until the operator
activates it (keys/server_keys/host).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey
from paramiko.ssh_exception import SSHException

from config.fault import Fault, Faults
from sftpd.ssh.algorithms import SHA1

ANNOUNCE = "hostkeys-00@openssh.com"
PROVE = "hostkeys-prove-00@openssh.com"
MAX_PROOFS = 16  # keys to prove in one request


class RsaKey(RSAKey):
    """An RSA key that also knows SHA-1 signatures, which paramiko has dropped.

    They are made and accepted only if the server offers them (`[sftp] sha1_signatures`).
    """

    HASHES: ClassVar[dict[str, type[HashAlgorithm]]] = {  # type: ignore[misc]
        **RSAKey.HASHES,
        SHA1: hashes.SHA1,
    }


_KEY_CLASSES: Mapping[str, type[PKey]] = {"ed25519": Ed25519Key, "rsa": RsaKey}


def load(paths: Iterable[Path]) -> list[PKey]:
    """Load private keys; a file's name says its kind, as in `ssh_host_ed25519_key`.

    Raises Faults that name every file that cannot be used.
    """
    found, faults = [], []
    for path in paths:
        try:
            found.append(_KEY_CLASSES[path.name.split("_")[2]].from_private_key_file(str(path)))
        except (OSError, ValueError, SSHException) as error:
            message = f"the key cannot be used ({error}): restore the file from a backup"
            faults.append(Fault(str(path), "", message))
    if faults:
        raise Faults(faults)
    return found


def announcement(keys: Iterable[PKey]) -> Message:
    """Return the message that announces all host keys to a client."""
    message = Message()
    message.add_byte(cMSG_GLOBAL_REQUEST)
    message.add_string(ANNOUNCE)
    message.add_boolean(False)
    for key in keys:
        message.add_string(key.asbytes())
    return message


def proofs(
    keys: Sequence[PKey], request: bytes, session_id: bytes, host_key_algorithm: str
) -> bytes | None:
    """Return the signatures that a request asks for, None to refuse it.

    `request` is what follows the want-reply field. `host_key_algorithm` is the one that the key
    exchange negotiated: a client that got an RSA signature there expects the same algorithm here.
    """
    blobs = _split_strings(request)
    ours = {key.asbytes(): key for key in keys}
    if not blobs or len(blobs) > MAX_PROOFS or not ours.keys() >= set(blobs):
        return None
    rsa = host_key_algorithm if host_key_algorithm.startswith("rsa-") else "rsa-sha2-512"
    answer = Message()
    for blob in blobs:
        key = ours[blob]
        algorithm = rsa if isinstance(key, RSAKey) else None
        signed = key.sign_ssh_data(_text_to_sign(session_id, blob), algorithm)
        answer.add_string(signed.asbytes())
    return answer.asbytes()


def _text_to_sign(session_id: bytes, blob: bytes) -> bytes:
    message = Message()
    message.add_string(PROVE)
    message.add_string(session_id)
    message.add_string(blob)
    return message.asbytes()


def _split_strings(data: bytes) -> list[bytes]:
    """Parse a sequence of strings; return none if it is cut short."""
    found, at = [], 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            return []
        found.append(data[start:at])
    return found
