import os
import signal
from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock

from sftpd.monitor.loop import Loop
from sftpd.monitor.signals import Signals


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert len(loop) == 0
    loop.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_wakes_the_loop(loop: Loop, stop: signal.Signals) -> None:
    signals = Signals()
    with signals.handled(loop):
        os.kill(os.getpid(), signal.SIGHUP)
        loop.run_once()  # would wait for ever
        assert (signals.reload, signals.stop_count) == (True, 0)
        os.kill(os.getpid(), stop)
        loop.run_once()
        assert signals.stop_count == 1


def test_a_keystroke_that_arrives_twice_counts_as_one_stop(loop: Loop) -> None:
    clock = FakeClock()
    signals = Signals(clock)
    with signals.handled(loop):
        for later in (0.0, 0.24, 0.1):
            clock.now += later
            os.kill(os.getpid(), signal.SIGINT)
            loop.run_once()

    assert signals.stop_count == 2


def test_the_signal_handlers_of_before_are_restored(loop: Loop) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Signals().handled(loop):
        assert [signal.getsignal(number) for number in numbers] != before

    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
