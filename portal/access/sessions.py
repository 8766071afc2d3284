"""The sessions of the web site: kept by the server, and bound to a user, a password and a stage.

A session's token is a random text in a cookie. The server keeps only its SHA-256, in memory and in
`state/portal-sessions.sqlite`, so that users stay logged in over a restart. A copy of the file
opens nothing. A session ends a while after its last request, and at the latest some hours after the
login (`[portal] idle_minutes`, `session_hours`). At each stage the token is replaced, so a token
that was known before the login opens nothing after it. If the catalog is in PostgreSQL,
the sessions are there too, and all portals of the site have the same ones (portal/access/exchange).

    CREATE TABLE session (token_sha256 TEXT PRIMARY KEY, number, party, user, credential, rehearsal,
                          stage, began, used, origin, client)

A form has a token too, against requests that another site makes a browser send (CSRF). It is
derived from the cookie, which the other site cannot read.
"""

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

_TOKEN_BYTES = 32
_SAVE_AFTER = timedelta(seconds=60)  # how old the stored time of the last request may get
MAX_SESSIONS = 20_000
_MAX_SESSIONS_PER_USER = 10


class Stage(StrEnum):
    """What a session may do: everything, or only the next step of the login."""

    PASSWORD = "password"  # noqa: S105 - set a password of its own, nothing else
    TOTP = "totp"  # give the code of the second factor
    ENROL = "enrol"  # set up the second factor, which the site or the party requires
    TERMS = "terms"  # accept the terms
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Session:
    """One session. `number` names it in the records.

    `origin` is the address of its last request, `client` is what the browser says it is.
    """

    number: int
    party: str
    user: str
    credential: str
    rehearsal: str
    stage: Stage
    began: datetime
    used: datetime
    origin: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a session lasts without requests, and at most."""

    idle: timedelta
    whole: timedelta


class Storage(Protocol):
    """Where sessions are kept, so that they outlive the process; a name is the hash of a token."""

    save_after: timedelta  # how old the stored time of the last request may get

    def add(self, name: str, session: Session) -> None:
        """Keep a session that has begun."""

    def update(self, name: str, session: Session) -> None:
        """Keep what a request has changed in a session."""

    def remove(self, name: str, session: Session | None, *, expired: bool) -> None:
        """Forget a session that was ended or has expired."""

    def is_here(self, name: str) -> bool:
        """Say whether this portal is the one that publishes a session."""

    def close(self) -> None:
        """Close it."""


class SessionFile:
    """Keeps the sessions of one portal in an SQLite file."""

    save_after = _SAVE_AFTER

    def __init__(self, file: Path) -> None:
        """Open the file, or replace it if it cannot be used: then everybody logs in again."""
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.database, self.found = _open(file)
        except (sqlite3.DatabaseError, ValueError):
            for path in file.parent.glob(f"{file.name}*"):
                path.unlink()
            self.database, self.found = _open(file)

    def add(self, name: str, session: Session) -> None:
        """Keep a session that has begun."""
        values = (name, *fields_of(session))
        marks = ", ".join("?" * len(values))
        with self.database:
            self.database.execute(f"REPLACE INTO session VALUES ({marks})", values)

    update = add

    def remove(self, name: str, session: Session | None, *, expired: bool) -> None:
        """Forget a session."""
        with self.database:
            self.database.execute("DELETE FROM session WHERE token_sha256 = ?", (name,))

    def is_here(self, name: str) -> bool:
        """Say whether this portal is the one that publishes a session: it is the only one."""
        return True

    def close(self) -> None:
        """Close the file."""
        self.database.close()


class Sessions:
    """All sessions of the portal."""

    def __init__(
        self,
        storage: Path | Storage,
        clock: Callable[[], datetime],
        lifetimes: Callable[[], Lifetimes],
    ) -> None:
        """`storage` is the SQLite file, or what else keeps them."""
        self._clock, self._lifetimes = clock, lifetimes
        self._live: dict[str, Session] = {}
        self._saved: dict[str, datetime] = {}  # when the last request of a session was stored
        if isinstance(storage, Path):
            storage = SessionFile(storage)
            self._live = storage.found
        self._storage: Storage = storage

    def close(self) -> None:
        """Close what keeps them."""
        self._storage.close()

    def begin(
        self,
        party: str,
        user: str,
        credential: str,
        rehearsal: str,
        stage: Stage,
        origin: str = "",
    ) -> tuple[str, Session]:
        """Begin a session after a login; return its token, and what the server keeps."""
        now = self._clock()
        theirs = sorted(
            (s.used, name) for name, s in self._live.items() if (s.party, s.user) == (party, user)
        )
        for _, name in theirs[: max(0, len(theirs) - _MAX_SESSIONS_PER_USER + 1)]:
            self._remove(name)
        # Above every number of an SFTP session (keys/operations/live_sessions).
        number = 1 << 47 | secrets.randbits(47)
        session = Session(number, party, user, credential, rehearsal, stage, now, now, origin)
        return self._store(session), session

    def find(self, token: str, origin: str = "", client: str = "") -> Session | None:
        """Return the session with that token if it has not ended, and note that it was used.

        `origin` and `client` are those of the request, if it is for one.
        """
        name = name_of(token)
        session = self._live.get(name)
        if session is None:
            return None
        if self._has_ended(session):
            self._remove(name, expired=True)
            return None
        now = self._clock()
        seen = (origin or session.origin, client or session.client)
        used = replace(session, used=now, origin=seen[0], client=seen[1])
        self._live[name] = used
        due = self._saved.get(name, session.used) + self._storage.save_after
        if now >= due or seen != (session.origin, session.client):
            self._saved[name] = now
            self._storage.update(name, used)
        return used

    def advance(self, token: str, stage: Stage, credential: str | None = None) -> str:
        """Move a session to its next stage under a new token, which is returned."""
        session = self._live[name_of(token)]
        self._remove(name_of(token))
        named = session.credential if credential is None else credential
        return self._store(replace(session, stage=stage, credential=named))

    def end(self, token: str) -> None:
        """End a session."""
        self._remove(name_of(token))

    def is_live(self, token: str) -> bool:
        """Say whether the session with that token goes on, without noting that it was used."""
        session = self._live.get(name_of(token))
        return session is not None and not self._has_ended(session)

    def live(self) -> list[Session]:
        """Return all sessions, of several portals those that this one publishes."""
        return [session for name, session in self._live.items() if self._storage.is_here(name)]

    def end_numbers(self, numbers: frozenset[int]) -> dict[str, Session]:
        """End the sessions with those numbers, and return them with their names."""
        found = {name: s for name, s in self._live.items() if s.number in numbers}
        for name in found:
            self._remove(name)
        return found

    def learn(self, name: str, session: Session | None) -> None:
        """Note what another portal has stored of a session; None if it has ended."""
        known = self._live.get(name)
        if session is None:
            self._forget(name)
        elif known is None or known.used <= session.used:
            self._live[name] = session
            self._saved[name] = session.used

    def keep_only(self, names: AbstractSet[str]) -> None:
        """Forget all sessions but those with these names: the others have ended elsewhere."""
        for name in self._live.keys() - names:
            self._forget(name)

    def knows(self, token: str) -> bool:
        """Say whether there is a session with that token, ended or not."""
        return name_of(token) in self._live

    def end_others(self, token: str) -> None:
        """End all other sessions of the session's user, for example after a new password."""
        session = self._live[name_of(token)]
        for name, other in list(self._live.items()):
            if name != name_of(token) and (other.party, other.user) == (
                session.party,
                session.user,
            ):
                self._remove(name)

    def remove_ended(self) -> None:
        """Forget the sessions that have ended."""
        for name, session in list(self._live.items()):
            if self._has_ended(session):
                self._remove(name, expired=True)

    def __len__(self) -> int:
        return len(self._live)

    def _has_ended(self, session: Session) -> bool:
        now, lifetimes = self._clock(), self._lifetimes()
        return now >= session.used + lifetimes.idle or now >= session.began + lifetimes.whole

    def _store(self, session: Session) -> str:
        if len(self._live) >= MAX_SESSIONS:
            self._remove(min(self._live, key=lambda name: self._live[name].used))
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._live[name_of(token)] = session
        self._saved[name_of(token)] = session.used
        self._storage.add(name_of(token), session)
        return token

    def _remove(self, name: str, *, expired: bool = False) -> None:
        self._storage.remove(name, self._live.get(name), expired=expired)
        self._forget(name)

    def _forget(self, name: str) -> None:
        self._live.pop(name, None)
        self._saved.pop(name, None)


def form_token(cookie: str) -> str:
    """Return what a form has to send back, derived from the cookie of its page."""
    return hmac.new(cookie.encode(), b"form", hashlib.sha256).hexdigest()


def is_form_token(cookie: str, stated: str) -> bool:
    """Say whether a form was sent from a page with that cookie."""
    return bool(cookie) and hmac.compare_digest(form_token(cookie).encode(), stated.encode())


def _open(file: Path) -> tuple[sqlite3.Connection, dict[str, Session]]:
    """Open the file and read its sessions; raise if it cannot be used, and leave nothing open."""
    if not file.exists():
        file.touch(mode=0o600)
    with ExitStack() as opened:
        database = opened.enter_context(closing(sqlite3.connect(file)))
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # a crash of the machine logs everybody out
        columns = ", ".join(f.name for f in fields(Session))
        database.execute(
            f"CREATE TABLE IF NOT EXISTS session (token_sha256 TEXT PRIMARY KEY, {columns})"
        )
        present = {row[1] for row in database.execute("PRAGMA table_info(session)")}
        for column in ("origin", "client"):  # files of earlier versions have neither
            if column not in present:
                database.execute(f"ALTER TABLE session ADD COLUMN {column} DEFAULT ''")
        found = dict(_stored(database))
        opened.pop_all()
    return database, found


def _stored(database: sqlite3.Connection) -> Iterator[tuple[str, Session]]:
    with closing(database.execute("SELECT * FROM session")) as rows:
        for name, *stated in rows:
            yield name, session_of(*stated)


def fields_of(session: Session) -> list[object]:
    """Return what is stored of a session, in the order of its fields."""
    return [_text(value) for value in astuple(session)]


def session_of(
    number: object,
    party: str,
    user: str,
    credential: str,
    rehearsal: str,
    stage: str,
    began: str,
    used: str,
    origin: str,
    client: str,
) -> Session:
    """Return the session with what `fields_of` has returned; ValueError if it is none."""
    return Session(
        int(str(number)),
        party,
        user,
        credential,
        rehearsal,
        Stage(stage),
        datetime.fromisoformat(began),
        datetime.fromisoformat(used),
        origin,
        client,
    )


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def name_of(token: str) -> str:
    """Return the name under which a session is kept, from which its token cannot be computed."""
    return hashlib.sha256(token.encode()).hexdigest()
