"""The sessions of the web site: kept by the server, and bound to a user, a password and a stage.

A session's token is a random text in a cookie. The server keeps only its SHA-256, in memory and in
`state/portal-sessions.sqlite`, so that users stay logged in over a restart. A copy of the file
opens nothing. A session ends a while after its last request, and at the latest some hours after the
login (`[portal] idle_minutes`, `session_hours`). At each stage the token is replaced, so a token
that somebody knew before the login is worth nothing afterwards.

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
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

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


class Sessions:
    """All sessions of the portal."""

    def __init__(
        self,
        file: Path,
        clock: Callable[[], datetime],
        lifetimes: Callable[[], Lifetimes],
    ) -> None:
        """Open the file, or replace it if it cannot be used: then everybody logs in again."""
        self._clock, self._lifetimes = clock, lifetimes
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._database, self._live = _open(file)
        except (sqlite3.DatabaseError, ValueError):
            for path in file.parent.glob(f"{file.name}*"):
                path.unlink()
            self._database, self._live = _open(file)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

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
        name = _name(token)
        session = self._live.get(name)
        if session is None:
            return None
        if self._has_ended(session):
            self._remove(name)
            return None
        now = self._clock()
        seen = (origin or session.origin, client or session.client)
        used = replace(session, used=now, origin=seen[0], client=seen[1])
        self._live[name] = used
        if now >= session.used + _SAVE_AFTER or seen != (session.origin, session.client):
            self._save(name, used)
        return used

    def advance(self, token: str, stage: Stage, credential: str | None = None) -> str:
        """Move a session to its next stage under a new token, which is returned."""
        session = self._live[_name(token)]
        self._remove(_name(token))
        named = session.credential if credential is None else credential
        return self._store(replace(session, stage=stage, credential=named))

    def end(self, token: str) -> None:
        """End a session."""
        self._remove(_name(token))

    def is_live(self, token: str) -> bool:
        """Say whether the session with that token goes on, without noting that it was used."""
        session = self._live.get(_name(token))
        return session is not None and not self._has_ended(session)

    def live(self) -> list[Session]:
        """Return all sessions."""
        return list(self._live.values())

    def end_numbers(self, numbers: frozenset[int]) -> list[Session]:
        """End the sessions with those numbers, and return them."""
        found = [(name, s) for name, s in self._live.items() if s.number in numbers]
        for name, _ in found:
            self._remove(name)
        return [session for _, session in found]

    def end_others(self, token: str) -> None:
        """End all other sessions of the session's user, for example after a new password."""
        session = self._live[_name(token)]
        for name, other in list(self._live.items()):
            if name != _name(token) and (other.party, other.user) == (session.party, session.user):
                self._remove(name)

    def remove_ended(self) -> None:
        """Forget the sessions that have ended."""
        for name, session in list(self._live.items()):
            if self._has_ended(session):
                self._remove(name)

    def __len__(self) -> int:
        return len(self._live)

    def _has_ended(self, session: Session) -> bool:
        now, lifetimes = self._clock(), self._lifetimes()
        return now >= session.used + lifetimes.idle or now >= session.began + lifetimes.whole

    def _store(self, session: Session) -> str:
        if len(self._live) >= MAX_SESSIONS:
            self._remove(min(self._live, key=lambda name: self._live[name].used))
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._live[_name(token)] = session
        self._save(_name(token), session)
        return token

    def _save(self, name: str, session: Session) -> None:
        values = (name, *(_text(value) for value in astuple(session)))
        marks = ", ".join("?" * len(values))
        with self._database:
            self._database.execute(f"REPLACE INTO session VALUES ({marks})", values)

    def _remove(self, name: str) -> None:
        self._live.pop(name, None)
        with self._database:
            self._database.execute("DELETE FROM session WHERE token_sha256 = ?", (name,))


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
        for name, number, party, user, credential, rehearsal, stage, began, used, *seen in rows:
            yield (
                name,
                Session(
                    int(number),
                    party,
                    user,
                    credential,
                    rehearsal,
                    Stage(stage),
                    datetime.fromisoformat(began),
                    datetime.fromisoformat(used),
                    *seen,
                ),
            )


def _text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
