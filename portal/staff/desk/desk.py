"""The desk of one staff site: what its pages share between requests, and keep in memory."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog

from keys.operations.change_record import account
from portal.staff.desk.held import Case, HeldPages
from portal.staff.desk.leases import Leases
from portal.staff.desk.neighbours import Neighbour, nearest_board, neighbours
from portal.staff.desk.queue import Board, Queue
from portal.staff.desk.requests import Requests
from portal.staff.desk.sheets import SheetFacts, sheet_facts
from portal.staff.desk.suggestions import Suggestion, suggest
from publisher.database import Unreachable
from publisher.page import Reading, ReadResult
from publisher.reading.protocol import parse_result
from publisher.reading.reread_task import parse_settings

_LOOK_AGAIN = 5.0  # seconds between two looks for new pages while nobody asks
_INTERVAL = 0.25  # seconds between two looks at the publisher's answers
_GUESS_AGAIN = 60.0  # seconds after which a board is looked for again
_GUESSES_AT_ONCE = 50  # beside the requests of operators; in a request fewer
_GUESSES_IN_A_REQUEST = 12

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Looked:
    """All that the desk knows about one page."""

    case: Case
    beside: list[Neighbour]
    suggestions: list[Suggestion]
    board: Board | None


@dataclass
class Desk:
    """The desk of one staff site; any thread may call it."""

    site: Path
    clock: Callable[[], datetime]
    held: HeldPages = field(init=False)
    requests: Requests = field(init=False)
    leases: Leases = field(init=False)
    _boards: dict[str, tuple[Board | None, float]] = field(default_factory=dict)
    _guessed: bool = False  # there may be more to guess at once
    _look_again: float = 0.0

    def __post_init__(self) -> None:
        self.held = HeldPages(self.site)
        self.requests = Requests(self.site, self.clock)
        self.leases = Leases(time.monotonic)

    async def follow(self) -> None:
        """Take up the publisher's answers until the task is cancelled."""
        adopted = False
        while True:
            try:
                if not adopted:
                    await asyncio.to_thread(self.requests.adopt)
                    adopted = True
                await asyncio.to_thread(self._work)
                wait = _INTERVAL
            except Exception as error:
                trace = not isinstance(error, Unreachable)
                _log.error("desk-task-failed", cause=str(error), exc_info=trace)
                wait = _LOOK_AGAIN
            await asyncio.sleep(wait)

    def _work(self) -> None:
        self.requests.poll()
        now = time.monotonic()
        if self._guessed or now >= self._look_again:
            self._look_again = now + _LOOK_AGAIN
            self._guess_boards(self.held.cases(), _GUESSES_AT_ONCE)

    def queue(self, user: str) -> Queue:
        """Return the queue as an operator sees it now."""
        self.requests.poll()
        cases = self.held.cases()
        self._guess_boards(cases, _GUESSES_IN_A_REQUEST)
        waiting = frozenset(sent.file for sent in self.requests.waiting())
        return Queue(cases, account(user), self.clock(), self.board_of, waiting)

    def look(self, case: Case, facts: SheetFacts) -> Looked:
        """Return what is beside a page, and which sheets it may show."""
        beside = neighbours(facts.catalog, case.page, facts.lookup)
        board = nearest_board(beside)
        readings = (*case.page.codes, *self._read_again(case))
        if board is None:
            serials = (facts.lookup(reading.text) for reading in readings)
            board = next(
                (
                    (entry.sheet.cevre, entry.sheet.kurul)
                    for entry in serials
                    if entry and entry.sheet.cevre and entry.sheet.kurul
                ),
                None,
            )
        missing = facts.missing(*board) if board else []
        found = suggest(readings, beside, missing, facts.lookup, facts.versions)
        return Looked(case, beside, found, board)

    def board_of(self, case: Case) -> Board | None:
        """Return the board that a page probably belongs to, as far as it was looked for."""
        return self._boards.get(case.page.file, (None, 0.0))[0]

    def _read_again(self, case: Case) -> tuple[Reading, ...]:
        seen = self.reread(case.page.file)
        return seen.readings if seen is not None and seen.fault is None else ()

    def reread(self, file: str) -> ReadResult | None:
        """Return what was read when an operator had a page read again, None if it was not."""
        sent = self.requests.reread(file)
        if sent is None or sent.answer is None:
            return None
        try:
            seen = parse_result(sent.answer.message.encode())
            settings = parse_settings(str(sent.request.detail.get("settings")))
        except ValueError:
            return None
        return replace(seen, readings=tuple(replace(r, frame=settings.page) for r in seen.readings))

    def _guess_boards(self, cases: list[Case], most: int) -> None:
        now = time.monotonic()
        due = [
            case
            for case in cases
            if (known := self._boards.get(case.page.file)) is None
            or (known[0] is None and now - known[1] > _GUESS_AGAIN)
        ][:most]
        self._guessed = len(due) == most
        if not due:
            return
        with sheet_facts(self.site) as facts:
            for case in due:
                beside = neighbours(facts.catalog, case.page, facts.lookup)
                self._boards[case.page.file] = nearest_board(beside), now
