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

If several hosts run the daemons of a site (config/site), each host has these files in a folder of
its own. The kernel of one host does not know the processes of another. A daemon touches its lock
file every `BEAT` seconds, and on a named host it sets the file's time to 0 when it ends. A daemon
of a named host whose lock file is older than `GONE_AFTER` counts as gone, so the hosts' clocks must
agree to a second or two. On a site with one host, a daemon that holds its lock and has not touched
the file for `HANGS_AFTER` hangs.

A command signals the daemons of a site with one host. Those of named hosts look at
`state/reload.json`, which a command replaces, several times a second.
"""

import fcntl
import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.party import Party
from config.site import (
    PORTAL_STATE,
    RELOAD,
    SERVER_STATE,
    STAFF_STATE,
    host_state,
    lock_file,
    named_hosts,
)
from keys import files

RUN, SERVE, PUBLISH, PORTAL, STAFF = "run", "serve", "publish", "portal", "staff"
BEAT, GONE_AFTER, HANGS_AFTER = 2.0, 15.0, 60.0  # seconds
STATE_FILES = {SERVE: SERVER_STATE, PORTAL: PORTAL_STATE, STAFF: STAFF_STATE}
_flock = struct.Struct("hhqqi4x")
_own: dict[Path, int] = {}  # the locks that this process holds, with its number (a child has none)


class AlreadyRunning(Exception):
    """Another process already runs this part of the site."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What a running server uses now: the content of its state file."""

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


def state_file(part: str, host: str = "") -> Path:
    """Return the file of that part of the site on a host, relative to the site."""
    return host_state(STATE_FILES[part], host)


def write(site: Path, serving: ServerState, part: str = SERVE, host: str = "") -> None:
    """Write the file of that part of the site on a host."""
    path = site / state_file(part, host)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path, json.dumps(asdict(serving), sort_keys=True).encode() + b"\n")


def read(site: Path, part: str = SERVE, host: str = "") -> ServerState | None:
    """Return the state of a running server, or None if none runs or it has not written yet."""
    pid = holder(site, part, host)
    try:
        data = json.loads((site / state_file(part, host)).read_bytes())
        lists = ("damaged", "host_keys", "announced", "faults")
        found = ServerState(**{**data, **{key: tuple(data[key]) for key in lists}})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if (is_alive(site, part, host) if host else found.pid == pid) else None


@contextmanager
def claim(site: Path, part: str, host: str = "") -> Iterator[Callable[[], None]]:
    """Run as that part of the site on a host; raise AlreadyRunning if another process does.

    Yields a function to call every second, with which the daemon gives its sign of life. A forked
    child does not inherit the lock. Nothing else in this process may open the lock's file, since
    closing it would release the lock (fcntl(2)); `holder` does not.
    """
    path = site / lock_file(part, host)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = holder(site, part, host)
            raise AlreadyRunning(
                f"{site}: process {pid} already runs `ssps {part}`, stop that one first"
            ) from None
        _own[path] = os.getpid()
        yield _Heartbeat(path)
    finally:
        if _own.pop(path, None) is not None and host:
            with suppress(OSError):
                os.utime(descriptor, (0, 0))  # the other hosts need not wait for `GONE_AFTER`
        os.close(descriptor)


class _Heartbeat:
    """Touches the lock file of a daemon, at once and then every `BEAT` seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = 0.0
        self()

    def __call__(self) -> None:
        if time.monotonic() >= self._due:
            with suppress(OSError):  # a full disk; a sign that is missing is what the others see
                os.utime(self._path)
                self._due = time.monotonic() + BEAT


def refuse_second(site: Path, part: str, host: str = "") -> None:
    """Raise AlreadyRunning if a process runs that part of the site; call it before `claim`."""
    if (pid := holder(site, part, host)) is not None:
        raise AlreadyRunning(
            f"{site}: process {pid} already runs `ssps {part}`, stop that one first"
        )


def is_alive(site: Path, part: str, host: str = "") -> bool:
    """Say whether a host runs this part of the site now; see above for a named host."""
    if host:
        return age(site, part, host) < GONE_AFTER
    return holder(site, part) is not None


def age(site: Path, part: str, host: str) -> float:
    """Return the seconds since the last sign of life of a daemon."""
    return time.time() - last_sign(site, part, host)


def last_sign(site: Path, part: str, host: str) -> float:
    """Return when a daemon gave its last sign of life (Unix time), and -inf if it has ended."""
    try:
        return (site / lock_file(part, host)).stat().st_mtime or -math.inf
    except FileNotFoundError:
        return -math.inf


def hanging(site: Path) -> Iterator[tuple[str, float]]:
    """Yield each daemon of a site with one host that hangs, and since when, in seconds."""
    for part in (SERVE, PUBLISH, PORTAL, STAFF):
        if holder(site, part) is not None and HANGS_AFTER < age(site, part, "") < math.inf:
            yield part, age(site, part, "")


def running(site: Path, *parts: str) -> tuple[tuple[str, str], ...]:
    """Return which of these parts run now, and on which host: `("serve", "gw2")`."""
    hosts = ("", *named_hosts(site))
    return tuple((p, host) for host in hosts for p in parts if is_alive(site, p, host))


def ask_to_reload(site: Path) -> bool:
    """Have the daemons of all named hosts read the settings again; return whether there are any."""
    if not named_hosts(site):
        return False
    files.replace(site / RELOAD, json.dumps({"pid": os.getpid()}).encode() + b"\n")
    return bool(running(site, RUN, SERVE, PORTAL, STAFF))


class ReloadRequests:
    """Whether a command wants the settings to be read again, for a daemon on a named host."""

    def __init__(self, site: Path, part: str, host: str) -> None:
        self._site, self._part, self._host = site, part, host
        self._seen: tuple[int, int] | None = None
        self._seen = self._stamp()

    def is_asked(self) -> bool:
        """Return True once for each request; `ssps run` passes it on to its own daemons."""
        if not self._host or (stamp := self._stamp()) == self._seen:
            return False
        self._seen = stamp
        return self._part == RUN or holder(self._site, RUN, self._host) is None

    def _stamp(self) -> tuple[int, int] | None:
        if not self._host:
            return None
        try:
            status = (self._site / RELOAD).stat()
        except FileNotFoundError:
            return None
        except OSError:  # such as ESTALE of NFS; the next look tells
            return self._seen
        return status.st_ino, status.st_mtime_ns


def holder(site: Path, part: str, host: str = "") -> int | None:
    """Return the process of this machine that runs this part of the site now, or None."""
    path = site / lock_file(part, host)
    if _own.get(path) == os.getpid():
        return os.getpid()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # F_GETLK needs no more
    except FileNotFoundError:
        return None
    try:
        asked = _flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _flock.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else pid
