"""Whether a session that was let in may go on: its party, credential and address as of now.

The parent asks this of every live session, and once more of each that its child would let in:
a child goes by the settings of the moment when it was forked. Rings are read again when their
file has changed. One that is damaged leaves in force what was known of it, so that a slip of
the hand does not cut everybody off, but lets nobody in anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from config.fault import Faults
from config.party import Address
from config.settings import Settings
from keys import ring
from keys.ring import Ring
from sftpd import login
from sftpd.login import Reason

_Stamp = tuple[int, int, int, int] | None

_ENDED = {
    Reason.UNKNOWN_USER: "party removed",
    Reason.NO_LOGIN: "party removed",
    Reason.SUSPENDED: "party suspended",
    Reason.ADDRESS: "address withdrawn",
    Reason.CREDENTIAL: "key revoked",
    Reason.CREDENTIAL_TIME: "key expired",
    Reason.NOT_YET_OPEN: "not yet open",
    Reason.CLOSED: "access closed",
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Known:
    stamp: _Stamp
    ring: Ring | None
    damaged: bool


class Rings:
    """The rings of a site, as they stand on the disk."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._known: dict[str, _Known] = {}

    def of(self, party: str) -> tuple[Ring | None, bool]:
        """Return the ring of `party`, the last good one if the file is damaged, and if it is."""
        path = ring.path(self._site, party)
        known = self._known.get(party)
        stamp = _stamp(path)
        if known is None or known.stamp != stamp:
            try:
                known = _Known(stamp, ring.load(self._site, party), damaged=False)
            except Faults as faults:
                _log.error("keys unreadable, what was known stays", party=party, cause=str(faults))
                known = _Known(stamp, known.ring if known else None, damaged=True)
            self._known[party] = known
        return known.ring, known.damaged


class Standing:
    """Judges by `settings`, which a reload replaces, and by the rings."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self._clock = clock
        self._rings = Rings(settings.site)

    def admission(self, party: str, credential: str, address: Address) -> Reason | None:
        """Say why a session may not begin, None if it may; `credential` is a fingerprint."""
        found, damaged = self._rings.of(party) if self._is_party(party) else (None, False)
        if damaged:
            return Reason.KEYS_UNREADABLE
        now = self._clock()
        return login.still_valid(
            self.settings, found or Ring(party), party, credential, address, now
        )

    def verdict(self, party: str, credential: str, address: Address) -> str | None:
        """Say why a live session has to end, None if it may go on."""
        found, _ = self._rings.of(party) if self._is_party(party) else (None, False)
        now = self._clock()
        reason = login.still_valid(
            self.settings, found or Ring(party), party, credential, address, now
        )
        return None if reason is None else _ENDED.get(reason, str(reason))

    def _is_party(self, party: str) -> bool:
        # What a child says is no file name before it is a party's.
        return self.settings.party(party) is not None


def _stamp(path: Path) -> _Stamp:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
