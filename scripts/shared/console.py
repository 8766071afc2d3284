"""What every command shares: the `--site` and `--why` options, error output, the operator's name.

A command prints results on stdout and messages on stderr. A `Faults` exception is printed as one
line per fault, `file: key: message`, and the exit code is 1.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from click.types import StringParamType
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from config.fault import Fault, Faults
from config.site import LEDGERS, OPERATIONS, SITE_TOML
from keys.ledger import writer
from keys.operations import change_record, keys_record, server_state
from keys.operations.change_record import ChangeRecord
from scripts.shared import login, signing

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
_SITE = "ssps.site"
SITE_HELP = "The site's folder. Default: $SSPS_SITE."
# Name and address of the operator of the staff site for whom this process runs a command.
_ACTING: ContextVar[tuple[str, str] | None] = ContextVar("acting", default=None)
# What a command reports in a line instead of a traceback.
EXPECTED_ERRORS = (
    Faults,
    writer.LedgerBusy,
    writer.Unwritable,
    server_state.AlreadyRunning,
    OSError,
)
_LOCK_TIMEOUT = 60.0  # seconds to wait for another operator's command; each takes about one


def set_site(site: Path | None) -> None:
    """Remember the `--site` given before the command's name."""
    click.get_current_context().meta[_SITE] = site


def _optional_site(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    if value is None:
        value = ctx.meta.get(_SITE)
    if value is None and os.environ.get("SSPS_SITE"):
        value = Path(os.environ["SSPS_SITE"])
    return value.absolute() if value else None


def _required_site(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    return existing_site(_optional_site(ctx, param, value))


def existing_site(site: Path | None) -> Path:
    """Return the site that is given; raise UsageError if it is none, or not a site."""
    if site is None:
        raise click.UsageError("no site given: use --site DIR or SSPS_SITE")
    if not (site / SITE_TOML).exists():
        raise click.UsageError(f"{site} is not a site (no site.toml): create one with `ssps init`")
    return site


def _site_option(callback: Callable[..., Path | None]) -> Callable[[F], F]:
    return click.option(
        "--site",
        metavar="DIR",
        type=click.Path(path_type=Path),
        callback=callback,
        help=SITE_HELP,
    )


def with_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--site`; it receives `site`, the absolute path of an existing site."""
    return print_faults(_site_option(_required_site)(command))


def with_optional_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--site`; the command receives `site`, or None if no site is given."""
    return print_faults(_site_option(_optional_site)(command))


def default_command(command: str) -> type[click.Group]:
    """Return a group class that runs `command` if the first word is not one of its commands."""

    class DefaultCommandGroup(click.Group):
        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            known = args and (args[0] in self.commands or args[0].startswith("-"))
            return super().resolve_command(ctx, args if known else [command, *args])

    return DefaultCommandGroup


def with_new_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command DIR and `--site`; the command receives `site`, the path for a new site."""

    @wraps(command)
    def checked(*args: Any, **kwargs: Any) -> R:
        folder: Path | None = kwargs.pop("folder")
        site = folder.absolute() if folder else kwargs["site"]
        if site is None:
            raise click.UsageError("no folder given: name one that is empty or does not exist yet")
        return command(*args, **{**kwargs, "site": site})

    argument = click.argument(
        "folder", metavar="DIR", required=False, type=click.Path(path_type=Path)
    )
    return print_faults(argument(_site_option(_optional_site)(checked)))


def print_faults(command: Callable[P, R]) -> Callable[P, R]:
    """Print expected errors on stderr, one per line, and exit with 1 instead of a traceback."""

    @wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except EXPECTED_ERRORS as error:
            for line in error_lines(error):
                click.echo(line, err=True)
        sys.exit(1)

    return reporting


def error_lines(error: Exception) -> list[str]:
    """Return the lines that say what is wrong, of one of EXPECTED_ERRORS."""
    if isinstance(error, Faults):
        return [str(fault) for fault in error.faults]
    if isinstance(error, OSError):
        return [f"{error.filename or 'this machine'}: {error.strerror or error}"]
    return [str(error)]


def fault(file: str, key: str, message: str) -> Faults:
    """Return a Faults exception with one fault, to raise."""
    return Faults([Fault(file, key, message)])


def operator() -> str:
    """Return the name of the account at the keyboard (scripts/shared/login).

    A process that acts for an operator of the staff site has that operator's name.
    """
    acting = _ACTING.get()
    return login.account() if acting is None else acting[0]


def act_for(name: str, address: str) -> None:
    """Let this process act for an operator of the staff site (scripts/staff_command)."""
    _ACTING.set((name, address))


def origin() -> str:
    """Return from where the operator acts: this machine, or an address at the staff site."""
    acting = _ACTING.get()
    return socket.gethostname() if acting is None else acting[1]


_WHY_NEEDED = "give a reason: it is recorded together with your name"


class _NonEmptyText(StringParamType):
    """A text that is not blank."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail(_WHY_NEEDED, param, ctx)
        return str(value).strip()

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        return _WHY_NEEDED


WHY_TEXT = _NonEmptyText()


def why_option(help: str = "The reason, for the record.") -> Callable[[F], F]:
    """Give a command the required option `--why`. Every command that changes something has it."""
    return click.option("--why", required=True, type=WHY_TEXT, help=help)


@contextmanager
def recorded_change(site: Path, command: str, what: str, why: str) -> Iterator[ChangeRecord]:
    """Lock the operations ledger, record one change in it, sign it (keys/operations/change_record).

    In the body: set `before` of the record, call its `done(after)`, then make the change. Raises
    writer.Busy if another operator's command holds the lock for more than a minute.
    """
    with (
        writer.Ledger(site / LEDGERS / OPERATIONS, wait_seconds=_LOCK_TIMEOUT) as operations,
        signing.sign_after(site, OPERATIONS, operations),
    ):
        who, here = operator(), origin()
        if keys_record.rings_to_adopt(site):
            keys_record.record_if_changed(operations, site, who, here, f"found by {command}")
        with change_record.record_change(operations, command, who, here, what, why) as record:
            yield record


def progress_bar(description: str, total: int) -> tuple[Progress, Callable[[int], None]]:
    """Return a progress bar to use in a `with`, and a function that takes the bytes read so far."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not (err.is_terminal and total),
    )
    task = bar.add_task(description, total=total)
    return bar, lambda read: bar.update(task, completed=read)


def print_message_for(party: str, turkish: str, english: str) -> None:
    """Print what the operator should tell the party, by telephone or letter, in both languages."""
    click.echo(f"\ntell {party}:\n  {turkish}\n  {english}", err=True)


def utc_now() -> datetime:
    """Return the time to the second, the precision of key files."""
    return datetime.now(UTC).replace(microsecond=0)
