"""Carries out one change to a site: the steps that every changing command goes through.

    preview   read the current state, plan the change, print it; `--dry-run` stops here
    confirm   ask the operator, if the change affects every client of a party or of the server
    record    lock the operations ledger, read the state again, record before and after
    apply     write the files while the ledger is still locked
    wait      until the running server reports that it uses the new state
    report    print the outcome on stderr

The state that a change starts from is read once, under the lock, so that two operators who work
at the same time cannot overwrite each other's change. What the operator confirmed is compared with
the plan that is made under the lock; if the site has changed in between, nothing is done.

A change that only the publisher may make goes through scripts/shared/request, in the same steps;
`ssps verify --repair` is one. Two commands record what they do without these steps: `ssps init`
makes a site where there was none, so there is no state to lock or to compare, and `ssps export`
changes nothing in the site; it writes its record when a bag is complete.
"""

import io
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

import click

from config.event import Value
from keys.operations.change_record import ChangeRecord
from scripts.shared import console

P = ParamSpec("P")
R = TypeVar("R")
State = TypeVar("State")

_DRY_RUN_HELP = "Show what would change, and change nothing."
_JSON_HELP = "Print one JSON object with what was changed."
_OUTCOME = "ssps.outcome"
_UNCHANGED = "nothing has changed"
_MOVED_ON = "the site has changed since the preview: give the command again"


@dataclass(frozen=True)
class Mode:
    """How far a command goes: `dry_run` only shows the change, `ask` asks before it is made."""

    dry_run: bool = False
    ask: bool = False


def mode_options(*, ask: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a command `--dry-run` and `--json`, and `--yes` if it asks; the command receives `mode`.

    With `--json` the command prints one object when it is done: what was changed, whether a server
    uses it already, the preview, and as `printed` what it prints on stdout otherwise, such as a new
    password.

    `--apply` is the older name of `--yes`, which scripts of operators may still use.
    """

    def decorated(command: Callable[P, R]) -> Callable[P, R]:
        @wraps(command)
        def with_mode(*args: P.args, **kwargs: P.kwargs) -> R:
            dry_run, yes = kwargs.pop("dry_run"), kwargs.pop("yes", False)
            agreed = bool(kwargs.pop("apply", False)) or bool(yes)
            as_json = kwargs.pop("as_json")
            kwargs["mode"] = Mode(bool(dry_run), ask and not agreed)
            if not as_json:
                return command(*args, **kwargs)
            with _outcome_as_json(bool(dry_run)):
                return command(*args, **kwargs)

        found: Callable[P, R] = with_mode
        if ask:
            found = click.option("--apply", is_flag=True, hidden=True, help="Same as --yes.")(found)
            found = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(found)
        found = click.option("--json", "as_json", is_flag=True, help=_JSON_HELP)(found)
        return click.option("--dry-run", is_flag=True, help=_DRY_RUN_HELP)(found)

    return decorated


@contextmanager
def _outcome_as_json(dry_run: bool) -> Iterator[None]:
    """Print one JSON object on stdout with what the body did, also if it exits with an error."""
    context = click.get_current_context()
    outcome = context.meta[_OUTCOME] = {"dry_run": dry_run, "changed": False}
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        outcome["printed"] = printed.getvalue().splitlines()
        command = context.command_path.split(" ", 1)[-1]
        click.echo(json.dumps({"command": command, **outcome}, ensure_ascii=False))


def note_outcome(**fields: object) -> None:
    """Add fields to the object that `--json` prints; nothing happens without `--json`."""
    context = click.get_current_context(silent=True)
    if context is not None:
        context.meta.get(_OUTCOME, {}).update(fields)


@dataclass(frozen=True)
class Plan(Generic[State]):
    """A change that is decided and not made yet.

    `preview` are lines for the operator. `describe` returns the record's `after`; it is called
    under the lock, just before the record is written. `apply` makes the change.
    """

    new: State
    preview: Sequence[str]
    describe: Callable[[], Value]
    apply: Callable[[], object]
    detail: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Applied(Generic[State]):
    """A change that was made. `in_force` is False if no server is running to use it."""

    old: State
    new: State
    in_force: bool = False


class Change(ABC, Generic[State]):
    """One change of one thing: `what` is a party's id or a folder, `command` names the record."""

    def __init__(self, command: str, what: str, why: str) -> None:
        self.command, self.what, self.why = command, what, why

    @abstractmethod
    def read(self) -> State:
        """Return the current state."""

    @abstractmethod
    def describe(self, old: State) -> Value:
        """Return the record's `before`."""

    @abstractmethod
    def plan(self, old: State) -> Plan[State] | None:
        """Return what to do, None if there is nothing to do; Faults says why it cannot be done."""

    def show(self, preview: Sequence[str]) -> None:
        """Print a preview, on stderr unless it is what the command is asked for."""
        show(preview)

    def record_first(self, record: ChangeRecord, old: State) -> None:
        """Record what has to be on record before the change itself."""

    def wait(self, new: State) -> bool:
        """Wait until the server uses the new state; False if none runs, Faults if it does not."""
        return False


def carry_out(
    site: Path, change: Change[State], mode: Mode, made: Callable[[], object] = lambda: None
) -> Applied[State] | None:
    """Go through all steps; return None if nothing was changed.

    `made` is as for `apply`.
    """
    confirmed = None
    if mode.dry_run or mode.ask:
        plan = change.plan(change.read())
        if plan is None:
            return None
        confirmed = plan.preview
        change.show(confirmed)
        note_outcome(what=change.what, preview=list(confirmed))
        if not may_apply(mode):
            return None
    done = apply(site, change, confirmed, made=made)
    if done is None:
        return None
    in_force = change.wait(done.new)
    note_outcome(in_force=in_force)
    return Applied(done.old, done.new, in_force)


def may_apply(mode: Mode) -> bool:
    """Return whether to make the change, after asking the operator if `mode` says so."""
    if mode.dry_run:
        click.echo(f"dry run: {_UNCHANGED}", err=True)
        return False
    if not mode.ask:
        return True
    if not _on_a_terminal():
        click.echo(f"{_UNCHANGED}: give --yes to apply this", err=True)
        return False
    if click.confirm("Apply this?", err=True):
        return True
    click.echo(_UNCHANGED, err=True)
    return False


def _on_a_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def apply(
    site: Path,
    change: Change[State],
    confirmed: Sequence[str] | None = None,
    *,
    quiet: bool = False,
    made: Callable[[], object] = lambda: None,
) -> Applied[State] | None:
    """Record and make the change, and do not wait for the server.

    `confirmed` is the preview that the operator has seen; without it, it is printed here. `made` is
    called once the change is made, also if something fails after it, such as signing the record or
    waiting for the server: it prints what cannot be printed later, such as a new password.
    """
    after: Value = None
    applied = False
    try:
        with console.recorded_change(site, change.command, change.what, change.why) as record:
            old = change.read()
            record.before = change.describe(old)
            plan = change.plan(old)
            if plan is None:
                return None
            if confirmed is None and not quiet:
                change.show(plan.preview)
            if confirmed is not None and list(plan.preview) != list(confirmed):
                raise console.fault(change.what, "", _MOVED_ON)
            change.record_first(record, old)
            after = plan.describe()
            record.done(after, plan.detail)
            plan.apply()
            applied = True
    finally:
        if applied:
            note_outcome(what=change.what, changed=True, before=record.before, after=after)
            made()
    return Applied(old, plan.new)


def show(preview: Sequence[str]) -> None:
    """Print the lines of a preview on stderr."""
    for line in preview:
        click.echo(line, err=True)
