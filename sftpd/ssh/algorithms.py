"""The SSH algorithms that the server offers, and which of them it offers to one client.

In SSH the client's order decides (RFC 4253 section 7.1), and OpenSSH's client puts AES-CTR before
AES-GCM, although AES-CTR with its MAC costs three times the CPU. A server can still prefer
AES-GCM: it waits for the client's KEXINIT, and offers AES-GCM alone if the client lists it for
both directions. In the same way, a site that also offers other MACs (`algorithms = "compatible"`)
offers only encrypt-then-MAC to a client that lists it.

A client that does not list the preferred algorithms is offered everything.
"""

from collections.abc import Sequence
from typing import Final

from paramiko.message import Message

from keys.credentials import fido

KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",  # RFC 8731; the next is the name that it had before
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
)
PQ_KEX: Final = KEX[:1]
CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
GCM_CIPHERS: Final = CIPHERS[:2]
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
PLAIN_MACS: Final = ("hmac-sha2-256", "hmac-sha2-512")  # encrypt-and-MAC
HOST_KEYS: Final = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
PUBLIC_KEYS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    *fido.KINDS,
)

# A KEXINIT is the type byte, a cookie of 16 bytes and ten name-lists. These are the positions of
# two lists for the direction client to server; the list for the other direction comes next.
_KEX_AT, _HOST_KEYS_AT, _CIPHERS_AT, _MACS_AT = 0, 1, 2, 4
_LISTS = 10
_HEADER = 17


def preferred_ciphers(kexinit: bytes) -> Sequence[str] | None:
    """Return the only ciphers to offer to the client that sent `kexinit`; None to offer all."""
    return GCM_CIPHERS if _lists_any(kexinit, _CIPHERS_AT, GCM_CIPHERS) else None


def preferred_macs(kexinit: bytes) -> Sequence[str] | None:
    """Return the only MACs to offer to the client that sent `kexinit`; None to offer all."""
    return MACS if _lists_any(kexinit, _MACS_AT, MACS) else None


def _lists_any(kexinit: bytes, position: int, names: Sequence[str]) -> bool:
    """Return whether the list at `position` and the next list each contain one of `names`."""
    lists = _lists(kexinit, position + 2)
    wanted = {name.encode() for name in names}
    return not any(wanted.isdisjoint(each) for each in lists[position:])


def guess_is_wrong(client_kexinit: bytes, server_kexinit: bytes) -> bool:
    """Return whether the client sends a first packet of a key exchange that will not take place.

    A client may guess that the first algorithms of its lists will be chosen, and send its next
    packet at once (RFC 4253 section 7). The guess is right only if key exchange and host key are
    the first in the server's lists too. The packet of a wrong guess must be ignored.
    """
    message = Message(client_kexinit[_HEADER:])
    client = [message.get_binary().split(b",") for _ in range(_LISTS)]
    if not message.get_boolean():
        return False
    server = _lists(server_kexinit, _HOST_KEYS_AT + 1)
    return any(client[at][0] != server[at][0] for at in (_KEX_AT, _HOST_KEYS_AT))


def _lists(kexinit: bytes, count: int) -> list[list[bytes]]:
    """Return the first `count` lists of a KEXINIT."""
    message = Message(kexinit[_HEADER:])
    return [message.get_binary().split(b",") for _ in range(count)]
