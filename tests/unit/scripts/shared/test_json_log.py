import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
import structlog

from scripts.shared.json_log import configure_logging


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, of which the second is the daemon's stderr."""
    before = structlog.get_config()
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", buffering=1) as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        configure_logging("serve")
        yield reading, writing
        structlog.contextvars.clear_contextvars()
        structlog.configure(**before)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writing)  # so that what is buffered can be written
        os.close(null)
    with suppress(OSError):
        os.close(reading)


def test_a_line_names_its_part_and_its_event(log: tuple[int, int]) -> None:
    structlog.get_logger().info("listening", port=22)

    assert b'"port": 22, "event": "listening", "part": "serve"' in os.read(log[0], 4096)


def test_a_log_that_is_full_and_does_not_wait_ends_no_daemon(log: tuple[int, int]) -> None:
    reading, writing = log
    os.set_blocking(writing, False)
    for _ in range(1000):
        structlog.get_logger().error("child-not-trusted", cause="x" * 200)

    while len(os.read(reading, 1 << 16)) == 1 << 16:
        pass
    structlog.get_logger().info("listening")
    structlog.get_logger().info("listening")
    assert b"listening" in os.read(reading, 1 << 16)


def test_a_log_without_a_reader_ends_no_daemon(log: tuple[int, int]) -> None:
    os.close(log[0])

    structlog.get_logger().error("gap")
    structlog.get_logger().error("gap")


def test_a_log_on_a_full_disk_ends_no_daemon(log: tuple[int, int]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log[1])
    os.close(full)

    structlog.get_logger().error("gap")
    structlog.get_logger().error("gap")
