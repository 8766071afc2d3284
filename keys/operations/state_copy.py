"""Copies a site's settings, ledgers and state, so that a second machine can go on with the site.

The copy is a folder, or a tar archive, with the site's own paths, and as its last file
`MANIFEST.json`:

    {"format": "ssps-state 1", "made": "2023-05-14T20:00:00Z", "keys": true,
     "left_out": ["store", "trees", "feed", "snapshots", "quarantine", "intake", "results"],
     "files": [{"path": "site.toml", "size": 412, "sha256": "9f86d0…", "mode": "0644",
                "mtime_ns": 1684080000123456789}]}

`keys` says whether it has keys/ and the password file of the catalog. `left_out` names the folders
with the mass of the data, which rsync copies. Also left out is what belongs to running processes:
locks, sockets, their state files, caches. SQLite files are copied by SQLite, so that they are
complete.

The ledgers may grow meanwhile. The newest checkpoint of a ledger is copied before its records, so
the copy has every record that the checkpoint covers.
"""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from config import load, times
from config.fault import Fault, Faults
from config.site import (
    CLIENTS,
    FEED,
    HOSTS,
    INTAKE,
    KEYS,
    LEDGERS,
    LIVE_SESSIONS,
    PORTAL_STATE,
    PUBLISHER_STATE,
    QUARANTINE,
    REHEARSALS,
    RESULTS,
    SERVER_STATE,
    SIGNED,
    SITE_TOML,
    SNAPSHOTS,
    STAFF_CACHE,
    STAFF_STATE,
    STATE,
    STORE,
    TREES,
    WEB_SESSIONS,
)
from keys import files
from keys.folder_lock import FolderLock
from keys.ledger.segments import CHECKPOINT, CHECKPOINTS, HASHES

FORMAT, MANIFEST = "ssps-state 1", "MANIFEST.json"
LEFT_OUT = (STORE, TREES, FEED, SNAPSHOTS, QUARANTINE, INTAKE, RESULTS)
_OF_OTHERS = (*LEFT_OUT, REHEARSALS, CLIENTS)
_OF_PROCESSES = {
    SERVER_STATE, LIVE_SESSIONS, WEB_SESSIONS, PUBLISHER_STATE, PORTAL_STATE, STAFF_STATE,
    STAFF_CACHE, HOSTS, SIGNED,
}  # fmt: skip
_SQLITE = ".sqlite"
_UNWANTED = (".lock", ".sock", ".new", "-wal", "-shm", "-journal", ".before")
_CHUNK = 1 << 20
_STAGING = ".import-"


@dataclass(frozen=True, slots=True)
class CopiedFile:
    """One file of a copy; `mode` is octal, such as "0600"."""

    path: str
    size: int
    sha256: str
    mode: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a copy, the time when it was made, and whether it has the keys."""

    made: str
    keys: bool
    files: tuple[CopiedFile, ...]

    def format(self) -> bytes:
        """Return the text of MANIFEST.json."""
        fields = {
            "format": FORMAT,
            "made": self.made,
            "keys": self.keys,
            "left_out": [str(folder) for folder in LEFT_OUT],
            "files": [asdict(each) for each in self.files],
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def parse(cls, content: bytes) -> "Manifest":
        """Read MANIFEST.json; raise Faults if it is not one."""
        try:
            fields = json.loads(content)
            if fields["format"] != FORMAT:
                raise ValueError(f"format {fields['format']}")
            listed = tuple(CopiedFile(**each) for each in fields["files"])
            found = cls(str(fields["made"]), bool(fields["keys"]), listed)
            for each in listed:
                if not (_is_safe(each.path) and 0 <= int(each.mode, 8) < 0o1000):
                    raise ValueError(f"{each.path!r}, which no site has")
                if not 0 <= each.mtime_ns < 2**63:
                    raise ValueError(f"{each.path}: a time that no file has")
            if len({each.path for each in listed}) != len(listed):
                raise ValueError("a file twice")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _fault(f"is not the manifest of a copy ({error})") from None
        return found


def _is_safe(path: str) -> bool:
    """Say whether a copy may have a file with this path."""
    first, *_ = parts = path.split("/")
    if "\0" in path or {"", ".", ".."} & set(parts) or first.startswith("."):
        return False
    return Path(first) not in _OF_OTHERS


def _fault(wrong: str) -> Faults:
    return Faults([Fault(MANIFEST, "", f"{wrong}: make the copy again")])


class Target(Protocol):
    """The folder or archive that a copy is written to."""

    def add(self, file: CopiedFile, content: BinaryIO) -> None:
        """Take one file; its digest is not known yet."""


class FolderTarget:
    """A new folder, which only its owner can read."""

    def __init__(self, folder: Path) -> None:
        """Create the folder; raise FileExistsError."""
        folder.mkdir(mode=0o700, parents=True)
        self._folder = folder

    def add(self, file: CopiedFile, content: BinaryIO) -> None:
        """Write a file, and make it durable."""
        path = self._folder / file.path
        _make_folders(self._folder, path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as new:
            shutil.copyfileobj(content, new, _CHUNK)
            new.flush()
            os.fsync(descriptor)


class TarTarget:
    """A tar archive that is written from its beginning to its end, such as to a pipe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._archive = tarfile.TarFile.open(fileobj=stream, mode="w|")

    def add(self, file: CopiedFile, content: BinaryIO) -> None:
        """Append a file to the archive."""
        entry = tarfile.TarInfo(file.path)
        entry.size, entry.mode, entry.mtime = file.size, int(file.mode, 8), file.mtime_ns // 10**9
        self._archive.addfile(entry, content)

    def close(self) -> None:
        """Write the end of the archive."""
        self._archive.close()


class _Hashed:
    """Reads exactly so many bytes of a file, and hashes them; raises Faults if it has fewer."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self._file, self._left, self._name = file, size, name
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        """Return the next bytes."""
        wanted = self._left if count < 0 else min(count, self._left)
        piece = self._file.read(wanted)
        if wanted and not piece:
            raise Faults([Fault(self._name, "", "became shorter while it was copied: try again")])
        self._left -= len(piece)
        self.digest.update(piece)
        return piece


def export(site: Path, target: Target, made: datetime, *, with_keys: bool) -> Manifest:
    """Copy the state of a site to `target`, and return the manifest, which it has as well."""
    copied = []
    with tempfile.TemporaryDirectory(prefix="ssps-state-") as scratch:
        for path in paths(site, with_keys=with_keys):
            with suppress(FileNotFoundError):  # it was replaced or compressed meanwhile
                copied.append(_copy(site, path, target, Path(scratch)))
    manifest = Manifest(times.format_time(made), with_keys, tuple(copied))
    text = manifest.format()
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        target.add(CopiedFile(MANIFEST, len(text), "", "0600", 0), cast(BinaryIO, file))
    return manifest


def _copy(site: Path, path: Path, target: Target, scratch: Path) -> CopiedFile:
    source, status = site / path, (site / path).stat()
    if path.suffix == _SQLITE:
        source = scratch / "database"
        source.unlink(missing_ok=True)
        _back_up(site / path, source)
    with source.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        hashed = _Hashed(file, size, str(path))
        mode = f"{stat.S_IMODE(status.st_mode) & 0o777:04o}"
        copied = CopiedFile(str(path), size, "", mode, status.st_mtime_ns)
        target.add(copied, cast(BinaryIO, hashed))
    return CopiedFile(str(path), size, hashed.digest.hexdigest(), mode, status.st_mtime_ns)


def _back_up(database: Path, copy: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as opened,
        closing(sqlite3.connect(copy)) as new,
    ):
        opened.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")  # no second file beside it


def paths(site: Path, *, with_keys: bool) -> Iterator[Path]:
    """Yield the files to copy, in the order in which they are copied."""
    secret = load.catalog(site).password_file
    for path in sorted(site.iterdir()):
        own = path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        if own and (with_keys or path != secret):
            yield Path(path.name)
    if with_keys:
        yield from _below(site, KEYS)
        if secret is not None and secret.is_relative_to(site) and secret.parent != site:
            yield secret.relative_to(site)
    for ledger in sorted((site / LEDGERS).glob("*/")):
        yield from sorted(_below(site, LEDGERS / ledger.name), key=_place_in_ledger)
    yield from (path for path in _below(site, STATE) if not _of_processes(path))


def _place_in_ledger(path: Path) -> tuple[int, str]:
    """Order the files of a ledger: nothing may cover a record that is copied later."""
    if path.name in {CHECKPOINT, CHECKPOINTS}:
        return 0, path.name
    return 1 if path.name.endswith(HASHES) else 2, path.name


def _below(site: Path, folder: Path) -> Iterator[Path]:
    for path in sorted((site / folder).rglob("*")):
        if path.is_file() and not path.is_symlink() and not path.name.endswith(_UNWANTED):
            yield path.relative_to(site)


def _of_processes(path: Path) -> bool:
    return bool({path, *path.parents} & _OF_PROCESSES)


def read_folder(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the name and the content of each file of a copy that is a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                yield str(path.relative_to(folder)), file


def read_archive(stream: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Yield the same of a copy that is a tar archive; a damaged one raises tarfile.TarError."""
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isfile() else None
            if content is None:
                raise _fault(f"is of a copy with {entry.name!r}, which no site has")
            yield entry.name, cast(BinaryIO, content)


def examine(source: Iterator[tuple[str, BinaryIO]], site: Path) -> Manifest:
    """Check a copy as `install` does, and change nothing; raises Faults."""
    return _checked(source, site, None)


def install(source: Iterator[tuple[str, BinaryIO]], site: Path) -> Manifest:
    """Put the files of a copy into the folder of a site, once all are there and as listed.

    Raises Faults if a file is missing, damaged, not listed, or in the folder already with other
    bytes. Then nothing of the copy is in the folder. If the process is killed, site.toml is not
    there, so no daemon starts, and the same copy can be installed again. If root installs it, the
    owner of the folder owns the files.
    """
    site.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_import(site), tempfile.TemporaryDirectory(prefix=_STAGING, dir=site) as name:
        staging = Path(name)
        manifest = _checked(source, site, staging)
        for file in manifest.files:
            made = staging / file.path
            made.chmod(int(file.mode, 8))
            _give_to_owner_of(site, made)
            os.utime(made, ns=(file.mtime_ns, file.mtime_ns))
        for file in sorted(manifest.files, key=lambda each: each.path == str(SITE_TOML)):
            if file.path == str(SITE_TOML):  # it makes the folder a site, so all others come first
                files.sync_file_system(site)
            target = site / file.path
            _make_folders(site, target.parent)
            (staging / file.path).rename(target)
    files.sync_file_system(site)
    return manifest


@contextmanager
def _only_import(site: Path) -> Iterator[None]:
    """Let no other import use the folder meanwhile, and remove what a killed one has left."""
    try:
        lock = FolderLock(site)
    except BlockingIOError:
        fault = Fault(str(site), "", "another import uses this folder: wait for its end")
        raise Faults([fault]) from None
    with closing(lock):
        for left in site.glob(f"{_STAGING}*"):  # it has keys
            shutil.rmtree(left)
        yield


def _checked(source: Iterator[tuple[str, BinaryIO]], site: Path, staging: Path | None) -> Manifest:
    """Read a copy, write its files to `staging` if there is one, and return its manifest."""
    found: dict[str, tuple[int, str]] = {}
    text = None
    try:
        for path, content in source:
            if not _is_safe(path) or path in found:
                raise _fault(f"is of a copy with {path!r}, which no site has")
            if path == MANIFEST:
                text = content.read()
            else:
                found[path] = _read(content, None if staging is None else staging / path)
    except (tarfile.TarError, EOFError) as error:
        raise _fault(f"is missing, because the archive is damaged ({error})") from None
    if text is None:
        raise _fault("is missing, so the copy is not complete")
    manifest = Manifest.parse(text)
    _compare(manifest, found, site)
    return manifest


def _read(content: BinaryIO, target: Path | None) -> tuple[int, str]:
    """Write one file if it has a target, and return its size and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    if target is not None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (target or Path(os.devnull)).open("wb") as file:
        while piece := content.read(_CHUNK):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _compare(manifest: Manifest, found: dict[str, tuple[int, str]], site: Path) -> None:
    faults = []
    listed = {file.path: file for file in manifest.files}
    is_site = (site / SITE_TOML).exists()
    for path, file in listed.items():
        if path not in found:
            faults.append(Fault(path, "", "is missing in the copy: make the copy again"))
        elif found[path] != (file.size, file.sha256):
            faults.append(Fault(path, "", "is damaged in the copy: make the copy again"))
        elif (site / path).exists() and (is_site or not _is_same(site / path, file)):
            wrong = "is in the site's folder already: import into a folder without it"
            faults.append(Fault(path, "", wrong))
    for path in sorted(found.keys() - listed.keys()):
        faults.append(Fault(path, "", "is not in the manifest: make the copy again"))
    if SITE_TOML not in listed:
        faults.append(Fault(SITE_TOML, "", "is not in the copy: it is no copy of a site"))
    if faults:
        raise Faults(faults)


def _is_same(path: Path, file: CopiedFile) -> bool:
    """Say whether an import that was interrupted has put this file here."""
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256


def _make_folders(site: Path, folder: Path) -> None:
    below = folder.relative_to(site)
    for each in reversed([below, *below.parents]):
        if not (site / each).exists():
            (site / each).mkdir(mode=0o700)
            _give_to_owner_of(site, site / each)


def _give_to_owner_of(site: Path, path: Path) -> None:
    if os.geteuid() == 0:
        owner = site.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
