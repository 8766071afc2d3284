"""What the commands share that ask something of the publisher, running or not."""

import secrets
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import click

from config import load
from config.event import Value
from keys import ledger
from publisher import errands
from publisher.errands import Answer, Errand
from publisher.page import arrival_id
from publisher.publish import attend
from scripts import console

_PATIENCE = 60.0
_PAUSE = 0.1


def send(site: Path, kind: str, why: str, detail: Mapping[str, Value]) -> Answer:
    """Have one errand carried out and return the answer.

    It is in the operations ledger first. Raises Faults if the publisher, which runs, does not
    answer within a minute; it does so later.
    """
    identity = arrival_id(ledger.utc_now(), secrets.token_hex(4))
    errand = Errand(identity, kind, (console.operator(),), socket.gethostname(), why, detail)
    settings = load.load(site)
    with console.operating(site) as record:
        record(f"errand {kind}", identity, {**detail, "why": why})
    errands.ask(site, errand)
    until = time.monotonic() + _PATIENCE
    while (answer := errands.answered(site, identity)) is None:
        try:
            attend(settings, stop=threading.Event())
        except ledger.Busy:
            if time.monotonic() > until:
                message = "the publisher is busy and will answer later, look again before repeating"
                raise console.fault(str(errands.FOLDER / f"{identity}.json"), "", message) from None
            time.sleep(_PAUSE)
    return answer


def show(answer: Answer) -> None:
    """Print an answer; exit with 1 if it was not done."""
    click.echo(answer.said, err=not answer.done)
    if not answer.done:
        raise SystemExit(1)
