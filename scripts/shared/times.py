"""Reads and writes times and durations in the forms that an operator types.

A time is `2023-05-14T16:30:00+03:00`, the same without a zone, `16.30` or `16:30` (today),
`tomorrow 16.30`, `now`, `+45m` (from now) or `-45m` (before now). Without a zone, the zone of the
election is used. A duration is `90s`, `45m`, `1h`, `1h30m`, `2d`, or `0`.
"""

import re
from contextlib import suppress
from datetime import datetime, timedelta, tzinfo

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


def parse_time(text: str, now: datetime, zone: tzinfo | None) -> datetime:
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


def format_time(at: datetime | None, zone: tzinfo | None) -> str:
    """Format a time as ISO 8601 with its zone, which is that of the election; `-` for None."""
    if at is None:
        return "-"
    with suppress(OverflowError):  # years 1 and 9999 keep their own zone
        at = at.astimezone(zone)
    return at.isoformat(timespec="seconds")


def format_duration(long: timedelta) -> str:
    """Format a duration so that `parse_duration` reads it."""
    seconds = int(long.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0"
