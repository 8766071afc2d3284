"""What the operator announces now, for the entry page and the overview (Genelge md. 7)."""

from pathlib import Path

import structlog

from config.fault import Faults
from config.site import ANNOUNCEMENTS
from keys.operations import announcements
from keys.operations.announcements import Announcement

_log = structlog.get_logger()


def announced(site: Path) -> tuple[Announcement, ...]:
    """Return the announcements, newest first; none if their file cannot be read."""
    try:
        return announcements.current(site)
    except (Faults, OSError) as error:
        _log.error("announcements-unreadable", cause=str(error))
        return ()


def version(site: Path) -> int:
    """Return a number that changes whenever the announcements do."""
    try:
        return (site / ANNOUNCEMENTS).stat().st_mtime_ns
    except OSError:
        return 0
