"""The log of the daemons: JSON lines on stderr, for the operator. It is not the record.

A line that cannot be written is dropped, because a log must not end a daemon: the disk is full, or
the program that reads the log is gone, or does not read. The sessions share stderr with the server,
so one that was taken over can set it to not wait (O_NONBLOCK).
"""

import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


class _Stderr:
    """What the loggers write to."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write a line."""
        with suppress(OSError, ValueError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with suppress(OSError, ValueError):
            self._file.flush()


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
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Stderr(sys.stderr))),
    )
    structlog.contextvars.bind_contextvars(part=part)
