"""The options that the rehearsal's commands and the soak test have in common."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from scripts.rehearsal.reconcile import format_report

F = TypeVar("F", bound=Callable[..., Any])
_STDOUT = "-"


def count_option(name: str, highest: int, default: int, help: str) -> Callable[[F], F]:
    """Give a command an option that takes a whole number from 1 to `highest`."""
    allowed = click.IntRange(1, highest)
    return click.option(name, type=allowed, default=default, show_default=True, help=help)


def seed_option(what: str = "pages") -> Callable[[F], F]:
    """Give a command `--seed`, which decides how `what` are made up."""
    same = f"The same seed makes the same {what}."
    return click.option("--seed", type=int, default=1, show_default=True, help=same)


def minutes_option(lowest: float, default: float, what: str) -> Callable[[F], F]:
    """Give a command `--minutes`, the length of `what`."""
    allowed = click.FloatRange(lowest)
    return click.option(
        "--minutes", type=allowed, default=default, show_default=True, help=f"Length of {what}."
    )


def web_parties_option(default: int) -> Callable[[F], F]:
    """Give a command `--web-parties`, the number of parties that use the portal too."""
    return click.option(
        "--web-parties",
        type=click.IntRange(0),
        default=default,
        show_default=True,
        help="Parties that also use the web site and the web service.",
    )


report_option = click.option(
    "--json",
    "file",
    is_flag=False,
    flag_value=_STDOUT,
    type=click.Path(path_type=Path),
    metavar="[FILE]",
    help="Write the report to FILE as JSON too; without FILE, print it as JSON.",
)


def finish(report: Mapping[str, object], file: Path | None) -> None:
    """Print a report, write it to `file` as JSON, and exit with 0 if its `ok` is true, else 1.

    If `file` is `-`, the JSON is printed, on one line and in place of the text.
    """
    if file == Path(_STDOUT):
        click.echo(json.dumps(report, ensure_ascii=False))
    else:
        click.echo(format_report(report))
        if file:
            text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8")
    sys.exit(int(not report["ok"]))
