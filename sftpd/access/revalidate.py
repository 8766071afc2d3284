"""Whether a session that was let in may go on: its party, credential and address as of now.

The parent asks this of every live session, and once more of each that its child would let in:
a child goes by the settings of the moment when it was forked. Rings are read again when their
file has changed. One that is damaged leaves the last good one in force, and is shouted about,
so that a slip of the hand locks nobody out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

import structlog

from config.fault import Faults
from config.party import Address
from config.scope import Scope
from config.settings import Settings
from keys.credentials import ring, rotation
from keys.credentials.ring import Ring
from sftpd.access import authorize
from sftpd.access.authorize import Reason

_FileStamp = tuple[int, int, int, int] | None

_END_REASONS = {
    Reason.UNKNOWN_USER: "party removed",
    Reason.NO_LOGIN: "party removed",
    Reason.SUSPENDED: "party suspended",
    Reason.ADDRESS: "address withdrawn",
    Reason.CREDENTIAL: "key revoked",
    Reason.CREDENTIAL_TIME: "key expired",
    Reason.NOT_YET_OPEN: "not yet open",
    Reason.CLOSED: "access closed",
    Reason.REHEARSAL: "rehearsal over",
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Cached:
    stamp: _FileStamp
    ring: Ring | None
    faults: Faults | None = None


class Rings:
    """The rings in force: those of a site's disk, or the last good ones."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._cache: dict[str, _Cached] = {}

    def of(self, party: str) -> tuple[Ring | None, bool]:
        """Return the ring of `party`, the last good one if the file is damaged, and if it is."""
        cached = self._load(party)
        return cached.ring, cached.faults is not None

    def in_force(self, party: str) -> Ring:
        """Return the ring of `party`; raise Faults if the file is damaged and none was known."""
        cached = self._load(party)
        if cached.ring is None:
            raise cached.faults or AssertionError("a ring or its faults")
        return cached.ring

    def _load(self, party: str) -> _Cached:
        path = ring.ring_path(self._site, party)
        cached = self._cache.get(party)
        stamp = _file_stamp(path)
        if cached is None or cached.stamp != stamp:
            try:
                cached = _Cached(stamp, ring.load(self._site, party))
            except Faults as faults:
                _log.error("keys-unreadable", party=party, cause=str(faults))
                cached = _Cached(stamp, cached.ring if cached else None, faults)
            self._cache[party] = cached
        return cached


class Revalidator:
    """Judges by `settings`, which a reload replaces, and by the rings."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], rings: Rings) -> None:
        self.settings = settings
        self._clock = clock
        self._rings = rings

    def reason_to_refuse(
        self, party: str, credential: str, address: Address, rehearsal: str = ""
    ) -> Reason | None:
        """Say why a session may not begin, None if it may; `credential` is a fingerprint."""
        found, damaged = self._rings.of(party) if self._is_known_party(party) else (None, False)
        if damaged and found is None:
            return Reason.KEYS_UNREADABLE
        now = self._clock()
        return authorize.recheck(
            self.settings, found or Ring(party), party, credential, address, now, rehearsal
        )

    def reason_to_end(
        self,
        party: str,
        credential: str,
        address: Address,
        rehearsal: str = "",
        settings_at_start: Settings | None = None,
    ) -> str | None:
        """Say why a live session has to end, None if it may go on.

        `agreed` are the settings by which it serves: those of the moment when it was forked.
        """
        found, _ = self._rings.of(party) if self._is_known_party(party) else (None, False)
        now = self._clock()
        reason = authorize.recheck(
            self.settings, found or Ring(party), party, credential, address, now, rehearsal
        )
        if reason is not None:
            return _END_REASONS.get(reason, str(reason))
        then = self.settings if settings_at_start is None else settings_at_start
        return None if _scope(then, party) == _scope(self.settings, party) else "scope changed"

    def may_change(self, party: str, credential: str, address: Address) -> bool:
        """Say whether `party` may set a new password in place of that one, from there."""
        found, _ = self._rings.of(party) if self._is_known_party(party) else (None, False)
        now = self._clock()
        held = found or Ring(party)
        return authorize.may_change(self.settings, held, party, credential, address, now)

    def credentials(self) -> tuple[dict[str, float], int]:
        """Return the seconds until each party stands outside, and how many files are damaged."""
        now = self._clock()
        left: dict[str, float] = {}
        damaged = 0
        for party in self.settings.parties:
            if party.mirrors:
                found, damaged_file = self._rings.of(party.id)
                damaged += damaged_file
                lapses = rotation.access_ends(found or Ring(party.id), now)
                left[party.id] = inf if lapses is None else (lapses - now).total_seconds()
        return left, damaged

    def _is_known_party(self, party: str) -> bool:
        # What a child says is no file name before it is a party's.
        return self.settings.party(party) is not None


def _scope(settings: Settings, party_id: str) -> Scope | None:
    party = settings.party(party_id)
    return None if party is None else party.scope


def _file_stamp(path: Path) -> _FileStamp:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
