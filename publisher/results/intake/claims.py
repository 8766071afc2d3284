"""Claims batches: moves or copies complete files from results/ into state/results-spool/.

A batch is claimed as a page is (publisher/intake/spool): a file that no process can write to is
renamed; one that could still be written to is copied, stays in results/, and is removed once it
was quiet (publisher/intake/held). If such a file changes, it is a new batch: the rows that were
taken before are then duplicates.

A file looks complete if its last line does. Without a line feed at its end, a file waits longer: an
NDJSON file if it does not end with `}`, and a CSV file if it is not known who has it open.

For each file the database first notes that it is about to be claimed, and from where; then comes
the claim; then the note is dropped if the file is not in results/ any more. Killed in between,
`recover` puts that right.
"""

import os
import secrets
import stat
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from config.result_batch import EXTENSIONS
from config.site import RESULTS_SPOOL
from keys.files import sync
from keys.ledger.writer import Clock
from publisher.intake import spool
from publisher.intake.spool import Doubt, Patience
from publisher.intake.watch import Candidate
from publisher.page import Arrival, Stamp, arrival_id, arrival_time, escaped
from publisher.results.store import ResultStore
from publisher.source import GONE, Source, status

MAX_BATCH_BYTES = 1 << 40
_TAIL = 256
_MICROSECOND = timedelta(microseconds=1)

log = structlog.get_logger()


class BatchClaims:
    """The files that are claimed, and those that were and are still in results/; of one thread."""

    def __init__(
        self,
        site: Path,
        store: ResultStore,
        clock: Clock,
        patience: Patience,
        step: Callable[[str], None],
    ) -> None:
        self.spool = site / RESULTS_SPOOL
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store
        self._clock = clock
        self._patience = patience
        self._step = step
        self._left_behind: dict[Source, Stamp] = {}
        self._held: list[tuple[Source, Stamp]] = []
        self._postponed: list[tuple[Candidate, spool.Postponed]] = []
        self._ignored: dict[Source, Stamp] = {}
        self._reported: set[str] = set()
        self._last = datetime.min.replace(tzinfo=UTC)

    def recover(self) -> None:
        """Put right what an earlier run left: claims that were not finished, files of no batch."""
        store = self._store
        spool.sweep(self.spool)
        spooled = {path.name for path in self.spool.iterdir()}
        for found in store.batches(unfinished=True):
            self._last = max(self._last, arrival_time(found.id) or self._last)
            if found.sha256 is None and found.id not in spooled:
                store.withdraw(found.id)  # it was not claimed: results/ still has it
        # The database was lost, or is an older copy.
        unknown = spooled - store.batches_of(spooled).keys()
        store.receive({name: name for name in sorted(unknown)}, self._clock())
        left_behind = store.left_behind()
        known = store.batches_of({claimed for _, _, claimed in left_behind})
        for source, stamp, claimed in left_behind:
            if claimed in known and _has_stamp(source, stamp):
                self._left_behind[source] = stamp
                self._held.append((source, stamp))
            else:
                store.forget_left_behind([source])
        store.commit()

    def claim(self, candidates: Sequence[Candidate]) -> list[str]:
        """Claim complete files; return the ids of their batches.

        A file that is no batch stays where it is. Files that must wait are returned by
        `take_postponed`, files that stay in results/ for a while by `take_held`.
        """
        now = self._clock()
        once = {candidate.path: candidate for candidate in candidates}
        found = [
            (self._new_arrival(candidate), candidate)
            for candidate in once.values()
            if self._is_claimable(candidate)
        ]
        if not found:
            return []
        self._store.receive({arrival.file: arrival.name for arrival, _ in found}, now)
        self._store.note_left_behind((a.source, a.stamp, a.file) for a, _ in found)
        self._store.commit()
        self._step("received")
        claimed, gone = [], []
        for arrival, candidate in found:
            became = self._claim(arrival, candidate)
            if became is not None:
                claimed.append(arrival.file)
            if became in (None, spool.Claim.MOVED):
                gone.append(arrival.source)
        self._store.forget_left_behind(gone)
        sync(self.spool)
        self._store.commit()
        self._step("claimed")
        return claimed

    def time_of_next(self) -> datetime:
        """Return the time for the id of the next batch.

        After a crash, batches are taken in in the order of their ids. So an id sorts after those of
        all batches that are not finished, also if the clock was set back.
        """
        self._last = max(self._clock(), self._last + _MICROSECOND)
        return self._last

    def take_postponed(self) -> list[tuple[Candidate, spool.Postponed]]:
        """Return the files that could not be claimed yet, each with the reason; forget them."""
        postponed, self._postponed = self._postponed, []
        return postponed

    def take_held(self) -> list[tuple[Source, Stamp]]:
        """Return the files that were claimed and are still in results/, once each."""
        held, self._held = self._held, []
        return held

    def is_left_behind(self, source: Source, stamp: Stamp) -> bool:
        """Return whether a file was claimed before and has not changed since."""
        return self._left_behind.get(source) == stamp

    def forget(self, sources: Sequence[Source]) -> None:
        """Forget files that are not in results/ any more."""
        for source in sources:
            self._left_behind.pop(source, None)
        self._store.forget_left_behind(sources)
        self._store.commit()

    def report_not_removable(self, source: Source) -> None:
        """Log once that files stay in a folder because they may not be removed."""
        if source.folder not in self._reported:
            advice = "let the publisher delete files there, or empty that folder by hand"
            log.error("source-not-removable", folder=source.folder, advice=advice)
            self._reported.add(source.folder)

    def _claim(self, arrival: Arrival, candidate: Candidate) -> spool.Claim | None:
        """Move or copy one file into the spool; return None if that is not possible now."""
        try:
            keep = self._patience.keep
            became = spool.claim(arrival, self.spool, hold=True, keep=keep, most=MAX_BATCH_BYTES)
        except spool.SourceChanged as reason:
            if isinstance(reason, spool.Postponed):
                self._postponed.append((candidate, reason))
            self._store.withdraw(arrival.file)
            return None
        if became is spool.Claim.NOT_REMOVABLE:
            self.report_not_removable(arrival.source)
        if became is not spool.Claim.MOVED:
            self._left_behind[arrival.source] = arrival.stamp
            self._held.append((arrival.source, arrival.stamp))
        return became

    def _new_arrival(self, candidate: Candidate) -> Arrival:
        now, source = self.time_of_next(), source_of(candidate)
        identity = arrival_id(now, secrets.token_hex(4))
        return Arrival(identity, escaped(source.path), source, candidate.stamp, now)

    def _is_claimable(self, candidate: Candidate) -> bool:
        source = source_of(candidate)
        if self.is_left_behind(source, candidate.stamp):
            return False
        try:
            if cause := _no_batch(source):
                if self._ignored.get(source) != candidate.stamp:
                    log.warning("results-file-ignored", file=escaped(source.path), cause=cause)
                    self._ignored[source] = candidate.stamp
                return False
            doubt_of = _doubt_of_ndjson if _is_ndjson(source) else _doubt_of_csv
            spool.check(
                source,
                candidate.stamp,
                candidate.unchanged,
                self._patience,
                doubt_of,
                MAX_BATCH_BYTES,
            )
        except spool.Postponed as postponed:
            self._postponed.append((candidate, postponed))
            return False
        except spool.SourceChanged:
            return False
        return True


def source_of(candidate: Candidate) -> Source:
    """Return the place of a candidate as the spool names it."""
    return Source(str(candidate.folder), os.path.relpath(candidate.path, candidate.folder))


def _no_batch(source: Source) -> str | None:
    """Say why a file is not a batch; None if it may be one. A link or a pipe is none."""
    if not source.path.lower().endswith(EXTENSIONS):
        return "no .ndjson or .csv"
    try:
        mode = status(source).st_mode
    except OSError:
        return None  # the claim says what is wrong
    return None if stat.S_ISREG(mode) else "not a regular file"


def _is_ndjson(source: Source) -> bool:
    return source.path.lower().endswith(".ndjson")


def _doubt_of_ndjson(descriptor: int, size: int) -> Doubt | None:
    tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
    if not tail:
        return Doubt("empty", strong=False)
    cut = not tail.rstrip().endswith(b"}")
    return None if tail.endswith(b"\n") else Doubt("its last line has no end", strong=cut)


def _doubt_of_csv(descriptor: int, size: int) -> Doubt | None:
    tail = os.pread(descriptor, 1, max(0, size - 1))
    if not tail:
        return Doubt("empty", strong=False)
    return None if tail == b"\n" else Doubt("its last line has no end", strong=False)


def _has_stamp(source: Source, stamp: Stamp) -> bool:
    try:
        return Stamp.of(status(source)) == stamp
    except GONE:
        return False
    except OSError:
        return True  # it cannot be looked at now; it is held like any other
