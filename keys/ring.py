"""A party's credentials, each with the time in which it is valid; immutable.

The file `keys/parties/<id>.toml`, mode 0600, written only by `ssps key`:

    party = "parti-a"

    [[credential]]
    kind = "public-key"                  # or "password"
    label = "mirror-1"
    fingerprint = "SHA256:wEtwXy…"       # of a password: of its argon2id hash
    secret = "ssh-ed25519 AAAAC3…"       # the public key, or the argon2id hash
    not_before = 2023-05-14T10:00:00+03:00
    not_after = 2023-05-28T17:00:00+03:00    # optional
    added_by = "operator"

A password's fingerprint names it in the records without telling anything about it.
"""

import base64
import binascii
import hashlib
import tomllib
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

import tomli_w
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from config.fault import Fault, Faults

FOLDER = Path("keys", "parties")
WEAKEST_RSA = 3072
_KINDS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


class Kind(StrEnum):
    """How a credential proves itself."""

    PUBLIC_KEY = "public-key"
    PASSWORD = "password"  # noqa: S105 - the kind's name, no secret


@dataclass(frozen=True, slots=True)
class Credential:
    """One way in; `secret` is never recorded, printed or logged."""

    kind: Kind
    label: str
    fingerprint: str
    secret: str
    not_before: datetime
    not_after: datetime | None
    added_by: str

    def valid_at(self, now: datetime) -> bool:
        """Say whether it opens the door at `now`."""
        return self.not_before <= now and (self.not_after is None or now < self.not_after)

    def __repr__(self) -> str:
        return f"Credential({self.kind}, {self.label!r}, {self.fingerprint})"


@dataclass(frozen=True, slots=True)
class Ring:
    """All credentials of one party, in the order they were added."""

    party: str
    credentials: tuple[Credential, ...] = ()

    def by_key(self, blob: bytes, now: datetime) -> Credential | None:
        """Return the credential of that public key (RFC 4253 6.6 wire form) valid at `now`."""
        wanted = fingerprint(blob)
        for credential in self.credentials:
            if credential.kind is Kind.PUBLIC_KEY and credential.fingerprint == wanted:
                return credential if credential.valid_at(now) else None
        return None

    def by_password(self, password: str, now: datetime) -> Credential | None:
        """Return the credential of that password valid at `now`; takes as long if there is none."""
        found = None
        passwords = [c for c in self.credentials if c.kind is Kind.PASSWORD and c.valid_at(now)]
        for credential in passwords:
            if _matches(credential.secret, password):
                found = credential
        if not passwords:
            _matches(_nobodys_hash(), password)
        return found


def _matches(hashed: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys_hash() -> str:
    return PasswordHasher().hash("nobody's")


def fingerprint(blob: bytes) -> str:
    """Return OpenSSH's name for a public key: `SHA256:` and the digest in bare base64."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def public_key(
    text: str, *, label: str, not_before: datetime, not_after: datetime | None, added_by: str
) -> Credential:
    """Make a credential of an OpenSSH public key line; ValueError says why it will not do.

    The label falls back to the line's comment.
    """
    if "PRIVATE KEY" in text:
        raise ValueError("a private key, which stays with the party: ask for the .pub file")
    parts = text.split(None, 2)
    if len(parts) < 2 or len(text.strip().splitlines()) != 1:
        raise ValueError("not one OpenSSH public key line, such as 'ssh-ed25519 AAAA… comment'")
    if parts[0] not in _KINDS:
        raise ValueError(f"{parts[0]!r} is no kind that is served, use one of {', '.join(_KINDS)}")
    try:
        key = load_ssh_public_key(" ".join(parts[:2]).encode())
        blob = base64.b64decode(parts[1], validate=True)
    except (ValueError, UnsupportedAlgorithm, binascii.Error) as error:
        raise ValueError(f"not an OpenSSH public key ({error})") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < WEAKEST_RSA:
        raise ValueError(
            f"an RSA key of {key.key_size} bits, at least {WEAKEST_RSA} are needed, "
            "or better an ed25519 key"
        )
    named = label or (parts[2].strip() if len(parts) > 2 else "")
    if not named.isprintable():
        raise ValueError(f"the label {named!r} cannot be printed, give one with --label")
    return Credential(
        Kind.PUBLIC_KEY,
        named,
        fingerprint(blob),
        " ".join(parts[:2]),
        not_before,
        not_after,
        added_by,
    )


def password(
    text: str, *, label: str, not_before: datetime, not_after: datetime | None, added_by: str
) -> Credential:
    """Make a credential of a password, hashed with argon2id (RFC 9106)."""
    hashed = PasswordHasher().hash(text)
    name = fingerprint(hashed.encode())
    return Credential(Kind.PASSWORD, label, name, hashed, not_before, not_after, added_by)


def dumps(ring: Ring) -> bytes:
    """Write a ring in the file's form; `loads` reads it back the same."""
    listed = [
        {k: str(v) if k == "kind" else v for k, v in asdict(c).items() if v is not None}
        for c in ring.credentials
    ]
    return tomli_w.dumps({"party": ring.party, "credential": listed}).encode()


_TYPES = {f: datetime if f.startswith("not_") else str for f in Credential.__dataclass_fields__}


def loads(text: str) -> Ring:
    """Read a ring; ValueError says what is wrong with it."""
    data = tomllib.loads(text)
    if set(data) - {"party", "credential"} or not isinstance(data.get("party"), str):
        raise ValueError("not a key file: only `party` and `credential` belong in it")
    credentials = []
    listed = data.get("credential", [])
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ValueError("each credential is a table of its own, under [[credential]]")
    for number, stated in enumerate(listed, start=1):
        fields = {"not_after": None, **stated}
        if set(fields) != set(_TYPES):
            odd = ", ".join(sorted(set(fields) ^ set(_TYPES)))
            raise ValueError(f"credential {number}: missing or unknown: {odd}")
        for key, value in fields.items():
            if not isinstance(value, _TYPES[key]) and not (key == "not_after" and value is None):
                raise ValueError(f"credential {number}: {key}: {value!r} is of the wrong type")
            if isinstance(value, datetime) and value.tzinfo is None:
                raise ValueError(f"credential {number}: {key}: has no time zone")
        credential = Credential(**{**fields, "kind": Kind(fields["kind"])})
        if credential.fingerprint != _named(credential):
            raise ValueError(f"credential {number}: its fingerprint is not that of its secret")
        credentials.append(credential)
    return Ring(data["party"], tuple(credentials))


def _named(credential: Credential) -> str:
    if credential.kind is Kind.PASSWORD:
        return fingerprint(credential.secret.encode())
    return fingerprint(base64.b64decode(credential.secret.partition(" ")[2], validate=True))


def path(site: Path, party: str) -> Path:
    """Return where the ring of `party` stands."""
    return site / FOLDER / f"{party}.toml"


def load(site: Path, party: str) -> Ring:
    """Read a party's ring, empty if it has no file yet; raise Faults if the file is bad."""
    name = str(FOLDER / f"{party}.toml")
    try:
        ring = loads(path(site, party).read_text(encoding="utf-8"))
        if ring.party != party:
            raise ValueError(f"party is {ring.party!r}, but the file is named for {party!r}")
    except FileNotFoundError:
        return Ring(party)
    except (OSError, ValueError) as error:
        advice = "restore it from a copy, or remove it and add the keys anew with `ssps key add`"
        raise Faults([Fault(name, "", f"{error}; {advice}")]) from None
    return ring
