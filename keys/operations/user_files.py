"""Reads and writes the files of users; refuses one that no command has written.

A file of users (keys/credentials/users) is in force if the site's signing key has signed it and its
digest is the newest one in the operations ledger, as for a ring (keys/operations/ring_files).
Otherwise `load` raises Faults. A change is written in the steps of keys/operations/staged_file.
"""

from collections.abc import Iterator
from pathlib import Path

from config.fault import Fault, Faults
from config.site import USERS, users_file
from keys.credentials import users
from keys.credentials.users import Users
from keys.operations import key_files, site_keys, staged_file
from keys.operations.key_files import KeyFilesOnRecord
from keys.server_keys import signed_ring


def load(site: Path, party: str, on_record: KeyFilesOnRecord | None = None) -> Users:
    """Read the users that are in force, none if there is no file; raise Faults if it is refused."""
    path = site / users_file(party)
    content = staged_file.read(path)
    known = (KeyFilesOnRecord(site) if on_record is None else on_record).refresh()
    expected = known.digests.get(str(users_file(party)))
    if content is None and expected is None:
        return Users(party)
    if key_files.digest_of(content) != expected:
        content = staged_file.read(staged_file.staged(path))
        if content is None or key_files.digest_of(content) != expected:
            raise _refused(party, "it is not the file that was recorded last")
    if content is None:
        return Users(party)
    try:
        keys = site_keys.public_signing_keys(site, known)
        signed_ring.verify(content, keys, signed_ring.USERS)
        held = users.parse_users(content.decode())
        if held.party != party:
            raise ValueError(f"party is {held.party!r}, but the file name says {party!r}")
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise _refused(party, str(error)) from None
    return held


def line(site: Path, new: Users) -> str:
    """Return the line of new users for the record (`key_files`); Faults without a signing key."""
    return f"{users_file(new.party)} {key_files.digest_of(_signed(site, new))}"


def stage(site: Path, new: Users) -> None:
    """Write the users beside those in force, before their line is recorded."""
    staged_file.stage(site / users_file(new.party), _signed(site, new))


def apply(site: Path, new: Users) -> None:
    """Put staged users in force; write them first if they are not staged."""
    staged_file.apply(site / users_file(new.party), _signed(site, new))


def removal(party: str) -> str:
    """Return the line for the record of a command that removes all users of a party."""
    return f"{users_file(party)} {key_files.REMOVED}"


def remove(site: Path, party: str) -> None:
    """Remove the file of a party's users; call it after the removal is recorded."""
    staged_file.remove(site / users_file(party))


def on_disk(site: Path) -> Iterator[str]:
    """Yield the parties that have a file of users."""
    for path in sorted((site / USERS).glob("*.toml")):
        if not path.name.startswith("."):
            yield path.stem


def _signed(site: Path, new: Users) -> bytes:
    content = users.format_users(new)
    if users.parse_users(content.decode()) != new:
        raise AssertionError("users must be the same when they are read back")
    return signed_ring.signed(content, site_keys.signing_key(site), signed_ring.USERS)


def _refused(party: str, cause: str) -> Faults:
    command = "ssps user" if party else "ssps operator"
    again = f"{command} remove --all {party}".strip()
    message = (
        f"was not written by `{command}`, so it is not used ({cause}): restore it from a copy, or "
        f"start again without users with `{again}`"
    )
    return Faults([Fault(str(users_file(party)), "", message)])
