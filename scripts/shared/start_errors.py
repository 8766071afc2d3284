"""Says why a daemon did not start: to the person who started it, or in the log."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog

from scripts.shared import console
from scripts.shared.json_log import configure_logging

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what keeps it from starting as JSON lines too, as the log is.",
)


@contextmanager
def start_errors(part: str, *, as_json: bool) -> Iterator[None]:
    """Log what ends a daemon, and exit with 1; without `as_json`, let the error pass."""
    if not as_json:
        yield
        return
    configure_logging(part)
    try:
        yield
    except console.EXPECTED_ERRORS as error:
        for line in console.error_lines(error):
            structlog.get_logger().error("daemon-failed", cause=line)
        sys.exit(1)
