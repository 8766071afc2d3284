from collections.abc import Iterator

import pytest
from unit.fake_clock import FakeClock

from sftpd.monitor.loop import Loop


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def loop(clock: FakeClock) -> Iterator[Loop]:
    loop = Loop(clock)
    yield loop
    loop.close()
