"""Makes and rotates the site's own keys, in OpenSSH's private key format.

`ssps init` makes them:

    keys/host/ssh_host_ed25519_key, ssh_host_rsa_key     prove the server to the parties
    keys/signing/signing_key                             signs feeds, sums and checkpoints
    keys/stamps/stamp_key                                seals the digests of files (stamp_key)

The RSA key has 4096 bits, the others are ed25519. Each has its public half beside it, in a file of
the same name and `.pub`.

A rotation has two steps. `prepare_next` makes keys of the same names in `next/`: they are announced
and not used yet. The server tells clients that log in about the next host keys, and the letters
print the next signing key. `promote_next` moves them into use, one key at a time; each is moved
completely or not at all. If it is interrupted, call it again to finish. The public half of a key
that was in use stays in `old/`, and its name has the time when its use ended, so that old
signatures can still be verified.
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

from config import times
from config.fault import Fault
from config.site import HOST_KEYS, KEYS, SIGNING_KEYS
from keys import files
from keys.credentials.ring import fingerprint
from keys.server_keys import stamp_key

NEXT_HOST_KEYS = HOST_KEYS / "next"
HOST_KEY_NAMES = ("ssh_host_ed25519_key", "ssh_host_rsa_key")
SIGNING_KEY = "signing_key"
SERVING, NEXT_KEY = "serving", "next"  # the words in a record
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
    """Make the host keys, the signing key and the stamp key of a new site."""
    for name in HOST_KEY_NAMES:
        create_key(site / HOST_KEYS / name, "ssps", bits=_RSA_BITS if "rsa" in name else 0)
    create_key(site / SIGNING_KEYS / SIGNING_KEY, "ssps")
    stamp_key.load_or_create(site)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key in OpenSSH's form: type, base64, and the name of its file."""

    kind: str
    blob: str
    name: str

    @property
    def fingerprint(self) -> str:
        """Its fingerprint as OpenSSH prints it."""
        return fingerprint(base64.b64decode(self.blob))

    def sshfp(self, host: str) -> str:
        """Return its SSHFP DNS record (RFC 4255) with SHA-256 (RFC 6594)."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).hexdigest()
        return f"{host.rstrip('.')}. IN SSHFP {_SSHFP[self.kind]} 2 {digest}"


def read_public_key(path: Path) -> PublicKey:
    """Return the public half of the private key at `path`, computed from the private key."""
    key = load_ssh_private_key(path.read_bytes(), None)
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    kind, blob = line.split()
    return PublicKey(kind, blob, path.name)


def public_host_keys(site: Path, *, next_keys: bool = False) -> list[PublicKey]:
    """Return the public host keys in use, or with `next_keys` the next ones."""
    return [
        read_public_key(path)
        for path in (_next_files(site / HOST_KEYS) if next_keys else host_key_files(site))
    ]


def known_hosts(site: Path, host: str, port: int, *, next_keys: bool = False) -> str:
    """Return the lines for a client's known_hosts file."""
    name = host if port == 22 else f"[{host}]:{port}"
    lines = public_host_keys(site, next_keys=next_keys)
    return "".join(f"{name} {line.kind} {line.blob}\n" for line in lines)


def prepare_next(folder: Path) -> list[Path]:
    """Make and announce the next keys of `folder` that do not exist yet; return all next keys."""
    draft_next(folder)
    return announce_next(folder)


def draft_next(folder: Path) -> list[PublicKey]:
    """Make the missing next keys in `draft/`, unannounced; call `announce_next` afterwards."""
    made = []
    for name in _key_names(folder):
        if not (folder / _NEXT / name).exists():
            path = folder / _DRAFT / name
            create_key(path, "ssps", bits=_RSA_BITS if "rsa" in name else 0)
            made.append(read_public_key(path))
    return made


def announce_next(folder: Path) -> list[Path]:
    """Move the drafts to `next/`, where they are announced; return all next keys."""
    (folder / _NEXT).mkdir(mode=0o700, exist_ok=True)
    for name in _key_names(folder):
        drafted, following = folder / _DRAFT / name, folder / _NEXT / name
        if drafted.exists() and not following.exists():
            drafted.with_name(f"{name}.pub").replace(following.with_name(f"{name}.pub"))
            drafted.replace(following)
    files.sync(folder / _NEXT)
    shutil.rmtree(folder / _DRAFT, ignore_errors=True)
    return _next_files(folder)


def describe(folder: Path) -> list[str]:
    """Return a line about each key in `folder` for the ledger: in use, or next."""
    in_use = [folder / name for name in _key_names(folder) if (folder / name).exists()]
    return [
        f"{what} {read_public_key(path).fingerprint} {path.name}"
        for what, paths in ((SERVING, in_use), (NEXT_KEY, _next_files(folder)))
        for path in paths
    ]


def drafted_files(folder: Path) -> dict[str, bytes | None]:
    """Return what `announce_next` puts into `folder`: the content of each file, by its path."""
    found: dict[str, bytes | None] = {}
    for name in _key_names(folder):
        if (folder / _DRAFT / name).exists() and not (folder / _NEXT / name).exists():
            for each in (name, f"{name}.pub"):
                found[f"{_NEXT}/{each}"] = (folder / _DRAFT / each).read_bytes()
    return found


def promoted_files(folder: Path, now: datetime) -> dict[str, bytes | None]:
    """Return what `promote_next` changes in `folder`: by path, the new content or None."""
    found: dict[str, bytes | None] = {}
    for path in _next_files(folder):
        if (folder / path.name).exists():
            found[_former(path.name, now)] = _public_line(folder / path.name)
        found[path.name] = path.read_bytes()
        found[f"{path.name}.pub"] = _public_line(path)
        found |= dict.fromkeys((f"{_NEXT}/{path.name}", f"{_NEXT}/{path.name}.pub"))
    return found


def withdrawn_files(folder: Path) -> dict[str, bytes | None]:
    """Return what `withdraw_next` removes from `folder`: None for each path."""
    names = [path.name for path in _next_files(folder)]
    return dict.fromkeys(f"{_NEXT}/{each}" for name in names for each in (name, f"{name}.pub"))


def promote_next(folder: Path, now: datetime) -> list[Path]:
    """Replace the keys in `folder` by the next ones; return the files now in use."""
    moved = []
    for path in _next_files(folder):
        in_use = folder / path.name
        if in_use.exists():
            old = folder / _former(path.name, now)
            old.parent.mkdir(mode=0o700, exist_ok=True)
            files.replace(old, _public_line(in_use), 0o644)
        # The public half first: if a crash comes in between, a later call corrects it from the
        # private half.
        files.replace(in_use.with_name(in_use.name + ".pub"), _public_line(path), 0o644)
        path.replace(in_use)
        files.sync(folder)
        path.with_name(path.name + ".pub").unlink(missing_ok=True)
        moved.append(in_use)
    return moved


def withdraw_next(folder: Path) -> list[Path]:
    """Remove the next keys, which were never in use; return their paths."""
    withdrawn = _next_files(folder)
    for path in withdrawn:
        path.unlink()
        path.with_name(path.name + ".pub").unlink(missing_ok=True)
    return withdrawn


def former_keys(folder: Path) -> Iterator[tuple[PublicKey, datetime]]:
    """Yield the keys that were in use before, by name, each with the time when its use ended."""
    for path in sorted((folder / _OLD).glob("*.pub")):
        kind, blob, *_ = path.read_text(encoding="utf-8").split()
        name, _, day = path.stem.partition("-")
        yield PublicKey(kind, blob, name), datetime.strptime(day + "+0000", "%Y-%m-%dT%H%M%SZ%z")


def allowed_signers(site: Path, principal: str) -> str:
    """Return the allowed_signers lines for `ssh-keygen -Y verify`: former, present and next keys.

    A signature does not say when it was made, so former keys are listed without a time limit
    (`valid-before` would reject everything they signed). A comment says when each one ended.
    """
    lines = []
    for key, until in former_keys(site / SIGNING_KEYS):
        lines.append(f"# in use until {times.format_utc(until)}\n")
        lines.append(f'{principal} namespaces="ssps" {key.kind} {key.blob}\n')
    for path in (site / SIGNING_KEYS / SIGNING_KEY, *_next_files(site / SIGNING_KEYS)):
        key = read_public_key(path)
        lines.append(f'{principal} namespaces="ssps" {key.kind} {key.blob}\n')
    return "".join(lines)


def _former(name: str, now: datetime) -> str:
    return f"{_OLD}/{name}-{now:%Y-%m-%dT%H%M%SZ}.pub"


def _public_line(path: Path) -> bytes:
    public = read_public_key(path)
    return f"{public.kind} {public.blob} ssps\n".encode()


def _key_names(folder: Path) -> tuple[str, ...]:
    return (SIGNING_KEY,) if folder.name == SIGNING_KEYS.name else HOST_KEY_NAMES


def _next_files(folder: Path) -> list[Path]:
    return [p for name in _key_names(folder) if (p := folder / _NEXT / name).exists()]


def host_key_files(site: Path) -> list[Path]:
    """Return the files of the host keys in use, in the order in which they are offered."""
    return [p for name in HOST_KEY_NAMES if (p := site / HOST_KEYS / name).exists()]


def announced_host_key_files(site: Path) -> list[Path]:
    """Return the files of the host keys that clients should know: in use, and next."""
    return [*host_key_files(site), *_next_files(site / HOST_KEYS)]


def faults(site: Path) -> list[Fault]:
    """Return what is wrong with the site's keys: missing, damaged, or readable by others."""
    found = []
    if not host_key_files(site):
        advice = (
            "no host key, restore it from a backup, or make new ones with `ssps key host next` "
            "and `ssps key host rotate`"
        )
        found.append(Fault(str(HOST_KEYS), "", advice))
    if not (site / SIGNING_KEYS / SIGNING_KEY).exists():
        found.append(Fault(str(SIGNING_KEYS), "", "no signing key, restore it from a backup"))
    signing = site / SIGNING_KEYS
    for path in [*announced_host_key_files(site), signing / SIGNING_KEY, *_next_files(signing)]:
        if path.exists() and (wrong := _damage(path)):
            message = f"not a usable key ({wrong}), restore it from a backup"
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
