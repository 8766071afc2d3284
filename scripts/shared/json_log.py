"""The log of the daemons: JSON lines on stderr, for the operator. It is not the record."""

import sys

import structlog


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
