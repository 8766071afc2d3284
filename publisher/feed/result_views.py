"""Shows results in the parties' trees, in `<election>/sonuclar/00000042/`, if the site wants that.

The results process prepares what the parties of each scope get of a snapshot, in a folder of its
own for each scope (publisher/results/snapshots/views); a folder that is there is complete. Here the
feed adds SHA256SUMS with its signature, and links all files into the trees. They are then listed in
the next segment of the feed, and the root of the sums names their SHA256SUMS.

Nothing is remembered between runs: a start compares the inodes in the trees with those of the
folders.
"""

from hashlib import sha256
from pathlib import Path

from config import layout
from config.party import Party
from config.scope import Scope
from config.site import FEED, RESULT_VIEWS, result_view
from keys import digest
from keys.feed_segment import FeedEntry
from publisher.feed.published_files import PublishedFiles, inodes
from publisher.feed.sums import Sign, format_sums, parse_sums

_SHEET = layout.RESULTS  # what a segment has as the form of such a file
_HIDDEN = "."  # the first letter of a name that is not complete


class ResultViews:
    """What the trees show of the results; of one thread."""

    def __init__(self, site: Path, election: str, files: PublishedFiles, sign: Sign) -> None:
        self._site = site
        self._election = election
        self._files = files
        self._sign = sign
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
        digest_of_sums = self._complete(folder, at)
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
        self._shown.setdefault(party.id, {})[sums_path] = digest_of_sums
        return True

    def entries(self, number: int, scope: Scope) -> list[FeedEntry]:
        """Return what a segment lists of a snapshot that was shown: all files but the sums."""
        folder = self._site / result_view(number, scope)
        path = layout.results_folder(self._election, number)
        found = []
        for name, sha in parse_sums((folder / layout.SUMS).read_bytes()):
            status = (folder / name).stat()
            modified = int(status.st_mtime)
            found.append(FeedEntry(f"{path}/{name}", status.st_size, sha, modified, _SHEET, 1))
        return found

    def sums(self, party: Party) -> list[tuple[str, str]]:
        """Return path and SHA-256 of the SHA256SUMS that a party's tree shows, for the root."""
        return sorted(self._shown.get(party.id, {}).items())

    def _complete(self, folder: Path, at: int) -> str:
        """Write the sums of a folder, unless an earlier run did; return their SHA-256."""
        if (known := self._sums.get(folder)) is not None:
            return known
        sums = (folder / layout.SUMS).relative_to(self._site / FEED)
        if not (folder / layout.SUMS).exists():
            content = format_sums((name, self._sha256(folder / name)) for name in _files_of(folder))
            signature = f"{sums}{layout.SIGNATURE_SUFFIX}"
            self._files.keep(signature, self._sign(content), at, durable=True)
            self._files.keep(str(sums), content, at, durable=True)
        digest_of_sums = sha256((folder / layout.SUMS).read_bytes()).hexdigest()
        return self._sums.setdefault(folder, digest_of_sums)

    def _sha256(self, file: Path) -> str:
        with file.open("rb") as opened:
            return digest.proven_or_computed(opened.fileno(), self._files.stamp_key).sha256


def _files_of(folder: Path) -> list[str]:
    sums = (layout.SUMS, layout.SUMS + layout.SIGNATURE_SUFFIX)
    return sorted(name for name in inodes(folder) if name not in sums and name[0] != _HIDDEN)
