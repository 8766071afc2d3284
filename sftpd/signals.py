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
_SAME_KEYSTROKE = 0.25  # seconds: Ctrl-C reaches the server itself and by way of its supervisor


@dataclass(slots=True)
class PendingSignals:
    """What has been asked for so far; whoever acts on `reload` clears it."""

    stop_count: int = 0
    last_stop: float = 0.0  # when a stop was
    reload: bool = False


@contextmanager
def capture(
    pending: PendingSignals, loop: Loop, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Have signals noted, and the loop woken by them, while in the `with`."""

    def stop(*_: object) -> None:
        now = monotonic()
        if not pending.stop_count or now >= pending.last_stop + _SAME_KEYSTROKE:
            pending.stop_count += 1
            pending.last_stop = now

    def hang_up(*_: object) -> None:
        pending.reload = True

    wake, woken = socket.socketpair()
    with wake, woken:
        wake.setblocking(False)
        woken.setblocking(False)
        handlers = {**dict.fromkeys(_STOPS, stop), signal.SIGHUP: hang_up}
        before = {number: signal.signal(number, act) for number, act in handlers.items()}
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        loop.watch(wake, lambda: _drain(wake))
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            loop.unwatch(wake)


def _drain(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return
