"""Replaces a party's initial password with its own, in a short-lived process.

A child handles untrusted input, so it writes no key file. It sends the monitor the hash of the new
password, never the password. The monitor checks the request with what it knows itself (credential,
address, time) and forks a process that writes the ring and records the change in the operations
ledger; `who` of that record is the party. So the monitor never waits for a disk or for the lock
that an operator's command holds.

At most `MAX_RUNNING` of these processes run at a time, each for 10 seconds at most.
"""

import os
import resource
import signal
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import structlog

from config.event import Value
from config.site import LEDGERS, OPERATIONS
from keys.credentials import ring, rotation
from keys.ledger import writer
from keys.operations import key_files, ring_files
from keys.operations.change_record import record_change
from sftpd.monitor.loop import Loop

MAX_RUNNING = 4
_LOCK_TIMEOUT = 5.0  # seconds to wait while an operator's command holds the operations ledger
_TIME_LIMIT = 10  # seconds for the whole process
COMMAND = "password change"
_REASON = "the party replaced its initial password"

_log = structlog.get_logger()


class PasswordChanges:
    """The password changes that are running."""

    def __init__(self, loop: Loop, site: Path, clock: writer.Clock) -> None:
        self._loop = loop
        self._site = site
        self._clock = clock
        self._running = 0

    def start(
        self, party: str, credential: str, secret: str, origin: str, answer: Callable[[bool], None]
    ) -> bool:
        """Start a change; return False if there is no room for it now.

        `answer` is called when the process has ended, with whether the password was changed.
        """
        if self._running >= MAX_RUNNING:
            return False
        try:
            pid = os.fork()
        except OSError:
            return False
        if pid == 0:
            self._run_child(party, credential, secret, origin)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        self._running += 1

        def ended() -> None:
            self._loop.unwatch(pidfd)
            status = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
            self._running -= 1
            done = status is not None and (status.si_code, status.si_status) == (os.CLD_EXITED, 0)
            if done:
                _log.info("password-changed", party=party)
            elif status is not None and status.si_code != os.CLD_EXITED:
                cause = f"killed by signal {status.si_status}"  # so it could not log the cause
                _log.error("password-not-changed", party=party, cause=cause)
            answer(done)

        self._loop.watch(pidfd, ended)
        return True

    def _run_child(self, party: str, credential: str, secret: str, origin: str) -> None:
        status = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # finish even if the server is stopped
            signal.set_wakeup_fd(-1)
            os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            signal.alarm(_TIME_LIMIT)
            change_password(self._site, party, credential, secret, origin, self._clock)
            status = 0
        except BaseException:
            _log.exception("password-not-changed", party=party)
        finally:
            os._exit(status)


def change_password(
    site: Path, party: str, credential: str, secret: str, origin: str, clock: writer.Clock
) -> None:
    """Replace `credential` in the party's ring with the password whose hash is `secret`.

    The change is recorded before the ring is written. Raises ValueError if the ring does not allow
    it, LedgerBusy if the operations ledger stays locked, OSError.
    """
    now = clock().astimezone(UTC).replace(microsecond=0)
    folder = site / LEDGERS / OPERATIONS
    with (
        writer.Ledger(folder, clock, _LOCK_TIMEOUT) as operations,
        record_change(operations, COMMAND, party, origin, party, _REASON) as record,
    ):
        held = ring_files.load(site, party)
        record.before = ring.describe(held)
        fresh = ring.chosen_password_credential(secret, label="", not_before=now, added_by=party)
        new = rotation.change_password(held, credential, fresh)
        ring_files.stage(site, new)
        detail: dict[str, Value] = {
            "credential": fresh.fingerprint,
            "replaces": credential,
            key_files.KEY_FILES: [ring_files.line(site, new)],
        }
        record.done(ring.describe(new), detail)
        ring_files.apply(site, new)
