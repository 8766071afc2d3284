"""Decides whether a session may begin, and whether a live session may go on.

The monitor asks the Revalidator when a client offers a credential, and several times a second while
a session lasts: party, credential, address and opening times must still admit it
(keys/credentials/admission).

A ring is read again when its file has changed. If the file is damaged, or no command has written it
(keys/operations/ring_files), the last good ring stays in force and an error is logged. So a mistake
in a file does not lock a party out, and a key that was added to the file by hand is not accepted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path

import structlog

from config.fault import Fault, Faults
from config.party import Address
from config.scope import Scope
from config.settings import Settings
from keys.credentials import admission, ring, rotation
from keys.credentials.admission import Admitted, Proof, Reason, Refused
from keys.credentials.ring import Credential, Ring
from keys.operations import ring_files
from keys.operations.key_files import KeyFilesOnRecord

_FileStamp = tuple[int, int, int, int] | None
_NEVER: _FileStamp = (-1, -1, -1, -1)  # the stamp of no file

# The reason in the session-end record, for each reason of the admission rules.
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
class _CachedRing:
    stamp: _FileStamp
    ring: Ring | None
    faults: Faults | None = None


class Rings:
    """The rings in force: those on the disk, or the last good ones."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._on_record = KeyFilesOnRecord(site)
        self._cache: dict[str, _CachedRing] = {}

    def look_up(self, party: str) -> tuple[Ring | None, bool]:
        """Return the ring of `party`, and whether its file is damaged.

        The ring is the last good one if the file is damaged, None if there never was a good one.
        """
        cached = self._load(party)
        return cached.ring, cached.faults is not None

    def in_force(self, party: str) -> Ring:
        """Return the ring of `party`; raise Faults if there never was a good one."""
        cached = self._load(party)
        if cached.ring is None:
            raise cached.faults or AssertionError("neither a ring nor faults")
        return cached.ring

    def _load(self, party: str) -> _CachedRing:
        path = ring.ring_path(self._site, party)
        cached = self._cache.get(party)
        stamp = _file_stamp(path)
        if cached is None or cached.stamp != stamp:
            try:
                held = ring_files.load(self._site, party, self._on_record, signed_only=True)
                cached = _CachedRing(stamp, held)
            except Faults as faults:
                _log.error("keys-unreadable", party=party, cause=str(faults))
                cached = _CachedRing(stamp, cached.ring if cached else None, faults)
            except OSError as error:
                # Perhaps only for now, as without a free descriptor: the next call tries again.
                unread = Faults([Fault(str(path), "", error.strerror or str(error))])
                if cached is None or str(cached.faults) != str(unread):
                    _log.error("keys-unreadable", party=party, cause=str(unread))
                cached = _CachedRing(_NEVER, cached.ring if cached else None, unread)
            self._cache[party] = cached
        return cached


class Revalidator:
    """Decides from the rings and from `settings`, which a reload replaces."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], rings: Rings) -> None:
        self.settings = settings
        self._clock = clock
        self._rings = rings

    def decide(self, user: str, proof: Proof, address: Address) -> Admitted | Refused:
        """Decide on a credential that a client offers, with settings and keys of this moment."""
        in_force, now = self._rings.in_force, self._clock()
        decision = admission.decide(self.settings, in_force, user, proof, address, now)
        if isinstance(decision, Refused) and decision.cause:
            _log.error("keys-unreadable", party=user, cause=decision.cause)
        return decision

    def passwords(self, user: str) -> list[Credential]:
        """Return the passwords with which a user could log in now; none for an unknown user."""
        ring, _ = self._ring(user)
        return [] if ring is None else ring.passwords(self._clock())

    def now(self) -> datetime:
        """Return the time."""
        return self._clock()

    def reason_to_end(
        self,
        party: str,
        credential: str,
        address: Address,
        rehearsal: str = "",
        settings_at_start: Settings | None = None,
    ) -> str | None:
        """Return why a live session has to end, None if it may go on.

        `settings_at_start` are those at its login: a session also ends when the party's scope has
        changed since.
        """
        ring, _ = self._ring(party)
        now = self._clock()
        reason = admission.recheck(
            self.settings, ring or Ring(party), party, credential, address, now, rehearsal
        )
        if reason is not None:
            return _END_REASONS.get(reason, str(reason))
        at_start = self.settings if settings_at_start is None else settings_at_start
        if _scope(at_start, party) != _scope(self.settings, party):
            return "scope changed"
        return None

    def may_change(self, party: str, credential: str, address: Address) -> bool:
        """Return whether `party` may now replace that password by a new one, from `address`."""
        ring, _ = self._ring(party)
        return admission.may_change(
            self.settings, ring or Ring(party), party, credential, address, self._clock()
        )

    def credential_lifetimes(self) -> tuple[dict[str, float], int]:
        """Return the seconds until each party's access ends, and how many rings are damaged."""
        now = self._clock()
        left: dict[str, float] = {}
        damaged_rings = 0
        for party in self.settings.parties:
            if party.mirrors:
                ring, damaged = self._rings.look_up(party.id)
                damaged_rings += damaged
                ends = rotation.access_ends(ring or Ring(party.id), now)
                left[party.id] = inf if ends is None else (ends - now).total_seconds()
        return left, damaged_rings

    def _ring(self, party: str) -> tuple[Ring | None, bool]:
        # `party` comes from a child: it must be a party's id before it becomes part of a path.
        if self.settings.party(party) is None:
            return None, False
        return self._rings.look_up(party)


def _scope(settings: Settings, party_id: str) -> Scope | None:
    party = settings.party(party_id)
    return None if party is None else party.scope


def _file_stamp(path: Path) -> _FileStamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
