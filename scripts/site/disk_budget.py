"""Estimates whether the disk has enough bytes and inodes for the rest of the election.

A page takes its bytes and one inode once, however many parties see it, because their trees have
hard links. Folders are different: every tree has a folder of its own for each ballot box, with one
inode and one block, and these take most of the inodes. Inodes run out first: ext4 with the
defaults of `mkfs` has one for each 16 KB of disk.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config.ballot import Ballot
from config.party import Party
from config.registry import Registry
from config.result import BOX_SHEET
from config.settings import Settings
from config.site import REGISTRY_INDEX, SNAPSHOTS, TREES
from config.snapshot import EXPORTS, MANIFEST
from publisher.catalog.queries import counts
from publisher.results.ballot_file import load_ballot
from publisher.results.snapshots import pace
from publisher.results.snapshots.folder import latest_number, snapshot_folder
from publisher.results.snapshots.prepared import scopes_of_trees

PAGE_BYTES = 250_000  # size of a scan at 200 dpi, estimated
_OVERHEAD = 1.03  # factor for corrections and for pages in quarantine
_BLOCK = 4096
_LINK_BYTES = 64  # bytes of a page's name in one tree
_RECORD_BYTES = 2500  # bytes of a page in catalog, ledgers and feeds, with their indexes
_SEGMENTS = 20_000  # segments of a feed, at most one every two seconds while pages are filed
_STORE_FOLDERS = 256 + 256 * 256  # folders of the store
# Bytes of one result of a box: `scripts/bench results` prints them.
_RESULT_BYTES = 2300  # once: in batch, database and ledger
_PARQUET_COLUMN, _EXPORT_COLUMN = 0.6, 11.5  # in each snapshot, in each set of exports
_RESULT_COLUMNS = 17  # beside those of the options


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """An amount of disk space."""

    bytes: int
    inodes: int


def space_needed(registry: Registry, parties: Iterable[Party]) -> DiskSpace:
    """Return the space for all sheets of a registry, in the trees of these parties."""
    places = list(registry.places())
    sheets = round(sum(place.sheets for place in places) * _OVERHEAD)
    folders = links = 0
    scopes = set()
    for party in parties:
        scopes.add(party.scope)
        seen = [p for p in places if party.scope.covers_place(p.cevre or None, p.kurul or None)]
        folders += sum(place.folders + 1 for place in seen)
        links += sum(place.sheets for place in seen)
    folders += _STORE_FOLDERS
    # All parties with the same scope share a feed; a segment has a signature beside it.
    segments = 2 * len(scopes) * min(_SEGMENTS, sheets)
    taken = sheets * (PAGE_BYTES + _RECORD_BYTES) + (folders + segments) * _BLOCK
    return DiskSpace(taken + links * _LINK_BYTES, sheets + folders + segments)


def shortage(site: Path, parties: Iterable[Party]) -> str | None:
    """Return how much space the sheets that are not filed yet need, if it is more than is free."""
    if not (site / REGISTRY_INDEX).exists():
        return None
    registry = Registry(site / REGISTRY_INDEX)
    try:
        whole, sheets = space_needed(registry, parties), registry.source().rows
    finally:
        registry.close()
    remaining = max(0, sheets - counts.counts(site).filed) / max(1, sheets)
    trees = site / TREES  # the store is on the same disk
    disk = os.statvfs(trees if trees.is_dir() else site)
    free = DiskSpace(disk.f_bavail * disk.f_frsize, disk.f_favail)
    needed = DiskSpace(round(whole.bytes * remaining), round(whole.inodes * remaining))
    short = []
    if needed.bytes > free.bytes:
        short.append(
            f"{_format_number(needed.bytes)}B (pages of {PAGE_BYTES // 1000} KB), but "
            f"{_format_number(free.bytes)}B are free"
        )
    if needed.inodes > free.inodes and disk.f_files:  # Btrfs has no fixed number of inodes
        free_inodes = _format_number(free.inodes)
        short.append(f"{_format_number(needed.inodes)} inodes, but {free_inodes} are free")
    if not short:
        return None
    return f"the remaining sheets need about {', and '.join(short)}"


@dataclass(frozen=True, slots=True)
class ResultSpace:
    """The bytes that results take: once, for each snapshot, and for each set of exports."""

    rows: int
    once: int
    snapshot: int
    exports: int


def result_space(registry: Registry, ballot: Ballot) -> ResultSpace:
    """Return the space for the results of all boxes, each keyed in once."""
    rows = snapshot = exports = 0.0
    for (secim, district, _), boxes in registry.expected_boxes(BOX_SHEET).items():
        columns = _RESULT_COLUMNS + len(ballot.options(secim, district))
        rows += boxes
        snapshot += boxes * columns * _PARQUET_COLUMN
        exports += boxes * columns * _EXPORT_COLUMN
    once = rows * _RESULT_BYTES * _OVERHEAD
    return ResultSpace(round(rows), round(once), round(snapshot), round(exports))


def results_note(site: Path, settings: Settings) -> str | None:
    """Say what results need and at which pace snapshots follow; None if no ballot is imported."""
    ballot = load_ballot(site)
    if ballot is None or not (site / REGISTRY_INDEX).exists():
        return None
    registry = Registry(site / REGISTRY_INDEX)
    try:
        space = result_space(registry, ballot)
    finally:
        registry.close()
    free = pace.free_bytes(site / SNAPSHOTS if (site / SNAPSHOTS).is_dir() else site)
    every = pace.snapshots(settings.results.snapshot_seconds).seconds(0, space.snapshot, free)
    day = (space.snapshot * pace.DAY / every) + 24 * space.exports
    text = (
        f"{space.rows:,} results take about {_format_number(space.once)}B once, a snapshot of all "
        f"of them {_format_number(space.snapshot)}B and its exports "
        f"{_format_number(space.exports)}B; at one snapshot each {every:.0f} s a day takes "
        f"{_format_number(round(day))}B"
    )
    if settings.results.in_trees:
        scopes = len(scopes_of_trees(settings))
        shown = (space.snapshot + space.exports) * scopes
        every = pace.trees(settings.results.snapshot_seconds).seconds(0, shown, free)
        text += f", and the trees {_format_number(round(shown * pace.DAY / every))}B more"
        text += f" (one snapshot each {every:.0f} s)"
    if (last := latest_number(site)) is not None:
        text += f"; snapshot {last} takes {_format_number(_size(site, last, MANIFEST))}B"
        text += f" and its exports {_format_number(_size(site, last, EXPORTS))}B"
    needed = space.once + space.snapshot + space.exports
    verdict = "too little for even one" if needed > free else "the pace follows what is free"
    return f"{text}, of {_format_number(free)}B that are free: {verdict}"


def _size(site: Path, number: int, listing: str) -> int:
    try:
        files = json.loads((snapshot_folder(site, number) / listing).read_bytes())["files"]
    except (OSError, ValueError, KeyError):
        return 0
    return sum(int(file["bytes"]) for file in files.values())


def _format_number(number: int) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {letter}"
    return f"{number} "
