"""A party's own password, put in place of an operator's: written by a process for that alone.

A child that speaks to the network writes no key file. It asks the parent, telling the new
password's hash and never the password; the parent judges by what it knows itself (that
credential, that address, now), and forks a process that writes the ring and puts that on record
in the operations ledger, done by the party itself. So the parent never waits for a disk or for an
operator's lock. So many are written at once, and each has so long.
"""

import os
import resource
import signal
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import structlog

from config.site import LEDGERS, OPERATIONS
from keys.credentials import ring, rotation
from keys.ledger import writer
from keys.operations.change_record import record_change
from sftpd.monitor.loop import Loop

MAX_RUNNING = 4
_LOCK_TIMEOUT, _TIME_LIMIT = 5.0, 10  # seconds: for an operator's command, and in all
COMMAND = "password change"
_REASON = "the party sets its own in place of an operator's"

_log = structlog.get_logger()


class PasswordChanges:
    """The changes under way."""

    def __init__(self, loop: Loop, site: Path, clock: writer.Clock) -> None:
        self._loop = loop
        self._site = site
        self._clock = clock
        self._running = 0

    def start(
        self, party: str, credential: str, secret: str, origin: str, answer: Callable[[bool], None]
    ) -> bool:
        """Begin a change, whose `answer` comes later; False if it cannot be begun."""
        if self._running >= MAX_RUNNING:
            return False
        try:
            pid = os.fork()
        except OSError:
            return False
        if pid == 0:
            self._run_child(party, credential, secret, origin)
        try:
            process = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        self._running += 1

        def ended() -> None:
            self._loop.unwatch(process)
            found = os.waitid(os.P_PIDFD, process, os.WEXITED)
            os.close(process)
            self._running -= 1
            done = found is not None and (found.si_code, found.si_status) == (os.CLD_EXITED, 0)
            _log.info("password changed" if done else "password not changed", party=party)
            answer(done)

        self._loop.watch(process, ended)
        return True

    def _run_child(self, party: str, credential: str, secret: str, origin: str) -> None:
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # it is short, and must not be cut off
            signal.set_wakeup_fd(-1)
            os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            signal.alarm(_TIME_LIMIT)
            change_password(self._site, party, credential, secret, origin, self._clock)
            status = 0
        except BaseException:
            _log.exception("password not changed", party=party)
        finally:
            os._exit(status)


def change_password(
    site: Path, party: str, credential: str, secret: str, origin: str, clock: writer.Clock
) -> None:
    """Write the ring in which that hash stands for `credential`, on record before it is in force.

    Raises ValueError where that cannot be.
    """
    now = clock().astimezone(UTC).replace(microsecond=0)
    folder = site / LEDGERS / OPERATIONS
    with (
        writer.Ledger(folder, clock, _LOCK_TIMEOUT) as operations,
        record_change(operations, COMMAND, party, origin, party, _REASON) as record,
    ):
        held = ring.load(site, party)
        record.before = ring.describe(held)
        fresh = ring.chosen_password_credential(secret, label="", not_before=now, added_by=party)
        new = rotation.change_password(held, credential, fresh)
        record.done(ring.describe(new), {"credential": fresh.fingerprint, "replaces": credential})
        rotation.apply(site, new)
