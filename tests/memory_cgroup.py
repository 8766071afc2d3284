"""A memory cgroup for a test, where the machine has those of version 1 and root runs the tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


def version_1() -> Path | None:
    """Return this process's memory cgroup, if it is one of version 1 that can have groups."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        folder = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if "memory" in controllers.split(",") and os.access(folder, os.W_OK):
            return folder
    return None


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup that the test has for itself."""
    parent = version_1()
    if parent is None or os.geteuid() != 0:
        pytest.skip("this machine gives the tests no memory cgroup of version 1")
    made = parent / f"ssps-test-{os.getpid()}"
    made.mkdir()
    yield made
    made.rmdir()
