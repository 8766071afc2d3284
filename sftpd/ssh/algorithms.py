"""The SSH algorithms that the server offers, and which of them it offers to one client.

In SSH the client's order decides (RFC 4253 section 7.1), and OpenSSH's client puts AES-CTR before
AES-GCM, although AES-CTR with its MAC costs three times the CPU. A server can still prefer
AES-GCM: it waits for the client's KEXINIT, and offers AES-GCM alone if the client lists it for
both directions. In the same way, a site that also offers other MACs (`algorithms = "compatible"`)
offers only encrypt-then-MAC to a client that lists it, and its additional key exchanges only to a
client that lists none of the others.

A client that does not list the preferred algorithms is offered everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from paramiko.message import Message

from config.settings import Algorithms, SftpSettings
from keys.credentials import fido

KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",  # RFC 8731; the next is the name that it had before
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
)
PQ_KEX: Final = KEX[:1]
OLD_KEX: Final = (  # for JSch, net-ssh, libssh2 and others of 2018 to 2022
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
)
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
RSA_SHA2: Final = ("rsa-sha2-512", "rsa-sha2-256")
HOST_KEYS: Final = ("ssh-ed25519", *RSA_SHA2)
SHA1: Final = "ssh-rsa"  # RSA with SHA-1, RFC 4253; the type of an RSA key has the same name
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
_NOT_ETM = "encrypt-and-MAC"
_NIST = "a curve that the NSA proposed"
_GROUP14 = "112 bits of strength"
_SHA1 = "SHA-1"
_LISTS = 10
_KINDS = ("key exchange", "host key", "cipher", "cipher", "MAC", "MAC")
_NOT_ALGORITHMS = (b"ext-info-", b"kex-strict-")  # what a client announces in the first list
_HEADER = 17


@dataclass(frozen=True, slots=True)
class Offer:
    """What a site offers, in the order in which it prefers it."""

    kex: Sequence[str] = KEX
    macs: Sequence[str] = MACS
    host_keys: Sequence[str] = HOST_KEYS
    public_keys: Sequence[str] = PUBLIC_KEYS


def offer(settings: SftpSettings) -> Offer:
    """Return what a site with these settings offers."""
    sha1 = (SHA1,) if settings.sha1_signatures else ()
    host_keys, public_keys = (*HOST_KEYS, *sha1), (*PUBLIC_KEYS, *sha1)
    match settings.algorithms:
        case Algorithms.PQ_ONLY:
            return Offer(PQ_KEX, MACS, host_keys, public_keys)
        case Algorithms.COMPATIBLE:
            return Offer((*KEX, *OLD_KEX), (*MACS, *PLAIN_MACS), host_keys, public_keys)
        case Algorithms.DEFAULT:
            return Offer(KEX, MACS, host_keys, public_keys)


def weaknesses(settings: SftpSettings) -> dict[str, str]:
    """Return what is weak in each algorithm that only these settings offer."""
    offered = offer(settings)
    found = dict.fromkeys((name for name in offered.macs if name in PLAIN_MACS), _NOT_ETM)
    for name in offered.kex:
        if name in OLD_KEX:
            found[name] = _NIST if "nistp" in name else _GROUP14
    if SHA1 in offered.host_keys:
        found[SHA1] = _SHA1
    return found


def setting_for(missing: Mapping[str, str]) -> str:
    """Return the settings that admit a client, empty if none do.

    `missing` has, for each kind in which nothing is in common, the names that the client offers.
    """
    widest = {
        "key exchange": (*KEX, *OLD_KEX),
        "host key": (*HOST_KEYS, SHA1),
        "cipher": CIPHERS,
        "MAC": (*MACS, *PLAIN_MACS),
    }
    if any(
        set(names.split(",")).isdisjoint(widest.get(kind, ())) for kind, names in missing.items()
    ):
        return ""
    settings = []
    if not missing.keys().isdisjoint(("key exchange", "MAC")):
        settings.append('`algorithms = "compatible"`')
    if "host key" in missing:
        settings.append("`sha1_signatures = true`")
    return " and ".join(settings)


def preferred_kex(kexinit: bytes, offered: Sequence[str]) -> Sequence[str] | None:
    """Return the only key exchanges to offer to that client; None to offer all of `offered`."""
    better = tuple(name for name in offered if name not in OLD_KEX)
    lists = _lists(kexinit, 1)
    return better if not {name.encode() for name in better}.isdisjoint(lists[0]) else None


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


def nothing_in_common(client_kexinit: bytes, server_kexinit: bytes) -> str:
    """Return what the client offers where nothing is in common, such as `MAC: hmac-md5,hmac-sha1`.

    Returns an empty string if every list has something in common.
    """
    client, server = (_lists(each, len(_KINDS)) for each in (client_kexinit, server_kexinit))
    found: dict[str, str] = {}
    for kind, theirs, ours in zip(_KINDS, client, server, strict=True):
        if set(theirs).isdisjoint(ours):
            names = [name for name in theirs if not name.startswith(_NOT_ALGORITHMS)]
            found[kind] = b",".join(names).decode("ascii", "replace")
    return "; ".join(f"{kind}: {names}" for kind, names in found.items())


def _lists(kexinit: bytes, count: int) -> list[list[bytes]]:
    """Return the first `count` lists of a KEXINIT."""
    message = Message(kexinit[_HEADER:])
    return [message.get_binary().split(b",") for _ in range(count)]
