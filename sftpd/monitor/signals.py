"""Notes the signals that the server's main process gets, and wakes its event loop.

SIGHUP             reload
SIGUSR1            drain for maintenance
SIGTERM, SIGINT    stop; they are counted, because the second one ends all sessions
"""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keys.kernel import process
from sftpd.monitor.loop import Loop

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME_KEYSTROKE = 0.25  # seconds: Ctrl-C arrives twice, from the terminal and from the supervisor


class Signals:
    """The signals that have arrived; handlers only note them here and wake the loop."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stop_count = 0
        self.reload = False  # cleared by the reload
        self.drain = False
        self._monotonic = monotonic
        self._last_stop = 0.0

    @contextmanager
    def handled(self, loop: Loop) -> Iterator[None]:
        """Handle SIGTERM, SIGINT, SIGHUP and SIGUSR1 for as long as the `with` lasts."""
        wake, woken = socket.socketpair()
        with wake, woken:
            wake.setblocking(False)
            woken.setblocking(False)
            handlers = {**dict.fromkeys(_STOP_SIGNALS, self._on_stop), signal.SIGHUP: self._on_hup}
            handlers[signal.SIGUSR1] = self._on_usr1
            before = {number: signal.signal(number, act) for number, act in handlers.items()}
            signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
            loop.watch(wake, lambda: _empty(wake))
            held = process.release_signals()
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, held)
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)
                loop.unwatch(wake)

    def _on_stop(self, *_: object) -> None:
        now = self._monotonic()
        if not self.stop_count or now >= self._last_stop + _SAME_KEYSTROKE:
            self.stop_count += 1
            self._last_stop = now

    def _on_hup(self, *_: object) -> None:
        self.reload = True

    def _on_usr1(self, *_: object) -> None:
        self.drain = True


def _empty(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        return
