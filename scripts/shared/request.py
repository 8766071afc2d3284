"""What the commands share that ask something of the publisher, running or not."""

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from config import load
from config.event import Value
from config.settings import Settings
from config.site import REQUESTS
from keys.ledger import writer
from publisher.page import arrival_id
from publisher.publish import handle_requests
from publisher.requests import queue
from publisher.requests.queue import Answer, Request
from scripts.shared import console

_ANSWER_TIMEOUT = 60.0
_POLL_INTERVAL = 0.1
_UNANSWERED = "the publisher has not answered, and may do it later: the filing ledger tells"


@dataclass(frozen=True)
class RequestedChange:
    """A command that the publisher carries out; `stands` says how it stands with `what`.

    It is asked before, with None, and with the answer that there was.
    """

    command: str
    what: str
    why: str
    describe_state: Callable[[Answer | None], Value]


def send(site: Path, kind: str, change: RequestedChange, detail: Mapping[str, Value]) -> Answer:
    """Have one errand carried out and return the answer.

    That it is asked for is in the operations ledger first, and what became of it afterwards.
    Raises Faults if the publisher, which runs, does not answer within a minute; it does so later.
    """
    identity = arrival_id(writer.utc_now(), secrets.token_hex(4))
    by = (console.operator(),)
    request = Request(identity, kind, by, socket.gethostname(), change.why, detail)
    settings = load.load(site)
    before = change.describe_state(None)
    named: dict[str, Value] = {"errand": identity}
    with console.recorded_change(site, change.command, change.what, change.why) as record:
        record.before = before
        asked = record.requested({**detail, **named})
    answer = None
    try:
        queue.submit(site, request)
        answer = _wait_for_answer(site, settings, identity)
    finally:  # whatever it ends with
        after = change.describe_state(answer) if answer else None
        with console.recorded_change(site, change.command, change.what, change.why) as record:
            record.before, record.follows = before, asked
            if answer is None:
                record.failed(_UNANSWERED, named)
            elif answer.done:
                record.done(after, {**named, "said": answer.message})
            elif kind == queue.REPAIR:  # some of it
                record.failed(answer.message, {**named, "after": after})
            else:
                record.refused(answer.message, named)
    return answer


def _wait_for_answer(site: Path, settings: Settings, identity: str) -> Answer:
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while (answer := queue.take_answer(site, identity)) is None:
        try:
            handle_requests(settings, stop=threading.Event())
        except writer.LedgerBusy:
            if time.monotonic() > deadline:
                message = "the publisher is busy and will answer later, look again before repeating"
                raise console.fault(str(REQUESTS / f"{identity}.json"), "", message) from None
            time.sleep(_POLL_INTERVAL)
    return answer


def print_answer(answer: Answer) -> None:
    """Print an answer, as an error if it was not done."""
    click.echo(answer.message, err=not answer.done)


def print_answer_or_exit(answer: Answer) -> None:
    """Print an answer; exit with 1 if it was not done."""
    print_answer(answer)
    if not answer.done:
        raise SystemExit(1)
