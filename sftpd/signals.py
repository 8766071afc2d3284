"""What signals ask of the server: to stop, to stop at once, to read its files anew.

SIGTERM or SIGINT asks for an end, a second one for an end at once, SIGHUP for a reload. A handler
only notes that down, and wakes the loop.
"""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sftpd.monitor.loop import Loop

_STOPS = (signal.SIGTERM, signal.SIGINT)
_ONE_KEYSTROKE = 0.25  # seconds: Ctrl-C reaches the server itself and by way of its supervisor


@dataclass(slots=True)
class Asked:
    """What has been asked for so far; whoever acts on `reload` clears it."""

    stops: int = 0
    last: float = 0.0  # when a stop was
    reload: bool = False


@contextmanager
def noted(
    asked: Asked, loop: Loop, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Have signals noted, and the loop woken by them, while in the `with`."""

    def stop(*_: object) -> None:
        now = monotonic()
        if not asked.stops or now >= asked.last + _ONE_KEYSTROKE:
            asked.stops += 1
            asked.last = now

    def hang_up(*_: object) -> None:
        asked.reload = True

    wake, woken = socket.socketpair()
    with wake, woken:
        wake.setblocking(False)
        woken.setblocking(False)
        handlers = {**dict.fromkeys(_STOPS, stop), signal.SIGHUP: hang_up}
        before = {number: signal.signal(number, act) for number, act in handlers.items()}
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        loop.watch(wake, lambda: _empty(wake))
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            loop.forget(wake)


def _empty(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return
