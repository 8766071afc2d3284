"""A party's ring: its credentials, each with the time in which it is valid. Immutable.

The file is `keys/parties/<id>.toml`, mode 0600. Only commands write it, and the server when a party
changes its password:

    party = "parti-a"

    [[credential]]
    kind = "public-key"                  # or "password"
    label = "mirror-1"
    fingerprint = "SHA256:wEtwXy…"       # for a password: of its argon2id hash
    secret = "ssh-ed25519 AAAAC3…"       # the public key, or the argon2id hash
    not_before = 2023-05-14T10:00:00+03:00
    not_after = 2023-05-28T17:00:00+03:00    # optional
    added_by = "operator"
    chosen = true                        # only for a password: the party set it itself

A password's fingerprint names it in the records without revealing anything about it.
"""

import base64
import hashlib
import re
import tomllib
from collections.abc import Sequence
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

# The form that argon2-cffi writes, with its costs: a hash with higher ones could exhaust memory.
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", re.ASCII
)


class CredentialKind(StrEnum):
    """How a party proves that it has the credential."""

    PUBLIC_KEY = "public-key"
    PASSWORD = "password"  # noqa: S105 - the name of the kind, not a secret


@dataclass(frozen=True, slots=True)
class Credential:
    """A public key or a password. `secret` is never recorded, printed or logged.

    `chosen` marks a password that the party set itself. An operator's password may be usable only
    to set such a password ([sftp] must_change_password).
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
        """Say whether it is valid at `now`."""
        return self.not_before <= now and not self.has_ended(now)

    def has_ended(self, now: datetime) -> bool:
        """Say whether it is not valid any more at `now`; one that begins later has not ended."""
        return self.not_after is not None and self.not_after <= now

    def __repr__(self) -> str:
        return f"Credential({self.kind}, {self.label!r}, {self.fingerprint})"


@dataclass(frozen=True, slots=True)
class Ring:
    """All credentials of one party, in the order they were added."""

    party: str
    credentials: tuple[Credential, ...] = ()

    def by_key(self, blob: bytes, now: datetime) -> Credential | None:
        """Return the valid credential with this public key (RFC 4253 6.6 wire format), or None."""
        wanted = fingerprint(blob)
        for credential in self.credentials:
            if credential.kind is CredentialKind.PUBLIC_KEY and credential.fingerprint == wanted:
                return credential if credential.valid_at(now) else None
        return None

    def by_password(self, password: str, now: datetime) -> Credential | None:
        """Return the valid credential with this password, or None.

        It hashes at least once, so the time that it takes does not show whether the party has a
        password.
        """
        passwords = self.passwords(now)
        found = matching_hash([c.secret for c in passwords], password)
        return None if found is None else passwords[found]

    def passwords(self, now: datetime) -> list[Credential]:
        """Return the passwords that are valid."""
        return [
            c for c in self.credentials if c.kind is CredentialKind.PASSWORD and c.valid_at(now)
        ]


def matching_hash(hashes: Sequence[str], password: str) -> int | None:
    """Return which of some argon2id hashes is that of the password, or None.

    It hashes at least once, so the time that it takes does not show whether there is a hash.
    """
    found = None
    for number, secret in enumerate(hashes):
        if _matches(secret, password):
            found = number
    if not hashes:
        _matches(_decoy_hash(), password)
    return found


def _matches(secret: str, password: str) -> bool:
    try:
        return PasswordHasher().verify(secret, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _decoy_hash() -> str:
    return PasswordHasher().hash("decoy")


def fingerprint(blob: bytes) -> str:
    """Return the name OpenSSH prints for a public key: `SHA256:` and base64 without padding."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


def key_credential(
    text: str, *, label: str, not_before: datetime, not_after: datetime | None, added_by: str
) -> Credential:
    """Make a credential from a public key file; ValueError says what is wrong with it.

    Without a label, the comment in the file is the label.
    """
    line, comment = publickey.parse_public_key(text)
    named = label or comment
    if not named.isprintable():
        raise ValueError(f"the label {named!r} is not printable, give another with --label")
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
    """Make a credential from a password, which it hashes with argon2id (RFC 9106)."""
    secret = hash_password(text)
    name = fingerprint(secret.encode())
    return Credential(CredentialKind.PASSWORD, label, name, secret, not_before, not_after, added_by)


def hash_password(text: str) -> str:
    """Hash a password with argon2id (RFC 9106)."""
    return PasswordHasher().hash(text)


def chosen_password_credential(
    secret: str, *, label: str, not_before: datetime, added_by: str
) -> Credential:
    """Make a credential from the hash of a password that the party chose.

    Raises ValueError if it does not have the form that this server's hashes have: the hash comes
    from a session's process, which is not trusted.
    """
    if not _HASH.fullmatch(secret):
        raise ValueError("not a password hash in the form that this server makes")
    name = fingerprint(secret.encode())
    return Credential(
        CredentialKind.PASSWORD, label, name, secret, not_before, None, added_by, chosen=True
    )


def describe(ring: Ring) -> list[str]:
    """Return a line about each credential for the ledger; never a secret."""
    return [
        f"{c.fingerprint} {c.kind} {c.label or '-'} from {c.not_before.isoformat()}"
        f"{f' until {c.not_after.isoformat()}' if c.not_after else ''} by {c.added_by or '-'}"
        for c in ring.credentials
    ]


def ring_digest(ring: Ring) -> str:
    """Return a SHA-256 that changes whenever the ring does; the signature is not part of it."""
    return hashlib.sha256(format_ring(ring)).hexdigest()


def format_ring(ring: Ring) -> bytes:
    """Write a ring in the format of its file, without a signature; `parse_ring` reads it back."""
    listed = list(map(credential_table, ring.credentials))
    return tomli_w.dumps({"party": ring.party, "credential": listed}).encode()


def credential_table(credential: Credential) -> dict[str, object]:
    """Return a credential as a table of its file; `parse_credentials` reads it back."""
    return {
        k: str(v) if k == "kind" else v
        for k, v in asdict(credential).items()
        if v is not None and v is not False
    }


_TYPES = {
    **{f: datetime if f.startswith("not_") else str for f in Credential.__dataclass_fields__},
    "chosen": bool,
}


def parse_ring(text: str) -> Ring:
    """Read a ring from its file's text; ValueError says what is wrong with it."""
    data = tomllib.loads(text)
    if set(data) - {"party", "credential"} or not isinstance(data.get("party"), str):
        raise ValueError("not a key file: it may only have `party` and `credential`")
    return Ring(data["party"], parse_credentials(data.get("credential", [])))


def parse_credentials(listed: object) -> tuple[Credential, ...]:
    """Read the tables of credentials; ValueError says what is wrong with them."""
    credentials = []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise ValueError("each credential must be a table under [[credential]]")
    for number, stated in enumerate(listed, start=1):
        fields = {"not_after": None, "chosen": False, **stated}
        if set(fields) != set(_TYPES):
            odd = ", ".join(sorted(set(fields) ^ set(_TYPES)))
            raise ValueError(f"credential {number}: missing or unknown: {odd}")
        for key, value in fields.items():
            if not isinstance(value, _TYPES[key]) and not (key == "not_after" and value is None):
                raise ValueError(f"credential {number}: {key}: {value!r} has the wrong type")
            if isinstance(value, datetime) and value.tzinfo is None:
                raise ValueError(f"credential {number}: {key}: needs a time zone")
        credential = Credential(**{**fields, "kind": CredentialKind(fields["kind"])})
        if credential.fingerprint != _fingerprint_of(credential):
            raise ValueError(f"credential {number}: the fingerprint does not match the secret")
        credentials.append(credential)
    return tuple(credentials)


def _fingerprint_of(credential: Credential) -> str:
    if credential.kind is CredentialKind.PASSWORD:
        return fingerprint(credential.secret.encode())
    return fingerprint(base64.b64decode(credential.secret.partition(" ")[2], validate=True))


def ring_path(site: Path, party: str) -> Path:
    """Return the path of a party's ring."""
    return site / ring_file(party)


def load(site: Path, party: str) -> Ring:
    """Read a party's ring, empty if it has no file yet; raise Faults if the file is bad."""
    name = str(ring_file(party))
    try:
        ring = parse_ring(ring_path(site, party).read_text(encoding="utf-8"))
        if ring.party != party:
            raise ValueError(f"party is {ring.party!r}, but the file name says {party!r}")
    except FileNotFoundError:
        return Ring(party)
    except (OSError, ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        advice = (
            f"restore it from a backup, or remove it, run `ssps key adopt {party}`, and add the "
            "keys again with `ssps key add`"
        )
        raise Faults([Fault(name, "", f"{error}; {advice}")]) from None
    return ring
