"""The server's host keys in a session: public keys, for which the monitor signs.

The private keys are in another process (sftpd/processes/host_keys).

After the login the server announces all its host keys, including the prepared ones. So a client
learns the next key before the old one is removed (OpenSSH PROTOCOL section 2.5; `UpdateHostKeys`):

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-00@openssh.com", no reply wanted, string[] keys

The client asks for a proof of those that it does not know,

    byte SSH_MSG_GLOBAL_REQUEST, "hostkeys-prove-00@openssh.com", reply wanted, string[] keys

and gets REQUEST_SUCCESS with one signature for each, in the same order, over

    string "hostkeys-prove-00@openssh.com", string session identifier, string key

A request that names a key that is not ours is refused completely. A prepared key is not used in a
key exchange until the operator activates it (keys/server_keys/host).
"""

from collections.abc import Callable, Iterable, Sequence

from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

ANNOUNCE = "hostkeys-00@openssh.com"
PROVE = "hostkeys-prove-00@openssh.com"
MAX_PROOFS = 16  # keys to prove in one request

Sign = Callable[[str, bytes], bytes | None]


class RemoteHostKey(PKey):
    """A host key of which this process has only the public half.

    `sign` is called with the algorithm and the hash of the key exchange, and returns the signature
    in wire form, or None if it is refused.
    """

    def __init__(self, blob: bytes, sign: Sign) -> None:
        self._blob = blob
        self._sign = sign

    def asbytes(self) -> bytes:
        """Return the public key in wire form."""
        return self._blob

    def get_name(self) -> str:
        """Return the type of the key."""
        return Message(self._blob).get_text()

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Message:
        """Have the hash of a key exchange signed."""
        signature = self._sign(algorithm or self.get_name(), data)
        if signature is None:
            raise SSHException("the monitor does not sign this key exchange")
        return Message(signature)


def announcement(blobs: Iterable[bytes]) -> Message:
    """Return the message that announces all host keys to a client."""
    message = Message()
    message.add_byte(cMSG_GLOBAL_REQUEST)
    message.add_string(ANNOUNCE)
    message.add_boolean(False)
    for blob in blobs:
        message.add_string(blob)
    return message


def requested(announced: Sequence[bytes], request: bytes) -> list[int]:
    """Return which announced keys a client asks to be proved; none if the request is refused.

    `request` is what follows the want-reply field.
    """
    blobs = _split_strings(request)
    numbers = {blob: number for number, blob in enumerate(announced)}
    if not blobs or len(blobs) > MAX_PROOFS or not numbers.keys() >= set(blobs):
        return []
    return [numbers[blob] for blob in blobs]


def rsa_algorithm(negotiated: str) -> str:
    """Return the algorithm with which RSA keys are proved.

    `negotiated` is that of the key exchange: a client that got an RSA signature there expects the
    same algorithm here.
    """
    return negotiated if negotiated.startswith("rsa-") else "rsa-sha2-512"


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
