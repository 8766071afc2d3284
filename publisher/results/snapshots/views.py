"""Prepares what the parties' trees get of a snapshot, if the site shares results there.

For each scope there is a folder `feed/sonuclar/00000042/<scope>/` (config/site). The feed links its
files into the trees of the parties with that scope (publisher/feed/result_views):

    everything   the files of the snapshot itself, with its manifest and exports.json
    some places  files with the same names and formats that have only the rows in scope, and a
                 signed manifest.json that names the snapshot of which this is a view:

    {"format": "ssps-snapshot-view-v1", "election": "2023-05-14-cb-mv", "number": 42,
     "closed_at": "2023-05-14T18:04:10+00:00", "snapshot": "<sha256 of the snapshot's manifest>",
     "scope": ["34-istanbul-1"], "contests": {"mv": {"boxes": 201, "aggregates": 3}},
     "files": {"mv.csv": {"sha256": "...", "bytes": 123}}}

So every party sees the same snapshot at the same time. A folder is written as `.<scope>.new` and
renamed; one that is there is complete and never changes. This runs with the exports, in their
process.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb

from config.ballot import Ballot
from config.scope import Scope
from config.site import result_view
from config.snapshot import AGGREGATES, MANIFEST, SIGNATURE
from keys import digest
from keys.files import sync
from keys.operations import site_keys
from publisher.results.snapshots.exports import export_folder
from publisher.results.snapshots.folder import condition, snapshot_folder
from publisher.results.snapshots.merge import QUIET
from publisher.results.snapshots.prepared import missing_views
from publisher.results.snapshots.rows import quoted
from publisher.results.snapshots.snapshot import describe_file
from publisher.results.snapshots.summary import BOARD, DISTRICT

FORMAT = "ssps-snapshot-view-v1"
_NEW = ".new"
_MODE, _FOLDER_MODE = 0o444, 0o700
_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK)


def write_views(
    site: Path,
    number: int,
    scopes: Iterable[Scope],
    ballot: Ballot | None,
    sign: Callable[[bytes], bytes],
) -> None:
    """Prepare a snapshot whose exports are complete for the trees of these scopes."""
    snapshot = snapshot_folder(site, number)
    key = site_keys.stamp_key_on_record(site, create=True)
    for scope in missing_views(site, number, scopes):
        folder = site / result_view(number, scope)
        fresh = folder.with_name(f".{folder.name}{_NEW}")
        with suppress(FileNotFoundError):
            shutil.rmtree(fresh)
        fresh.mkdir(mode=_FOLDER_MODE, parents=True)
        if scope.places is None:
            for path in sorted(snapshot.iterdir()):
                if not path.name.startswith("."):
                    _link(path, fresh / path.name)
        else:
            _write_rows_in_scope(snapshot, fresh, scope, ballot, number, sign)
        for path in sorted(fresh.iterdir()):
            _stamp(path, key)
        sync(fresh)
        fresh.rename(folder)
        for parent in (folder.parent, folder.parent.parent):
            sync(parent)


def _write_rows_in_scope(
    snapshot: Path,
    fresh: Path,
    scope: Scope,
    ballot: Ballot | None,
    number: int,
    sign: Callable[[bytes], bytes],
) -> None:
    of_snapshot = (snapshot / MANIFEST).read_bytes()
    whole = json.loads(of_snapshot)
    contests: dict[str, dict[str, int]] = {
        secim: {"boxes": 0, "aggregates": 0} for secim in whole["contests"]
    }
    with duckdb.connect() as database:
        database.execute(QUIET)
        for parquet in sorted(snapshot.glob("*.parquet")):
            name = parquet.name.removesuffix(".parquet")
            rows = _copy_parquet(database, parquet, fresh / parquet.name, condition(scope))
            kind = "aggregates" if name.endswith(AGGREGATES) else "boxes"
            contests[name.removesuffix(AGGREGATES)][kind] = rows
    for path in sorted(snapshot.glob("*.changes.ndjson")):
        _copy_lines(path, fresh / path.name, lambda row: _covers(scope, row))
    for path in sorted(snapshot.glob("*.sums.ndjson")):
        _copy_lines(path, fresh / path.name, lambda row: _covers_sum(scope, row))
    export_folder(fresh, None, number, ballot)
    manifest = {
        "format": FORMAT,
        "election": whole["election"],
        "number": number,
        "closed_at": whole["closed_at"],
        "snapshot": sha256(of_snapshot).hexdigest(),
        "scope": str(scope).split(),
        "contests": contests,
        "files": {path.name: describe_file(path) for path in sorted(fresh.iterdir())},
    }
    content = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
    _write(fresh / MANIFEST, content)
    _write(fresh / SIGNATURE, sign(content))


def _copy_parquet(
    database: duckdb.DuckDBPyConnection, source: Path, target: Path, where: str
) -> int:
    """Copy the rows that satisfy an SQL condition; return how many these are."""
    copied = database.execute(
        f"COPY (SELECT * FROM {quoted(source)} WHERE {where}) "
        f"TO {quoted(target)} (FORMAT parquet, COMPRESSION zstd)"
    ).fetchone()
    target.chmod(_MODE)
    sync(target)
    return int(copied[0]) if copied else 0


def _copy_lines(source: Path, target: Path, wanted: Callable[[dict[str, Any]], bool]) -> None:
    def lines() -> Iterator[bytes]:
        with source.open("rb") as file:
            for line in file:
                if wanted(json.loads(line)):
                    yield line

    _write(target, b"".join(lines()))


def _covers(scope: Scope, row: dict[str, Any]) -> bool:
    return scope.covers_place(row["cevre"], row["kurul"])


def _covers_sum(scope: Scope, row: dict[str, Any]) -> bool:
    """Say whether a party may see a line of the sums: a board or district that it sees whole."""
    return row["level"] in (BOARD, DISTRICT) and _covers(scope, row)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(_MODE)
    sync(path)


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, target)  # snapshots/ is on a disk of its own
        sync(target)


def _stamp(path: Path, key: bytes | None) -> None:
    """Give a file a time in whole seconds, and its digests for clients that ask for them."""
    with path.open("rb") as file:
        modified = int(path.stat().st_mtime)  # the feed lists whole seconds
        if path.stat().st_mtime != modified:
            os.utime(file.fileno(), (modified, modified))
        sealed = digest.Proof.PROVEN, digest.Proof.RELINKED
        if digest.check(digest.Claim.of(file.fileno()), key) in sealed:
            return  # it was linked for another scope too
        path.chmod(_MODE | 0o200)  # an attribute is set only on a file that may be written
        try:
            digest.stamp(file.fileno(), digest.compute(file.fileno()), key)
        finally:
            os.fchmod(file.fileno(), _MODE)
