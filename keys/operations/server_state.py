"""Publishes what a running server uses, so that a command can check that a change took effect.

The SFTP server replaces `state/serving.json`, the portal `state/portal.json` and the staff site
`state/staff.json`, whenever anything in it changes:

    {"announced": ["SHA256:…"], "damaged": ["parti-b"], "faults": ["site.toml: …"],
     "host_keys": ["SHA256:…"], "parties": {"parti-a": "<digest>"},
     "pid": 4711, "rings": {"parti-a": "<digest>"}}

    rings         for each party, `ring_digest` of the ring in use; of the portal, `users_digest`;
                  of the staff site, that of the operators, as ""
    damaged       parties whose file cannot be used; the last good one is in use
    parties       for each party, `party_digest` of its settings in use
    host_keys     fingerprints of the host keys in use
    announced     fingerprints of the host keys that the server announces: in use, and next
    faults        why the last reload was rejected; empty if it was not
    pid           the server's process

The file can be left over from a server that has ended. So each daemon holds a record lock on its
own file `state/<part>.lock` while it runs, and a reader asks the kernel who holds the lock
(fcntl(2), F_GETLK). A process number from the file alone is never trusted, since another process
may have it by now.
"""

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.party import Party
from config.site import PORTAL_STATE, SERVER_STATE, STAFF_STATE, STATE, lock_file
from keys import files

RUN, SERVE, PUBLISH, PORTAL, STAFF = "run", "serve", "publish", "portal", "staff"
STATE_FILES = {SERVE: SERVER_STATE, PORTAL: PORTAL_STATE, STAFF: STAFF_STATE}
_flock = struct.Struct("hhqqi4x")
_own: dict[Path, int] = {}  # the locks that this process holds, with its number (a child has none)


class AlreadyRunning(Exception):
    """Another process already runs this part of the site."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """The content of the file; see above."""

    pid: int
    rings: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    parties: Mapping[str, str] = field(default_factory=dict)
    host_keys: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def party_digest(party: Party) -> str:
    """Return a digest of a party's settings, which changes whenever they do."""
    stated = {**asdict(party), "scope": str(party.scope)}
    text = json.dumps(stated, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write(site: Path, serving: ServerState, part: str = SERVE) -> None:
    """Write the file of that part of the site."""
    (site / STATE).mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(
        site / STATE_FILES[part], json.dumps(asdict(serving), sort_keys=True).encode() + b"\n"
    )


def read(site: Path, part: str = SERVE) -> ServerState | None:
    """Return the state of a running server, or None if none runs or it has not written yet."""
    pid = holder(site, part)
    try:
        data = json.loads((site / STATE_FILES[part]).read_bytes())
        lists = ("damaged", "host_keys", "announced", "faults")
        found = ServerState(**{**data, **{key: tuple(data[key]) for key in lists}})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.pid == pid else None


@contextmanager
def claim(site: Path, part: str) -> Iterator[None]:
    """Run as that part of the site; raise AlreadyRunning if another process does.

    A forked child does not inherit the lock. Nothing else in this process may open the lock's file,
    since closing it would release the lock (fcntl(2)); `holder` does not.
    """
    path = site / lock_file(part)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = holder(site, part)
            raise AlreadyRunning(
                f"{site}: process {pid} already runs `ssps {part}`, stop that one first"
            ) from None
        _own[path] = os.getpid()
        yield
    finally:
        _own.pop(path, None)
        os.close(descriptor)


def refuse_second(site: Path, part: str) -> None:
    """Raise AlreadyRunning if a process runs that part of the site; call it before `claim`."""
    if (pid := holder(site, part)) is not None:
        raise AlreadyRunning(
            f"{site}: process {pid} already runs `ssps {part}`, stop that one first"
        )


def holder(site: Path, part: str) -> int | None:
    """Return the process that runs this part of the site now, or None."""
    path = site / lock_file(part)
    if _own.get(path) == os.getpid():
        return os.getpid()
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _flock.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else pid
