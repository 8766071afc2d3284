"""Names of saved files: what it is, the snapshot, its time in Turkey, and the user who saved it.

    mv-34-istanbul-1_anlik-goruntu-42_20230514-210410_parti-a.web-1.xlsx

A name has only ASCII letters, digits, dashes, dots and underscores, so that every system takes it
and no header can be broken with it.
"""

import re
from datetime import datetime, timedelta, timezone

from config.turkish import to_ascii
from portal.data.criteria import Criteria
from portal.data.snapshots import SnapshotInfo

TURKEY = timezone(timedelta(hours=3))
_MAX_PART = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+", re.ASCII)


def file_name(what: str, snapshot: SnapshotInfo, now: datetime, user: str, extension: str) -> str:
    """Return the name of a saved file; before the first snapshot the time is now."""
    moment = (snapshot.closed_at or now).astimezone(TURKEY)
    parts = (
        _safe(what),
        f"anlik-goruntu-{snapshot.number}",
        f"{moment:%Y%m%d-%H%M%S}",
        _safe(user),
    )
    return f"{'_'.join(parts)}.{extension}"


def of_search(criteria: Criteria) -> str:
    """Return what a search is about, for the name of a file: `mv-34-istanbul-1-kadikoy-2`."""
    return "-".join(criteria.query().values())


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", to_ascii(text)).strip("-.")[:_MAX_PART] or "-"
