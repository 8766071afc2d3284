"""`ssps key rotate`: a new credential in, the old one out after an overlap; one party or all.

A rotation of all parties is many changes, each of which is whole. So that one which was cut off
goes on where it stopped, and with the times it was begun with, what it was about stands in
`state/rotation.json` until it is done:

    {"parties": {"parti-a": "SHA256:…"}, "overlap": 3600, "start": "2023-05-14T16:30:00+03:00",
     "why": "form 31"}

Which of these parties are done is read from their rings, which cannot be wrong about it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import click
from rich.progress import track

from config import load
from config.event import Value
from config.fault import Fault, Faults
from config.settings import Settings
from config.site import ROTATION_JOURNAL
from keys import files
from keys.credentials import ring, rotation
from keys.credentials.ring import Credential
from scripts.access import credentials, ring_change
from scripts.access.parties import find_with_login
from scripts.shared import console, server_reload, times


@dataclass(frozen=True)
class _Schedule:
    start: datetime
    overlap: timedelta
    why: str
    replaces: tuple[str, ...] | None = None

    def change_for(self, party: str, fresh: Credential) -> ring_change.RingChange:
        detail: dict[str, Value] = {
            "kind": fresh.kind.value,
            "credential": fresh.fingerprint,
            "start": self.start.isoformat(),
            "overlap": times.format_duration(self.overlap),
        }
        named = self.replaces

        def planned(old: ring.Ring) -> ring.Ring:
            if named is None:
                return rotation.rotate(old, fresh, self.overlap)
            these = {rotation.find_credential(old, text).fingerprint for text in named}
            return rotation.rotate(old, fresh, self.overlap, these)

        return ring_change.RingChange("key rotate", party, self.why, detail, planned)


@click.command()
@click.argument("party_id", metavar="PARTY", required=False)
@click.option("--all", "everyone", is_flag=True, help="All parties that have a file in DIR.")
@click.option(
    "--public-key",
    "public_key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The new key.",
)
@click.option(
    "--public-keys",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --all: a folder of new keys, each named for its party, as in parti-a.pub.",
)
@click.option("--password", is_flag=True, help="A new password in place of the old one.")
@click.option("--overlap", default="1h", show_default=True, help="For which the old one stays.")
@click.option("--not-before", default="now", help="16.30, 'tomorrow 16.30', +45m, or a full time.")
@click.option(
    "--replaces",
    multiple=True,
    metavar="FINGERPRINT",
    help="Which old ones retire, if not all of the new one's kind; may be repeated.",
)
@click.option("--label", default="", help="What to call the new one.")
@click.option("--apply", is_flag=True, help="Do it; without this the plan is shown, no more.")
@console.why_option()
@console.with_site
def rotate(
    party_id: str | None,
    everyone: bool,
    public_key: Path | None,
    folder: Path | None,
    password: bool,
    overlap: str,
    not_before: str,
    replaces: tuple[str, ...],
    label: str,
    apply: bool,
    why: str,
    site: Path,
) -> None:
    """Give PARTY a new credential, and let the old one end after an overlap.

    Shows the plan; --apply does it. With --all --public-keys DIR it is done for all parties in
    one go, with one report; a run that was cut off is finished by the same command.
    """
    alone = party_id is not None and (public_key is not None) is not password
    together = party_id is None and everyone and folder is not None
    if not (alone and not everyone and folder is None) and not (
        together and public_key is None and not password and not replaces
    ):
        raise click.UsageError(
            "PARTY with --public-key FILE or --password, or --all with --public-keys DIR"
        )
    settings = load.load(site)
    zone = settings.election.opens.tzinfo
    try:
        start = times.parse_time(not_before, ring_change.utc_now(), zone)
        schedule = _Schedule(start, times.parse_duration(overlap), why, replaces or None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if folder is not None:
        _rotate_all(site, settings, folder, schedule, apply)
        return
    assert party_id is not None  # noqa: S101 - as just checked; tells the type checker
    find_with_login(site, party_id)
    made = credentials.new_password()
    if public_key is not None:
        fresh = credentials.from_public_key(public_key, label, start, None)
    else:
        fresh = credentials.from_password(made, label, start, None)
    change = schedule.change_for(party_id, fresh)
    if not apply:
        ring_change.print_preview(*ring_change.preview(site, change), zone)
        click.echo("this is the plan, nothing has changed; --apply does it", err=True)
        return
    before, after = ring_change.preview(site, change)
    ring_change.apply_and_wait(site, change, zone)
    if password:
        click.echo("The new password, shown this once:", err=True)
        click.echo(made)
    retires = before.credentials != after.credentials[: len(before.credentials)]
    _print_message(party_id, fresh, schedule, zone, retires)


def _print_message(
    party: str, fresh: Credential, schedule: _Schedule, zone: tzinfo | None, retires: bool
) -> None:
    start, end = (
        times.format_time(at, zone) for at in (schedule.start, schedule.start + schedule.overlap)
    )
    old = f"; eskisi {end} itibariyla kapanir" if retires else "", f"; the old one ends at {end}"
    ring_change.print_message(
        party,
        f"Yeni kimlik bilginiz {fresh.fingerprint}, {start} itibariyla gecerlidir{old[0]}.",
        f"Your new credential {fresh.fingerprint} is valid from {start} on"
        f"{old[1] if retires else ''}.",
    )


def _rotate_all(
    site: Path, settings: Settings, folder: Path, schedule: _Schedule, apply: bool
) -> None:
    zone = settings.election.opens.tzinfo
    fresh = _read_new_keys(settings, folder, schedule.start)
    unfinished_rotation = _read_journal(site)
    wanted = {party: c.fingerprint for party, c in fresh.items()}
    if unfinished_rotation is not None:
        agreed, schedule = unfinished_rotation
        if agreed != wanted:
            message = (
                "a rotation that was cut off is not finished: give the same folder again, or, if "
                "it is not to be finished, remove this file"
            )
            raise console.fault(str(ROTATION_JOURNAL), "", message)
        fresh = {p: replace(c, not_before=schedule.start) for p, c in fresh.items()}
        click.echo(
            f"goes on with the one begun for {times.format_time(schedule.start, zone)}", err=True
        )
    elif held := [p for p, name in wanted.items() if _has_credential(site, p, name)]:
        message = "is a key that it has already: ask for a new one, or take the file away"
        raise Faults([Fault(str(folder / f"{p}.pub"), "", message) for p in held])
    left = {p: c for p, c in fresh.items() if not _has_credential(site, p, c.fingerprint)}
    changes = [schedule.change_for(p, c) for p, c in left.items()]
    for change in changes:
        old, new = ring_change.preview(site, change)
        ring_change.print_preview(old, new, zone)
    if not apply:
        click.echo("this is the plan, nothing has changed; --apply does it", err=True)
        return
    with console.recorded_change(site, "key rotate", "all", schedule.why):
        if _read_journal(site) != unfinished_rotation:
            message = "somebody else has begun a rotation just now, give the command again"
            raise console.fault(str(ROTATION_JOURNAL), "", message)
        files.replace(site / ROTATION_JOURNAL, _format_journal(wanted, schedule))
    for change in track(changes, "rotating", console=console.err, transient=True):
        ring_change.apply(site, change)
    server_reload.wait_for_rings(site, *(ring.load(site, party) for party in fresh))
    (site / ROTATION_JOURNAL).unlink(missing_ok=True)
    _report(settings, fresh, left, schedule)


def _read_new_keys(settings: Settings, folder: Path, start: datetime) -> dict[str, Credential]:
    """Return each party's new key; raise Faults for any file that is none of theirs."""
    found: dict[str, Credential] = {}
    wrong: list[Fault] = []
    for file in sorted(folder.glob("*.pub")):
        party = settings.party(file.stem)
        if party is None or not party.mirrors:
            message = "is named for no party that logs in, take it away or name it rightly"
            wrong += console.fault(str(file), "", message).faults
            continue
        try:
            found[party.id] = credentials.from_public_key(file, "", start, None)
        except Faults as error:
            wrong += error.faults
    if not found and not wrong:
        raise console.fault(str(folder), "", "no new keys in it, such as parti-a.pub")
    if wrong:
        raise Faults(wrong)
    return found


def _report(
    settings: Settings,
    fresh: Mapping[str, Credential],
    left: Mapping[str, Credential],
    schedule: _Schedule,
) -> None:
    zone = settings.election.opens.tzinfo
    end = times.format_time(schedule.start + schedule.overlap, zone)
    for party in (p for p in settings.parties if p.mirrors):
        if party.id not in fresh:
            click.echo(f"{party.id}: no new key in the folder, as before")
        else:
            how = "rotated" if party.id in left else "had been rotated already"
            name = fresh[party.id].fingerprint
            click.echo(f"{party.id}: {how}, {name}, the old one ends at {end}")
    click.echo(f"{len(left)} rotated now, {len(fresh)} of this rotation in all")
    start = times.format_time(schedule.start, zone)
    ring_change.print_message(
        "all of them",
        f"Yeni anahtariniz {start} itibariyla gecerlidir; eskisi {end} itibariyla kapanir.",
        f"Your new key is valid from {start} on; the old one ends at {end}.",
    )


def _has_credential(site: Path, party: str, fingerprint: str) -> bool:
    return any(c.fingerprint == fingerprint for c in ring.load(site, party).credentials)


def _format_journal(parties: Mapping[str, str], schedule: _Schedule) -> bytes:
    stated = {
        "parties": dict(parties),
        "start": schedule.start.isoformat(),
        "overlap": int(schedule.overlap.total_seconds()),
        "why": schedule.why,
    }
    return json.dumps(stated, sort_keys=True).encode() + b"\n"


def _read_journal(site: Path) -> tuple[dict[str, str], _Schedule] | None:
    try:
        found = json.loads((site / ROTATION_JOURNAL).read_bytes())
        start = datetime.fromisoformat(found["start"])
        schedule = _Schedule(start, timedelta(seconds=found["overlap"]), found["why"])
        return dict(found["parties"]), schedule
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        message = f"no journal of a rotation ({error}), remove it and look at `ssps party list`"
        raise console.fault(str(ROTATION_JOURNAL), "", message) from None


def unfinished(site: Path) -> Iterator[str]:
    """Yield a line for the operator if a rotation of all parties was cut off."""
    if _read_journal(site) is not None:
        yield f"{ROTATION_JOURNAL}: a rotation of all parties was cut off, give its command again"
