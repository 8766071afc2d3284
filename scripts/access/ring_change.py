"""A change of a party's ring as an operator sees it: the plan, the deed, and who is to be told."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import click

from config.event import Value
from config.site import ring_file
from keys.credentials import ring, rotation
from keys.credentials.ring import Credential, Ring
from scripts.shared import console, server_reload, times


@dataclass(frozen=True)
class RingChange:
    """One command on one ring; `plan` may raise ValueError for what cannot be."""

    command: str
    party: str
    why: str
    detail: Mapping[str, Value]
    plan: Callable[[Ring], Ring]


def apply_and_wait(site: Path, change: RingChange, zone: tzinfo | None) -> bool:
    """Show the change, do it, and prove it; say whether a server runs that took it."""
    new = apply(site, change, lambda old, new: print_preview(old, new, zone))
    return server_reload.wait_for_rings(site, new)


def apply(
    site: Path,
    change: RingChange,
    print_change: Callable[[Ring, Ring], None] = lambda old, new: None,
) -> Ring:
    """Do the change, on the record, and return the ring as it then is."""
    with console.recorded_change(site, change.command, change.party, change.why) as record:
        held = ring.load(site, change.party)
        record.before = ring.describe(held)
        old, new = preview(site, change)
        print_change(old, new)
        record.done(ring.describe(new), change.detail)
        rotation.apply(site, new)
    return new


def preview(site: Path, change: RingChange) -> tuple[Ring, Ring]:
    """Return the ring as it stands and as it is to be; raise Faults for what cannot be."""
    old = ring.load(site, change.party)
    try:
        return old, change.plan(old)
    except ValueError as error:
        file = str(ring_file(change.party))
        raise console.fault(file, "", str(error)) from None


def print_preview(old: Ring, new: Ring, zone: tzinfo | None) -> None:
    """Print on stderr what becomes of each credential: + comes in, ~ changes, - goes."""
    click.echo(f"{new.party}:", err=True)
    for mark, credential, was in _rows(old, new):
        until = times.format_time(credential.not_after, zone)
        if was is not None and was.not_after != credential.not_after:
            until += f" (was {times.format_time(was.not_after, zone)})"
        begins = times.format_time(credential.not_before, zone)
        name = f"{credential.fingerprint}  {credential.kind:10}  {credential.label or '-':16}"
        click.echo(f"  {mark} {name}  {begins} .. {until}", err=True)


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


def print_message(party: str, turkish: str, english: str) -> None:
    """Print what the operator says to the party, on the telephone or in a letter."""
    click.echo(f"\ntell {party}:\n  {turkish}\n  {english}", err=True)


def utc_now() -> datetime:
    """Return the time to the second, as key files hold it."""
    return datetime.now(UTC).replace(microsecond=0)
