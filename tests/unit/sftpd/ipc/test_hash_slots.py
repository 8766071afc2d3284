import os
import signal
from contextlib import closing

import pytest

from sftpd.ipc.hash_slots import HashSlots


def entered(slots: HashSlots, told: int) -> int:
    """Fork a child that says when it holds a slot, and keeps it until it is killed."""
    child = os.fork()
    if child == 0:
        with slots.acquire():
            os.write(told, b"+")
            signal.pause()
    return child


def test_one_slot_is_held_by_one_process_and_given_back_when_it_dies() -> None:
    reading, told = os.pipe()
    with closing(HashSlots(1)) as slots:
        first = entered(slots, told)
        assert os.read(reading, 1) == b"+"
        second = entered(slots, told)
        os.set_blocking(reading, False)
        try:
            waits = os.read(reading, 1)
        except BlockingIOError:
            waits = b"-"

        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)

        os.set_blocking(reading, True)
        assert (waits, os.read(reading, 1)) == (b"-", b"+")
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
    os.close(reading)
    os.close(told)


def test_the_file_of_the_slots_holds_nothing_and_cannot() -> None:
    with closing(HashSlots()) as slots:
        with pytest.raises(PermissionError):
            os.pwrite(slots.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(slots.descriptor, 1 << 30)
        assert os.fstat(slots.descriptor).st_size == 0


def test_a_slot_is_free_again_after_its_use() -> None:
    with closing(HashSlots(1)) as slots:
        for _ in range(3):
            with slots.acquire():
                pass
