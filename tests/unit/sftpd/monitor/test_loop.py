import os
import time

import pytest
from unit.sftpd.fake_clock import FakeClock

from sftpd.monitor.loop import Loop, Recurring


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_what_is_ready_is_called_and_what_is_forgotten_is_not(pipe: tuple[int, int]) -> None:
    read, write = pipe
    loop = Loop()
    heard: list[bytes] = []
    loop.watch(read, lambda: heard.append(os.read(read, 9)))
    os.write(write, b"one")
    loop.run_once([])
    loop.unwatch(read)
    loop.unwatch(read)
    os.write(write, b"two")
    loop.run_once([], time.monotonic())
    assert heard == [b"one"]
    assert len(loop) == 0
    loop.close()
    os.close(read)
    os.close(write)


def test_the_end_of_a_turn_comes_after_all_that_was_ready_and_due() -> None:
    pipes = [os.pipe() for _ in range(3)]
    loop = Loop()
    said: list[str] = []
    for number, (read, write) in enumerate(pipes):
        loop.watch(read, lambda number=number: said.append(f"ready {number}"))  # type: ignore[misc]
        os.write(write, b"x")
    loop.after_events = lambda: said.append("end")
    loop.run_once([])
    assert sorted(said[:3]) == ["ready 0", "ready 1", "ready 2"]
    assert said[3:] == ["end"]

    for read, _ in pipes:
        loop.unwatch(read)
    loop.run_once([Recurring(1.0, lambda: said.append("due"), lambda: True)], 0.0)
    assert said[4:] == ["due", "end"]
    loop.close()
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def test_what_another_has_removed_in_the_same_turn_is_not_called() -> None:
    (first, one), (second, two) = os.pipe(), os.pipe()
    loop = Loop()
    called: list[int] = []

    def act(mine: int, other: int) -> None:
        called.append(mine)
        loop.unwatch(other)

    loop.watch(first, lambda: act(first, second))
    loop.watch(second, lambda: act(second, first))
    os.write(one, b"x")
    os.write(two, b"x")
    loop.run_once([])
    assert len(called) == 1
    loop.close()
    for end in (first, second, one, two):
        os.close(end)


def test_what_recurs_does_so_while_it_is_wanted() -> None:
    now, wanted, done = FakeClock(), False, []
    each = Recurring(1.0, lambda: done.append(now.now), lambda: wanted, now)
    assert each.next_due() is None
    each.catch_up()
    assert done == []

    wanted = True
    each.catch_up()
    now.now = 100.9
    each.catch_up()
    now.now = 101.0
    each.catch_up()
    assert done == [100.0, 101.0]
    assert each.next_due() == 102.0
