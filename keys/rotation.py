"""Changing a ring: each change is a plan (ring in, ring out) and is applied whole."""

from dataclasses import replace
from pathlib import Path

from keys import files, ring
from keys.ring import Credential, Ring


def add(old: Ring, credential: Credential) -> Ring:
    """Return the ring with one credential more; ValueError if it holds that key already."""
    if any(c.fingerprint == credential.fingerprint for c in old.credentials):
        raise ValueError(f"{old.party} has {credential.fingerprint} already")
    return replace(old, credentials=(*old.credentials, credential))


def apply(site: Path, new: Ring) -> None:
    """Put a ring in force, atomically: a reader sees the old one or the new."""
    path = ring.path(site, new.party)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = ring.dumps(new)
    if ring.loads(content.decode()) != new:
        raise AssertionError("a ring must read back as it was written")
    files.replace(path, content)
