"""Reads and writes what the operator announces to all parties on the entry page (Genelge md. 7).

`state/announcements.json` has all announcements, oldest first. One that is withdrawn stays in the
file, so that numbers are never used again:

    [{"id": 1, "text": "Prova 10 Mayıs 14.00'te.", "at": "2023-05-08T09:00:00+00:00",
      "withdrawn": null}]

Only `ssps portal announce` writes it. The portal reads it for each page that shows announcements.
"""

import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from config.fault import Fault, Faults
from config.site import ANNOUNCEMENTS
from keys import files

MAX_TEXT = 2000
MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Announcement:
    """One announcement: its number, its text, when it was made, and when it was withdrawn."""

    id: int
    text: str
    at: datetime
    withdrawn: datetime | None = None


def read(site: Path) -> tuple[Announcement, ...]:
    """Return all announcements, oldest first; raise Faults if the file is damaged."""
    try:
        content = (site / ANNOUNCEMENTS).read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return tuple(_parse(entry) for entry in json.loads(content))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        wrong = f"is damaged ({error}): restore it from a copy, or remove it and announce again"
        raise Faults([Fault(str(ANNOUNCEMENTS), "", wrong)]) from None


def current(site: Path) -> tuple[Announcement, ...]:
    """Return what is announced now, newest first; raise Faults if the file is damaged."""
    shown = [each for each in read(site) if each.withdrawn is None]
    return tuple(reversed(shown[-MAX_SHOWN:]))


def added(old: tuple[Announcement, ...], text: str, now: datetime) -> tuple[Announcement, ...]:
    """Return the announcements with one more; raise ValueError if the text cannot be shown."""
    lines = [" ".join(line.split()) for line in text.strip().splitlines()]
    cleaned = "\n".join(lines)
    if not cleaned:
        raise ValueError("the text is empty")
    if len(cleaned) > MAX_TEXT:
        raise ValueError(f"the text has {len(cleaned)} characters, at most {MAX_TEXT} are allowed")
    if not all(line.isprintable() for line in lines):
        raise ValueError("the text has a character that cannot be printed")
    if sum(each.withdrawn is None for each in old) >= MAX_SHOWN:
        raise ValueError(f"{MAX_SHOWN} announcements are shown already: withdraw one first")
    number = max((each.id for each in old), default=0) + 1
    return (*old, Announcement(number, cleaned, now))


def withdrawn(
    old: tuple[Announcement, ...], number: int, now: datetime
) -> tuple[Announcement, ...]:
    """Return the announcements without one; raise ValueError if it is not shown."""
    if not any(each.id == number and each.withdrawn is None for each in old):
        raise ValueError(f"announcement {number} is not shown: see `ssps portal announce list`")
    return tuple(replace(each, withdrawn=now) if each.id == number else each for each in old)


def write(site: Path, new: tuple[Announcement, ...]) -> None:
    """Replace the announcements of a site."""
    entries = [
        {
            "id": each.id,
            "text": each.text,
            "at": each.at.isoformat(),
            "withdrawn": each.withdrawn.isoformat() if each.withdrawn else None,
        }
        for each in new
    ]
    content = json.dumps(entries, ensure_ascii=False, indent=1).encode() + b"\n"
    path = site / ANNOUNCEMENTS
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, content)


def _parse(entry: Any) -> Announcement:
    gone = entry["withdrawn"]
    found = Announcement(
        entry["id"],
        entry["text"],
        datetime.fromisoformat(entry["at"]),
        None if gone is None else datetime.fromisoformat(gone),
    )
    if type(found.id) is not int or type(found.text) is not str or found.at.tzinfo is None:
        raise ValueError("an entry has another form")
    return found
