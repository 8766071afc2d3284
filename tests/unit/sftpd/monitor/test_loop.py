import os
from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock

from sftpd.monitor.loop import Loop


@pytest.fixture
def pipes() -> Iterator[list[tuple[int, int]]]:
    pipes = [os.pipe() for _ in range(3)]
    yield pipes
    for pipe in pipes:
        for end in pipe:
            os.close(end)


def test_a_ready_file_is_called_back_until_it_is_unwatched(
    loop: Loop, clock: FakeClock, pipes: list[tuple[int, int]]
) -> None:
    read, write = pipes[0]
    received: list[bytes] = []
    loop.watch(read, lambda: received.append(os.read(read, 9)))
    os.write(write, b"one")
    loop.run_once()
    loop.unwatch(read)
    loop.unwatch(read)  # harmless
    os.write(write, b"two")
    loop.run_once(clock.now)

    assert received == [b"one"]
    assert len(loop) == 0


def test_a_file_that_another_callback_unwatched_is_not_called_back(
    loop: Loop, pipes: list[tuple[int, int]]
) -> None:
    (first, one), (second, two), _ = pipes
    called: list[int] = []

    def callback(this: int, other: int) -> None:
        called.append(this)
        loop.unwatch(other)

    loop.watch(first, lambda: callback(first, second))
    loop.watch(second, lambda: callback(second, first))
    os.write(one, b"x")
    os.write(two, b"x")
    loop.run_once()

    assert len(called) == 1


def test_an_event_of_a_closed_file_is_not_delivered_to_a_new_file_with_its_number(
    loop: Loop, pipes: list[tuple[int, int]]
) -> None:
    (first, one), (second, two), (third, _) = pipes
    called: list[str] = []

    def replace(other: int) -> None:
        called.append("first")
        loop.unwatch(other)
        os.dup2(third, other)  # `other` is now another file, with nothing to read
        loop.watch(other, lambda: called.append("new"))

    loop.watch(first, lambda: replace(second))
    loop.watch(second, lambda: replace(first))
    os.write(one, b"x")
    os.write(two, b"x")
    loop.run_once()

    assert called == ["first"]


def test_a_turn_calls_files_then_timers_then_after_events(
    loop: Loop, clock: FakeClock, pipes: list[tuple[int, int]]
) -> None:
    called: list[str] = []
    for read, write in pipes:
        loop.watch(read, lambda: called.append("file"))
        os.write(write, b"x")
    loop.call_at(clock.now, lambda: called.append("timer"))
    loop.after_events = lambda: called.append("end")
    loop.run_once()

    assert called == ["file", "file", "file", "timer", "end"]


def test_timers_are_called_in_the_order_of_their_times(loop: Loop, clock: FakeClock) -> None:
    called: list[str] = []
    for when, name in ((3.0, "c"), (1.0, "a"), (2.0, "b1"), (2.0, "b2"), (9.0, "late")):
        loop.call_at(clock.now + when, lambda name=name: called.append(name))  # type: ignore[misc]
    loop.run_once(clock.now)
    assert called == []
    clock.now += 3.0
    loop.run_once(clock.now)

    assert called == ["a", "b1", "b2", "c"]


def test_a_cancelled_timer_is_not_called(loop: Loop, clock: FakeClock) -> None:
    called: list[str] = []
    first = loop.call_at(clock.now + 1.0, lambda: called.append("first"))
    second = loop.call_at(clock.now + 1.0, lambda: called.append("second"))
    first.cancel()
    clock.now += 1.0
    loop.run_once(clock.now)
    second.cancel()  # harmless: it was called already
    loop.run_once(clock.now)

    assert called == ["second"]


def test_a_timer_may_cancel_another_that_is_due(loop: Loop, clock: FakeClock) -> None:
    called: list[str] = []
    second = loop.call_at(clock.now + 2.0, lambda: called.append("second"))
    loop.call_at(clock.now + 1.0, second.cancel)
    clock.now += 2.0
    loop.run_once(clock.now)

    assert called == []


def test_a_turn_waits_no_longer_than_for_the_first_timer() -> None:
    with_real_clock, called = Loop(), list[str]()
    with_real_clock.call_at(with_real_clock.time() + 60.0, lambda: called.append("late"))
    with_real_clock.call_at(with_real_clock.time() + 0.01, lambda: called.append("soon"))
    with_real_clock.run_once(with_real_clock.time() + 30.0)
    with_real_clock.close()

    assert called == ["soon"]


def test_a_periodic_call_comes_after_each_interval(loop: Loop, clock: FakeClock) -> None:
    called: list[float] = []
    loop.call_every(1.0, lambda: called.append(clock.now))
    for now in (100.0, 100.9, 101.0, 101.5, 102.5, 103.4, 103.5):
        clock.now = now
        loop.run_once(now)

    assert called == [101.0, 102.5, 103.5]
