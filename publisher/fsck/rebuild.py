"""A party's tree made from nothing, beside a running publisher, and put in place at once.

The long part needs no lock: every filing in the party's scope is linked from the store into
`trees/.<party>.new/`, which nobody is shown. Then the publisher (publisher/requests/handler) adds
what was
filed since, brings along the files of its own, and lets the election's folder and the new one
change places, so that a client sees the old tree or the new one and never a part. Last the old
folder is emptied: what the store holds is unlinked, all else goes to quarantine.
"""

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from config import layout
from config.party import Party
from config.settings import Settings
from config.site import STORE, TREES, original_file
from keys import digest
from keys.files import exchange, sync_file_system
from keys.ledger.writer import Clock, utc_now
from publisher.catalog import catalog, counts
from publisher.catalog.rows import Original
from publisher.fsck.merging import walk_sorted
from publisher.page import arrival_id, escaped, safe_name
from publisher.store.quarantine import FOUND_IN_TREE, Quarantine, QuarantineNote
from publisher.store.store import Store


def staging_name(party: str) -> str:
    """Return the name of the folder in which a party's tree is made."""
    return f".{party}.new"


class StagedTree(NamedTuple):
    """A tree that stands aside: until which filing, and its folders as `<election>:<inode>`."""

    last_filing: int
    folders: tuple[str, ...]


def build(
    settings: Settings, party: Party, progress: Callable[[int], None] = lambda done: None
) -> StagedTree:
    """Link every filing in scope into the folder aside; `progress` is told filings' numbers."""
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
    made = sorted((site / TREES / name).iterdir())
    return StagedTree(last, tuple(f"{path.name}:{path.stat().st_ino}" for path in made))


def put_in_place(
    site: Path, party: Party, built: StagedTree, since: Iterator[Original], store: Store
) -> None:
    """Complete the tree that stands aside by what was filed since, and show it.

    May be done twice: a folder that is shown already does not change places again.
    """
    name = staging_name(party.id)
    fresh, shown = site / TREES / name, site / TREES / party.id
    store.make_root(party.id)
    waiting = [folder.rpartition(":")[0] for folder in built.folders if _is_at(fresh, folder)]
    late = [one for one in since if party.scope.covers(layout.parse(one.path).sheet)]
    for election in waiting:
        for original in late:
            if original.path.startswith(f"{election}/"):
                store.link(original.sha256, name, original.path)
        _bring_own(shown / election, fresh / election)
        store.sync()
        if (shown / election).exists():
            exchange(fresh / election, shown / election)
        else:
            (fresh / election).rename(shown / election)
    sync_file_system(shown)


def _is_at(root: Path, folder: str) -> bool:
    election, _, inode = folder.rpartition(":")
    try:
        return str((root / election).lstat().st_ino) == inode
    except FileNotFoundError:
        return False


def _bring_own(old: Path, new: Path) -> None:
    # They stand no deeper than the folders of boards, and change only when a page is filed.
    folders = [old, *old.glob("*/"), *old.glob("*/*/")] if old.is_dir() else []
    for folder in folders:
        below = folder.relative_to(old)
        for name in (layout.SUMS, layout.SUMS + layout.SIGNATURE_SUFFIX):
            if (folder / name).is_file() and (new / below).is_dir():
                (new / below / name).hardlink_to(folder / name)


def clear_staging(settings: Settings, party: str, clock: Clock = utc_now) -> int:
    """Empty the folder aside of what was shown before; return how much went to quarantine."""
    site = settings.site
    root, quarantine = site / TREES / staging_name(party), Quarantine(site)
    kept = 0
    for key, _ in walk_sorted(str(root), lambda error: None):
        path = os.fsdecode(key)
        if layout.is_publisher_file(path) or _is_in_store(site, root / path):
            (root / path).unlink()
            continue
        now = clock()
        identity = arrival_id(now, secrets.token_hex(4))
        name = f"{TREES}/{party}/{escaped(path)}"
        file = f"{identity}-{safe_name(name)}"
        when = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        quarantine.write_note(
            file, QuarantineNote(identity, name, FOUND_IN_TREE, None, (), 1, (), when)
        )
        quarantine.add(root / path, file)
        kept += 1
    quarantine.sync()
    for folder, _, _ in os.walk(root, topdown=False):
        Path(folder).rmdir()
    return kept


def _is_in_store(site: Path, path: Path) -> bool:
    # Only the very inode counts; another file with the same bytes is somebody's evidence.
    standing = path.lstat()
    if not stat.S_ISREG(standing.st_mode):
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        sha256 = digest.digests_of_file(descriptor).sha256
    finally:
        os.close(descriptor)
    original = site / original_file(sha256)
    return original.exists() and os.path.samestat(original.lstat(), standing)
