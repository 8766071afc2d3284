"""Takes in batches of results: from a file in results/ to recorded versions.

Each batch goes the same way. The bytes are durable before a row is decided on, and each step after
that before the next; a batch of few rows needs two commits.

    claim       the file is moved or copied into state/results-spool/ (publisher/results/intake/
                claims)
    keep        the bytes are copied into the store, where they cannot change; then the digest is
                noted
    decide      rows are decided in chunks of CHUNK_ROWS, and stored
    record      the results ledger gets a record of each row, and the database the record's number
    finish      the spool's file is removed

If the process is killed in between, the next one first records what was decided
(`record_unrecorded`), and then continues each batch (`unfinished`) after that line. A row that has
a record never gets a second one. A bad row never stops a batch, and a bad batch never stops the
others.
"""

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
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
from publisher.catalog.counts import open_read_only
from publisher.intake.spool import Patience
from publisher.intake.watch import Candidate
from publisher.page import Stamp, arrival_id, safe_name
from publisher.results.checks.box import SheetVersion
from publisher.results.intake import accept, evidence
from publisher.results.intake.accept import Accepted, DuplicateRow
from publisher.results.intake.claims import BatchClaims
from publisher.results.sheets import sheet_versions
from publisher.results.store import (
    DUPLICATE,
    NO_SHEET,
    Batch,
    NewResult,
    NewSetAside,
    ResultStore,
    SetAsideRow,
    SheetBinding,
    StoredResult,
)

WHO = "publisher"
CHUNK_ROWS = 4000
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


class ResultIntake:
    """Claims batches and takes them in, one after the other."""

    def __init__(self, context: ResultContext) -> None:
        self._context = context
        self.claims = BatchClaims(
            context.site, context.store, context.clock, context.patience, context.step
        )
        self._spool = self.claims.spool
        self._kept_as: dict[str, Stamp] = {}
        self.grown: list[str] = []  # batches to take in again, because their file was written to

    def record_unrecorded(self) -> Iterator[RecordedChunk]:
        """Put in order what an earlier run left, and record what it decided; yield that.

        Only then are the database's results those that count.
        """
        evidence.sweep(self._context.site)
        self.claims.recover()
        for path in sorted(self._spool.iterdir()):
            known = self._context.store.batch(path.name)
            if known is not None and known.finished:
                self._clean(known, path)
        for found in self._context.store.batches(unfinished=True):
            yield from self._record_unrecorded(found)

    def unfinished(self) -> list[str]:
        """Return the ids of the claimed batches that are to be taken in, oldest first."""
        return [found.id for found in self._context.store.batches(unfinished=True)]

    def recover(self) -> Iterator[RecordedChunk]:
        """Finish what an earlier run began; yield what that changed."""
        yield from self.record_unrecorded()
        for batch_id in self.unfinished():
            yield from self.take_in(batch_id)

    def claim(self, candidates: Sequence[Candidate]) -> list[str]:
        """Claim complete files from results/; return the ids of their batches."""
        return self.claims.claim(candidates)

    def take_in(self, batch_id: str) -> Iterator[RecordedChunk]:
        """Take in one claimed batch; yield after each chunk what it changed."""
        yield from self._take_in(batch_id)

    def _take_in(self, batch_id: str) -> Iterator[RecordedChunk]:
        context = self._context
        found = context.store.batch(batch_id)
        if found is None or found.finished:
            return
        spooled = self._spool / batch_id
        if found.sha256 is None:
            self._kept_as[batch_id] = Stamp.of(spooled.stat())
            sha256 = evidence.keep(context.site, batch_id, spooled, context.clock())
            context.store.begin(batch_id, sha256)  # committed with what is decided first
            context.step("kept")
        else:
            sha256 = found.sha256
        log.info("batch-started", batch=found.name, sha256=sha256)
        with (context.site / original_file(sha256)).open("rb") as file:
            rows = result_batch.read(found.name, file, context.election)
            last = False
            for chunk, last in _chunks(row for row in rows if row.line > found.done_lines):
                if context.stopped():
                    return
                yield self._chunk(found, sha256, chunk)
                if last:
                    context.store.finish(batch_id, context.clock())
                context.store.commit()
                context.step("noted")
        if not last:  # it has no row
            context.store.finish(batch_id, context.clock())
            context.store.commit()
        context.step("finished")
        self._clean(found, spooled)
        if done := context.store.batch(batch_id):
            log.info(
                "batch-finished",
                batch=found.name,
                accepted=done.accepted,
                duplicates=done.duplicates,
                rejected=done.rejected,
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
        now = context.clock()
        again = f"{arrival_id(now, secrets.token_hex(4))}-{safe_name(found.name)}"
        log.warning("batch-grew", batch=found.name, cause="written to after it was taken in")
        context.store.receive(again, found.name, now)
        context.store.commit()
        spooled.rename(self._spool / again)
        self.grown.append(again)

    def _chunk(self, found: Batch, sha256: str, chunk: Sequence[GoodRow | BadRow]) -> RecordedChunk:
        context = self._context
        good = [row for row in chunk if isinstance(row, GoodRow)]
        keys = {row.result.key for row in good}
        known = context.store.versions(self._with_other_contests(keys))
        with open_read_only(context.site) as catalog:
            sheets = sheet_versions(catalog, keys)
        facts = _Facts(context.registry, context.ballot(), known)
        accepted: list[NewResult] = []
        set_aside: list[NewSetAside] = []
        for row in chunk:
            if isinstance(row, BadRow):
                set_aside.append(NewSetAside(row.line, row.fault, row.message, "", row.text))
                continue
            result = row.result
            decision = accept.decide(result, facts)
            if isinstance(decision, Accepted):
                facts.accept(result)
                accepted.append(NewResult(row.line, result, _binding(sheets.get(result.key, ()))))
            elif isinstance(decision, DuplicateRow):
                message = f"version {result.version} is known with the same numbers"
                place = result.key.place
                set_aside.append(NewSetAside(row.line, DUPLICATE, message, place, ""))
            else:
                text = result.canonical().decode()
                place = result.key.place
                set_aside.append(
                    NewSetAside(row.line, decision.fault, decision.message, place, text)
                )
        results, others = context.store.decide(
            found.id, accepted, set_aside, known, context.clock()
        )
        context.store.commit()
        context.step("decided")
        self._record(found, sha256, chunk[-1].line, results, others)
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

    def _record_unrecorded(self, found: Batch) -> Iterator[RecordedChunk]:
        """Record the chunk that was decided when an earlier run ended, if there is one."""
        results, others = self._context.store.unrecorded()
        lines = [row.line for row in results if row.batch == found.id]
        lines += [row.line for row in others if row.batch == found.id]
        if lines and found.sha256 is not None:
            self._record(found, found.sha256, max(lines), results, others)
            keys = {row.result.key for row in results}
            new = {row.id for row in results}
            known = {
                key: older
                for key, versions in self._context.store.versions(
                    self._with_other_contests(keys)
                ).items()
                if (older := {v: row for v, row in versions.items() if row.id not in new})
            }
            yield RecordedChunk(tuple(results), known, {})
            self._context.store.commit()
            self._context.step("noted")

    def _record(
        self,
        found: Batch,
        sha256: str,
        done_lines: int,
        results: Sequence[StoredResult],
        others: Sequence[SetAsideRow],
    ) -> None:
        """Record a chunk that is decided; the caller commits."""
        context = self._context
        recorded = self._already_recorded(sha256)
        events: list[tuple[StoredResult | SetAsideRow, Event]] = sorted(
            chain(
                ((row, _result_event(found.name, sha256, row)) for row in results),
                ((row, _set_aside_event(found.name, sha256, row)) for row in others),
            ),
            key=lambda pair: pair[0].line,
        )
        new = [pair for pair in events if pair[0].line not in recorded]
        if new:
            last = context.ledger.append(*(event for _, event in new))
            context.ledger.sync()
            first = last - len(new) + 1
            recorded |= {row.line: first + n for n, (row, _) in enumerate(new)}
        context.step("recorded")
        context.store.record(
            found.id,
            done_lines,
            {row.id: recorded[row.line] for row in results},
            {row.id: recorded[row.line] for row in others},
        )

    def _already_recorded(self, sha256: str) -> dict[int, int]:
        """Return the records that the ledger has and the database does not, by line of the batch.

        There are some only after a crash between `recorded` and `noted`.
        """
        context = self._context
        first = context.store.next_seq()
        if first >= context.ledger.next_seq:
            return {}
        return {
            int(str(record.event.detail["line"])): record.seq
            for record in context.ledger.records(first)
            if record.event.detail.get("batch") == sha256
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


def _chunks(
    rows: Iterator[GoodRow | BadRow],
) -> Iterator[tuple[list[GoodRow | BadRow], bool]]:
    """Yield the rows in chunks, each with whether it is the last."""
    following = next(rows, None)
    while following is not None:
        chunk = [following, *islice(rows, CHUNK_ROWS - 1)]
        following = next(rows, None)
        yield chunk, following is None
