"""The server's host keys: read for the key exchange, announced and proved to logged-in clients.

After the login the server tells all its host keys, the next ones among them, so that a client
knows the next key before the old one goes (OpenSSH PROTOCOL 2.5; its `UpdateHostKeys`):

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-00@openssh.com", no reply wanted, string[] keys

The client asks for a proof of those it does not know,

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-prove-00@openssh.com", reply wanted, string[] keys

and is answered with REQUEST_SUCCESS and a signature each, in the same order, over

    string "hostkeys-prove-00@openssh.com", string session identifier, string key

Since that text opens what is signed, the signature is of no use in a key exchange. A request
that names any key that is not ours is refused whole. Those next keys are never used to exchange
keys; they become present when the operator moves them there (keys/server_keys/host).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey
from paramiko.ssh_exception import SSHException

from config.fault import Fault, Faults

ANNOUNCE = "hostkeys-00@openssh.com"
PROVE = "hostkeys-prove-00@openssh.com"
MAX_PROOFS = 16  # keys to prove in one request
_KEY_CLASSES: Mapping[str, type[PKey]] = {"ed25519": Ed25519Key, "rsa": RSAKey}


def load(paths: Iterable[Path]) -> list[PKey]:
    """Read private keys, whose names say their kind, as in `ssh_host_ed25519_key`.

    Raises Faults with every one that cannot be read.
    """
    found, faults = [], []
    for path in paths:
        try:
            found.append(_KEY_CLASSES[path.name.split("_")[2]].from_private_key_file(str(path)))
        except (OSError, ValueError, SSHException) as error:
            message = f"no key that can be used ({error}), restore it from a copy"
            faults.append(Fault(str(path), "", message))
    if faults:
        raise Faults(faults)
    return found


def announcement(keys: Iterable[PKey]) -> Message:
    """Return the message that tells a client all host keys."""
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
    """Sign for each key that is request for; None where that is not to be answered.

    `request` is the request behind its want-reply, `host_key_algorithm` the one that the key
    exchange agreed on: a client that took an RSA signature there wants the same kind here.
    """
    named = _split_strings(request)
    ours = {key.asbytes(): key for key in keys}
    if not named or len(named) > MAX_PROOFS or not ours.keys() >= set(named):
        return None
    rsa = host_key_algorithm if host_key_algorithm.startswith("rsa-") else "rsa-sha2-512"
    answer = Message()
    for blob in named:
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
    """Read a sequence of strings; none where it is cut short."""
    found, at = [], 0
    while at < len(data):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            return []
        found.append(data[start:at])
    return found
