"""The log of the daemons: JSON lines on stderr, for the operator. It is not the record."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import structlog

from scripts.shared import console

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what keeps it from starting as JSON lines too, as the log is.",
)


def configure_logging(part: str) -> None:
    """Log JSON lines on stderr; each has `part`, the name of this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)


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
