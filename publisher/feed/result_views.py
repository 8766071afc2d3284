"""Shows results in the parties' trees, in `<election>/sonuclar/00000042/`, if the site wants that.

The results process prepares what the parties of each scope get of a snapshot, in a folder of its
own for each scope (publisher/results/snapshots/views); a folder that is there is complete. Here the
feed adds SHA256SUMS with its signature, and links all files into the trees. They are then listed in
the next segment of the feed, and the root of the sums names their SHA256SUMS.

Nothing is remembered between runs: a start compares the inodes in the trees with those of the
folders.
"""

import os
from hashlib import sha256
from pathlib import Path

from config import layout
from config.party import Party
from config.scope import Scope
from config.site import FEED, RESULT_VIEWS, result_view
from keys import digest
from keys.feed_segment import FeedEntry
from publisher.feed.published_files import PublishedFiles, inodes
from publisher.feed.sums import Sign, format_sums

_SHEET = layout.RESULTS  # what a segment has as the form of such a file
_NEW = "."  # the first letter of a name that is not complete


class ResultViews:
    """What the trees show of the results; of one thread."""

    def __init__(self, site: Path, election: str, files: PublishedFiles, sign: Sign) -> None:
        self._site = site
        self._election = election
        self._files = files
        self._sign = sign
        self._entries: dict[Path, tuple[FeedEntry, ...]] = {}
        self._sums: dict[Path, str] = {}  # the SHA-256 of the SHA256SUMS in each folder
        self._shown: dict[str, dict[str, str]] = {}  # for each party, path and SHA-256 of its sums

    def numbers(self, scope: Scope, after: int = 0) -> list[int]:
        """Return the numbers of the snapshots that parties of a scope can be shown, in order."""
        names = inodes(self._site / RESULT_VIEWS)
        found = sorted(int(name) for name in names if name.isascii() and name.isdecimal())
        return [n for n in found if n > after and (self._site / result_view(n, scope)).is_dir()]

    def show(self, number: int, party: Party, at: int) -> bool:
        """Show a snapshot in a party's tree; return False if the tree cannot take a file of it."""
        folder = self._site / result_view(number, party.scope)
        path = layout.results_folder(self._election, number)
        self._complete(folder, path, at)
        kept = inodes(folder)
        if self._files.inodes_in_tree(party.id, path) != kept:
            parts = path.split("/")
            for end in range(1, len(parts) + 1):
                self._files.make_folder(party.id, "/".join(parts[:end]))
            sums = (layout.SUMS + layout.SIGNATURE_SUFFIX, layout.SUMS)
            for name in (*sorted(kept.keys() - set(sums)), *sums):
                if not self._files.show_in_tree(folder / name, party.id, f"{path}/{name}"):
                    return False
        sums_path = f"{layout.RESULTS}/{number:08}/{layout.SUMS}"
        self._shown.setdefault(party.id, {})[sums_path] = self._sums[folder]
        return True

    def entries(self, number: int, scope: Scope) -> tuple[FeedEntry, ...]:
        """Return what a segment lists of a snapshot that was shown: all files but the sums."""
        return self._entries[self._site / result_view(number, scope)]

    def sums(self, party: Party) -> list[tuple[str, str]]:
        """Return path and SHA-256 of the SHA256SUMS that a party's tree shows, for the root."""
        return sorted(self._shown.get(party.id, {}).items())

    def _complete(self, folder: Path, path: str, at: int) -> None:
        """Write the sums of a folder, unless an earlier run did, and read what it has."""
        if folder in self._sums:
            return
        found = []
        for name in sorted(inodes(folder)):
            if name.removesuffix(layout.SIGNATURE_SUFFIX) == layout.SUMS or name.startswith(_NEW):
                continue
            with (folder / name).open("rb") as file:
                digests = digest.digests_of_file(file.fileno())
                status = os.fstat(file.fileno())
            found.append((name, status.st_size, digests.sha256, int(status.st_mtime)))
        content = format_sums((name, sha) for name, _, sha, _ in found)
        sums = (folder / layout.SUMS).relative_to(self._site / FEED)
        for end in (layout.SIGNATURE_SUFFIX, ""):
            if not (self._site / FEED / f"{sums}{end}").exists():
                new = self._sign(content) if end else content
                self._files.keep(f"{sums}{end}", new, at, durable=True)
        self._entries[folder] = tuple(
            FeedEntry(f"{path}/{name}", size, sha, mtime, _SHEET, 1)
            for name, size, sha, mtime in found
        )
        self._sums[folder] = sha256(content).hexdigest()
