"""`ssps key rotate`: a new credential, and an end for the old one; for one party or for all.

A rotation of all parties is many changes, one for each ring. Before the first one, the command
writes what it is about to do to `state/rotation.json`, and removes that file after the last one:

    {"parties": {"parti-a": "SHA256:…"}, "overlap": 3600, "start": "2023-05-14T16:30:00+03:00",
     "why": "form 31"}

If the command is interrupted, giving it again finishes the rotation, with the times of the first
attempt. Which parties are already rotated is read from their rings.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import click
from rich.progress import track

from config import load, times
from config.event import Value
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import ROTATION_JOURNAL
from keys import files
from keys.credentials import rotation
from keys.credentials.ring import Credential, Ring
from keys.operations import ring_files
from scripts.access import credentials, parties
from scripts.access.key.ring_change import Edit, RingChange
from scripts.shared import change, console, server_reload
from scripts.shared.time_types import DURATION, StatedTime


@dataclass(frozen=True)
class _Schedule:
    """When the new credentials start, and how long the old ones still work after that."""

    start: datetime
    overlap: timedelta
    why: str
    replaces: tuple[str, ...] | None = None

    def change_for(self, site: Path, party: str, fresh: Credential) -> RingChange:
        detail: dict[str, Value] = {
            "kind": fresh.kind.value,
            "credential": fresh.fingerprint,
            "start": times.format_time(self.start, self.start.tzinfo),
            "overlap": times.format_duration(self.overlap),
        }
        named = self.replaces

        def edit(old: Ring) -> Edit:
            these = named and {rotation.find_credential(old, text).fingerprint for text in named}
            return Edit(rotation.rotate(old, fresh, self.overlap, these), detail)

        zone = self.start.tzinfo
        return RingChange(site, "key rotate", party, self.why, zone, edit)


@click.command()
@click.argument("party_id", metavar="PARTY", required=False)
@click.option("--all", "everyone", is_flag=True, help="Rotate every party with a key in DIR.")
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The new public key.",
)
@click.option(
    "--public-keys",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --all: a folder of new public keys, named like parti-a.pub.",
)
@click.option("--password", is_flag=True, help="Generate a new password and show it once.")
@click.option(
    "--overlap",
    default="1h",
    show_default=True,
    type=DURATION,
    help="How long the old credential keeps working, for example 1h.",
)
@credentials.start_option
@click.option(
    "--replaces",
    multiple=True,
    metavar="FINGERPRINT",
    help="An old credential to end; may be repeated. Default: all of the same kind.",
)
@click.option("--label", default="", help="A name for the new credential.")
@change.mode_options(ask=True)
@console.why_option()
@console.with_site
def rotate(
    party_id: str | None,
    everyone: bool,
    public_key: Path | None,
    folder: Path | None,
    password: bool,
    overlap: timedelta,
    not_before: StatedTime,
    replaces: tuple[str, ...],
    label: str,
    mode: change.Mode,
    why: str,
    site: Path,
) -> None:
    """Give PARTY a new credential and end the old one after an overlap.

    Shows the change and asks before it is made. --all --public-keys DIR rotates
    many parties in one go; if it is interrupted, give the same command again.
    """
    alone = party_id is not None and (public_key is not None) is not password
    together = party_id is None and everyone and folder is not None
    if not (alone and not everyone and folder is None) and not (
        together and public_key is None and not password and not replaces
    ):
        raise click.UsageError(
            "give PARTY with --public-key FILE or --password, or --all with --public-keys DIR"
        )
    settings = load.load(site)
    zone = settings.election.opens.tzinfo
    schedule = _Schedule(not_before.at(console.utc_now(), zone), overlap, why, replaces or None)
    if folder is not None:
        _rotate_all(site, settings, folder, schedule, mode)
    elif party_id is not None:
        parties.find_with_login(settings, party_id)
        _rotate_one(site, party_id, public_key, label, schedule, mode)


def _rotate_one(
    site: Path,
    party: str,
    public_key: Path | None,
    label: str,
    schedule: _Schedule,
    mode: change.Mode,
) -> None:
    password = credentials.new_password()
    if public_key is not None:
        fresh = credentials.from_public_key(public_key, label, schedule.start, None)
    else:
        fresh = credentials.from_password(password, label, schedule.start, None)

    def print_password() -> None:
        if public_key is None:
            click.echo("The new password, shown only this once:", err=True)
            click.echo(password)

    rotation_of_one = schedule.change_for(site, party, fresh)
    done = change.carry_out(site, rotation_of_one, mode, print_password)
    if done is None:
        return
    zone = schedule.start.tzinfo
    start, end = (
        times.format_time(schedule.start + t, zone) for t in (timedelta(), schedule.overlap)
    )
    turkish = f"Yeni kimlik bilginiz {fresh.fingerprint}, {start} itibariyla gecerlidir"
    english = f"Your new credential {fresh.fingerprint} is valid from {start}"
    if done.old.credentials != done.new.credentials[: len(done.old.credentials)]:
        turkish += f"; eskisi {end} itibariyla kapanir"
        english += f"; the old one stops working at {end}"
    console.print_message_for(party, f"{turkish}.", f"{english}.")


def _refuse_twice(folder: Path, fresh: Mapping[str, Credential]) -> None:
    """Raise Faults if two parties' files have the same key."""
    first: dict[str, str] = {}
    found = []
    for party, credential in fresh.items():
        other = first.setdefault(credential.fingerprint, party)
        if other != party:
            message = f"{other}.pub has the same key: each party needs a key of its own"
            found.append(Fault(str(folder / f"{party}.pub"), "", message))
    if found:
        raise Faults(found)


def _rotate_all(
    site: Path, settings: Settings, folder: Path, schedule: _Schedule, mode: change.Mode
) -> None:
    fresh = _read_new_keys(settings, folder, schedule.start)
    _refuse_twice(folder, fresh)
    unfinished_rotation = _read_journal(site)
    wanted = {party: c.fingerprint for party, c in fresh.items()}
    if unfinished_rotation is not None:
        agreed, schedule = unfinished_rotation
        if agreed != wanted:
            message = (
                "an earlier rotation is not finished: give its folder again to finish it, or "
                "remove this file to abandon it"
            )
            raise console.fault(str(ROTATION_JOURNAL), "", message)
        fresh = {p: replace(c, not_before=schedule.start) for p, c in fresh.items()}
        start = times.format_time(schedule.start, schedule.start.tzinfo)
        click.echo(f"continues the rotation of {start}, which was interrupted", err=True)
    elif held := [p for p, name in wanted.items() if _has_credential(site, p, name)]:
        message = "the party already has this key: ask for a new one, or remove this file"
        raise Faults([Fault(str(folder / f"{p}.pub"), "", message) for p in held])
    remaining = {p: c for p, c in fresh.items() if not _has_credential(site, p, c.fingerprint)}
    changes = [schedule.change_for(site, p, c) for p, c in remaining.items()]
    previews = [each.plan(each.read()).preview for each in changes]
    for preview in previews:
        change.show(preview)
    if not change.may_apply(mode):
        return
    with console.recorded_change(site, "key rotate", "all", schedule.why):
        if _read_journal(site) != unfinished_rotation:
            message = "another operator has just started a rotation: give the command again"
            raise console.fault(str(ROTATION_JOURNAL), "", message)
        files.replace(site / ROTATION_JOURNAL, _format_journal(wanted, schedule))
    steps = list(zip(changes, previews, strict=True))
    for each, preview in track(steps, "rotating", console=console.err, transient=True):
        change.apply(site, each, preview)
    server_reload.wait_for_rings(site, *(ring_files.load(site, party) for party in fresh))
    (site / ROTATION_JOURNAL).unlink(missing_ok=True)
    _report(settings, fresh, remaining, schedule)


def _read_new_keys(settings: Settings, folder: Path, start: datetime) -> dict[str, Credential]:
    """Return the new key of each party; raise Faults for files that belong to no party."""
    found: dict[str, Credential] = {}
    wrong: list[Fault] = []
    for file in sorted(folder.glob("*.pub")):
        party = settings.party(file.stem)
        if party is None or not party.mirrors:
            message = "no party of this name logs in: rename or remove this file"
            wrong += console.fault(str(file), "", message).faults
            continue
        try:
            found[party.id] = credentials.from_public_key(file, "", start, None)
        except Faults as error:
            wrong += error.faults
    if not found and not wrong:
        raise console.fault(
            str(folder), "", "no keys in this folder: expected files like parti-a.pub"
        )
    if wrong:
        raise Faults(wrong)
    return found


def _report(
    settings: Settings,
    fresh: Mapping[str, Credential],
    rotated: Mapping[str, Credential],
    schedule: _Schedule,
) -> None:
    zone = settings.election.opens.tzinfo
    end = times.format_time(schedule.start + schedule.overlap, zone)
    for party in (p for p in settings.parties if p.mirrors):
        if party.id not in fresh:
            click.echo(f"{party.id}: unchanged, no new key in the folder")
        else:
            how = "rotated" if party.id in rotated else "already rotated"
            name = fresh[party.id].fingerprint
            click.echo(f"{party.id}: {how}, {name}, the old credential stops working at {end}")
    click.echo(f"{len(rotated)} rotated now, {len(fresh)} in this rotation in all")
    start = times.format_time(schedule.start, zone)
    console.print_message_for(
        "all of them",
        f"Yeni anahtariniz {start} itibariyla gecerlidir; eskisi {end} itibariyla kapanir.",
        f"Your new key is valid from {start}; the old one stops working at {end}.",
    )


def _has_credential(site: Path, party: str, fingerprint: str) -> bool:
    return any(c.fingerprint == fingerprint for c in ring_files.load(site, party).credentials)


def _format_journal(parties: Mapping[str, str], schedule: _Schedule) -> bytes:
    fields = {
        "parties": dict(parties),
        "start": times.format_time(schedule.start, schedule.start.tzinfo),
        "overlap": int(schedule.overlap.total_seconds()),
        "why": schedule.why,
    }
    return json.dumps(fields, sort_keys=True).encode() + b"\n"


def _read_journal(site: Path) -> tuple[dict[str, str], _Schedule] | None:
    try:
        found = json.loads((site / ROTATION_JOURNAL).read_bytes())
        start = datetime.fromisoformat(found["start"])
        schedule = _Schedule(start, timedelta(seconds=found["overlap"]), found["why"])
        return dict(found["parties"]), schedule
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        message = (
            f"not a valid rotation file ({error}): check with `ssps party list` which parties "
            "are rotated, then remove this file"
        )
        raise console.fault(str(ROTATION_JOURNAL), "", message) from None


def unfinished(site: Path) -> Iterator[str]:
    """Yield a line for the operator if a rotation of all parties was interrupted."""
    if _read_journal(site) is not None:
        yield f"{ROTATION_JOURNAL}: a rotation of all parties was interrupted, run it again"
