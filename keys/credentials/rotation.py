"""Plans changes of a ring: each function takes a ring and returns a new one.

Nothing here reads the clock or writes to disk. A change that is not possible raises
ValueError, whose text says why.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from config import times
from keys.credentials import ring
from keys.credentials.ring import Credential, Ring

_MIN_PREFIX = 6  # characters of a fingerprint that an operator may give instead of all
_PREFIX = "SHA256:"


def add(old: Ring, credential: Credential) -> Ring:
    """Return the ring with one more credential; ValueError if it already has that key."""
    if any(c.fingerprint == credential.fingerprint for c in old.credentials):
        raise ValueError(f"{old.party} already has {credential.fingerprint}")
    if credential.not_after is not None and credential.not_after <= credential.not_before:
        raise ValueError(f"ends at {credential.not_after}, before it begins")
    return replace(old, credentials=(*old.credentials, credential))


def rotate(
    old: Ring, fresh: Credential, overlap: timedelta, replaces: Collection[str] | None = None
) -> Ring:
    """Return the ring with the credential `fresh`, which replaces others.

    The replaced credentials end `overlap` after `fresh` begins, or at their own end if that is
    earlier. `replaces` has their fingerprints; without it, all credentials of the same kind that
    are valid when `fresh` begins are replaced.
    """
    end = fresh.not_before + overlap
    ends = set(replaced_by(old, fresh, replaces))
    kept = (_end_by(c, end) if c.fingerprint in ends else c for c in old.credentials)
    return add(replace(old, credentials=tuple(kept)), fresh)


def replaced_by(
    old: Ring, fresh: Credential, replaces: Collection[str] | None = None
) -> Iterator[str]:
    """Yield the fingerprints of the credentials that `fresh` replaces."""
    for c in old.credentials:
        if replaces is None:
            if c.kind is fresh.kind and c.valid_at(fresh.not_before):
                yield c.fingerprint
        elif c.fingerprint in replaces:
            if c.not_before > fresh.not_before:
                wrong = f"{c.fingerprint} begins later than its replacement"
                raise ValueError(f"{wrong}: revoke it instead")
            yield c.fingerprint


def _end_by(credential: Credential, end: datetime) -> Credential:
    if credential.not_after is not None and credential.not_after <= end:
        return credential
    return replace(credential, not_after=end)


def revoke(old: Ring, fingerprint: str) -> Ring:
    """Return the ring without that credential."""
    left = tuple(c for c in old.credentials if c.fingerprint != fingerprint)
    if len(left) == len(old.credentials):
        raise ValueError(f"{old.party} has no credential {fingerprint}")
    return replace(old, credentials=left)


def change_password(old: Ring, fingerprint: str, fresh: Credential) -> Ring:
    """Return the ring with the party's own password in place of an operator's."""
    before = next((c for c in old.credentials if c.fingerprint == fingerprint), None)
    if before is None or before.kind is not ring.CredentialKind.PASSWORD or before.chosen:
        raise ValueError(f"{fingerprint} is not a password of {old.party} that it has to change")
    if not before.valid_at(fresh.not_before):
        raise ValueError(f"{fingerprint} is not valid now")
    named = replace(fresh, label=before.label, not_after=before.not_after)
    return add(revoke(old, fingerprint), named)


def find_credential(party_ring: Ring, text: str) -> Credential:
    """Return the credential with this fingerprint, start of a fingerprint, or label."""
    found = [c for c in party_ring.credentials if c.fingerprint == text]
    if not found and len(text.removeprefix(_PREFIX)) >= _MIN_PREFIX:
        start = _PREFIX + text.removeprefix(_PREFIX)
        found = [c for c in party_ring.credentials if c.fingerprint.startswith(start)]
    if not found:
        found = [c for c in party_ring.credentials if text and c.label == text]
    if len(found) != 1:
        has = ", ".join(c.fingerprint for c in found or party_ring.credentials) or "none"
        which = "matches several credentials:" if found else "is not one of its credentials:"
        raise ValueError(f"{text!r} {which} {has}")
    return found[0]


def access_ends(party_ring: Ring, now: datetime) -> datetime | None:
    """Return when the party's access ends because no credential is valid; None if it never ends.

    `now` if it has none at present, even if one becomes valid later.
    """
    end = now
    while True:
        ends = [
            c.not_after
            for c in party_ring.credentials
            if c.not_before <= end and (c.not_after is None or c.not_after > end)
        ]
        if None in ends:
            return None
        if not ends:
            return end
        end = max(filter(None, ends))


@dataclass(frozen=True, slots=True)
class Expiry:
    """A party that cannot log in from `when` on, unless it gets another credential."""

    party: str
    when: datetime
    at_once: bool

    def __str__(self) -> str:
        if self.at_once:
            return f"{self.party}: no credential is valid now: `ssps key add {self.party}`"
        return (
            f"{self.party}: its last credential ends {times.format_time(self.when)}: "
            f"`ssps key rotate {self.party}`"
        )


def expiring(rings: Collection[Ring], now: datetime, within: timedelta) -> list[Expiry]:
    """Return the parties that cannot log in now or within that time, soonest first."""
    found = []
    for party_ring in rings:
        when = access_ends(party_ring, now)
        if when is not None and when < now + within:
            found.append(Expiry(party_ring.party, when, when <= now))
    return sorted(found, key=lambda expiry: (expiry.when, expiry.party))
