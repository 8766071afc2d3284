"""Checks the stamps of the files that sessions open, and says what a record states as the digest.

A session sends what the file says of itself (keys/digest, Claim), and the monitor has the stamp
key. If the seal proves the digest, that is the digest on record. If not, the session computes it
from the bytes that it sends, and the record says why:

    unstamped      the file has no seal: it is from an earlier version, or the file system has no
                   attributes
    stamp-wrong    the seal is not of this file, or the bytes have another digest than it says
    changed        the file changed while it was sent, so no digest is of all that was sent

A file that was only linked into another tree since it was sealed gets no mark if its bytes have the
digest in the seal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from keys import digest
from keys.digest import Claim, Proof

UNSTAMPED, STAMP_WRONG, CHANGED = "unstamped", "stamp-wrong", "changed"
_LOG_SECONDS = 60.0  # between two lines about one mark

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the digest of a file: `sha256` is None until it is proven or computed."""

    sha256: str | None
    mark: str  # empty if there is nothing to say
    stamped: str | None  # the digest in the seal, proven or not

    @property
    def proven(self) -> bool:
        """Whether the seal proves the digest."""
        return self.sha256 is not None

    def after(self, computed: str) -> "Evidence":
        """Return the evidence at the end: `computed` is what the session has computed, if it did.

        If the seal proved the digest, a session computes one only if the file changed meanwhile.
        """
        if not computed:
            return self
        if self.proven:
            return self if computed == self.sha256 else Evidence(None, CHANGED, self.stamped)
        differs = self.stamped is not None and computed != self.stamped
        return Evidence(computed, STAMP_WRONG if differs else self.mark, self.stamped)


class StampChecker:
    """Checks claims; `key_of` returns the key for the id of a rehearsal, empty for the election."""

    def __init__(
        self,
        key_of: Callable[[str], bytes | None] = lambda rehearsal: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key_of = key_of
        self._clock = clock
        self._logged_at: dict[str, float] = {}
        self._unlogged: dict[str, int] = {}

    def check(self, text: str, rehearsal: str) -> Evidence:
        """Return what a claim proves; raise ValueError if it is malformed."""
        if not text:
            return Evidence(None, UNSTAMPED, None)
        claim = Claim.unpack(text)
        proof = digest.check(claim, self._key_of(rehearsal))
        stated = claim.digests.sha256 if claim.digests is not None else None
        match proof:
            case Proof.PROVEN:
                return Evidence(stated, "", stated)
            case Proof.RELINKED:
                return Evidence(None, "", stated)
            case Proof.WRONG:
                return Evidence(None, STAMP_WRONG, stated)
        return Evidence(None, UNSTAMPED, None)

    def report(self, found: Evidence, party: str, path: str) -> None:
        """Log a digest that the stamp does not prove, at most once a minute for each mark."""
        if found.mark not in (STAMP_WRONG, CHANGED):
            return
        now = self._clock()
        if now < self._logged_at.get(found.mark, -_LOG_SECONDS) + _LOG_SECONDS:
            self._unlogged[found.mark] = self._unlogged.get(found.mark, 0) + 1
            return
        self._logged_at[found.mark] = now
        _log.error(
            "stamp-wrong",
            party=party,
            path=path,
            stamped=found.stamped,
            sha256=found.sha256,
            cause="the file changed while it was sent"
            if found.mark == CHANGED
            else "its stamp was not made for these bytes",
            others=self._unlogged.pop(found.mark, 0),
        )
