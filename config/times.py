"""Reads the times that people type, and writes times: the one way for everything that they read.

A time is written as `2023-05-14T16:30:00+03:00`: ISO 8601, to the second, never shortened, with its
zone. Pages, saved files, commands, letters, banners and messages all use `format_time`. Files and
protocols of machines have forms of their own, which their specifications state; two of them are
common:

    2023-05-14T13:30:00.000000+00:00    the databases (`format_stored`)
    2023-05-14T13:30:00Z                the feed, quarantine notes, the web service (`format_utc`)

A time that an operator types is in the written form, the same without a zone, `16.30` or `16:30`
(today), `tomorrow 16.30`, `now`, `+45m` (from now) or `-45m` (before now). Without a zone, the zone
of the election is used. A duration is `90s`, `45m`, `1h`, `1h30m`, `2d`, or `0`.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo

TURKEY = timezone(timedelta(hours=3))  # all year, since 2016
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_DURATION = re.compile(r"(?:\d+[dhms])+", re.ASCII)
_CLOCK = re.compile(r"(tomorrow |yarin |today |bugun )?(\d\d?)[.:](\d\d)", re.ASCII)
_MAX_DURATION = timedelta(days=3660)


def parse_duration(text: str) -> timedelta:
    """Parse a duration; raise ValueError with an example if it is not one."""
    cleaned = text.strip().lower()
    if cleaned == "0":
        return timedelta()
    if not _DURATION.fullmatch(cleaned) or len(cleaned) > 20:
        raise ValueError(f"{text!r} is not a duration, write 45m, 1h, 1h30m or 2d")
    found = sum(
        (timedelta(**{_UNITS[u]: min(int(n), 10**6)}) for n, u in re.findall(r"(\d+)(.)", cleaned)),
        timedelta(),
    )
    if found > _MAX_DURATION:
        raise ValueError(f"{text!r} is more than ten years")
    return found


def parse_time(text: str, now: datetime, zone: tzinfo | None = TURKEY) -> datetime:
    """Parse a time, to the second; raise ValueError with an example if it is not one."""
    cleaned = text.strip().lower()
    local = now.astimezone(zone).replace(microsecond=0)
    if cleaned in ("now", "simdi"):
        return local
    if cleaned.startswith("+"):
        return local + parse_duration(cleaned[1:])
    if cleaned.startswith("-") and cleaned != "-":
        return local - parse_duration(cleaned[1:])
    if match := _CLOCK.fullmatch(cleaned):
        day, hour, minute = match.groups()
        if int(hour) < 24 and int(minute) < 60:
            later = timedelta(days=(day or "").strip() in ("tomorrow", "yarin"))
            at = local + later
            return at.replace(hour=int(hour), minute=int(minute), second=0)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time, write 16.30, 'tomorrow 16.30', +45m, -45m or "
            f"{local.isoformat()}"
        ) from None
    if "T" not in text.upper() and " " not in text.strip():
        raise ValueError(f"{text!r} has no hour, write it like {local.isoformat()}")
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def format_time(
    at: datetime | None, zone: tzinfo | None = TURKEY, *, microseconds: bool = False
) -> str:
    """Format a time for people: ISO 8601 with its zone; `-` for None.

    The zone is that of the election, or Turkey's if no election is known. Microseconds only where
    the order of records within a second matters.
    """
    if at is None:
        return "-"
    with suppress(OverflowError):  # years 1 and 9999 keep their own zone
        at = at.astimezone(zone)
    return at.isoformat(timespec="microseconds" if microseconds else "seconds")


def format_optional(at: datetime | None, zone: tzinfo | None = TURKEY) -> str | None:
    """Format a time as `format_time` does, for JSON: None stays None."""
    return None if at is None else format_time(at, zone)


def format_stored(at: datetime) -> str:
    """Format a time for a database: UTC, with microseconds, so that texts sort as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def format_utc(at: datetime) -> str:
    """Format a time for machines: UTC, to the second, with a `Z`."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def format_duration(long: timedelta) -> str:
    """Format a duration so that `parse_duration` reads it."""
    seconds = int(long.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"
