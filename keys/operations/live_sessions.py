"""Publishes who is connected now, and which sessions an operator has ended.

The server replaces `state/sessions.json` once a second if anything in it has changed:

    {"pid": 4711, "sessions": [{"bytes": 52428800, "client": "SSH-2.0-OpenSSH_9.2", "files": 12,
     "from": "192.0.2.7", "open": 2, "party": "parti-a", "rehearsal": "", "service": "sftp",
     "session": 90, "since": "2023-05-14T18:04:10+00:00", "used": "", "user": ""}]}

    session    its number in the ledger of its service, which no other session ever has, also none
               of the other service
    client     the version that the client states: a text of its own choice
    files      how many files it has opened; `open` are still open, `bytes` were sent of the others

The portal does the same with `state/web-sessions.json`, for those who are logged in to the web
site. A session there has the `service` "web", a `user`, and in `used` the time of its last request;
its client is the User-Agent. It has no files and bytes.

`ssps party end-session` adds a number to `state/ended-sessions.json`, and the server or the portal
ends that session with the reason `ended by operator`. The newest numbers are kept:

    {"sessions": [90, 104]}

On a site with named hosts (config/site) each has files of its own, and its sessions have the name
in `host`. Two hosts can then have a session of the same number, so it is written with its host:
`"90@gw2"`, in that list and in the commands.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.site import (
    ENDED_SESSIONS,
    LIVE_SESSIONS,
    STATE,
    WEB_SESSIONS,
    host_state,
    is_host,
    named_hosts,
)
from keys import files
from keys.operations import server_state

REASON = "ended by operator"
SFTP, WEB = "sftp", "web"
_MAX_ENDED = 1000
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One session that has logged in; see above."""

    session: int
    party: str
    origin: str  # "from" in the file
    client: str
    since: str
    rehearsal: str = ""
    files: int = 0
    bytes: int = 0
    open: int = 0
    service: str = SFTP
    user: str = ""
    used: str = ""
    host: str = ""

    @property
    def number(self) -> str:
        """Its number as commands take it: `90`, or `90@gw2`."""
        return numbered(self.session, self.host)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as the file has them."""
        stated = {
            "session": self.session,
            "party": self.party,
            "from": self.origin,
            "client": self.client,
            "since": self.since,
            "rehearsal": self.rehearsal,
            "files": self.files,
            "bytes": self.bytes,
            "open": self.open,
            "service": self.service,
            "user": self.user,
            "used": self.used,
        }
        return {**stated, "host": self.host} if self.host else stated


class SessionsFile:
    """Writes `state/sessions.json`, or the portal's file, when it changes."""

    def __init__(self, site: Path, file: Path = LIVE_SESSIONS, host: str = "") -> None:
        self._path = site / host_state(file, host)
        self._written: tuple[LiveSession, ...] | None = None

    def update(self, sessions: Sequence[LiveSession]) -> None:
        """Write the sessions unless they are those in the file. A full disk is not an error."""
        found = tuple(sessions)
        if found == self._written:
            return
        stated = {"pid": os.getpid(), "sessions": [session.as_dict() for session in found]}
        with suppress(OSError):
            files.replace_unsynced(self._path, json.dumps(stated).encode() + b"\n")
            self._written = found


def read(site: Path) -> tuple[LiveSession, ...]:
    """Return the sessions of the running servers and of the running portals, if they run."""
    return tuple(
        session
        for host in ("", *named_hosts(site))
        for part, file in ((server_state.SERVE, LIVE_SESSIONS), (server_state.PORTAL, WEB_SESSIONS))
        for session in _read(site, part, file, host)
    )


def _read(site: Path, part: str, file: Path, host: str) -> tuple[LiveSession, ...]:
    try:
        pid = server_state.holder(site, part, host)
        stated = json.loads((site / host_state(file, host)).read_bytes())
        if not server_state.is_alive(site, part, host) or (not host and stated["pid"] != pid):
            return ()
        return tuple(_parse(fields) for fields in stated["sessions"])
    except (OSError, ValueError, TypeError, KeyError):
        return ()


class EndedSessions:
    """The numbers in `state/ended-sessions.json`, read again when the file has changed."""

    def __init__(self, site: Path, host: str | None = "") -> None:
        """With None for `host` they are those of all hosts: a session of the web site moves."""
        self._site, self._host = site, host
        self._stamp: _Stamp = None
        self._numbers: frozenset[int] = frozenset()

    def numbers(self) -> frozenset[int]:
        """Return the sessions that operators have ended."""
        stamp = _stamp(self._site / ENDED_SESSIONS)
        if stamp != self._stamp:
            self._stamp, self._numbers = stamp, frozenset(ended(self._site, self._host))
        return self._numbers


def ended(site: Path, host: str | None = "") -> tuple[int, ...]:
    """Return the sessions of a host, or of all, that operators have ended, oldest first."""
    return tuple(number for number, where in _ended(site) if host in (where, None))


def end(site: Path, number: int, host: str = "") -> None:
    """Have the server of a host end a session; the caller has recorded why."""
    kept = [each for each in _ended(site) if each != (number, host)][1 - _MAX_ENDED :]
    stated = [n if not where else numbered(n, where) for n, where in (*kept, (number, host))]
    (site / STATE).mkdir(mode=0o700, exist_ok=True)
    files.replace(site / ENDED_SESSIONS, json.dumps({"sessions": stated}).encode() + b"\n")


def numbered(number: int, host: str) -> str:
    """Write the number of a session on a host: `90`, or `90@gw2`."""
    return f"{number}@{host}" if host else str(number)


def parse_number(text: str) -> tuple[int, str]:
    """Read what `numbered` wrote; ValueError for anything else."""
    digits, at, host = text.partition("@")
    if not (digits.isascii() and digits.isdigit()) or bool(at) != is_host(host):
        raise ValueError(f"{text!r} is not the number of a session")
    return int(digits), host


def _ended(site: Path) -> list[tuple[int, str]]:
    try:
        stated = json.loads((site / ENDED_SESSIONS).read_bytes())
        return [parse_number(str(each)) for each in stated["sessions"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _parse(fields: dict[str, Any]) -> LiveSession:
    return LiveSession(
        int(fields["session"]),
        str(fields["party"]),
        str(fields["from"]),
        str(fields["client"]),
        str(fields["since"]),
        str(fields["rehearsal"]),
        int(fields["files"]),
        int(fields["bytes"]),
        int(fields["open"]),
        str(fields["service"]),
        str(fields["user"]),
        str(fields["used"]),
        str(fields.get("host", "")),
    )


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
