"""What every command shares: `--site`, faults on the screen, and the operator's record."""

import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
from keys.operations import change_record, server_state
from keys.operations.change_record import ChangeRecord
from scripts.shared import signer_process

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
_SITE = "ssps.site"
_NO_LOGIN_UID = (1 << 32) - 1
_LOCK_TIMEOUT = 60.0  # seconds for other operators' commands, each of which takes well under one


def set_site(site: Path | None) -> None:
    """Remember the `--site` given before the command's name."""
    click.get_current_context().meta[_SITE] = site


def _optional_site(ctx: click.Context, _: click.Parameter, value: Path | None) -> Path | None:
    if value is None:
        value = ctx.meta.get(_SITE)
    if value is None and os.environ.get("SSPS_SITE"):
        value = Path(os.environ["SSPS_SITE"])
    return value.absolute() if value else None


_SITE_OPTION = click.option(
    "--site",
    type=click.Path(path_type=Path),
    callback=_optional_site,
    help="The site's folder, or SSPS_SITE.",
)


def _required_site(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path:
    site = _optional_site(ctx, param, value)
    if site is None:
        raise click.UsageError("which site? Name its folder with --site DIR or in SSPS_SITE.")
    if not (site / SITE_TOML).exists():
        raise click.UsageError(f"{site} is no site (no site.toml in it): `ssps init` makes one.")
    return site


def with_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--site` and hand it `site`, the absolute path of a folder that is one."""
    option = click.option(
        "--site",
        type=click.Path(path_type=Path),
        callback=_required_site,
        help="The site's folder, or SSPS_SITE.",
    )
    return print_faults(option(command))


def with_optional_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--site` and hand it `site`, None where none is named."""
    return print_faults(_SITE_OPTION(command))


def default_command(command: str) -> type[click.Group]:
    """Return a group that hands words of which none of its commands is named to `command`."""

    class DefaultCommandGroup(click.Group):
        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            known = args and (args[0] in self.commands or args[0].startswith("-"))
            return super().resolve_command(ctx, args if known else [command, *args])

    return DefaultCommandGroup


def with_new_site(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command DIR or `--site`, and hand it `site`, where a new one is to be made."""

    @wraps(command)
    def checked(*args: Any, **kwargs: Any) -> R:
        folder: Path | None = kwargs.pop("folder")
        site = folder.absolute() if folder else kwargs["site"]
        if site is None:
            raise click.UsageError("where? Name a folder that is empty or does not exist yet.")
        return command(*args, **{**kwargs, "site": site})

    argument = click.argument(
        "folder", metavar="DIR", required=False, type=click.Path(path_type=Path)
    )
    return print_faults(argument(_SITE_OPTION(checked)))


def print_faults(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what is the operator's to mend into lines on stderr and exit code 1."""

    @wraps(command)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except Faults as error:
            for fault in error.faults:
                click.echo(str(fault), err=True)
        except (writer.LedgerBusy, writer.Unwritable, server_state.AlreadyRunning) as error:
            click.echo(str(error), err=True)
        except BrokenPipeError:  # whoever read it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            click.echo(f"{error.filename or 'this machine'}: {error.strerror or error}", err=True)
        sys.exit(1)

    return reporting


def fault(file: str, key: str, message: str) -> Faults:
    """Make the one fault that stops a command."""
    return Faults([Fault(file, key, message)])


def operator(login: Path = Path("/proc/self/loginuid")) -> str:
    """Return who is at the keyboard, and not the account that is worked under.

    The kernel keeps who logged in, through sudo and su, where PAM told it (pam_loginuid). Without
    that it is whom sudo names where we are root or an account that nobody logs in to.
    """
    with suppress(OSError, ValueError, KeyError):
        if (number := int(login.read_text())) != _NO_LOGIN_UID:
            return pwd.getpwuid(number).pw_name
    account = pwd.getpwuid(os.getuid())
    shared = account.pw_uid == 0 or account.pw_shell.endswith(("nologin", "false"))
    return (os.environ.get("SUDO_USER") if shared else None) or account.pw_name


class _NonEmptyText(StringParamType):
    """A text that says something."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it stands in the record beside your name: say something", param, ctx)
        return str(value).strip()

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        return "it stands in the record beside your name"


WHY_TEXT = _NonEmptyText()


def why_option(help: str = "For the record.") -> Callable[[F], F]:
    """Give a command that changes something `--why`, which it cannot be called without."""
    return click.option("--why", required=True, type=WHY_TEXT, help=help)


@contextmanager
def recorded_change(site: Path, command: str, what: str, why: str) -> Iterator[ChangeRecord]:
    """Let one operator at a time change the site, on the record (keys/operations/change_record).

    The body says what stood before, records what is to stand, and puts that in force. Raises
    ledger.Busy if others take longer than a minute.
    """
    with (
        writer.Ledger(site / LEDGERS / OPERATIONS, patience=_LOCK_TIMEOUT) as operations,
        signer_process.sign_after(site, OPERATIONS),
        change_record.record_change(
            operations, command, operator(), socket.gethostname(), what, why
        ) as begun,
    ):
        yield begun


def progress_bar(description: str, total: int) -> tuple[Progress, Callable[[int], None]]:
    """Return a progress bar over `total` bytes, for a `with`, and what to call with bytes read."""
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
