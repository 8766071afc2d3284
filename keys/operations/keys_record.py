"""Records changes of the files under keys/ that no command has recorded.

When a daemon starts or reloads, host keys and signing keys that differ from those on record are
written to a `keys` record: `before` and `after` have a line for each file that changed
(keys/operations/key_files). A ring is not recorded like this: one that no command has written is
not used at all (keys/operations/ring_files). Signing keys are not recorded, and so not used, if a
public key on record is missing: what it signed, rings among it, could not be verified any more.

The exception is a site of an earlier version, whose ledger says nothing about key files: its rings
are signed as they are, and the first `keys` record names them too.
"""

from collections.abc import Mapping
from pathlib import Path

from config.event import Event, Value
from config.fault import Faults
from config.site import SIGNING_KEYS
from keys.ledger.writer import Ledger
from keys.operations import key_files, ring_files
from keys.operations.key_files import KEYS, KeyFilesOnRecord


def changed(site: Path) -> bool:
    """Say whether `record_if_changed` would write a record."""
    known = KeyFilesOnRecord(site).refresh()
    return known.empty or known.server_keys != _acceptable(known, site)


def rings_to_adopt(site: Path) -> bool:
    """Say whether the site has rings of an earlier version, which nothing has recorded."""
    return any(ring_files.on_disk(site)) and KeyFilesOnRecord(site).refresh().empty


def record_if_changed(operations: Ledger, site: Path, who: str, origin: str, why: str) -> bool:
    """Record the files under keys/ unless they are recorded; say whether it wrote a record.

    Raises Unwritable. On a site of an earlier version it also signs the rings; a damaged ring is
    left as it is, and stays refused.
    """
    known = KeyFilesOnRecord(site).refresh()
    before, after = known.server_keys, _acceptable(known, site)
    adopted = []
    if known.empty:
        for party in ring_files.on_disk(site):
            try:
                held = ring_files.load(site, party)
                ring_files.stage(site, held)
                name, _, digest = ring_files.line(site, held).rpartition(" ")
            except Faults:
                continue
            adopted.append(held)
            after[name] = digest
    names = {n for n in {*before, *after} if before.get(n) != after.get(n)}
    if not names:
        return False
    detail: dict[str, Value] = {
        "why": why,
        "before": key_files.lines({n: before[n] for n in names if n in before}) or None,
        "after": key_files.lines({n: after[n] for n in names if n in after}) or None,
    }
    operations.append(Event(KEYS, who, origin, KEYS, detail=detail))
    operations.sync()
    for held in adopted:
        ring_files.apply(site, held)
    return True


def lost_public_keys(known: KeyFilesOnRecord, found: Mapping[str, str]) -> list[str]:
    """Return the public signing keys on record that none of the files `found` has any more."""
    kept = set(found.values())
    return [
        name
        for name, digest in known.server_keys.items()
        if key_files.is_public_signing_key(name) and digest not in kept
    ]


def _acceptable(known: KeyFilesOnRecord, site: Path) -> dict[str, str]:
    """Return the files to record: those on the disk, or of the signing keys those on record."""
    found = key_files.server_key_files(site)
    if lost_public_keys(known, found):
        found = {name: digest for name, digest in found.items() if not _is_signing(name)}
        recorded = known.server_keys
        found |= {name: digest for name, digest in recorded.items() if _is_signing(name)}
    return found


def _is_signing(name: str) -> bool:
    return Path(name).is_relative_to(SIGNING_KEYS)
