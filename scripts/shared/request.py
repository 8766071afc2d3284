"""Asks the publisher, which alone writes catalog, trees and filing ledger, to make a change.

The steps are those of scripts/shared/change, with two differences. The command does not make the
change: it puts a request into `state/errands` and waits for the answer; if no publisher is
running, it handles the request itself. And the operations ledger cannot stay locked for that long,
so there are two records: `asked` before the request, and the command's own with the outcome.
"""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from config import load
from config.event import Value
from config.settings import Settings
from config.site import FILING, REQUESTS, ledger_name
from keys.ledger import writer
from publisher.page import arrival_id
from publisher.publish import handle_requests
from publisher.requests import queue
from publisher.requests.queue import Answer, Request
from scripts.shared import change as change_
from scripts.shared import console, signing

_ANSWER_TIMEOUT = 60.0  # seconds
_POLL_INTERVAL = 0.1
_UNANSWERED = (
    "no answer from the publisher yet; if it still carries this out, the filing ledger shows it"
)


@dataclass(frozen=True)
class RequestedChange:
    """A change that the publisher makes; `what` is what it changes.

    `describe_state` returns the record's `before` if it is called with None, and the record's
    `after` if it is called with the publisher's answer.
    """

    command: str
    what: str
    why: str
    describe_state: Callable[[Answer | None], Value]


def send(
    site: Path,
    kind: str,
    change: RequestedChange,
    detail: Mapping[str, Value],
    mode: change_.Mode = change_.Mode(),  # noqa: B008 - frozen
) -> Answer:
    """Send one request to the publisher, record it and its outcome, and return the answer.

    Raises Faults if a running publisher does not answer within a minute; it may still carry it out
    later.
    """
    if mode.dry_run:
        change_.show([f"{change.what}: now {_shown(change.describe_state(None))}"])
        change_.note_outcome(what=change.what)
        return Answer(True, f"dry run: the publisher was not asked: {kind} {_shown_detail(detail)}")
    identity = arrival_id(writer.utc_now(), secrets.token_hex(4))
    by = (console.operator(),)
    request = Request(identity, kind, by, console.origin(), change.why, detail)
    settings = load.load(site)
    named: dict[str, Value] = {"errand": identity}
    with console.recorded_change(site, change.command, change.what, change.why) as record:
        record.before = before = change.describe_state(None)
        asked = record.requested({**detail, **named})
    answer = None
    try:
        queue.submit(site, request)
        answer = _wait_for_answer(site, settings, identity)
    finally:  # an error is recorded too
        after = change.describe_state(answer) if answer else None
        with console.recorded_change(site, change.command, change.what, change.why) as record:
            record.before, record.follows = before, asked
            if answer is None:
                record.failed(_UNANSWERED, named)
            elif answer.done:
                record.done(after, {**named, "said": answer.message})
                change_.note_outcome(what=change.what, changed=True, before=before, after=after)
            elif kind == queue.REPAIR:  # some repairs may have been made
                record.failed(answer.message, {**named, "after": after})
            else:
                record.refused(answer.message, named)
    return answer


def _shown(value: Value) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _shown_detail(detail: Mapping[str, Value]) -> str:
    return " ".join(f"{key}={_shown(value)}" for key, value in detail.items())


def _wait_for_answer(site: Path, settings: Settings, identity: str) -> Answer:
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    while (answer := queue.take_answer(site, identity)) is None:
        try:
            _handle_in_place_of_publisher(settings)
        except writer.LedgerBusy:  # a publisher is running
            if time.monotonic() > deadline:
                message = "the publisher is busy and will answer later: check before you repeat it"
                raise console.fault(str(REQUESTS / f"{identity}.json"), "", message) from None
            time.sleep(_POLL_INTERVAL)
    return answer


def _handle_in_place_of_publisher(settings: Settings) -> None:
    """Carry out the pending requests and sign the records; raise LedgerBusy beside a publisher."""
    ledger = ledger_name(FILING, settings.host)
    signing.mark_unconfirmed(settings.site, ledger, at_once=True)
    handle_requests(settings, stop=threading.Event())
    signing.sign_if_free(settings.site, ledger)


def print_answer(answer: Answer) -> None:
    """Print an answer; on stderr if the request was refused or failed."""
    click.echo(answer.message, err=not answer.done)


def print_answer_or_exit(answer: Answer) -> None:
    """Print an answer; exit with 1 if the request was refused or failed."""
    print_answer(answer)
    if not answer.done:
        raise SystemExit(1)
