"""Takes in batches of results: from a file in results/ to recorded versions.

Each batch goes the same way. The bytes are durable before a row is decided on, and each step after
that before the next. Rows are decided in chunks, and small batches that wait together share one:
the chunk needs two commits and one sync of the ledger, however many batches have rows in it.

    claim       the file is moved or copied into state/results-spool/ (publisher/results/intake/
                claims)
    keep        the bytes are copied into the store, where they cannot change; then the digest is
                noted
    decide      the rows of a chunk are decided and stored: CHUNK_ROWS at most, and CHUNK_BYTES at
                most unless one row is longer
    record      the results ledger gets a record of each row, and the database the record's number
    finish      the spool's file is removed

If the process is killed in between, the next one first records what was decided
(`record_unrecorded`), and then continues each batch (`unfinished`) after that line. A row that has
a record never gets a second one: it is known by its line and the digest of its batch, so two
batches with the same bytes never share a chunk. A bad row never stops a batch, and a bad batch
never stops the others.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import structlog

from config import result_batch
from config.ballot import Ballot
from config.event import Event, Outcome, ResultsEvent
from config.registry import Registry
from config.result import BOX_SHEET, Result, ResultKey
from config.result_batch import BadRow, GoodRow
from config.sheet import Level, SandikTuru, Secim
from config.site import original_file
from keys.ledger.writer import Clock, Ledger
from publisher.catalog.queries.counts import open_read_only
from publisher.intake.spool import Patience
from publisher.intake.watch import Candidate
from publisher.page import Stamp, arrival_id, safe_name
from publisher.results.checks.box import SheetVersion
from publisher.results.intake import accept, evidence
from publisher.results.intake.accept import Accepted, RejectedRow
from publisher.results.intake.claims import BatchClaims
from publisher.results.sheets import sheet_versions
from publisher.results.store import (
    DUPLICATE,
    NO_SHEET,
    Batch,
    NewResult,
    NewSetAside,
    Progress,
    ResultStore,
    SetAsideRow,
    SheetBinding,
    StoredResult,
)

WHO = "publisher"
CHUNK_ROWS = 4000
CHUNK_BYTES = 8 << 20
_BATCHES_A_CHUNK = 64
DEFAULT_PATIENCE = Patience(2.0, 600.0)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ResultContext:
    """What the intake of results works with.

    `step` is called with the name of each step done, and what it raises ends the work there.
    """

    site: Path
    election: str
    store: ResultStore
    ledger: Ledger
    registry: Registry
    ballot: Callable[[], Ballot | None]
    clock: Clock
    stopped: Callable[[], bool] = lambda: False
    step: Callable[[str], None] = lambda step: None
    patience: Patience = DEFAULT_PATIENCE


Versions = dict[ResultKey, dict[int, StoredResult]]


@dataclass(frozen=True, slots=True)
class RecordedChunk:
    """What a chunk changed, for checks and snapshots.

    `known` has the versions from before the chunk, of the same boxes in every contest. The chunk is
    committed when the caller asks for the next one, together with what the caller has stored.
    """

    results: tuple[StoredResult, ...]
    known: Versions
    sheets: Mapping[ResultKey, tuple[SheetVersion, ...]]
    kinds: Mapping[ResultKey, SandikTuru | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one batch in a chunk; with `is_last` the batch has no more.

    `size` is about how many bytes the rows have.
    """

    batch: Batch
    sha256: str
    rows: Sequence[GoodRow | BadRow]
    size: int
    is_last: bool


class ResultIntake:
    """Claims batches and takes them in, in their order."""

    def __init__(self, context: ResultContext) -> None:
        self._context = context
        self.claims = BatchClaims(
            context.site, context.store, context.clock, context.patience, context.step
        )
        self._spool = self.claims.spool
        self._kept_as: dict[str, Stamp] = {}
        self._grown: list[str] = []

    def record_unrecorded(self) -> Iterator[RecordedChunk]:
        """Put in order what an earlier run left, and record what it decided; yield that.

        Only then are the database's results those that count.
        """
        store = self._context.store
        evidence.sweep(self._context.site)
        self.claims.recover()
        spooled = sorted(self._spool.iterdir())
        known = store.batches_of([path.name for path in spooled])
        for path in spooled:
            if path.name in known and known[path.name].finished:
                self._clean(known[path.name], path)
        yield from self._record_unrecorded()

    def unfinished(self) -> list[str]:
        """Return the ids of the claimed batches that are to be taken in, oldest first."""
        return [found.id for found in self._context.store.batches(unfinished=True)]

    def recover(self) -> Iterator[RecordedChunk]:
        """Finish what an earlier run began; yield what that changed."""
        yield from self.record_unrecorded()
        yield from self.take_in(*self.unfinished())

    def claim(self, candidates: Sequence[Candidate]) -> list[str]:
        """Claim complete files from results/; return the ids of their batches."""
        return self.claims.claim(candidates)

    def take_in(self, *batches: str) -> Iterator[RecordedChunk]:
        """Take in claimed batches in this order; yield after each chunk what it changed."""
        waiting: Sequence[str] = batches
        while waiting:
            kept, waiting = self._keep(waiting)
            for parts in _chunks(self._parts(kept)):
                if self._context.stopped():
                    return
                yield from self._take_in(parts)

    def take_grown(self) -> list[str]:
        """Return batches to take in as well, because their files were written to; forget them."""
        grown, self._grown = self._grown, []
        return grown

    def _keep(self, waiting: Sequence[str]) -> tuple[list[tuple[Batch, str]], Sequence[str]]:
        """Keep the bytes of the next batches, unless an earlier run did.

        Returns those to take in, and those that wait then: also the ones from a batch on that could
        not be copied, which raises when it is the next one.
        """
        context = self._context
        batches, left = waiting[:_BATCHES_A_CHUNK], waiting[_BATCHES_A_CHUNK:]
        known = context.store.batches_of(batches)
        found = [known[batch] for batch in batches if batch in known and not known[batch].finished]
        new = {batch.id: self._spool / batch.id for batch in found if batch.sha256 is None}
        self._kept_as |= {batch: Stamp.of(spooled.stat()) for batch, spooled in new.items()}
        digests = evidence.keep(context.site, new, context.clock()) if new else {}
        context.store.begin(digests)  # committed with what is decided first
        if new:
            context.step("kept")
        kept: list[tuple[Batch, str]] = []
        for batch in found:
            sha256 = batch.sha256 or digests.get(batch.id)
            if sha256 is None:
                return kept, [*batches[batches.index(batch.id) :], *left]
            kept.append((batch, sha256))
        return kept, left

    def _parts(self, kept: Iterable[tuple[Batch, str]]) -> Iterator[_Part]:
        context = self._context
        for batch, sha256 in kept:
            log.info("batch-started", batch=batch.name, sha256=sha256)
            with (context.site / original_file(sha256)).open("rb") as file:
                some: list[GoodRow | BadRow] = []
                size = end = 0
                for row in result_batch.read(batch.name, file, context.election):
                    begin, end = end, file.tell()
                    if row.line <= batch.done_lines:
                        continue
                    if some and (len(some) == CHUNK_ROWS or size + end - begin > CHUNK_BYTES):
                        yield _Part(batch, sha256, some, size, is_last=False)
                        some, size = [], 0
                    some.append(row)
                    size += end - begin
                yield _Part(batch, sha256, some, size, is_last=True)

    def _take_in(self, parts: Sequence[_Part]) -> Iterator[RecordedChunk]:
        """Take in a chunk; yield what it changed, if it has any row."""
        context = self._context
        if any(part.rows for part in parts):
            yield self._decide(parts)
        done = [part.batch.id for part in parts if part.is_last]
        context.store.finish(done, context.clock())
        context.store.commit()
        context.step("noted")
        if not done:
            return
        context.step("finished")
        found = context.store.batches_of(done)
        for batch in map(found.__getitem__, done):
            self._clean(batch, self._spool / batch.id)
            log.info(
                "batch-finished",
                batch=batch.name,
                accepted=batch.accepted,
                duplicates=batch.duplicates,
                rejected=batch.rejected,
            )

    def _clean(self, found: Batch, spooled: Path) -> None:
        """Remove the spool's file; one that was written to since it was kept is a new batch."""
        context, kept_as = self._context, self._kept_as.pop(found.id, None)
        if not spooled.exists():
            return
        status = spooled.stat()
        if kept_as is None:  # an earlier run kept it
            kept = context.site / original_file(found.sha256 or "")
            grew = kept.exists() and kept.stat().st_size != status.st_size
        else:
            grew = Stamp.of(status) != kept_as
        if not grew:
            spooled.unlink()
            return
        now = self.claims.time_of_next()
        again = f"{arrival_id(now, secrets.token_hex(4))}-{safe_name(found.name)}"
        log.warning("batch-grew", batch=found.name, cause="written to after it was taken in")
        context.store.receive({again: found.name}, now)
        context.store.commit()
        spooled.rename(self._spool / again)
        self._grown.append(again)

    def _decide(self, parts: Sequence[_Part]) -> RecordedChunk:
        context = self._context
        rows = [(part.batch.id, row) for part in parts for row in part.rows]
        keys = {row.result.key for _, row in rows if isinstance(row, GoodRow)}
        known = context.store.versions(self._with_other_contests(keys))
        with open_read_only(context.site) as catalog:
            sheets = sheet_versions(catalog, keys)
        facts = _Facts(context.registry, context.ballot(), known)
        accepted: list[NewResult] = []
        set_aside: list[NewSetAside] = []
        for batch, row in rows:
            if isinstance(row, BadRow):
                set_aside.append(NewSetAside(batch, row.line, row.fault, row.message, "", row.text))
                continue
            result = row.result
            decision = accept.decide(result, facts)
            if isinstance(decision, Accepted):
                facts.accept(result)
                binding = _binding(sheets.get(result.key, ()))
                accepted.append(NewResult(batch, row.line, result, binding))
                continue
            fault, text = DUPLICATE, ""
            message = f"version {result.version} is known with the same numbers"
            if isinstance(decision, RejectedRow):
                fault, message = decision.fault.value, decision.message
                text = result.canonical().decode()
            place = result.key.place
            set_aside.append(NewSetAside(batch, row.line, fault, message, place, text))
        results, others = context.store.decide(accepted, set_aside, known, context.clock())
        context.store.commit()
        context.step("decided")
        self._record([(part.batch, part.sha256) for part in parts if part.rows], results, others)
        return RecordedChunk(tuple(results), known, sheets, facts.kinds)

    def _with_other_contests(self, keys: set[ResultKey]) -> set[ResultKey]:
        ballot = self._context.ballot()
        contests = ballot.contests() if ballot is not None else ()
        others = (
            ResultKey(secim, *key[1:])
            for key in keys
            if key.belge is BOX_SHEET
            for secim in contests
        )
        return keys.union(others)

    def _record_unrecorded(self) -> Iterator[RecordedChunk]:
        """Record the chunk that was decided when an earlier run ended, if there is one."""
        store = self._context.store
        results, others = store.unrecorded()
        if not results and not others:
            return
        of_rows = {row.batch for row in results} | {row.batch for row in others}
        found = sorted(store.batches_of(of_rows).items())
        self._record([(batch, batch.sha256 or "") for _, batch in found], results, others)
        keys = {row.result.key for row in results}
        new = {row.id for row in results}
        known = {
            key: older
            for key, versions in store.versions(self._with_other_contests(keys)).items()
            if (older := {v: row for v, row in versions.items() if row.id not in new})
        }
        yield RecordedChunk(tuple(results), known, {})
        store.commit()
        self._context.step("noted")

    def _record(
        self,
        batches: Sequence[tuple[Batch, str]],
        results: Sequence[StoredResult],
        others: Sequence[SetAsideRow],
    ) -> None:
        """Record a chunk that is decided, batch by batch; the caller commits."""
        context = self._context
        by_batch: dict[str, list[StoredResult | SetAsideRow]] = {b.id: [] for b, _ in batches}
        for result in results:
            by_batch[result.batch].append(result)
        for other in others:
            by_batch[other.batch].append(other)
        recorded = self._already_recorded()
        new: list[tuple[str, int]] = []
        events: list[Event] = []
        for batch, sha256 in batches:
            for row in sorted(by_batch[batch.id], key=attrgetter("line")):
                if (sha256, row.line) not in recorded:
                    new.append((sha256, row.line))
                    events.append(_event(batch.name, sha256, row))
        if events:
            last = context.ledger.append(*events)
            context.ledger.sync()
            recorded |= zip(new, range(last - len(new) + 1, last + 1), strict=True)
        context.step("recorded")
        digests = {batch.id: sha256 for batch, sha256 in batches}
        context.store.record(
            {row.id: recorded[digests[row.batch], row.line] for row in results},
            {row.id: recorded[digests[row.batch], row.line] for row in others},
            [_progress(batch, rows) for batch, rows in by_batch.items()],
        )

    def _already_recorded(self) -> dict[tuple[str, int], int]:
        """Return the records that the ledger has and the database does not, by batch and line.

        There are some only after a crash between `recorded` and `noted`.
        """
        context = self._context
        first = context.store.next_seq()
        if first >= context.ledger.next_seq:
            return {}
        return {
            (str(record.event.detail["batch"]), int(str(record.event.detail["line"]))): record.seq
            for record in context.ledger.records(first)
            if "line" in record.event.detail
        }


class _Facts:
    """What the site knows, with what the chunk has accepted so far."""

    def __init__(
        self,
        registry: Registry,
        ballot: Ballot | None,
        known: dict[ResultKey, dict[int, StoredResult]],
    ) -> None:
        self._registry = registry
        self._ballot = ballot
        self._known = {
            key: {version: stored.result for version, stored in versions.items()}
            for key, versions in known.items()
        }
        self._options: dict[tuple[Secim, str | None], frozenset[str]] = {}
        self.kinds: dict[ResultKey, SandikTuru | None] = {}

    def accept(self, result: Result) -> None:
        """Count a row of this chunk as known."""
        self._known.setdefault(result.key, {})[result.version] = result

    def is_expected(self, key: ResultKey) -> bool:
        """Return True if the registry has the sheet of that result."""
        if key.cevre is not None and key.kurul is not None and key.sandik is not None:
            place = (key.cevre, key.kurul, key.sandik)
            kind = self.kinds[key] = self._registry.box_kind(key.secim, key.belge, *place)
            return kind is not None
        return self._registry.has_aggregate(key.secim, key.belge, key.cevre, key.kurul)

    def has_place(self, key: ResultKey) -> bool:
        """Return True if the registry has any sheet at that place."""
        if key.level is Level.BOX:
            return self._registry.has_box(key.cevre or "", key.kurul or "", key.sandik or "")
        return key.cevre is None or any(
            district == key.cevre and key.kurul in (None, board)
            for district, board in self._registry.boards()
        )

    def options(self, key: ResultKey) -> Collection[str]:
        """Return the ids of the options on the ballot of that contest and place."""
        if self._ballot is None:
            return frozenset()
        of = (key.secim, key.cevre)
        if of not in self._options:
            districts = [key.cevre] if key.cevre else ["", *self._ballot.districts(key.secim)]
            self._options[of] = frozenset(
                option.id
                for district in districts
                for option in self._ballot.options(key.secim, district)
            )
        return self._options[of]

    def version(self, key: ResultKey, version: int) -> Result | None:
        """Return a version that was accepted before."""
        return self._known.get(key, {}).get(version)


def _binding(sheets: Sequence[SheetVersion]) -> SheetBinding:
    return SheetBinding(sheets[-1].path, sheets[-1].sha256) if sheets else NO_SHEET


def _result_event(name: str, sha256: str, row: StoredResult) -> Event:
    result = row.result
    return Event(
        ResultsEvent.ACCEPTED,
        WHO,
        name,
        result.key.place,
        detail={
            "secim": result.key.secim.value,
            "belge": result.key.belge.value,
            "version": result.version,
            "digest": row.digest,
            "batch": sha256,
            "line": row.line,
            "reason": result.reason,
            "sheet": row.sheet.path or None,
            "sheet_sha256": row.sheet.sha256 or None,
        },
    )


def _set_aside_event(name: str, sha256: str, row: SetAsideRow) -> Event:
    detail: dict[str, str | int | bool | list[str] | None] = {"batch": sha256, "line": row.line}
    if row.fault == DUPLICATE:
        detail["message"] = row.message
        return Event(ResultsEvent.DUPLICATE, WHO, name, row.place, detail=detail)
    detail |= {"reason": row.fault, "message": row.message}
    return Event(ResultsEvent.REJECTED, WHO, name, row.place, Outcome.REFUSED, detail)


def _event(name: str, sha256: str, row: StoredResult | SetAsideRow) -> Event:
    if isinstance(row, StoredResult):
        return _result_event(name, sha256, row)
    return _set_aside_event(name, sha256, row)


def _progress(batch: str, rows: Sequence[StoredResult | SetAsideRow]) -> Progress:
    set_aside = [row for row in rows if isinstance(row, SetAsideRow)]
    duplicates = sum(row.fault == DUPLICATE for row in set_aside)
    return Progress(
        batch,
        done_lines=max(row.line for row in rows),
        accepted=len(rows) - len(set_aside),
        duplicates=duplicates,
        rejected=len(set_aside) - duplicates,
    )


def _chunks(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Put the parts of small batches together, if the batches are different ones."""
    chunk: list[_Part] = []
    for part in parts:
        digests = {other.sha256 for other in chunk}
        if chunk and (part.sha256 in digests or not _fit([*chunk, part])):
            yield chunk
            chunk = []
        chunk.append(part)
        if not part.is_last or not _fit(chunk):  # its rows need not stay in memory any longer
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _fit(parts: Sequence[_Part]) -> bool:
    rows, size = sum(len(part.rows) for part in parts), sum(part.size for part in parts)
    return rows <= CHUNK_ROWS and size <= CHUNK_BYTES
