"""Estimates whether the disk has enough bytes and inodes for the rest of the election.

A page takes its bytes and one inode once, however many parties see it, because their trees have
hard links. Folders are different: every tree has a folder of its own for each ballot box, with one
inode and one block, and these take most of the inodes. Inodes run out first: ext4 with the
defaults of `mkfs` has one for each 16 KB of disk.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config.party import Party
from config.registry import Registry
from config.site import REGISTRY_INDEX, TREES
from publisher.catalog import counts

PAGE_BYTES = 250_000  # size of a scan at 200 dpi, estimated
_OVERHEAD = 1.03  # factor for corrections and for pages in quarantine
_BLOCK = 4096
_LINK_BYTES = 64  # bytes of a page's name in one tree
_RECORD_BYTES = 2500  # bytes of a page in catalog, ledgers and feeds, with their indexes
_SEGMENTS = 20_000  # segments of a feed, at most one every two seconds while pages are filed
_STORE_FOLDERS = 256 + 256 * 256  # folders of the store


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


def _format_number(number: int) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {letter}"
    return f"{number} "
