"""What the running server goes by: its own word, so that a command can prove it took a change.

`state/serving.json`, replaced by the server whenever anything in it changes:

    {"announced": ["SHA256:…"], "damaged": ["parti-b"], "faults": ["site.toml: …"],
     "host_keys": ["SHA256:…"], "parties": {"parti-a": "<digest>"},
     "pid": 4711, "rings": {"parti-a": "<digest>"}}

A digest is `ring.digest` of the ring in force (`damaged` are those whose file has since become
unreadable), or `agreed` of what is in force with that party. `faults` are those for which the
last reload was turned down.

A file may be left of a server that is no more. So each daemon holds a record lock on a file of
its own, `state/<part>.lock`, for as long as it lives, and the kernel itself is asked who holds it
(fcntl(2), F_GETLK): no number of a process that may be another's by now is ever believed.
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
from config.site import SERVER_STATE, STATE, lock_file
from keys import files

RUN, SERVE, PUBLISH = "run", "serve", "publish"
_flock = struct.Struct("hhqqi4x")


class AlreadyRunning(Exception):
    """Another process is that part of this site already."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server's word; see above."""

    pid: int
    rings: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    parties: Mapping[str, str] = field(default_factory=dict)
    host_keys: tuple[str, ...] = ()
    announced: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def party_digest(party: Party) -> str:
    """Return what tells the agreement with a party from any other."""
    stated = {**asdict(party), "scope": str(party.scope)}
    text = json.dumps(stated, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write(site: Path, serving: ServerState) -> None:
    """Give the server's word."""
    (site / STATE).mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(site / SERVER_STATE, json.dumps(asdict(serving), sort_keys=True).encode() + b"\n")


def read(site: Path) -> ServerState | None:
    """Return the word of the server that runs now, None if none does or it has not spoken yet."""
    pid = holder(site, SERVE)
    try:
        data = json.loads((site / SERVER_STATE).read_bytes())
        lists = ("damaged", "host_keys", "announced", "faults")
        found = ServerState(**{**data, **{key: tuple(data[key]) for key in lists}})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.pid == pid else None


@contextmanager
def claim(site: Path, part: str) -> Iterator[None]:
    """Be that part of the site; raise Held if another process is.

    A fork does not inherit it. Nothing else in this process may open the lock's file.
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
                f"{site}: process {pid} is its `ssps {part}`, stop that one first"
            ) from None
        yield
    finally:
        os.close(descriptor)


def holder(site: Path, part: str) -> int | None:
    """Return the process that is that part of the site now, None if there is none."""
    try:
        descriptor = os.open(site / lock_file(part), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = _flock.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _flock.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    return None if kind == fcntl.F_UNLCK else pid
