import os
import signal
from collections.abc import Iterator

import pytest
from unit.sftpd.ticking import Time

from sftpd.monitor.loop import Loop
from sftpd.signals import Asked, noted


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert len(loop) == 0
    loop.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_wakes_the_loop(loop: Loop, stop: signal.Signals) -> None:
    asked = Asked()
    with noted(asked, loop):
        os.kill(os.getpid(), signal.SIGHUP)
        loop.turn([])  # would wait for ever
        assert (asked.reload, asked.stops) == (True, 0)
        os.kill(os.getpid(), stop)
        loop.turn([])
        assert asked.stops == 1


def test_a_keystroke_that_comes_twice_is_one_stop_and_a_later_one_another(loop: Loop) -> None:
    asked, now = Asked(), Time()
    with noted(asked, loop, now):
        for later in (0.0, 0.24, 0.1):
            now.now += later
            os.kill(os.getpid(), signal.SIGINT)
            loop.turn([])
    assert asked.stops == 2


def test_what_signals_did_before_they_do_afterwards(loop: Loop) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with noted(Asked(), loop):
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
