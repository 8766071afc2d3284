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
    chosen = true                        # only of a password: the party set it itself

A password's fingerprint names it in the records without telling anything about it.
"""

import base64
import hashlib
import re
import tomllib
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

import tomli_w
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from config.fault import Fault, Faults
from config.site import ring_file
from keys.credentials import publickey

# What argon2-cffi writes; a hash that asks for more would be an attack on our memory.
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", re.ASCII
)


class CredentialKind(StrEnum):
    """How a credential proves itself."""

    PUBLIC_KEY = "public-key"
    PASSWORD = "password"  # noqa: S105 - the kind's name, no secret


@dataclass(frozen=True, slots=True)
class Credential:
    """One way in; `secret` is never recorded, printed or logged.

    `chosen` is a password that the party set itself; another one is an operator's, which may be
    good only for setting such a one.
    """

    kind: CredentialKind
    label: str
    fingerprint: str
    secret: str
    not_before: datetime
    not_after: datetime | None
    added_by: str
    chosen: bool = False

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
            if credential.kind is CredentialKind.PUBLIC_KEY and credential.fingerprint == wanted:
                return credential if credential.valid_at(now) else None
        return None

    def by_password(self, password: str, now: datetime) -> Credential | None:
        """Return the credential of that password valid at `now`; takes as long if there is none."""
        found = None
        passwords = [
            c for c in self.credentials if c.kind is CredentialKind.PASSWORD and c.valid_at(now)
        ]
        for credential in passwords:
            if _matches(credential.secret, password):
                found = credential
        if not passwords:
            _matches(_decoy_hash(), password)
        return found


def _matches(secret: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(secret, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _decoy_hash() -> str:
    return PasswordHasher().hash("nobody's")


def fingerprint(blob: bytes) -> str:
    """Return OpenSSH's name for a public key: `SHA256:` and the digest in bare base64."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def key_credential(
    text: str, *, label: str, not_before: datetime, not_after: datetime | None, added_by: str
) -> Credential:
    """Make a credential of a public key file; ValueError says why it will not do.

    The label falls back to the file's comment.
    """
    line, comment = publickey.parse_public_key(text)
    named = label or comment
    if not named.isprintable():
        raise ValueError(f"the label {named!r} cannot be printed, give one with --label")
    return Credential(
        CredentialKind.PUBLIC_KEY,
        named,
        fingerprint(base64.b64decode(line.partition(" ")[2])),
        line,
        not_before,
        not_after,
        added_by,
    )


def password_credential(
    text: str, *, label: str, not_before: datetime, not_after: datetime | None, added_by: str
) -> Credential:
    """Make a credential of a password, hashed with argon2id (RFC 9106)."""
    secret = hash_password(text)
    name = fingerprint(secret.encode())
    return Credential(CredentialKind.PASSWORD, label, name, secret, not_before, not_after, added_by)


def hash_password(text: str) -> str:
    """Hash a password with argon2id (RFC 9106)."""
    return PasswordHasher().hash(text)


def chosen_password_credential(
    secret: str, *, label: str, not_before: datetime, added_by: str
) -> Credential:
    """Make a credential of the hash of a password that the party chose; ValueError if it is none.

    It has come from a process that speaks to the network.
    """
    if not _HASH.fullmatch(secret):
        raise ValueError("no hash of a password as this server makes them")
    name = fingerprint(secret.encode())
    return Credential(
        CredentialKind.PASSWORD, label, name, secret, not_before, None, added_by, chosen=True
    )


def describe(ring: Ring) -> list[str]:
    """Return what a record says of each credential; never a secret."""
    return [
        f"{c.fingerprint} {c.kind} {c.label or '-'} from {c.not_before.isoformat()}"
        f"{f' until {c.not_after.isoformat()}' if c.not_after else ''} by {c.added_by or '-'}"
        for c in ring.credentials
    ]


def ring_digest(ring: Ring) -> str:
    """Return what tells this ring from any other: the digest of its file."""
    return hashlib.sha256(format_ring(ring)).hexdigest()


def format_ring(ring: Ring) -> bytes:
    """Write a ring in the file's form; `loads` reads it back the same."""
    listed = [
        {
            k: str(v) if k == "kind" else v
            for k, v in asdict(c).items()
            if v is not None and v is not False
        }
        for c in ring.credentials
    ]
    return tomli_w.dumps({"party": ring.party, "credential": listed}).encode()


_TYPES = {
    **{f: datetime if f.startswith("not_") else str for f in Credential.__dataclass_fields__},
    "chosen": bool,
}


def parse_ring(text: str) -> Ring:
    """Read a ring; ValueError says what is wrong with it."""
    data = tomllib.loads(text)
    if set(data) - {"party", "credential"} or not isinstance(data.get("party"), str):
        raise ValueError("not a key file: only `party` and `credential` belong in it")
    credentials = []
    listed = data.get("credential", [])
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ValueError("each credential is a table of its own, under [[credential]]")
    for number, stated in enumerate(listed, start=1):
        fields = {"not_after": None, "chosen": False, **stated}
        if set(fields) != set(_TYPES):
            odd = ", ".join(sorted(set(fields) ^ set(_TYPES)))
            raise ValueError(f"credential {number}: missing or unknown: {odd}")
        for key, value in fields.items():
            if not isinstance(value, _TYPES[key]) and not (key == "not_after" and value is None):
                raise ValueError(f"credential {number}: {key}: {value!r} is of the wrong type")
            if isinstance(value, datetime) and value.tzinfo is None:
                raise ValueError(f"credential {number}: {key}: has no time zone")
        credential = Credential(**{**fields, "kind": CredentialKind(fields["kind"])})
        if credential.fingerprint != _fingerprint_of(credential):
            raise ValueError(f"credential {number}: its fingerprint is not that of its secret")
        credentials.append(credential)
    return Ring(data["party"], tuple(credentials))


def _fingerprint_of(credential: Credential) -> str:
    if credential.kind is CredentialKind.PASSWORD:
        return fingerprint(credential.secret.encode())
    return fingerprint(base64.b64decode(credential.secret.partition(" ")[2], validate=True))


def ring_path(site: Path, party: str) -> Path:
    """Return where the ring of `party` stands."""
    return site / ring_file(party)


def load(site: Path, party: str) -> Ring:
    """Read a party's ring, empty if it has no file yet; raise Faults if the file is bad."""
    name = str(ring_file(party))
    try:
        ring = parse_ring(ring_path(site, party).read_text(encoding="utf-8"))
        if ring.party != party:
            raise ValueError(f"party is {ring.party!r}, but the file is named for {party!r}")
    except FileNotFoundError:
        return Ring(party)
    except (OSError, ValueError, RecursionError) as error:  # the last: nested without end
        advice = "restore it from a copy, or remove it and add the keys anew with `ssps key add`"
        raise Faults([Fault(name, "", f"{error}; {advice}")]) from None
    return ring
