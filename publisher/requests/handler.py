"""Handles the requests of operators (publisher/requests/queue) between two batches of pages.

Every request may be handled twice, because a crash may come before its answer is written. If the
catalog or the filing ledger shows that it was carried out, only the answer is written again.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from config import layout
from config.event import Event, FilingEvent, Value
from config.registry import RegistryEntry
from config.site import QUARANTINE
from publisher.catalog.decisions import absences, rescans, review
from publisher.catalog.decisions.rescans import Rescan
from publisher.catalog.decisions.review import Agreed, Identification, Review
from publisher.filing.filer import Filer, FilingContext
from publisher.filing.recovery import Recovery
from publisher.fsck import rebuild
from publisher.fsck.repair import Repair, Repairer, failed_line
from publisher.outcome import Filed, FiledSheet
from publisher.page import EXTENSION, Arrival, Page, ReadResult, Stamp, arrival_id, format_of
from publisher.reading import reread_task
from publisher.requests import queue
from publisher.requests.queue import Answer, Request
from publisher.requests.rereader import Rereader
from publisher.source import Source
from publisher.store.quarantine import QuarantineNote, parse_note

log = structlog.get_logger()


class RequestHandler:
    """Handles the requests of one site, in the thread of the filer."""

    def __init__(
        self, context: FilingContext, filer: Filer, rereader: Rereader | None = None
    ) -> None:
        """Without a `rereader`, requests to read a page again wait for the next publisher."""
        self._context = context
        self._rereader = rereader
        self._filer = filer
        self._catalog = context.catalog
        self._site = context.settings.site
        self._repairer = Repairer(context, filer, Recovery(context, filer))
        self._handlers: dict[str, Callable[[Request], Answer | None]] = {
            queue.ABSENT: self._absent,
            queue.EXPECTED: self._expected,
            queue.IDENTIFY: self._identify,
            queue.REJECT: self._reject,
            queue.RULE: self._rule,
            queue.RESCAN: self._rescan,
            queue.REREAD: self._reread,
            queue.REBUILD: self._rebuild,
            queue.REPAIR: self._repair,
        }

    def handle_pending(self) -> int:
        """Carry out and answer every pending request; return how many were answered."""
        count = 0
        for request in queue.pending(self._site):
            self._context.step_done("request taken up")
            try:
                answer = self._handlers[request.kind](request)
            except ValueError as error:  # the request cannot be carried out
                answer = Answer(False, str(error))
            if answer is None:  # it is being worked on
                continue
            if not review.is_account(request.by[0]):
                answer = Answer(answer.done, answer.message)
            self._context.step_done("request handled")
            queue.write_answer(self._site, request.id, answer)
            log.info(
                "request-handled",
                kind=request.kind,
                by=request.by,
                done=answer.done,
                message=answer.message,
            )
            count += 1
        return count

    # Absences.

    def _absent(self, request: Request) -> Answer:
        place, reason = self._place(request), request.text("reason")
        if reason not in set(absences.AbsenceReason):
            raise ValueError(f"{reason!r}: write one of {', '.join(absences.AbsenceReason)}")
        if known := absences.find_absence(self._catalog.connection, place):
            message = f"{place} is absent: {known.reason}"
            if known.id == request.id:
                return Answer(True, message)
            return Answer(False, f"{message}, already recorded by {known.who}")
        who = " ".join(request.by)
        self._record(
            absences.absent_event(place, reason, who, request.origin, request.why, request.id)
        )
        return Answer(True, f"{place} is absent: {reason}")

    def _expected(self, request: Request) -> Answer:
        place = self._place(request, must_exist=False)
        if absences.was_withdrawn(self._catalog.connection, request.id):
            return Answer(True, f"{place} is expected again")
        known = absences.find_absence(self._catalog.connection, place)
        if known is None:
            return Answer(False, f"{place} is not recorded as absent")
        who = " ".join(request.by)
        self._record(absences.withdrawn_event(known, who, request.origin, request.why, request.id))
        return Answer(True, f"{place} is expected again")

    def _place(self, request: Request, must_exist: bool = True) -> absences.AbsentPlace:
        place = absences.parse_place(request.text("place"))
        if place.karekod:
            entry = self._context.lookup(place.karekod)
            if entry is None and must_exist:
                raise ValueError(f"{place}: not in the registry, check the karekod")
            return absences.place_of(entry) if entry else place
        if must_exist and not self._context.has_box(place.cevre, place.kurul, place.sandik):
            raise ValueError(f"{place}: the registry has no such box, check the place")
        return place

    def _record(self, event: Event) -> None:
        seq = self._context.ledger.append(event)
        self._context.ledger.sync()
        self._context.step_done("request recorded")
        # The catalog gets the time that is on record, not that of another look at the clock.
        record = next(self._context.ledger.records(seq))
        absences.apply_record(self._catalog.connection, record)
        review.apply_record(self._catalog.connection, record)
        self._catalog.commit()

    # Quarantine.

    def _reject(self, request: Request) -> Answer:
        file, who = self._held(request), request.by[0]
        connection = self._catalog.connection
        if reviewed := review.review_of(connection, file):
            return _already_reviewed(request, file, reviewed)
        if review.is_account(who):
            known = review.identifications(connection, file).get(file, [])
            if refused := _refused_at_the_desk(request, file, known):
                return refused
            if any(review.is_account(each.who) and each.who != who for each in known):
                review.add_identification(connection, file, self._identification(request, ()))
                self._catalog.commit()
                message = f"{file}: identified by another account, a supervisor decides"
                return Answer(True, message, queue.CONTRADICTED)
        return self._close(request, file)

    def _close(self, request: Request, file: str) -> Answer:
        detail = {"errand": request.id, "reason": request.why}
        what, who = f"{QUARANTINE}/{file}", " ".join(request.by)
        self._record(Event(FilingEvent.REJECTED, who, request.origin, what, detail=detail))
        return Answer(True, f"{file}: rejected, {request.why}", queue.DECIDED)

    def _identify(self, request: Request) -> Answer:
        file, who = self._held(request), request.by[0]
        connection = self._catalog.connection
        reviewed = review.review_of(connection, file)
        if reviewed and (reviewed.outcome == review.FILED or reviewed.id == request.id):
            return _already_reviewed(request, file, reviewed)
        known = review.identifications(connection, file).get(file, [])
        if review.is_account(who):
            refused = _refused_at_the_desk(request, file, known, reviewed)
            if refused is not None:
                return refused
        return self._identified(request, file)

    def _rule(self, request: Request) -> Answer:
        """Take up the choice of a supervisor about a file in dispute; no sheets reject it."""
        file, who = self._held(request), request.by[0]
        connection = self._catalog.connection
        reviewed = review.review_of(connection, file)
        if reviewed and (reviewed.outcome == review.FILED or reviewed.id == request.id):
            return _already_reviewed(request, file, reviewed)
        known = review.identifications(connection, file).get(file, [])
        own = next((each for each in known if each.who == who), None)
        if not review.in_dispute(known):
            message = f"{file}: no two accounts differ about it, there is nothing to decide"
            return Answer(False, message, queue.CHANGED)
        if own is not None and own.id != request.id:
            message = f"{file}: {who} has identified it, another supervisor must decide"
            return Answer(False, message, queue.DISPUTED)
        if not request.text("sheets"):
            return self._close(request, file)
        return self._identified(request, file)

    def _identified(self, request: Request, file: str) -> Answer:
        connection = self._catalog.connection
        note = self._note(file)
        sheets = review.parse_sheets(request.text("sheets").split())
        found = review.entries_of(sheets, note.frames, self._context.lookup)
        if note.sha256 is None:
            raise ValueError(f"{file}: its bytes were not read ({note.reason}), reject it")
        if path := self._catalog.path_of_bytes(note.sha256):
            raise ValueError(f"{file}: the same bytes are already filed as {path}, reject it")
        newest = self._identification(request, sheets)
        review.add_identification(connection, file, newest)
        identifications = review.identifications(connection, file)[file]
        match review.decide(identifications, newest, self._context.settings.desk.confirmations):
            case review.Agreed() as agreed:
                return self._file(request, file, note, found, agreed)
            case review.NotYetAgreed(more, differ):
                self._catalog.commit()
                operators = f"{more} more operator{'s' * (more > 1)} must name the same"
                others = "".join(
                    f"; {other.who} names {review.format_sheets(other.sheets) or 'no sheet'}"
                    for other in differ
                )
                named = review.format_sheets(sheets)
                disputed = review.is_account(newest.who) and review.in_dispute(identifications)
                cause = queue.CONTRADICTED if disputed else queue.NAMED
                return Answer(True, f"{file}: named {named}, {operators}{others}", cause)

    def _identification(self, request: Request, sheets: review.Sheets) -> Identification:
        now = _timestamp(self._context.clock())
        return Identification(request.by[0], request.id, sheets, request.why, now)

    def _rescan(self, request: Request) -> Answer:
        """Note that the board must scan a page again."""
        file = self._held(request)
        if reviewed := review.review_of(self._catalog.connection, file):
            return _already_reviewed(request, file, reviewed)
        cevre, kurul, karekod = map(request.text, ("cevre", "kurul", "karekod"))
        if karekod and self._context.lookup(karekod) is None:
            raise ValueError(f"{karekod}: not in the registry, check the karekod")
        now = _timestamp(self._context.clock())
        asked = Rescan(file, request.id, request.by[0], request.why, cevre, kurul, karekod, now)
        rescans.add(self._catalog.connection, asked)
        self._catalog.commit()
        return Answer(True, f"{file}: new scan requested from {cevre}/{kurul}", queue.NAMED)

    def _reread(self, request: Request) -> Answer | None:
        """Have a page read again with other settings; return None until that is done."""
        if self._rereader is None:
            return None
        return self._rereader.answer(request.id, lambda: self._reread_task(request))

    def _reread_task(self, request: Request) -> bytes:
        file = self._held(request)
        note, path = self._note(file), self._site / QUARANTINE / file
        if note.sha256 is None:
            raise ValueError(f"{file}: its bytes were not read ({note.reason})")
        settings = reread_task.parse_settings(request.text("settings"))
        return reread_task.format_task(settings, path.read_bytes())

    def _file(
        self,
        request: Request,
        file: str,
        note: QuarantineNote,
        found: list[tuple[int, RegistryEntry]],
        agreed: Agreed,
    ) -> Answer:
        now, confirmations = self._context.clock(), self._context.settings.desk.confirmations
        page = self._page(file, note)
        assert page.sha256 is not None  # noqa: S101 - `_page` has read its bytes
        extension = EXTENSION[page.result.format or ""]
        filed = Filed(tuple(self._next_version(*one, extension) for one in found), 0)
        mtime = self._context.store.keep(page.arrival.id, page.sha256, int(now.timestamp()))
        self._context.step_done("kept")
        person: dict[str, Value] = {
            "identified_by": list(agreed.by),
            "identifies": file,
            "confirmations": confirmations,
            "errand": request.id,
            "why": request.why,
            "ruled_at": _timestamp(now),
        }
        self._catalog.add_arrivals([page.arrival])
        self._catalog.add_filings(page, filed, mtime, now, person)
        by = " ".join(agreed.by)
        decision = Review(request.id, review.FILED, by, request.why, _timestamp(now))
        review.add_review(self._catalog.connection, file, decision, page.arrival.id)
        self._context.store.sync()
        self._catalog.commit()
        self._context.step_done("identified")
        self._filer.carry_out()
        paths = ", ".join(sheet.path for sheet in filed.sheets)
        message = f"{file}: filed as {paths}, identified by {' and '.join(agreed.by)}"
        return Answer(True, message, queue.NOW_FILED)

    def _next_version(self, frame: int, entry: RegistryEntry, extension: str) -> FiledSheet:
        version = self._catalog.latest_version(entry.sheet) + 1
        election = self._context.settings.election.id
        path = layout.path(election, entry.sheet, version, extension)
        return FiledSheet(frame, entry, version, path)

    def _page(self, file: str, note: QuarantineNote) -> Page:
        path = self._site / QUARANTINE / file
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != note.sha256:
            raise ValueError(f"{file}: its bytes have changed in quarantine, run `ssps verify`")
        form = format_of(content)
        if form is None:
            raise ValueError(f"{file}: is neither JPEG, PNG, TIFF nor PDF, reject it")
        now, stamp = self._context.clock(), Stamp.of(path.lstat())
        identity = arrival_id(now, self._context.token())
        arrival = Arrival(identity, note.name, Source(str(path.parent), file), stamp, now)
        self._context.store.stage(identity, content)
        return Page(arrival, stamp, note.sha256, ReadResult(form, frames=note.frames))

    # Trees.

    def _rebuild(self, request: Request) -> Answer:
        name, last = request.text("party"), request.detail.get("upto")
        folders = request.detail.get("folders")
        party = next((party for party in self._context.mirroring_parties if party.id == name), None)
        if party is None or not isinstance(last, int) or not isinstance(folders, list):
            raise ValueError(f"{name}: no party with this id has a tree, see `ssps party list`")
        staged = rebuild.StagedTree(last, tuple(folders))
        filed_since = self._catalog.filings_after(last)
        rebuild.put_in_place(self._site, party, staged, filed_since, self._context.store)
        self._context.step_done("put in place")
        self._catalog.mark_tree_incomplete(name)
        self._catalog.mark_tree_complete(name, str(party.scope))
        self._catalog.commit()
        return Answer(True, f"the tree of {name} was put in place")

    def _repair(self, request: Request) -> Answer:
        lines = request.detail.get("repairs")
        repairs = [Repair.parse(line) for line in lines if lines] if isinstance(lines, list) else []
        failed = self._repairer.repair_all(repairs)
        summary = f"{len(repairs) - len(failed)} of {len(repairs)} repaired"
        return Answer(not failed, "\n".join([summary, *map(failed_line, failed)]))

    def _held(self, request: Request) -> str:
        file = request.text("file")
        if "/" in file or file.startswith(".") or not self._context.quarantine.holds(file):
            raise ValueError(f"{file}: is not in quarantine, see `ssps desk list`")
        return file

    def _note(self, file: str) -> QuarantineNote:
        path = Path(self._site / QUARANTINE / f"{file}.json")
        try:
            return parse_note(path.read_bytes())
        except (FileNotFoundError, ValueError):
            raise ValueError(f"{path.name}: missing or not a note, run `ssps verify`") from None


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _already_reviewed(request: Request, file: str, reviewed: Review) -> Answer:
    message = f"{file}: {reviewed.outcome} by {reviewed.who}, {reviewed.why}"
    return Answer(reviewed.id == request.id, message, queue.DECIDED)


def _refused_at_the_desk(
    request: Request, file: str, known: Sequence[Identification], reviewed: Review | None = None
) -> Answer | None:
    """Return why an account may not identify or reject a file now, None if it may."""
    who = request.by[0]
    accounts = [each for each in known if review.is_account(each.who)]
    own = next((each for each in accounts if each.who == who), None)
    if own is not None and own.id == request.id:
        return None  # handled before a crash, and not answered
    if review.in_dispute(accounts):
        return Answer(False, f"{file}: accounts differ, a supervisor decides", queue.DISPUTED)
    if own is not None and len(accounts) > 1:
        message = f"{file}: another account has identified it after {who}, nothing can be changed"
        return Answer(False, message, queue.CHANGED)
    if "step" in request.detail and request.text("step") != review.step_of(accounts, reviewed):
        message = f"{file}: another account has identified it meanwhile, look at it again"
        return Answer(False, message, queue.CHANGED)
    return None
