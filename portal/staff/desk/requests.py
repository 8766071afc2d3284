"""Sends what operators decide to the publisher, and follows what becomes of it.

Only the publisher writes catalog, trees and filing ledger (publisher/requests/queue). So that an
operator need not wait for it:

1. The operations ledger gets an `asked` record, with account, address and reason.
2. The request is written for the publisher, durably. The operator goes on with the next page.
3. When the publisher has answered, the operations ledger gets the record of what became of it, and
   the operator sees it among his latest actions.

If no publisher runs, requests wait, and the pages of the desk say so. If this process is killed,
the next one goes on with step 3. A confined process has its broker write records and requests.
"""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import structlog

from config.event import Value
from config.site import LEDGERS, OPERATIONS
from keys.ledger import segments
from keys.ledger.writer import Ledger, LedgerBusy, Unwritable
from keys.operations import server_state
from keys.operations.change_record import ASKED, ChangeRecord, record_change
from portal import broker_client
from publisher.catalog.decisions import review
from publisher.page import ID_LENGTH, arrival_id
from publisher.reading.protocol import parse_result
from publisher.requests import queue
from publisher.requests.queue import Answer, Request

COMMANDS = {
    queue.IDENTIFY: "desk identify",
    queue.REJECT: "desk reject",
    queue.RULE: "desk rule",
    queue.RESCAN: "desk rescan",
    queue.REREAD: "desk reread",
}
_KEPT = 50  # latest actions of each account
_LOCK_SECONDS = 5.0  # to wait for a command that holds the operations ledger

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Sent:
    """A request of an account about one page, and the publisher's answer once it is there."""

    request: Request
    at: datetime
    answer: Answer | None = None

    @property
    def file(self) -> str:
        """The page that it is about."""
        return str(self.request.detail.get("file", ""))

    @property
    def name(self) -> str:
        """The name of that file without the id of its arrival."""
        return self.file[ID_LENGTH + 1 :] or self.file

    @property
    def who(self) -> str:
        """The account, written as in records."""
        return self.request.by[0]


@dataclass
class Requests:
    """The requests of one staff site; any thread may call it."""

    site: Path
    clock: Callable[[], datetime]
    _open: dict[str, Sent] = field(default_factory=dict)
    _latest: dict[str, deque[Sent]] = field(default_factory=dict)
    _rereads: dict[str, Sent] = field(default_factory=dict)  # the last one of each page
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def new_identity(self) -> str:
        """Return the identity of a request that is to be sent."""
        return arrival_id(self.clock(), secrets.token_hex(4))

    def send(
        self,
        identity: str,
        kind: str,
        who: str,
        origin: str,
        why: str,
        detail: Mapping[str, Value],
        before: Value,
    ) -> Sent:
        """Record a request and send it; raises LedgerBusy, Unwritable and OSError."""
        sent = Sent(Request(identity, kind, (who,), origin, why, detail), self.clock())
        with self._lock:
            if broker_client.in_use():
                broker_client.ask("submit_errand", *_words(sent.request), before)
            else:
                record_and_submit(self.site, self.clock, sent.request, before)
            self._open[identity] = sent
        return sent

    def waiting(self) -> list[Sent]:
        """Return the requests that have no answer yet, oldest first."""
        with self._lock:
            return list(self._open.values())

    def waiting_for(self, file: str) -> list[Sent]:
        """Return the requests about one page that are not answered yet."""
        return [sent for sent in self.waiting() if sent.file == file]

    def latest(self, who: str) -> list[Sent]:
        """Return the latest actions of an account, the newest first, answered or not."""
        with self._lock:
            mine = [sent for sent in self._open.values() if sent.who == who]
            return [*mine[::-1], *self._latest.get(who, ())]

    def reread(self, file: str) -> Sent | None:
        """Return the last request to read a page again."""
        with self._lock:
            for sent in reversed(self._open.values()):
                if sent.file == file and sent.request.kind == queue.REREAD:
                    return sent
            return self._rereads.get(file)

    def poll(self) -> int:
        """Take up the publisher's answers; return how many there were."""
        with self._lock:
            answered = [
                (sent, answer)
                for sent in self._open.values()
                if (answer := queue.read_answer(self.site, sent.request.id)) is not None
            ]
            count = 0
            for sent, answer in answered:
                try:
                    self._finish(replace(sent, answer=answer), answer)
                except (LedgerBusy, Unwritable, OSError) as error:
                    _log.warning("desk-answer-not-recorded", cause=str(error))
                    break
                count += 1
            return count

    def adopt(self) -> None:
        """Take up what an earlier process has sent and not followed to the end."""
        with self._lock:
            for request in queue.pending(self.site):
                if review.is_account(request.by[0]):
                    self._open.setdefault(request.id, Sent(request, self.clock()))
            unknown = set(queue.answered(self.site)) - set(self._open)
            folder = self.site / LEDGERS / OPERATIONS
            if not unknown or not folder.exists():
                return
            kinds = {command: kind for kind, command in COMMANDS.items()}
            for record in segments.read_records(folder):
                event, detail = record.event, record.event.detail
                kind = kinds.get(str(detail.get("command")))
                identity = str(detail.get("errand"))
                if (
                    event.event == ASKED
                    and kind
                    and identity in unknown
                    and review.is_account(event.who)
                ):
                    why = str(detail.get("why", ""))
                    asked = Request(identity, kind, (event.who,), event.origin, why, detail)
                    self._open[identity] = Sent(asked, record.time)

    def is_running(self) -> bool:
        """Return whether a publisher runs, which answers requests."""
        return bool(server_state.running(self.site, server_state.PUBLISH))

    def _finish(self, sent: Sent, answer: Answer) -> None:
        request = sent.request
        if broker_client.in_use():
            broker_client.ask("finish_errand", *_words(request))
        else:
            record_answer(self.site, self.clock, request, answer)
        del self._open[request.id]
        self._latest.setdefault(sent.who, deque(maxlen=_KEPT)).appendleft(sent)
        if request.kind == queue.REREAD:
            self._rereads.pop(sent.file, None)
            self._rereads[sent.file] = sent
            while len(self._rereads) > 1000:
                del self._rereads[next(iter(self._rereads))]


def record_and_submit(
    site: Path, clock: Callable[[], datetime], request: Request, before: Value
) -> None:
    """Record a request, and write it for the publisher."""
    with _recording(site, clock, request) as record:
        record.before = before
        record.requested({**request.detail, "errand": request.id})
        queue.submit(site, request)


def record_answer(
    site: Path, clock: Callable[[], datetime], request: Request, answer: Answer
) -> None:
    """Record what became of a request, and remove the answer."""
    detail: dict[str, Value] = {"errand": request.id, "cause": answer.cause or None}
    with _recording(site, clock, request) as record:
        if answer.done:
            record.done(_recorded(request, answer), detail)
        elif answer.cause == queue.UNREADABLE:
            record.failed(answer.message, detail)
        else:
            record.refused(answer.message, detail)
    queue.forget_answer(site, request.id)


@contextmanager
def _recording(
    site: Path, clock: Callable[[], datetime], request: Request
) -> Iterator[ChangeRecord]:
    command, (who,) = COMMANDS[request.kind], request.by
    file = str(request.detail.get("file", ""))
    with (
        Ledger(site / LEDGERS / OPERATIONS, clock, _LOCK_SECONDS) as operations,
        record_change(operations, command, who, request.origin, file, request.why) as record,
    ):
        yield record


def _words(request: Request) -> tuple[str, str, str, str, str, Mapping[str, Value]]:
    """Return the request as a confined staff site sends it to its broker."""
    return request.id, request.kind, request.by[0], request.origin, request.why, request.detail


def _recorded(request: Request, answer: Answer) -> Value:
    """Return what an answer says, for the record."""
    if request.kind == queue.REREAD:
        with suppress(ValueError):
            return list(parse_result(answer.message.encode()).texts)
    return answer.message
