"""Files pages: the only writer of the catalog, the trees, the quarantine and the filing ledger.

Each file passes through four steps, and each step is durable before the next begins:

    claim      add a row to the catalog, then rename the file into the spool
    decide     put the bytes into the store or the quarantine, then the decision into the catalog;
               the pages of a file that is split become claimed arrivals in the same commit
    carry out  link into the trees, append to the filing ledger, then mark the row as done
    clean      remove the file from the spool if it has not changed since it was read; if it has,
               it becomes a new arrival

If the process is killed between two steps, publisher/filing/recovery finishes the rest at the next
start. Files are handled in batches, so that one fsync serves many. An error of the disk is raised
and is not attributed to a page; after that, a recovery and a new Filer continue as after a crash.

The four steps are in one module because their order guarantees that a crash loses nothing, and
the order must be readable in one place.
"""

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from config import layout, times
from config.event import Event, FilingEvent, Outcome, Value
from config.party import Party
from config.registry import RegistryEntry, is_karekod
from config.settings import Settings
from config.site import QUARANTINE, SPOOL
from keys.files import sync, sync_file_system
from keys.ledger.writer import Clock, Ledger
from publisher.catalog import catalog as states
from publisher.catalog.catalog import Catalog
from publisher.catalog.decisions import absences
from publisher.catalog.decisions.absences import RecordedAbsence
from publisher.catalog.rows import FilingRow, Original, UnrecordedDecision
from publisher.filing import decide
from publisher.intake import spool
from publisher.intake.watch import Candidate
from publisher.outcome import Duplicate, Filed, Quarantined, Split
from publisher.page import (
    Arrival,
    Page,
    Stamp,
    arrival_id,
    escaped,
    extract_file,
    extracted_arrival,
)
from publisher.reading.codes.agreement import agreement_on
from publisher.source import Source
from publisher.store.quarantine import Quarantine, QuarantineNote
from publisher.store.store import CannotLink, Store

WHO = "publisher"
_KEPT = (states.FILED, states.SPLIT)  # outcomes of files that the store has
# These errors concern the tree of one party; any other error is a failure of the disk.
ONE_TREE_ERRORS = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EMLINK}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FilingContext:
    """What a Filer works with.

    `step_done` is called with the name of each step, and what it raises ends the work there: a
    leader checks its lease (publisher/election/lease), and tests crash in between. `stopped`
    returns True once the publisher is told to stop. `has_box` says whether the registry has a
    ballot box of that çevre, kurul and sandık.
    """

    settings: Settings
    catalog: Catalog
    ledger: Ledger
    store: Store
    quarantine: Quarantine
    lookup: Callable[[str], RegistryEntry | None]
    clock: Clock
    token: Callable[[], str]  # eight hexadecimal digits; they differ within one microsecond
    step_done: Callable[[str], None] = lambda step: None
    stopped: Callable[[], bool] = lambda: False
    has_box: Callable[[str, str, str], bool] = lambda cevre, kurul, sandik: True

    def sync(self) -> None:
        """Make store, trees and quarantine durable."""
        self.store.sync()
        self.quarantine.sync()

    @property
    def mirroring_parties(self) -> tuple[Party, ...]:
        """The parties that have a tree."""
        return tuple(party for party in self.settings.parties if party.mirrors)


class Filer:
    """Carries out the four steps; must be used by one thread only."""

    def __init__(self, context: FilingContext) -> None:
        self._context = context
        self._catalog = context.catalog
        self._store = context.store
        self._step = context.step_done
        self._spool = context.settings.site / SPOOL
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._parties = context.mirroring_parties
        self._left_behind = context.catalog.left_behind()
        self._reported_folders: set[str] = set()
        self._postponed: list[tuple[Candidate, spool.Postponed]] = []
        intake = context.settings.intake
        self._patience = spool.Patience.of(intake)
        self._extracted: list[Arrival] = []
        self._has_new_gaps = False

    def claim(self, candidates: Sequence[Candidate]) -> list[Arrival]:
        """Move or copy files from the intake into the spool.

        Skips files that changed or disappeared. Those that cannot be claimed yet are returned by
        `take_postponed`.
        """
        found = [
            (self._new_arrival(candidate), candidate)
            for candidate in candidates
            if self._is_claimable(candidate)
        ]
        if not found:
            return []
        self._catalog.add_arrivals([arrival for arrival, _ in found])
        self._catalog.commit()
        self._step("received")
        claimed, missed = [], []
        for arrival, candidate in found:
            try:
                became = spool.claim(arrival, self._spool, hold=True, keep=self._patience.keep)
                if became is not spool.Claim.MOVED:
                    self.note_left_behind(arrival)
                if became is spool.Claim.NOT_REMOVABLE:
                    self.report_not_removable(arrival.source)
                claimed.append(arrival)
                self._step("claimed")
            except spool.Postponed as postponed:
                self._postponed.append((candidate, postponed))
                missed.append(arrival)
            except spool.SourceChanged:
                missed.append(arrival)
        sync(self._spool)
        self._catalog.remove_arrivals([arrival.id for arrival in missed])
        self._catalog.mark_claimed([arrival.id for arrival in claimed])
        self._catalog.commit(durable=False)  # recovery looks into the spool
        self._step("claims noted")
        return claimed

    def _is_claimable(self, candidate: Candidate) -> bool:
        source = _source(candidate)
        if self.is_left_behind(source, candidate.stamp):
            return False
        try:
            spool.check(source, candidate.stamp, candidate.unchanged, self._patience)
        except spool.Postponed as postponed:
            self._postponed.append((candidate, postponed))
            return False
        except spool.SourceChanged:
            return False
        return True

    def take_postponed(self) -> list[tuple[Candidate, spool.Postponed]]:
        """Return the files that could not be claimed yet, each with the reason; forget them."""
        postponed, self._postponed = self._postponed, []
        return postponed

    def file(self, pages: Sequence[Page]) -> list[Arrival]:
        """Decide on files that were read, and carry the decisions out.

        Returns a new arrival for each file that was written to after it was read, and for each
        page of a file that was split.
        """
        self._extracted = []
        self._catalog.look_up(pages, self._context.lookup)
        for page in pages:
            self._decide(page)
        if self._extracted:
            sync_file_system(self._spool)
        self._context.sync()
        self._step("stored")
        self._catalog.commit()
        self._step("decided")
        return [*self.carry_out(), *self._extracted]

    def retry_gaps(self) -> None:
        """Retry the links that failed before."""
        parties = {party.id: party for party in self._parties}
        missing = [
            (party, original) for party, original in self._catalog.gaps() if party in parties
        ]
        for party, original in missing:
            sheet = layout.parse(original.path).sheet
            if not parties[party].scope.covers(sheet) or not self._try_link(party, original):
                self._catalog.close_gap(party, original.id)
                log.info("gap-closed", party=party, path=original.path)
        if missing:
            self._store.sync()
            self._catalog.commit()

    def note_left_behind(self, arrival: Arrival) -> None:
        """Note that the source of an arrival stays in the intake and must not be claimed again."""
        self._left_behind[bytes(arrival.source)] = str(arrival.stamp)
        self._catalog.note_left_behind(arrival)

    def report_not_removable(self, source: Source) -> None:
        """Log that files stay in a folder because they may not be removed, once for each folder."""
        folder = source.folder
        if within := source.path.rpartition("/")[0]:
            folder = f"{folder}/{within}"
        if folder not in self._reported_folders:
            advice = "let the publisher delete files there, or empty that folder by hand"
            log.error("source-not-removable", folder=folder, advice=advice)
            self._reported_folders.add(folder)

    @property
    def left_behind(self) -> dict[Source, Stamp]:
        """The sources that were claimed and stay in the intake, with their stamps at that time."""
        return {
            Source.parse(source): Stamp.parse(stamp) for source, stamp in self._left_behind.items()
        }

    def is_left_behind(self, source: Source, stamp: Stamp) -> bool:
        """Return whether a file was claimed before and has not changed since."""
        return bool(self._left_behind) and self._left_behind.get(bytes(source)) == str(stamp)

    def forget_left_behind(self, sources: Sequence[Source]) -> None:
        """Forget sources that are not in the intake any more."""
        for source in sources:
            self._left_behind.pop(bytes(source), None)
        self._catalog.forget_left_behind(sources)
        self._catalog.commit()

    def _new_arrival(self, found: Candidate) -> Arrival:
        now = self._context.clock()
        source = _source(found)
        identity = arrival_id(now, self._context.token())
        return Arrival(identity, escaped(source.path), source, found.stamp, now)

    def _decide(self, page: Page) -> None:
        election = self._context.settings.election.id
        witnesses = self._context.settings.qr.witnesses
        decision = decide.decide(page, election, self._context.lookup, self._catalog, witnesses)
        now = self._context.clock()
        match decision:
            case Filed():
                assert page.sha256 is not None  # noqa: S101 - a file with readings has bytes
                mtime = self._store.keep(page.arrival.id, page.sha256, int(now.timestamp()))
                self._step("kept")
                self._catalog.add_filings(page, decision, mtime, now)
                self._learn(page, decision)
            case Quarantined():
                if page.sha256 is not None:
                    staged = self._store.staged_path(page.arrival.id)
                    self._context.quarantine.add(staged, page.arrival.file)
                    self._step("set aside")
                self._catalog.add_unfiled(page, decision, now)
            case Duplicate():
                self._store.discard(page.arrival.id)
                self._catalog.add_unfiled(page, decision, now)
            case Split(digests):
                self._split(page, digests, int(now.timestamp()))

    def _learn(self, page: Page, filed: Filed) -> None:
        """Learn where code and print are on sheets of a type, from a page with both copies."""
        (one, *more), extent = filed.sheets, decide.measured_extent(page.result.readings)
        entry = one.entry
        if extent and not more and agreement_on(entry.karekod, page.result.readings).copies > 1:
            belge = entry.sheet.belge
            self._catalog.extents.learn(belge, extent.copy, extent)
            if page.result.print_map:
                election = self._context.settings.election.id
                self._catalog.print_maps.learn(election, entry.sheet, page.result.print_map)

    def _split(self, page: Page, digests: tuple[str, ...], now: int) -> None:
        assert page.sha256 is not None  # noqa: S101 - a file that was split has bytes
        kept_at = self._store.keep(page.arrival.id, page.sha256, now)
        self._step("kept")
        made = []
        for number in range(1, len(digests) + 1):
            path = self._spool / extract_file(page.arrival.id, number)
            one = extracted_arrival(page.arrival, number, page.result.format or "", path)
            path.rename(self._spool / one.file)
            made.append(one)
            self._step("extracted")
        self._catalog.add_split(page, made, digests, kept_at)
        self._extracted += made

    def carry_out(self) -> list[Arrival]:
        """Carry out every decision that is not done yet; returns the same as `file`."""
        rows = self._catalog.unrecorded_decisions()
        if not rows:
            return []
        absent = self._absences_of(rows)
        events = [self._carry_out_one(row, absent) for row in rows]
        for sha256 in {row.sha256: None for row in rows if row.outcome in _KEPT}:
            assert sha256 is not None  # noqa: S101 - the store has its bytes
            self._store.seal(sha256)
        self._step("sealed")
        self._context.sync()
        if self._has_new_gaps:  # they are not in the ledger
            self._catalog.commit()
            self._has_new_gaps = False
        self._step("linked")
        numbers = []
        for event in events:
            numbers.append(self._context.ledger.append(event))
            self._step("recorded")
        self._context.ledger.sync()
        self._catalog.mark_all_recorded(zip(rows, numbers, strict=True))
        self._step("all recorded")
        self._catalog.commit(durable=False)  # recovery reads the ledger
        self._step("done")
        files = {row.arrival.id: row for row in rows}.values()
        again = (self.clean(row.arrival, row.stamp) for row in files)
        return [arrival for arrival in again if arrival]

    def _absences_of(self, rows: Sequence[UnrecordedDecision]) -> dict[str, RecordedAbsence]:
        filings = (row.filing for row in rows if row.filing is not None)
        sheets = ((layout.parse(one.original.path).sheet, one.karekod) for one in filings)
        return absences.absences_of_sheets(self._catalog.connection, sheets)

    def _carry_out_one(
        self, row: UnrecordedDecision, absent: Mapping[str, RecordedAbsence]
    ) -> Event:
        detail: dict[str, Value] = {"page": row.arrival.id}
        if row.sha256 is not None:
            detail["sha256"] = row.sha256
        if row.origin:
            detail["original"], detail["original_page"] = row.origin
        detail |= {
            "decided_at": times.format_stored(row.decided_at),
            "stamp": str(row.stamp),
            "source_stamp": str(row.arrival.stamp),
        }
        match row.outcome:
            case states.SPLIT:
                detail["extracts"] = row.evidence["extracts"]
                detail["filed_at"] = int(row.decided_at.timestamp())
                return Event(FilingEvent.SPLIT, WHO, row.arrival.name, row.what, detail=detail)
            case states.FILED:
                assert row.filing is not None  # noqa: S101 - the row of a filing has one
                return self._carry_out_filed(row, row.filing, detail, absent)
            case states.QUARANTINED:
                return self._carry_out_quarantined(row, detail)
        if karekods := list(filter(is_karekod, row.evidence["texts"])):
            detail["karekod"] = " ".join(karekods)
        if pixels := row.evidence.get("pixels"):
            detail["pixels"] = pixels
        return Event(FilingEvent.DUPLICATE, WHO, row.arrival.name, row.what, detail=detail)

    def _carry_out_filed(
        self,
        row: UnrecordedDecision,
        filing: FilingRow,
        detail: dict[str, Value],
        absences_by_karekod: Mapping[str, RecordedAbsence],
    ) -> Event:
        original = filing.original
        sheet = layout.parse(original.path).sheet
        shown = 0
        self._store.unseal(original.sha256)
        for party in self._parties:
            if party.scope.covers(sheet):
                if self.link_into_tree(party, original):
                    shown += 1
                else:
                    self._catalog.add_gap(party.id, original.id)
                    self._has_new_gaps = True
                self._step("link")
        readings = [reading for reading in row.readings if reading.frame == filing.frame]
        agreement = agreement_on(filing.karekod, readings)
        detail |= {
            "frame": filing.frame,
            "frames": row.evidence["frames"],
            "karekod": filing.karekod,
            "version": filing.version,
            "filed_at": filing.filed_at,
            "parties": shown,
            "copies": agreement.copies,
            "witnesses": agreement.agreeing,
            "witnesses_asked": row.evidence["witnesses"],
            "engine": agreement.engines,
            "evidence": agreement.lines(),
            "ms": row.evidence["ms"],
            **row.evidence.get("person", {}),
        }
        if pixels := row.evidence.get("pixels"):
            detail["pixels"] = pixels
        if absent := absences_by_karekod.get(filing.karekod):
            log.warning("absent-sheet-arrived", path=original.path, recorded=absent.reason)
            detail["absent"] = absent.reason
        return Event(FilingEvent.FILED, WHO, row.arrival.name, row.what, detail=detail)

    def _carry_out_quarantined(self, row: UnrecordedDecision, detail: dict[str, Value]) -> Event:
        assert row.reason is not None  # noqa: S101 - the row of a quarantined page has one
        if not self._context.quarantine.holds(row.what):
            self._context.quarantine.add(self._spool / row.arrival.file, row.what)
            self._step("moved")
        self.write_note(row)
        self._step("noted")
        detail["reason"] = row.reason
        what = f"{QUARANTINE}/{row.what}"
        return Event(FilingEvent.QUARANTINED, WHO, row.arrival.name, what, Outcome.REFUSED, detail)

    def write_note(self, row: UnrecordedDecision) -> None:
        """Write the reason beside a file in quarantine."""
        assert row.reason is not None  # noqa: S101 - the row of a quarantined page has one
        note = QuarantineNote(
            row.arrival.id,
            row.arrival.name,
            row.reason,
            row.sha256,
            tuple(row.evidence["texts"]),
            row.evidence["frames"],
            tuple(str(reading) for reading in row.readings),
            times.format_utc(row.decided_at),
        )
        self._context.quarantine.write_note(row.what, note)

    def link_into_tree(self, party: Party, original: Original) -> bool:
        """Link an original into a party's tree; on failure log an error and return False."""
        failure = self._try_link(party.id, original)
        if failure:
            log.error("gap", party=party.id, path=original.path, cause=failure)
        return not failure

    def _try_link(self, party: str, original: Original) -> str | None:
        try:
            self._store.link(original.sha256, party, original.path)
        except CannotLink as error:
            return str(error)
        except OSError as error:
            if error.errno not in ONE_TREE_ERRORS:
                raise
            return str(error)
        return None

    def clean(self, arrival: Arrival, read_as: Stamp | None) -> Arrival | None:
        """Remove the spool file of an arrival that is done.

        If the file was written to after it was read, it becomes a new arrival, which is returned.
        """
        path = self._spool / arrival.file
        try:
            stamp = Stamp.of(path.lstat())
        except FileNotFoundError:
            return None
        if stamp == read_as:
            path.unlink()
            self._step("cleaned")
            return None
        log.warning("written-after-claim", name=arrival.name, arrival=arrival.id)
        return self.reclaim(path, arrival.name, stamp)

    def reclaim(self, path: Path, name: str, stamp: Stamp) -> Arrival:
        """Make a file in the spool a new arrival."""
        now = self._context.clock()
        identity = arrival_id(now, self._context.token())
        again = Arrival(identity, name, Source(str(path.parent), path.name), stamp, now)
        self._catalog.add_arrivals([again])
        self._catalog.commit()
        path.rename(self._spool / again.file)
        self._step("claimed again")
        self._catalog.mark_claimed([again.id])
        self._catalog.commit()
        return again


def _source(found: Candidate) -> Source:
    return Source(str(found.folder), os.path.relpath(found.path, found.folder))
