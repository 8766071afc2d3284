"""The server's own keys: made once at `ssps init`, held in OpenSSH's private key format.

`keys/host/ssh_host_ed25519_key` and `ssh_host_rsa_key` (4096 bits) prove the server to the
parties; `keys/signing/signing_key` (ed25519) will sign what the parties take home. Beside
each stands its `.pub`.

Keys of the same names in `next/` beside them are announced and not used yet: those of the host
are told to clients that log in, that of signing stands in the letters. `prepare` makes them,
`take_over` moves them into their places. It goes one key at a time, each of which is whole or
not moved at all, and what was moved is not moved again: cut off, it is finished by calling it
once more. The public half of a key that served before stays in `old/`, named for the day of its
end, so that old signatures still verify.
"""

import base64
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
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
from config.site import HOST_KEYS, KEYS, SIGNING_KEYS
from keys import files
from keys.credentials.ring import fingerprint

NEXT_HOST_KEYS = HOST_KEYS / "next"
HOST_KEY_FILES = ("ssh_host_ed25519_key", "ssh_host_rsa_key")
SIGNING_KEY = "signing_key"
SERVING, NEXT_KEY = "serving", "next"  # in a record
_NEXT, _OLD, _DRAFT = "next", "old", "draft"
_SSHFP = {"ssh-rsa": 1, "ssh-ed25519": 4}  # RFC 4255, RFC 7479
_RSA_BITS = 4096


def create_key(path: Path, comment: str, *, bits: int = 0) -> str:
    """Make a key pair, `path` and `path`.pub: ed25519, or RSA of `bits`; return the public line."""
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
    key = rsa.generate_private_key(65537, bits) if bits else ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    files.replace(path.with_name(path.name + ".pub"), f"{public} {comment}\n".encode(), 0o644)
    return public


def create_site_keys(site: Path) -> None:
    """Make the host keys and the signing key of a new site."""
    for name in HOST_KEY_FILES:
        create_key(site / HOST_KEYS / name, "ssps", bits=_RSA_BITS if "rsa" in name else 0)
    create_key(site / SIGNING_KEYS / SIGNING_KEY, "ssps")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key, as it is printed for the parties."""

    kind: str
    blob: str
    name: str

    @property
    def fingerprint(self) -> str:
        """OpenSSH's name for it."""
        return fingerprint(base64.b64decode(self.blob))

    def sshfp(self, host: str) -> str:
        """Return its DNS record (RFC 4255), by SHA-256 (RFC 6594)."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).hexdigest()
        return f"{host.rstrip('.')}. IN SSHFP {_SSHFP[self.kind]} 2 {digest}"


def read_public_key(path: Path) -> PublicKey:
    """Return the public half of the private key at `path`, out of that key itself."""
    key = load_ssh_private_key(path.read_bytes(), None)
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    kind, blob = line.split()
    return PublicKey(kind, blob, path.name)


def public_host_keys(site: Path, *, coming: bool = False) -> list[PublicKey]:
    """Return the public host keys that serve, or those that are to serve next."""
    return [
        read_public_key(path)
        for path in (_next_files(site / HOST_KEYS) if coming else host_key_files(site))
    ]


def known_hosts(site: Path, host: str, port: int, *, coming: bool = False) -> str:
    """Return the lines that a client's known_hosts needs for this server."""
    name = host if port == 22 else f"[{host}]:{port}"
    lines = public_host_keys(site, coming=coming)
    return "".join(f"{name} {line.kind} {line.blob}\n" for line in lines)


def prepare_next(folder: Path) -> list[Path]:
    """Make the next keys of those in `folder`, where there are none yet; return all of them."""
    draft_next(folder)
    return announce_next(folder)


def draft_next(folder: Path) -> list[PublicKey]:
    """Make the next keys that are lacking, where nobody looks for them yet; `announce` follows."""
    made = []
    for name in _key_names(folder):
        if not (folder / _NEXT / name).exists():
            path = folder / _DRAFT / name
            create_key(path, "ssps", bits=_RSA_BITS if "rsa" in name else 0)
            made.append(read_public_key(path))
    return made


def announce_next(folder: Path) -> list[Path]:
    """Put the drafted keys where they are told of; return all the next ones."""
    (folder / _NEXT).mkdir(mode=0o700, exist_ok=True)
    for name in _key_names(folder):
        drafted, coming = folder / _DRAFT / name, folder / _NEXT / name
        if drafted.exists() and not coming.exists():
            drafted.with_name(f"{name}.pub").replace(coming.with_name(f"{name}.pub"))
            drafted.replace(coming)
    files.sync(folder / _NEXT)
    shutil.rmtree(folder / _DRAFT, ignore_errors=True)
    return _next_files(folder)


def describe(folder: Path) -> list[str]:
    """Return what a record says of the keys in `folder`: which serve, and which are to."""
    serving = [folder / name for name in _key_names(folder) if (folder / name).exists()]
    return [
        f"{what} {read_public_key(path).fingerprint} {path.name}"
        for what, paths in ((SERVING, serving), (NEXT_KEY, _next_files(folder)))
        for path in paths
    ]


def promote_next(folder: Path, now: datetime) -> list[Path]:
    """Let the next keys serve in place of those in `folder`; return the ones that now do."""
    moved = []
    for path in _next_files(folder):
        serving = folder / path.name
        if serving.exists():
            gone = folder / _OLD / f"{path.name}-{now:%Y-%m-%dT%H%M%SZ}.pub"
            gone.parent.mkdir(mode=0o700, exist_ok=True)
            before = read_public_key(serving)
            files.replace(gone, f"{before.kind} {before.blob} ssps\n".encode(), 0o644)
        # Its public half first: a mismatch is mended from the private one, at any later call.
        fresh = read_public_key(path)
        files.replace(
            serving.with_name(serving.name + ".pub"),
            f"{fresh.kind} {fresh.blob} ssps\n".encode(),
            0o644,
        )
        path.replace(serving)
        files.sync(folder)
        path.with_name(path.name + ".pub").unlink(missing_ok=True)
        moved.append(serving)
    return moved


def withdraw_next(folder: Path) -> list[Path]:
    """Remove the next keys, which have never served; return them."""
    gone = _next_files(folder)
    for path in gone:
        path.unlink()
        path.with_name(path.name + ".pub").unlink(missing_ok=True)
    return gone


def former_keys(folder: Path) -> Iterator[tuple[PublicKey, datetime]]:
    """Yield the keys that served before, the oldest first, and when each ceased to."""
    for path in sorted((folder / _OLD).glob("*.pub")):
        kind, blob, *_ = path.read_text(encoding="utf-8").split()
        name, _, day = path.stem.partition("-")
        yield PublicKey(kind, blob, name), datetime.strptime(day + "+0000", "%Y-%m-%dT%H%M%SZ%z")


def allowed_signers(site: Path, principal: str) -> str:
    """Return the lines with which `ssh-keygen -Y verify` takes signatures of now and before.

    A signature does not say when it was made, so keys that served before stay without a window
    (`valid-before` would turn away all that they ever signed); a comment says until when.
    """
    lines = []
    for key, until in former_keys(site / SIGNING_KEYS):
        lines.append(f"# served until {until:%Y-%m-%d %H:%M:%S}Z\n")
        lines.append(f'{principal} namespaces="ssps" {key.kind} {key.blob}\n')
    for path in (site / SIGNING_KEYS / SIGNING_KEY, *_next_files(site / SIGNING_KEYS)):
        key = read_public_key(path)
        lines.append(f'{principal} namespaces="ssps" {key.kind} {key.blob}\n')
    return "".join(lines)


def _key_names(folder: Path) -> tuple[str, ...]:
    return (SIGNING_KEY,) if folder.name == SIGNING_KEYS.name else HOST_KEY_FILES


def _next_files(folder: Path) -> list[Path]:
    return [p for name in _key_names(folder) if (p := folder / _NEXT / name).exists()]


def host_key_files(site: Path) -> list[Path]:
    """Return the private host keys that the site has, in the order they are offered."""
    return [p for name in HOST_KEY_FILES if (p := site / HOST_KEYS / name).exists()]


def announced_host_key_files(site: Path) -> list[Path]:
    """Return the private host keys that clients are to know: those present, and the next."""
    return [*host_key_files(site), *_next_files(site / HOST_KEYS)]


def faults(site: Path) -> list[Fault]:
    """Return what keeps the site's keys from serving: missing or damaged ones, loose modes."""
    found = []
    if not host_key_files(site):
        advice = "no host key, run `ssps init` or restore it from a copy"
        found.append(Fault(str(HOST_KEYS), "", advice))
    if not (site / SIGNING_KEYS / SIGNING_KEY).exists():
        found.append(Fault(str(SIGNING_KEYS), "", "no signing key, restore it from a copy"))
    signing = site / SIGNING_KEYS
    for path in [*announced_host_key_files(site), signing / SIGNING_KEY, *_next_files(signing)]:
        if path.exists() and (wrong := _damage(path)):
            message = f"is no key that serves ({wrong}), restore it from a copy"
            found.append(Fault(str(path.relative_to(site)), "", message))
    if (site / KEYS).exists():
        found += files.permission_faults(site, site / KEYS)
    return found


def _damage(path: Path) -> str | None:
    try:
        load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        return str(error)
    return None
