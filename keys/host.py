"""The server's own keys: made once at `ssps init`, held in OpenSSH's private key format.

`keys/host/ssh_host_ed25519_key` and `ssh_host_rsa_key` (4096 bits) prove the server to the
parties; `keys/signing/signing_key` (ed25519) will sign what the parties take home. Beside
each stands its `.pub`.

Keys of the same names in `keys/host/next/` are told to clients that log in, and not used yet.
To change a host key, put the new one there and send SIGHUP, wait until the parties' clients have
been in, move it and its `.pub` over the old ones, and send SIGHUP again.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from config.fault import Fault
from keys import files

HOST, SIGNING = Path("keys", "host"), Path("keys", "signing")
NEXT = HOST / "next"
HOST_KEYS = ("ssh_host_ed25519_key", "ssh_host_rsa_key")
SIGNING_KEY = "signing_key"
_RSA_BITS = 4096


def make(path: Path, comment: str, *, bits: int = 0) -> str:
    """Make a key pair, `path` and `path`.pub: ed25519, or RSA of `bits`; return the public line."""
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    key = rsa.generate_private_key(65537, bits) if bits else ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    files.replace(path.with_name(path.name + ".pub"), f"{public} {comment}\n".encode(), 0o644)
    return public


def make_all(site: Path) -> None:
    """Make the host keys and the signing key of a new site."""
    for name in HOST_KEYS:
        make(site / HOST / name, "ssps", bits=_RSA_BITS if "rsa" in name else 0)
    make(site / SIGNING / SIGNING_KEY, "ssps")


def known_hosts(site: Path, host: str, port: int) -> str:
    """Return the lines that a client's known_hosts needs for this server."""
    name = host if port == 22 else f"[{host}]:{port}"
    lines = []
    for key in present(site):
        kind, blob, *_ = key.with_name(key.name + ".pub").read_text(encoding="utf-8").split()
        lines.append(f"{name} {kind} {blob}\n")
    return "".join(lines)


def present(site: Path) -> list[Path]:
    """Return the private host keys that the site has, in the order they are offered."""
    return [site / HOST / name for name in HOST_KEYS if (site / HOST / name).exists()]


def announced(site: Path) -> list[Path]:
    """Return the private host keys that clients are to know: those present, and the next."""
    following = [site / NEXT / name for name in HOST_KEYS]
    return [*present(site), *(path for path in following if path.exists())]


def faults(site: Path) -> list[Fault]:
    """Return what keeps the site's keys from serving: missing or damaged ones, loose modes."""
    found = []
    if not present(site):
        found.append(Fault(str(HOST), "", "no host key, run `ssps init` or restore it from a copy"))
    if not (site / SIGNING / SIGNING_KEY).exists():
        found.append(Fault(str(SIGNING), "", "no signing key, restore it from a copy"))
    for path in [*announced(site), site / SIGNING / SIGNING_KEY]:
        if path.exists() and (wrong := _damage(path)):
            message = f"is no key that serves ({wrong}), restore it from a copy"
            found.append(Fault(str(path.relative_to(site)), "", message))
    if (site / "keys").exists():
        found += files.loose(site, site / "keys")
    return found


def _damage(path: Path) -> str | None:
    try:
        load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        return str(error)
    return None
