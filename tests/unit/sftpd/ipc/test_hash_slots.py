"""The slots limit the processes that hash: a record lock never blocks the process that holds it."""

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from sftpd.ipc.hash_slots import HashSlots

TIMEOUT = 10.0  # seconds


class Hasher:
    """A child that acquires its slot, says so, and keeps it until it is told to release it."""

    def __init__(self, slots: HashSlots) -> None:
        self._acquired, acquired = os.pipe()
        released, self._release = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with slots.acquire():
                os.write(acquired, b"+")
                os.read(released, 1)
            signal.pause()
            os._exit(0)
        os.close(acquired)
        os.close(released)

    def has_slot(self, timeout: float = TIMEOUT) -> bool:
        """Return whether it acquires its slot within `timeout` seconds."""
        return bool(select.select([self._acquired], [], [], timeout)[0])

    def waits(self) -> bool:
        """Return whether the kernel blocks it in the lock; False if it has the slot instead."""
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline and not self.has_slot(0):
            for line in Path("/proc/locks").read_text().splitlines():
                if "->" in line and str(self.pid) in line.split():
                    return True
        return False

    def release(self) -> None:
        os.write(self._release, b"x")

    def kill(self) -> None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def close(self) -> None:
        self.kill()
        os.close(self._acquired)
        os.close(self._release)


@pytest.fixture
def slots() -> Iterator[HashSlots]:
    with closing(HashSlots(1)) as slots:
        yield slots


def test_two_processes_do_not_hold_the_same_slot_at_the_same_time(slots: HashSlots) -> None:
    with closing(Hasher(slots)) as first:
        assert first.has_slot()
        with closing(Hasher(slots)) as second:
            assert second.waits()

            first.release()

            assert second.has_slot()


def test_the_slot_of_a_process_that_dies_is_free_again(slots: HashSlots) -> None:
    with closing(Hasher(slots)) as first:
        assert first.has_slot()
        with closing(Hasher(slots)) as second:
            assert second.waits()

            first.kill()

            assert second.has_slot()


def test_processes_with_different_slots_hash_at_the_same_time() -> None:
    with (
        closing(HashSlots(1 << 22)) as slots,  # more slots than process ids
        closing(Hasher(slots)) as first,
        closing(Hasher(slots)) as second,
    ):
        assert first.has_slot()
        assert second.has_slot()


def test_a_child_cannot_write_to_the_file_of_the_slots(slots: HashSlots) -> None:
    with pytest.raises(PermissionError):
        os.pwrite(slots.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(slots.descriptor, 1 << 30)
    assert os.fstat(slots.descriptor).st_size == 0
