"""Checks the results of a site: batches, rows, records, and the chain of snapshots.

Step 1  The store has the bytes of every batch, and they have the digest in their name.
Step 2  Every row in the database has the digest of its numbers, and the record in the results
ledger with its number names that digest, the batch and the line.
Step 3  Every record of a result is in the database.
Step 4  Every snapshot's files have the digests in its manifest, every manifest names the digest
of the one before, and the database and the ledger name the same.
Step 5  Every snapshot that the trees show has the files that its own manifest lists.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from config.event import ResultsEvent
from config.site import (
    LEDGERS,
    RESULT_VIEWS,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    SNAPSHOTS,
    original_file,
)
from config.snapshot import EXPORTS, MANIFEST
from keys.ledger.segments import read_records
from publisher.fsck.finding import Finding
from publisher.results import tables as t
from publisher.results.reading import open_results
from publisher.results.snapshots.folder import snapshot_folder
from publisher.results.snapshots.snapshot import describe_file
from publisher.results.store import ResultStore

_RESTORE = "restore it from a backup"
_Expected = dict[int, tuple[str, str, int, str]]  # by record: digest, batch, line, place


def verify_results(
    site: Path, quick: bool, progress: Callable[[str, int, int], None]
) -> Iterator[Finding]:
    """Yield the problems of a site's results; `quick` skips hashing batches and snapshots."""
    with open_results(site) as reader:
        if reader.store is None:
            return
        yield from _batches(site, reader.store, quick)
        expected: _Expected = {}
        yield from _rows(reader.store, expected, progress)
        snapshots = {row.number: row for row in reader.store.connection.execute(_SNAPSHOTS)}
        yield from _records(site, expected, {row.seq: row.sha256 for row in snapshots.values()})
        yield from _snapshots(site, snapshots, quick)
        yield from _views(site, quick)


_SNAPSHOTS = sa.select(t.snapshot).order_by(t.snapshot.c.number)


def _batches(site: Path, store: ResultStore, quick: bool) -> Iterator[Finding]:
    for batch in store.batches():
        if batch.sha256 is None:
            continue
        place = original_file(batch.sha256)
        file = site / place
        if not file.is_file():
            yield Finding(str(place), f"is missing: the batch {batch.name}", _RESTORE)
        elif not quick and describe_file(file)["sha256"] != batch.sha256:
            yield Finding(str(place), f"has other bytes: the batch {batch.name}", _RESTORE)


def _rows(
    store: ResultStore, expected: _Expected, progress: Callable[[str, int, int], None]
) -> Iterator[Finding]:
    digests = {batch.id: batch.sha256 or "" for batch in store.batches()}
    last = store.last_recorded()
    for number, stored in enumerate(store.since(0, last), 1):
        if number % 10_000 == 0:
            progress("results", number, last)
        key = stored.result.key
        if stored.result.digest() != stored.digest:
            what = f"{key.secim} {key.place}: version {stored.result.version} was changed"
            yield Finding(str(RESULTS_DATABASE), what, _RESTORE)
        if stored.seq is not None:
            expected[stored.seq] = stored.digest, digests[stored.batch], stored.line, key.place


def _records(site: Path, expected: _Expected, snapshots: dict[int, str]) -> Iterator[Finding]:
    folder = LEDGERS / RESULTS_LEDGER
    for record in read_records(site / folder):
        event, detail = record.event, record.event.detail
        place = f"{folder}: record {record.seq}"
        if event.event == ResultsEvent.ACCEPTED:
            wanted = expected.pop(record.seq, None)
            stated = (detail["digest"], detail["batch"], detail["line"], event.what)
            if wanted is None:
                yield Finding(place, f"is unknown to {RESULTS_DATABASE}: {event.what}", _RESTORE)
            elif stated != wanted:
                yield Finding(place, f"differs from {RESULTS_DATABASE}: {event.what}", _RESTORE)
        elif (
            event.event == ResultsEvent.SNAPSHOT
            and snapshots.pop(record.seq, None) != detail["sha256"]
        ):
            what = f"differs from {RESULTS_DATABASE}: snapshot {event.what}"
            yield Finding(place, what, _RESTORE)
    for seq, (_, _, _, place) in expected.items():
        yield Finding(str(RESULTS_DATABASE), f"{place}: record {seq} is missing", _RESTORE)
    for seq in snapshots:
        yield Finding(str(RESULTS_DATABASE), f"record {seq} of a snapshot is missing", _RESTORE)


def _snapshots(
    site: Path, snapshots: dict[int, sa.Row[tuple[object, ...]]], quick: bool
) -> Iterator[Finding]:
    previous = None
    for number, row in snapshots.items():
        folder = snapshot_folder(site, number)
        place = str(SNAPSHOTS / folder.name)
        try:
            content = (folder / MANIFEST).read_bytes()
        except OSError as error:
            yield Finding(f"{place}/{MANIFEST}", f"cannot be read ({error.strerror})", _RESTORE)
            previous = row.sha256
            continue
        digest = hashlib.sha256(content).hexdigest()
        if digest != row.sha256:
            yield Finding(f"{place}/{MANIFEST}", "was changed", _RESTORE)
            previous = row.sha256
            continue
        manifest = json.loads(content)
        if manifest["previous"] != previous:
            yield Finding(f"{place}/{MANIFEST}", "does not follow the one before", _RESTORE)
        previous = digest
        listed = dict(manifest["files"])
        if (folder / EXPORTS).exists():
            listed |= json.loads((folder / EXPORTS).read_bytes())["files"]
        for name, stated in listed.items():
            file = folder / name
            if not file.is_file():
                # Exports of older snapshots may be removed; what the manifest names stays.
                if name in manifest["files"]:
                    yield Finding(f"{place}/{name}", "is missing", _RESTORE)
            elif not quick and describe_file(file) != stated:
                yield Finding(f"{place}/{name}", "was changed", _RESTORE)


def _views(site: Path, quick: bool) -> Iterator[Finding]:
    for manifest in sorted((site / RESULT_VIEWS).glob("[0-9]*/[!.]*/" + MANIFEST)):
        place = manifest.parent.relative_to(site)
        try:
            listed = json.loads(manifest.read_bytes())["files"]
        except (OSError, ValueError, KeyError) as error:
            yield Finding(f"{place}/{MANIFEST}", f"cannot be read ({error})", _RESTORE)
            continue
        for name, stated in listed.items():
            file = manifest.with_name(name)
            if not file.is_file():
                yield Finding(f"{place}/{name}", "is missing", _RESTORE)
            elif not quick and describe_file(file) != stated:
                yield Finding(f"{place}/{name}", "was changed", _RESTORE)
