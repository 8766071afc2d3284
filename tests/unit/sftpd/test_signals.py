import os
import signal
from collections.abc import Iterator

import pytest
from unit.sftpd.fake_clock import FakeClock

from sftpd.monitor.loop import Loop
from sftpd.signals import PendingSignals, capture


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert len(loop) == 0
    loop.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_wakes_the_loop(loop: Loop, stop: signal.Signals) -> None:
    pending = PendingSignals()
    with capture(pending, loop):
        os.kill(os.getpid(), signal.SIGHUP)
        loop.run_once([])  # would wait for ever
        assert (pending.reload, pending.stop_count) == (True, 0)
        os.kill(os.getpid(), stop)
        loop.run_once([])
        assert pending.stop_count == 1


def test_a_keystroke_that_comes_twice_is_one_stop_and_a_later_one_another(loop: Loop) -> None:
    pending, now = PendingSignals(), FakeClock()
    with capture(pending, loop, now):
        for later in (0.0, 0.24, 0.1):
            now.now += later
            os.kill(os.getpid(), signal.SIGINT)
            loop.run_once([])
    assert pending.stop_count == 2


def test_what_signals_did_before_they_do_afterwards(loop: Loop) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with capture(PendingSignals(), loop):
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
