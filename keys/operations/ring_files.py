"""Reads and writes the rings of parties; refuses a ring that no command has written.

A ring is in force if all of this is true:

1. It is well formed, and the name of its file is its party's (keys/credentials/ring).
2. The site's signing key has signed it (keys/server_keys/signed_ring): it was not edited by hand.
3. Its digest is the newest one in the operations ledger, if it has one. So an older ring that was
   copied back is refused, and so is a ring whose file was deleted.

Otherwise `load` raises Faults, which name the command that accepts the file as it is:
`ssps key adopt`. A site of an earlier version has nothing about rings in its ledger and no
signatures; its rings are accepted, and the first start or change signs and records them all
(keys/operations/keys_record).

A change is written in three steps (keys/operations/staged_file): `stage`, the record, `apply`.
After a crash in between, `load` reads the staged file, since the record names it.
"""

from collections.abc import Iterator
from pathlib import Path

from config.event import Outcome
from config.fault import Fault, Faults
from config.site import LEDGERS, OPERATIONS, RINGS, ring_file
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.ledger import segments
from keys.ledger.record import parse_record
from keys.operations import key_files, site_keys, staged_file
from keys.operations.key_files import KEY_FILES, KeyFilesOnRecord
from keys.server_keys import signed_ring


def load(
    site: Path,
    party: str,
    on_record: KeyFilesOnRecord | None = None,
    *,
    signed_only: bool = False,
) -> Ring:
    """Read the ring that is in force, empty if there is none; raise Faults if it is refused.

    With `signed_only` the unsigned rings of an earlier version are refused too. The server uses
    this: those rings are signed before it starts.
    """
    content = read_file(site, party)
    held = ring.load(site, party)
    known = (KeyFilesOnRecord(site) if on_record is None else on_record).refresh()
    name = str(ring_file(party))
    expected = known.digests.get(name)
    if expected is not None and key_files.digest_of(content) != expected:
        content = staged_file.read(staged_file.staged(ring.ring_path(site, party)))
        if content is None or key_files.digest_of(content) != expected:
            raise _refused(site, party, "it is not the file that was recorded last")
        held = ring.parse_ring(content.decode())
    if content is None or (known.empty and not signed_only and not signed_ring.is_signed(content)):
        return held
    try:
        signed_ring.verify(content, site_keys.public_signing_keys(site, known))
    except signed_ring.Unsigned as error:
        raise _refused(site, party, str(error)) from None
    return held


def read_file(site: Path, party: str) -> bytes | None:
    """Return the bytes of a ring's file as they are on the disk, None if there is no file."""
    return staged_file.read(ring.ring_path(site, party))


def line(site: Path, new: Ring) -> str:
    """Return the line of a new ring for the record (`key_files`).

    Raises Faults if the site has no signing key.
    """
    return f"{ring_file(new.party)} {key_files.digest_of(_signed(site, new))}"


def stage(site: Path, new: Ring) -> None:
    """Write a ring beside the one in force, before its line is recorded."""
    staged_file.stage(ring.ring_path(site, new.party), _signed(site, new))


def apply(site: Path, new: Ring) -> None:
    """Put a staged ring in force; write it first if it is not staged."""
    staged_file.apply(ring.ring_path(site, new.party), _signed(site, new))


def in_force_as_it_is(site: Path, party: str) -> bool:
    """Say whether the file on the disk is signed and is the one on record."""
    content = read_file(site, party)
    known = KeyFilesOnRecord(site).refresh().digests.get(str(ring_file(party)))
    try:
        load(site, party)
    except Faults:
        return False
    return known == key_files.digest_of(content)


def described_on_record(site: Path, party: str) -> list[str] | None:
    """Return the lines about a party's credentials that were recorded last; None if none were."""
    found = None
    name = str(ring_file(party))
    for _, _, text in segments.read_lines(site / LEDGERS / OPERATIONS):
        if name.encode() not in text:
            continue
        try:
            event = parse_record(text).event
        except ValueError:
            continue
        if event.outcome is Outcome.OK and key_files.names(event.detail.get(KEY_FILES), name):
            after = event.detail.get("after")
            found = after if isinstance(after, list) and event.what == party else None
    return found


def removal(party: str) -> str:
    """Return the line for the record of a command that removes a party's ring."""
    return f"{ring_file(party)} {key_files.REMOVED}"


def remove(site: Path, party: str) -> None:
    """Remove a party's ring; call it after the removal is recorded."""
    staged_file.remove(ring.ring_path(site, party))


def on_disk(site: Path) -> Iterator[str]:
    """Yield the parties that have a ring file."""
    for path in sorted((site / RINGS).glob("*.toml")):
        if not path.name.startswith("."):
            yield path.stem


def _signed(site: Path, new: Ring) -> bytes:
    return signed_ring.format_signed(new, site_keys.signing_key(site))


def _refused(site: Path, party: str, cause: str) -> Faults:
    message = (
        f"was not written by `ssps key`, so it is not used ({cause}): restore it from a backup, or "
        f"accept it as it is with `ssps key adopt {party}`"
    )
    return Faults([Fault(str(ring_file(party)), "", message)])
