"""Rebuilds a party's tree from the catalog while a publisher runs, and then swaps it in.

1. `build` links every filing in the party's scope from the store into `trees/.<party>.new/`, which
   no client sees. This takes longest and needs no lock.
2. `put_in_place` runs in the publisher (publisher/requests/handler). It links the pages that were
   filed since, links the publisher's own files, and exchanges the new folder of each election with
   the old one in one step. So a client sees the old tree or the new one, never a part of one.
3. `clear_staging` empties the old folder: files that are in the store are unlinked, all others are
   moved to quarantine.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from config import layout, times
from config.party import Party
from config.settings import Settings
from config.site import STORE, TREES, original_file, result_view
from keys import digest
from keys.files import exchange, sync_file_system
from keys.ledger.writer import Clock, utc_now
from publisher.catalog import catalog
from publisher.catalog.queries import counts
from publisher.catalog.rows import Original
from publisher.fsck.merging import walk_sorted
from publisher.page import arrival_id, escaped, safe_name
from publisher.store.quarantine import FOUND_IN_TREE, Quarantine, QuarantineNote
from publisher.store.store import Store

_FOLDER_MODE = 0o755


def staging_name(party: str) -> str:
    """Return the name of the folder in trees/ in which a party's tree is built."""
    return f".{party}.new"


class StagedTree(NamedTuple):
    """A tree that is built but not shown yet.

    It has all filings up to the id `last_filing`. `folders` are its folders as
    `<election>:<inode>`, to recognize them after a crash.
    """

    last_filing: int
    folders: tuple[str, ...]


def build(
    settings: Settings, party: Party, progress: Callable[[int], None] = lambda done: None
) -> StagedTree:
    """Link every filing in scope into the staging folder.

    `progress` is called with the id of each filing.
    """
    site = settings.site
    store = Store(site)
    name = staging_name(party.id)
    store.make_root(name)
    last = 0
    with counts.open_read_only(site) as connection:
        if connection is not None:
            last = catalog.last_recorded_filing(connection)
            for original in catalog.filings(connection, 0, last):
                if party.scope.covers(layout.parse(original.path).sheet):
                    store.link(original.sha256, name, original.path)
                progress(original.id)
    store.make_root(f"{name}/{settings.election.id}")
    sync_file_system(site / STORE)
    folders = sorted((site / TREES / name).iterdir())
    return StagedTree(last, tuple(f"{path.name}:{path.stat().st_ino}" for path in folders))


def put_in_place(
    site: Path, party: Party, staged: StagedTree, filed_since: Iterator[Original], store: Store
) -> None:
    """Add the pages that were filed since a tree was built, and show the tree.

    This may run twice: a folder that is already shown is not exchanged again.
    """
    name = staging_name(party.id)
    new, shown = site / TREES / name, site / TREES / party.id
    store.make_root(party.id)
    not_shown = [folder.rpartition(":")[0] for folder in staged.folders if _is_at(new, folder)]
    late = [one for one in filed_since if party.scope.covers(layout.parse(one.path).sheet)]
    for election in not_shown:
        for original in late:
            if original.path.startswith(f"{election}/"):
                store.link(original.sha256, name, original.path)
        _link_own_files(shown / election, new / election)
        _link_results(site, party, shown / election, new / election)
        store.sync()
        if (shown / election).exists():
            exchange(new / election, shown / election)
        else:
            (new / election).rename(shown / election)
    sync_file_system(shown)


def _is_at(root: Path, folder: str) -> bool:
    election, _, inode = folder.rpartition(":")
    try:
        return str((root / election).lstat().st_ino) == inode
    except FileNotFoundError:
        return False


def _link_own_files(old: Path, new: Path) -> None:
    # Sums are in the folders of boards and above, and change only when a page is filed.
    folders = [old, *old.glob("*/"), *old.glob("*/*/")] if old.is_dir() else []
    for folder in folders:
        below = folder.relative_to(old)
        for name in layout.SUMS_FILES:
            if (folder / name).is_file() and (new / below).is_dir():
                (new / below / name).hardlink_to(folder / name)


def _link_results(site: Path, party: Party, old: Path, new: Path) -> None:
    """Link the snapshots of the results that the old folder shows, as they were prepared."""
    shown = old / layout.RESULTS
    for folder in shown.glob("[0-9]*/") if shown.is_dir() else ():
        prepared = site / result_view(int(folder.name), party.scope)
        if folder.name.isdecimal() and prepared.is_dir():
            for made in (new / layout.RESULTS, new / layout.RESULTS / folder.name):
                made.mkdir(exist_ok=True)
                made.chmod(_FOLDER_MODE)
            for file in prepared.iterdir():
                target = new / layout.RESULTS / folder.name / file.name
                if not target.exists():
                    target.hardlink_to(file)


def clear_staging(settings: Settings, party: str, clock: Clock = utc_now) -> int:
    """Empty the staging folder, which now has the old tree.

    Returns the number of files that were moved to quarantine.
    """
    site = settings.site
    root, quarantine = site / TREES / staging_name(party), Quarantine(site)
    quarantined = 0
    for key, _ in walk_sorted(str(root), lambda error: None):
        path = os.fsdecode(key)
        if layout.is_publisher_file(path) or _is_in_store(site, root / path):
            (root / path).unlink()
            continue
        now = clock()
        identity = arrival_id(now, secrets.token_hex(4))
        name = f"{TREES}/{party}/{escaped(path)}"
        file = f"{identity}-{safe_name(name)}"
        when = times.format_utc(now)
        quarantine.write_note(
            file, QuarantineNote(identity, name, FOUND_IN_TREE, None, (), 1, (), when)
        )
        quarantine.add(root / path, file)
        quarantined += 1
    quarantine.sync()
    for folder, _, _ in os.walk(root, topdown=False):
        Path(folder).rmdir()
    return quarantined


def _is_in_store(site: Path, path: Path) -> bool:
    # The inode must be the original's. Another file with the same bytes may be evidence.
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        claimed = digest.Claim.of(descriptor).digests
        if claimed is not None and _is_same(site / original_file(claimed.sha256), status):
            return True
        return _is_same(site / original_file(digest.compute(descriptor).sha256), status)
    finally:
        os.close(descriptor)


def _is_same(original: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(original.lstat(), status)
    except FileNotFoundError:
        return False
