"""Connects to PostgreSQL, and gives up a server that is silent.

A server that is frozen, and a network that drops every packet, end no connection: a statement would
wait for minutes or for ever, and so would the process that asked. A statement may also just take
long. So when there is no answer for SILENT_SECONDS, another connection asks the server whether it
talks TLS (SSLRequest, section 55.2.10 of the manual of PostgreSQL 15). A server that works answers
that with one byte at once, before any login:

    it answers         the statement takes long; wait on, and ask again after as long
    it does not        end the connection, with an error that says so

The other connections of this process to a server that was silent ask it much sooner.
"""

import re
import socket
import time
from struct import Struct
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

SILENT_SECONDS = 4.0
ANSWER_SECONDS = 4.0  # for the one byte, on a busy machine
_SOON_SECONDS = 0.5  # instead of both, if the server did not answer the last time
_SSL_REQUEST = Struct("!ii").pack(8, 80877103)
_SEARCH_PATH = re.compile(r"-csearch_path=(\S+)")
_NO_POOLER = "connect to PostgreSQL itself, not through a pooler such as PgBouncer"
RV = TypeVar("RV")
_silent: set[tuple[str, int]] = set()  # servers that did not answer the last time


class Connection(psycopg.Connection[Any]):
    """A connection whose statements wait only for a server that answers."""

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait as the driver does; raises OperationalError if the server is silent."""
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Pass on what the driver waits for; it sends `Ready.NONE` about ten times a second."""
        try:
            wanted, since = next(gen), time.monotonic()
            while True:
                ready = yield wanted
                if ready:
                    since = time.monotonic()
                elif time.monotonic() - since > self._patience(SILENT_SECONDS):
                    self._end_if_silent(since)
                    since = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as done:
            value: RV = done.value
            return value

    @property
    def server(self) -> tuple[str, int]:
        """The server's address, or the folder of its socket, and its port."""
        return self.info.hostaddr or self.info.host, self.info.port

    def _patience(self, seconds: float) -> float:
        return min(seconds, _SOON_SECONDS) if _silent and self.server in _silent else seconds

    def _end_if_silent(self, since: float) -> None:
        server = self.server
        if answers(*server, self._patience(ANSWER_SECONDS)):
            _silent.discard(server)
            return
        _silent.add(server)
        self.pgconn.finish()
        waited = time.monotonic() - since
        raise psycopg.OperationalError(f"the server has not answered for {waited:.0f} s")


def answers(host: str, port: int, seconds: float) -> bool:
    """Ask a server, an address or the folder of its socket, for one byte; say whether it comes."""
    is_unix = host.startswith("/")
    until = time.monotonic() + seconds
    with socket.socket(_family(host)) as asking:
        try:
            asking.settimeout(seconds)
            asking.connect(f"{host}/.s.PGSQL.{port}" if is_unix else (host, port))
            asking.sendall(_SSL_REQUEST)
            asking.settimeout(max(0.01, until - time.monotonic()))
            return len(asking.recv(1)) == 1
        except OSError:
            return False


def _family(host: str) -> socket.AddressFamily:
    if host.startswith("/"):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def connect(_: object, __: object, words: Any, options: Any) -> Connection:
    """Make a connection with what SQLAlchemy gives to the driver (event `do_connect`).

    Raises OperationalError if something between us and the server drops what we ask for at the
    start, as a pooler does: without its schema a session finds no tables, or those of another site.
    """
    try:
        made = Connection.connect(*words, **options)
    except psycopg.OperationalError as error:
        if "startup parameter" in str(error):
            raise psycopg.OperationalError(f"{error}: {_NO_POOLER}") from None
        raise
    _silent.discard(made.server)
    if wanted := _SEARCH_PATH.search(options.get("options", "")):
        made.autocommit = True  # no transaction for this question
        row = made.execute("SHOW search_path").fetchone()
        made.autocommit = False
        if row != (wanted[1],):
            made.close()
            raise psycopg.OperationalError(f"the server got no search_path: {_NO_POOLER}")
    return made
