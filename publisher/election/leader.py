"""Elects the leader of a task by a row in PostgreSQL, and keeps a former leader from writing.

The row of a task (`publishers.leader`) names the process that leads, its term and the end of its
lease. A candidate that finds the lease expired

    1. ends all sessions of the former leader's process at the server: what it has not committed is
       undone, and its locks are gone
    2. takes the advisory lock of the task, for as long as its own session lasts
    3. locks the row, raises the term and enters itself

Every commit of a leader first reads the row with its own term and locks it (`check_row`). So a
commit comes either before the third step, or finds another term and fails. A former leader that
was frozen, or cut off from the server, therefore changes no table; before each step in the file
system it looks at the clock (publisher/election/lease). What it may still do within that one step
is harmless: links are made again as they are, a file is not replaced, and a second record of the
same filing is in a ledger of its own (publisher/election/terms).

This needs no clock that hosts agree on: the server's clock says when a lease expires. It may be set
back, and a replica that takes over has another one. So a lease has also expired if a candidate does
not see it renewed for as long as it lasts, by the candidate's own clock: the leader counts from
before it asks for a renewal, and the candidate sees that only later.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
import structlog

from config.site import CATALOG, FILING, RESULTS_LEDGER
from publisher.database import SQLITE, UNAVAILABLE, connect, location, open_engine
from publisher.election.lease import LEASE_SECONDS, RENEW_SECONDS, Lease, Seat, may_follow

SCHEMA = "publishers"
LOOK_SECONDS = 1.0  # how often a candidate looks whether the lease was renewed
SOON_SECONDS = 0.2  # and when the lease has just ended
# The current time of the server, in milliseconds since 1970.
NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_TASKS = {FILING: 1, RESULTS_LEDGER: 2}
_LOCK = 0x73737073  # the first half of the advisory locks of this product's leaders
_END_TIMEOUT_MS = 2000
_LEASE_MS = int(LEASE_SECONDS * 1000)

_SEAT = sa.text(
    f"SELECT host, holder, term, expires_at, expires_at - {NOW} AS left_ms "
    "FROM leader WHERE task = :task"
)
_LOCKED_SEAT = sa.text(f"{_SEAT.text} FOR UPDATE")
_END_SESSIONS = sa.text(
    "SELECT pg_terminate_backend(pid, :timeout) FROM pg_stat_activity "
    "WHERE application_name = :holder AND datname = current_database() "
    "AND pid <> pg_backend_pid()"
)
_TAKE = sa.text(
    f"UPDATE leader SET host = :host, holder = :holder, term = term + 1, "
    f"expires_at = {NOW} + :lease WHERE task = :task RETURNING term"
)
_RENEW = sa.text(
    f"UPDATE leader SET expires_at = {NOW} + :lease "
    "WHERE task = :task AND term = :term AND holder = :holder"
)
_RELEASE = sa.text(
    "UPDATE leader SET expires_at = 0 WHERE task = :task AND term = :term AND holder = :holder"
)
# Compatible with _RENEW, which changes no key, but not with _LOCKED_SEAT.
_CHECK_ROW = sa.text(
    f"SELECT term FROM {SCHEMA}.leader "
    "WHERE task = :task AND term = :term AND holder = :holder FOR KEY SHARE"
)

log = structlog.get_logger()


class Leader:
    """The leadership of this process, from its election on; close it to let another follow.

    A thread renews the lease. `check` is called before each step, `check_row` in each transaction.
    """

    def __init__(
        self,
        connection: sa.Connection,
        task: str,
        holder: str,
        term: int,
        lease: Lease,
        monotonic: Callable[[], float],
    ) -> None:
        self.term = term
        self.holder = holder
        self.check = lease.check
        self._mine = {"task": task, "term": term, "holder": holder}
        self._connection = connection
        self._lease = lease
        self._monotonic = monotonic
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{task}", daemon=True)
        self._thread.start()

    def check_row(self, connection: sa.Connection) -> None:
        """Raise Deposed if another leader was elected; none can be until the transaction ends."""
        if connection.execute(_CHECK_ROW, self._mine).scalar() is None:
            self._lease.end("another publisher was elected")
            self._lease.check()

    def url(self, of: sa.URL) -> sa.URL:
        """Return the URL of a database for this leader: its follower can end these sessions."""
        return of.update_query_dict({"application_name": self.holder})

    def close(self) -> None:
        """Let another publisher take over at once."""
        self._closing.set()
        self._thread.join()
        if self._connection.closed:
            return
        with suppress(OSError, *UNAVAILABLE):
            if not self._connection.invalidated:  # otherwise this would connect again
                self._connection.execute(_RELEASE, self._mine)
        with suppress(OSError, *UNAVAILABLE):
            self._connection.close()
        self._connection.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _renew(self) -> None:
        # Counted from the question: on a busy machine the answer itself takes its time.
        asked_at = self._monotonic()
        while not self._lease.has_ended:
            passed = self._monotonic() - asked_at
            if self._closing.wait(max(0.0, RENEW_SECONDS - passed)):
                return
            asked_at = self._monotonic()
            try:
                renewed = self._connection.execute(_RENEW, {**self._mine, "lease": _LEASE_MS})
            except (OSError, *UNAVAILABLE) as error:
                # The advisory lock went with the session.
                self._lease.end(f"the session of the lease ended: {error}")
            else:
                if renewed.rowcount == 1:
                    self._lease.renewed(asked_at)
                else:
                    self._lease.end("another publisher was elected")


class Candidate:
    """A process that wants to lead a task; `sole` as in publisher/election/lease.may_follow."""

    def __init__(
        self,
        url: sa.URL,
        task: str,
        host: str,
        *,
        sole: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.url = url
        self._task = task
        self._sole = sole
        self._monotonic = monotonic
        self._renewal: tuple[int, int] | None = None  # the term and end of the lease seen last
        self._renewal_seen_at = 0.0  # for the first time

    def seconds_left(self, connection: sa.Connection) -> float:
        """Return in how many seconds `try_to_lead` may succeed, 0 for now; this costs one query."""
        seat = self._seat(connection.execute(_SEAT, {"task": self._task}).one())
        return 0.0 if may_follow(seat, self.host, sole=self._sole) else seat.left

    def wait_to_lead(
        self, stopped: Callable[[float], bool], each_turn: Callable[[], object]
    ) -> Leader | None:
        """Wait until this process leads; None if it must stop first.

        `stopped` waits for so many seconds or until it must stop, and returns whether it must.
        `each_turn` is called about once a second. Raises Unreachable if PostgreSQL does not answer.
        """
        if (leader := self.try_to_lead()) is not None:
            return leader
        engine = open_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        with connect(engine) as connection:
            left = LOOK_SECONDS
            while not stopped(min(LOOK_SECONDS, max(left, SOON_SECONDS))):
                each_turn()
                left = self.seconds_left(connection)
                if left <= 0 and (leader := self.try_to_lead()) is not None:
                    return leader
        return None

    def try_to_lead(self) -> Leader | None:
        """Take over if the task has no leader; return None if it has one.

        Raises Unreachable if PostgreSQL does not answer.
        """
        holder = f"ssps {self._task} {self.host or 'local'} {os.getpid()} {secrets.token_hex(4)}"
        url = self.url.update_query_dict({"application_name": holder})
        engine = open_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        connection, leader = None, None
        try:
            connection = connect(engine)
            leader = self._campaign(connection, holder)
        finally:
            if leader is None:
                if connection is not None:
                    with suppress(OSError, *UNAVAILABLE):
                        connection.close()
                engine.dispose()
        return leader

    def _campaign(self, connection: sa.Connection, holder: str) -> Leader | None:
        asked_at = self._monotonic()
        of_task = {"task": self._task}
        seat = self._seat(connection.execute(_SEAT, of_task).one())
        if not may_follow(seat, self.host, sole=self._sole):
            return None
        former = {"holder": seat.holder, "timeout": _END_TIMEOUT_MS}
        ended = connection.execute(_END_SESSIONS, former).scalars().all() if seat.holder else []
        lock = sa.text(f"SELECT pg_try_advisory_lock({_LOCK}, {_TASKS[self._task]})")
        if not connection.execute(lock).scalar():
            return None  # another candidate was faster, or a session has not ended yet
        connection.execute(sa.text("BEGIN"))
        locked = self._seat(connection.execute(_LOCKED_SEAT, of_task).one())
        if locked.term != seat.term:
            return None
        mine = {**of_task, "host": self.host, "holder": holder, "lease": _LEASE_MS}
        term = connection.execute(_TAKE, mine).scalar_one()
        connection.execute(sa.text("COMMIT"))
        report = log.warning if seat.host not in ("", self.host) else log.info
        report(
            "leader-elected",
            task=self._task,
            host=self.host,
            term=term,
            followed=seat.host,
            sessions_ended=len(ended),
        )
        lease = Lease(asked_at, self._monotonic)
        return Leader(connection, self._task, holder, term, lease, self._monotonic)

    def _seat(self, row: Any) -> Seat:
        host, holder, term, expires_at, left_ms = row
        now = self._monotonic()
        if self._renewal != (term, expires_at):
            self._renewal, self._renewal_seen_at = (term, expires_at), now
        unchanged = now - self._renewal_seen_at
        return Seat(host, holder, term, min(left_ms / 1000, LEASE_SECONDS - unchanged))


def candidate_for(site: Path, task: str, host: str, *, sole: bool) -> Candidate | None:
    """Return a candidate for a task of a site; None if the site's catalog is in SQLite.

    A publisher of SQLite needs no election: the lock of its ledger keeps out a second one.
    """
    url = location(site, CATALOG, SCHEMA)
    return None if url.drivername == SQLITE else Candidate(url, task, host, sole=sole)
