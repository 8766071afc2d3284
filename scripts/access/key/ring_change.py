"""A change of a party's credentials: what `ssps key add`, `rotate` and `revoke` have in common."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from config import times
from config.event import Value
from config.fault import Fault, Faults
from config.site import RINGS, ring_file
from keys.credentials import ring
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.operations import key_files, ring_files
from scripts.shared import console, server_reload
from scripts.shared.change import Change, Plan


@dataclass(frozen=True)
class Edit:
    """A party's new ring, what the record says of it, and what to write before the ring."""

    new: Ring
    detail: Mapping[str, Value] = field(default_factory=dict)
    write_first: Callable[[], object] = lambda: None


class RingChange(Change[Ring]):
    """One command on one party's ring. `edit` raises ValueError if the change is not possible."""

    def __init__(
        self,
        site: Path,
        command: str,
        party: str,
        why: str,
        zone: tzinfo | None,
        edit: Callable[[Ring], Edit],
    ) -> None:
        super().__init__(command, party, why)
        self._site, self._zone, self._edit = site, zone, edit

    def read(self) -> Ring:
        """Return the party's ring."""
        return ring_files.load(self._site, self.what)

    def describe(self, old: Ring) -> Value:
        """Return a line for each credential."""
        return list(ring.describe(old))

    def plan(self, old: Ring) -> Plan[Ring]:
        """Edit the ring; raise Faults if that is not possible."""
        try:
            edit = self._edit(old)
        except ValueError as error:
            file = str(ring_file(self.what))
            raise console.fault(file, "", str(error)) from None

        def describe() -> Value:
            ring_files.stage(self._site, edit.new)
            return list(ring.describe(edit.new))

        def apply() -> None:
            edit.write_first()
            ring_files.apply(self._site, edit.new)

        refuse_shared(self._site, edit.new, known=old)
        preview = list(_preview(old, edit.new, self._zone))
        key_file: Value = [ring_files.line(self._site, edit.new)]
        detail = {**edit.detail, key_files.KEY_FILES: key_file}
        return Plan(edit.new, preview, describe, apply, detail)

    def wait(self, new: Ring) -> bool:
        """Wait until the server uses the new ring."""
        return server_reload.wait_for_rings(self._site, new)


def refuse_shared(site: Path, new: Ring, known: Ring | None = None) -> None:
    """Raise Faults if a public key of `new` that is not in `known` is another party's as well.

    With one key for two parties, one of them could log in as the other.
    """
    old = {c.fingerprint for c in known.credentials} if known else set()
    fresh = {
        c.fingerprint
        for c in new.credentials
        if c.kind is CredentialKind.PUBLIC_KEY and c.fingerprint not in old
    }
    found = [
        Fault(
            str(ring_file(new.party)),
            fingerprint,
            f"is the key of {' and '.join(others)} already: each party needs a key of its own, so "
            "check which party the file is from",
        )
        for fingerprint, holders in key_holders(site).items()
        if fingerprint in fresh and (others := [party for party in holders if party != new.party])
    ]
    if found:
        raise Faults(found)


def key_holders(site: Path) -> dict[str, list[str]]:
    """Return which parties have each public key; files that cannot be read are left out."""
    holders: dict[str, list[str]] = {}
    for path in sorted((site / RINGS).glob("[!.]*.toml")):
        with suppress(Faults, OSError, ValueError):
            for credential in ring.load(site, path.stem).credentials:
                if credential.kind is CredentialKind.PUBLIC_KEY:
                    holders.setdefault(credential.fingerprint, []).append(path.stem)
    return holders


def _preview(old: Ring, new: Ring, zone: tzinfo | None) -> Iterator[str]:
    """Yield a line for each credential: + is added, ~ is changed, - is removed."""
    yield f"{new.party}:"
    for mark, credential, was in _rows(old, new):
        until = times.format_time(credential.not_after, zone)
        if was is not None and was.not_after != credential.not_after:
            until += f" (was {times.format_time(was.not_after, zone)})"
        begins = times.format_time(credential.not_before, zone)
        name = f"{credential.fingerprint}  {credential.kind:10}  {credential.label or '-':16}"
        yield f"  {mark} {name}  {begins} .. {until}"


def _rows(old: Ring, new: Ring) -> Iterator[tuple[str, Credential, Credential | None]]:
    before = {c.fingerprint: c for c in old.credentials}
    after = {c.fingerprint: c for c in new.credentials}
    for name, credential in before.items():
        if name not in after:
            yield "-", credential, None
        else:
            yield " " if after[name] == credential else "~", after[name], credential
    for name, credential in after.items():
        if name not in before:
            yield "+", credential, None
