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
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
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
_TRIES = 5  # to list a folder whose files are being renamed


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
    """What a copy has."""

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
            if not all(_is_safe(each.path) and 0 <= int(each.mode, 8) < 0o1000 for each in listed):
                raise ValueError("a path that no site has")
        except (ValueError, KeyError, TypeError) as error:
            raise _fault(f"is not the manifest of a copy ({error})") from None
        return found


def _is_safe(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and not {"..", "."} & set(path.split("/"))


def _fault(wrong: str) -> Faults:
    return Faults([Fault(MANIFEST, "", f"{wrong}: make the copy again")])


class Target(Protocol):
    """Where a copy goes."""

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
        """Add a file."""
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


def install(source: Iterator[tuple[str, BinaryIO]], site: Path) -> Manifest:
    """Put the files of a copy into the folder of a site, once all are there and as listed.

    Raises Faults if a file is missing, damaged, not listed, or in the folder already. Then nothing
    of the copy is in the folder.
    """
    site.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".import-", dir=site) as name:
        staging = Path(name)
        try:
            found = dict(_unpack(source, staging))
        except (tarfile.TarError, EOFError) as error:
            raise _fault(f"is missing, because the archive is damaged ({error})") from None
        if MANIFEST not in found:
            raise _fault("is missing, so the copy is not complete")
        manifest = Manifest.parse((staging / MANIFEST).read_bytes())
        del found[MANIFEST]
        _compare(manifest, found, site)
        for file in manifest.files:
            made = staging / file.path
            made.chmod(int(file.mode, 8))
            os.utime(made, ns=(file.mtime_ns, file.mtime_ns))
            target = site / file.path
            _make_folders(site, target.parent)
            made.rename(target)
    files.sync_file_system(site)
    return manifest


def _unpack(
    source: Iterator[tuple[str, BinaryIO]], staging: Path
) -> Iterator[tuple[str, tuple[int, str]]]:
    """Write the files of a copy, and yield the size and the SHA-256 of each."""
    for path, content in source:
        if not _is_safe(path):
            raise _fault(f"is of a copy with {path!r}, which no site has")
        _make_folders(staging, (staging / path).parent)
        yield path, _write(staging / path, content)


def _write(path: Path, content: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        while piece := content.read(_CHUNK):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()


def _compare(manifest: Manifest, found: dict[str, tuple[int, str]], site: Path) -> None:
    faults = []
    listed = {file.path: file for file in manifest.files}
    for path, file in listed.items():
        if path not in found:
            faults.append(Fault(path, "", "is missing in the copy: make the copy again"))
        elif found[path] != (file.size, file.sha256):
            faults.append(Fault(path, "", "is damaged in the copy: make the copy again"))
        elif (site / path).exists():
            wrong = "is in the site's folder already: import into a folder without it"
            faults.append(Fault(path, "", wrong))
    for path in found.keys() - listed.keys():
        faults.append(Fault(path, "", "is not in the manifest: make the copy again"))
    if SITE_TOML not in listed:
        faults.append(Fault(SITE_TOML, "", "is not in the copy: it is no copy of a site"))
    if faults:
        raise Faults(faults)


def _make_folders(root: Path, folder: Path) -> None:
    below = folder.relative_to(root)
    for each in reversed([below, *below.parents]):
        (root / each).mkdir(mode=0o700, exist_ok=True)
