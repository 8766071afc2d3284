"""Keeps in PostgreSQL what all portals of a site agree on; the broker of each portal calls it.

A portal has its own copy of everything in memory and exchanges with the others about twice a
second (portal/access/exchange): one call of `exchange` stores what it has changed, and returns what
the others have changed since the last call. A change gets a number when it is committed, so nothing
is left out. Times are those of the database's clock.

What a portal says of itself counts for GONE_AFTER seconds. After LOST_AFTER seconds without an
exchange, for example when it was frozen, a portal gets all sessions again: ended ones are kept for
longer than that. A code of the second factor is used once, whichever portal gets it.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from config.settings import CatalogSettings
from portal.shared_tables import METADATA
from publisher import database

SCHEMA = "portal"
GONE_AFTER, LOST_AFTER = 15, 300  # seconds
_KEPT = 600  # seconds for which ended sessions and what was spent are kept
_TIDY_EACH = 60  # changes
_STATEMENT = " -cstatement_timeout=5000 -clock_timeout=5000"  # milliseconds
_CONNECT_SECONDS = "3"
_FIELDS = (
    "number", "party", "user_name", "credential", "rehearsal", "stage", "began", "used", "origin",
    "client",
)  # fmt: skip
_NOW = "extract(epoch FROM clock_timestamp())::bigint"
_WHICH = "entrance = :entrance AND token_sha256 = :token AND ended_at IS NULL"
_ADD = f"""
INSERT INTO session (entrance, token_sha256, {", ".join(_FIELDS)}, instance, change)
VALUES (:entrance, :token, {", ".join(f":{name}" for name in _FIELDS)}, :instance, :change)
ON CONFLICT DO NOTHING
"""
_USE = f"""
UPDATE session SET used = :used, origin = :origin, client = :client, instance = :instance,
    change = :change
WHERE {_WHICH} AND used <= :used
"""
_END = f"""
UPDATE session SET ended_at = {_NOW}, instance = :instance, change = :change WHERE {_WHICH}
"""
_SEEN = f"""
INSERT INTO instance VALUES (:id, :host, :part, {_NOW}, :connections)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at,
    connections = coalesce(nullif(excluded.connections, ''), instance.connections)
"""
_USE_CODE = """
INSERT INTO used_code VALUES (:login, :step)
ON CONFLICT (login) DO UPDATE SET step = excluded.step WHERE used_code.step < excluded.step
RETURNING step
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """A session as it is stored; `fields` are those of portal/access/sessions, None if it ended."""

    entrance: str
    token_sha256: str
    instance: str
    fields: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class News:
    """What the others have changed up to a change.

    `everything` says that `sessions` are all sessions there are. `ended` are the names of those
    that this process has ended, and no other one before it. `connections` are the counts of the
    other processes that run, by their ids.
    """

    change: int
    everything: bool
    sessions: tuple[Stored, ...]
    ended: tuple[str, ...]
    spent: tuple[Any, ...]
    connections: Mapping[str, Any]


class SharedState:
    """The schema `portal` of one site, for one web daemon; any thread may call it."""

    def __init__(
        self, catalog: CatalogSettings, part: str, host: str, entrances: Sequence[str]
    ) -> None:
        """`part` is the name of the daemon; it has to do with the sessions of `entrances` only."""
        self._part, self._host, self._entrances = part, host, list(entrances)
        url = database.in_schema(catalog.url, catalog.password_file, SCHEMA)
        options = f"{url.query['options']}{_STATEMENT}"
        query = {**url.query, "options": options, "connect_timeout": _CONNECT_SECONDS}
        self._url = url.set(query=query)
        self._lock = threading.Lock()
        self._opened: sa.Engine | None = None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._opened is not None:
                self._opened.dispose()

    def exchange(
        self,
        instance: str,
        since: int,
        sessions: Sequence[Sequence[Any]],
        spent: Sequence[Any],
        connections: Any,
    ) -> News:
        """Store changes, and return those of the others after the change `since`.

        `sessions` are lists of what happened (`add`, `use`, `end` or `expire`), the entrance, the
        name and the fields. `connections` is None if they are as before.
        Raises OSError if PostgreSQL does not answer.
        """
        with self._begin() as connection:
            lost = _scalar(
                connection,
                f"SELECT seen_at < {_NOW} - {LOST_AFTER} FROM instance WHERE id = :id",
                id=instance,
            )
            if sessions or spent:
                self._store(connection, instance, sessions, spent)
            text = "" if connections is None else json.dumps(connections)
            seen = {"id": instance, "host": self._host, "part": self._part, "connections": text}
            connection.execute(sa.text(_SEEN), seen)
        with self._begin() as connection:
            return self._news(connection, instance, -1 if lost is not False else since, sessions)

    def session(self, entrance: str, name: str) -> Stored | None:
        """Return one session that has not ended; raise OSError if PostgreSQL does not answer."""
        if entrance not in self._entrances:
            raise ValueError(f"{entrance!r} is not an entrance of this daemon")
        query = (
            f"SELECT entrance, token_sha256, instance, ended_at, {', '.join(_FIELDS)} FROM session "
            "WHERE entrance = :entrance AND token_sha256 = :token AND ended_at IS NULL"
        )
        with self._begin() as connection:
            values = {"entrance": entrance, "token": name}
            row = connection.execute(sa.text(query), values).fetchone()
            return None if row is None else _stored(row)

    def use_code(self, login: str, step: int) -> bool:
        """Note that a user has used the code of that step; False if it was used before."""
        with self._begin() as connection:
            return _scalar(connection, _USE_CODE, login=login, step=step) is not None

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        try:
            with self._engine().begin() as connection:
                yield connection
        except database.UNAVAILABLE as error:
            cause = " ".join(database.cause_of(error).split())
            raise database.Unreachable(cause) from None

    def _engine(self) -> sa.Engine:
        with self._lock:
            if self._opened is None:
                self._opened = database.writing_engine(self._url, METADATA)
            return self._opened

    def _store(
        self,
        connection: sa.Connection,
        instance: str,
        sessions: Sequence[Sequence[Any]],
        spent: Sequence[Any],
    ) -> None:
        change = _scalar(connection, "UPDATE change_number SET last = last + 1 RETURNING last")
        mine = {"instance": instance, "change": change}
        for what, entrance, name, *fields in sessions:
            if entrance not in self._entrances:
                raise ValueError(f"{entrance!r} is not an entrance of this daemon")
            values = {"entrance": entrance, "token": name, **mine}
            values |= dict(zip(_FIELDS, map(_storable, fields), strict=False))
            match what:
                case "add":
                    connection.execute(sa.text(_ADD), values)
                case "use":
                    connection.execute(sa.text(_USE), values)
                case "end":
                    connection.execute(sa.text(_END), values)
                case "expire":  # unless another portal has seen a later request
                    connection.execute(sa.text(f"{_END} AND used <= :used"), values)
                case _:
                    raise ValueError(f"{what!r} does not happen to sessions")
        if spent:
            connection.execute(
                sa.text(f"INSERT INTO spent VALUES (:change, :instance, :spent, {_NOW})"),
                {**mine, "spent": json.dumps(spent)},
            )
        if change % _TIDY_EACH == 0:
            for table, column in (("session", "ended_at"), ("spent", "spent_at")):
                old = f"DELETE FROM {table} WHERE {column} < {_NOW} - {_KEPT}"
                connection.execute(sa.text(old))
            connection.execute(sa.text(f"DELETE FROM instance WHERE seen_at < {_NOW} - {_KEPT}"))

    def _news(
        self,
        connection: sa.Connection,
        instance: str,
        since: int,
        sessions: Sequence[Sequence[Any]],
    ) -> News:
        newest = _scalar(connection, "SELECT last FROM change_number")
        everything = since < 0
        which = "ended_at IS NULL" if everything else "change > :since AND instance <> :instance"
        query = sa.text(
            f"SELECT entrance, token_sha256, instance, ended_at, {', '.join(_FIELDS)} FROM session "
            f"WHERE change <= :newest AND entrance = ANY(:entrances) AND {which}"
        )
        values = {
            "since": since, "newest": newest, "instance": instance, "entrances": self._entrances
        }  # fmt: skip
        found = tuple(map(_stored, connection.execute(query, values)))
        ended = [name for what, _, name, *_ in sessions if what == "end"]
        by_me: Sequence[str] = ()
        if ended:
            query = sa.text(
                "SELECT token_sha256 FROM session WHERE entrance = ANY(:entrances) "
                "AND token_sha256 = ANY(:names) AND instance = :instance AND ended_at IS NOT NULL"
            )
            by_me = connection.execute(query, {**values, "names": ended}).scalars().all()
        query = sa.text(
            "SELECT spent FROM spent "
            "WHERE change > :since AND change <= :newest AND instance <> :instance"
        )
        # A portal that has just started has all its limits unused, as after every start.
        taken = [] if everything else connection.execute(query, values).scalars().all()
        query = sa.text(
            "SELECT id, connections FROM instance "
            f"WHERE part = :part AND id <> :instance AND seen_at > {_NOW} - {GONE_AFTER}"
        )
        others = connection.execute(query, {"part": self._part, "instance": instance})
        return News(
            newest,
            everything,
            found,
            tuple(by_me),
            tuple(each for text in taken for each in json.loads(text)),
            {each: json.loads(text or "null") for each, text in others},
        )


def _stored(row: Any) -> Stored:
    entrance, token, instance, ended_at, *fields = row
    return Stored(entrance, token, instance, None if ended_at is not None else tuple(fields))


def _storable(value: Any) -> Any:
    """Return a value without the character that PostgreSQL's texts cannot have."""
    return value.replace("\0", "") if isinstance(value, str) else value


def _scalar(connection: sa.Connection, statement: str, **values: object) -> Any:
    return connection.execute(sa.text(statement), values).scalar()
