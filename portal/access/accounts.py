"""The users in force: those on the disk, or the last good ones.

A file of users is read again when it has changed, which is checked at every request, so a user who
is suspended or removed is out at once. If the file is damaged, or no command has written it
(keys/operations/user_files), the last good users stay in force and an error is logged.
"""

from dataclasses import dataclass
from pathlib import Path

import structlog

from config.fault import Faults
from config.site import users_file
from keys.credentials.users import Users
from keys.operations import user_files
from keys.operations.key_files import KeyFilesOnRecord
from portal import broker_client

_Stamp = tuple[int, int, int, int] | None

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Cached:
    stamp: _Stamp
    users: Users | None
    faults: Faults | None = None


class Accounts:
    """The users of every party of one site."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._on_record: KeyFilesOnRecord | None = None
        self._cache: dict[str, _Cached] = {}
        self._paths: dict[str, Path] = {}

    def in_force(self, party: str) -> Users:
        """Return the users of `party`; raise Faults if there never were good ones."""
        cached = self._load(party)
        if cached.users is None:
            raise cached.faults or AssertionError("neither users nor faults")
        return cached.users

    def look_up(self, party: str) -> tuple[Users | None, bool]:
        """Return the users of `party`, and whether their file is damaged."""
        cached = self._load(party)
        return cached.users, cached.faults is not None

    def _load(self, party: str) -> _Cached:
        path = self._paths.get(party)
        if path is None:
            path = self._paths[party] = self._site / users_file(party)
        cached, stamp = self._cache.get(party), _stamp(path)
        if cached is None or cached.stamp != stamp:
            try:
                cached = _Cached(stamp, self._read(party))
            except Faults as faults:
                _log.error("users-unreadable", party=party, cause=str(faults))
                cached = _Cached(stamp, cached.users if cached else None, faults)
            self._cache[party] = cached
        return cached

    def _read(self, party: str) -> Users:
        if broker_client.in_use():
            found: Users = broker_client.ask("users", party)
            return found
        if self._on_record is None:
            self._on_record = KeyFilesOnRecord(self._site)
        return user_files.load(self._site, party, self._on_record)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
