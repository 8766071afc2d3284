"""Writes SHA256SUMS and its signature into the folders of the trees.

The format is what `sha256sum -c` and `rclone checksum` read, one line for each file, sorted by
path, with paths relative to the folder:

    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  sandik-1/b-sandik-sonuc-s1.jpg

There are three kinds. A board's folder has sums of everything below it. The `birlestirme` folders
of a district and of the election have sums of what is filed at that level. The election's folder
has the sums of all these SHA256SUMS files. This last one is the root: because it is signed, it
vouches for everything that a party must have.

Sums are refreshed in batches, about once a minute: first the pages are filed, then the folders'
sums change, then the root, each by a rename. So a mirror that was taken during a batch may hold
sums that list more pages than it has, or a root that is one batch old; the next pass of the mirror
puts this right.

Beside each of them is a label, SHA256SUMS.kunye (publisher/feed/sums_label): it names the election
and the folder, so that signed sums of one folder do not pass for those of another.

The same file is linked into every tree whose scope covers the folder. A tree that could not take a
page gets its own sums without that page until it has it.

Mtimes are whole seconds, and all signatures have the same size. A file that replaces another gets a
later mtime, so that clients that compare size and mtime notice the change.

Nothing is remembered between runs, and nothing is synced. A start computes all sums from the
catalog, but writes only those that changed. After that, new pages are merged into the sums that
are on disk.
"""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from config import layout
from config.party import Party
from publisher.catalog.queries.feed import FeedQueries, SumsFolder
from publisher.feed.published_files import PublishedFiles
from publisher.feed.sums_label import format_label, label_of, parse_label

_SUMS = "sums"  # the folder's name in feed/
_MAX_ROWS = 20_000
_FOLDERS_AT_ONCE = 100  # the next folders to work on, in order
_PATH_COLUMN = 66  # where the path begins in a line

Sign = Callable[[bytes], bytes]


def format_sums(files: Iterable[tuple[str, str]]) -> bytes:
    """Format the sums of files, given as (path, sha256)."""
    return "".join(f"{digest}  {path}\n" for path, digest in files).encode()


def parse_sums(content: bytes) -> list[tuple[str, str]]:
    """Parse sums; raise ValueError for anything that `format_sums` would not write."""
    found = []
    for line in content.decode("ascii").splitlines():
        digest, _, path = line.partition("  ")
        found.append((path, digest))
    if format_sums(found) != content or any(len(d) != 64 or not p for p, d in found):
        raise ValueError("not a list of sums")
    return found


class Sums:
    """The sums in all trees of one election; `step` is called with the name of each step done."""

    def __init__(
        self,
        election: str,
        parties: Sequence[Party],
        files: PublishedFiles,
        filings: FeedQueries,
        sign: Sign,
        step: Callable[[str], None] = lambda step: None,
        more: Callable[[Party], Sequence[tuple[str, str]]] = lambda party: (),
    ) -> None:
        """`more` returns path and SHA-256 of further sums that the root of a party names."""
        self._election = election
        self._parties = parties
        self._files = files
        self._filings = filings
        self._sign = sign
        self._step = step
        self._more = more
        self._seq = -1  # number of the last filing that the current batch covers
        # (path, sha256) of the pages that are not in a folder's sums yet
        self._new_pages: dict[SumsFolder, list[tuple[str, str]]] = {}
        self._from_catalog: set[SumsFolder] = set()  # folders whose sums are computed again
        self._gaps: dict[SumsFolder, set[tuple[str, int]]] = {}  # (party, id of the filing)
        self._root_due = False
        self._digests: dict[SumsFolder, str] = {}  # SHA-256 of each folder's shared sums
        self._own_digests: dict[tuple[str, SumsFolder], str] = {}  # of sums that only one tree has
        self._roots: dict[str, bytes] = {}
        self._replaced: dict[tuple[str, str], str] = {}  # SHA-256 of sums that only one tree has

    def begin(self) -> None:
        """Show the sums of an earlier run in every tree, and start a batch with all folders."""
        kept = self._files.folder / _SUMS / self._election
        for file in sorted(kept.rglob(layout.SUMS)):
            folder, content = _folder_of(file.parent.relative_to(kept)), file.read_bytes()
            if self._is_proved(file, self._path(folder), content):
                self._digests[folder] = sha256(content).hexdigest()
            for party in self._covering(folder) if folder in self._digests else ():
                if self._files.tree_has_newer(file, party.id, self._path(folder)):
                    self._own_digests[party.id, folder] = ""  # that tree had its own sums
                else:
                    self._show(folder, party)
        self._seq = self._filings.newest_number()
        self._from_catalog = self._filings.folders()
        self._root_due = True
        self.start_batch()

    def start_batch(self) -> None:
        """Start a batch with the pages that were filed since the last one and the current gaps."""
        while found := self._filings.after(self._seq, _MAX_ROWS):
            for filed in found:
                self._new_pages.setdefault(filed.folder, []).append((filed.path, filed.sha256))
            self._seq = found[-1].seq
        self._gaps = defaultdict(set)
        for folder, party, filing in self._filings.gaps_by_folder():
            self._gaps[folder].add((party, filing))
        self._from_catalog |= {folder for _, folder in self._own_digests} | self._gaps.keys()

    def root_is_due(self) -> None:
        """Write the roots again with the next `refresh`."""
        self._root_due = True

    def refresh(self, at: int, seconds: float = float("inf")) -> bool:
        """Work on the batch for about `seconds`; return whether it is finished.

        `at` is the current time in seconds since 1970.
        """
        until = time.monotonic() + seconds
        while due := heapq.nsmallest(
            _FOLDERS_AT_ONCE, self._new_pages.keys() | self._from_catalog, key=_folder_path
        ):
            for folder in due:
                self._refresh_folder(folder, at)
                self._new_pages.pop(folder, None)
                self._from_catalog.discard(folder)
                self._root_due = True
                if time.monotonic() >= until:
                    return False
        if self._root_due:
            self._step("summed")
            for each in self._parties:
                self._show_root(each, at)
            self._root_due = False
            self._step("root shown")
        return True

    def _covering(self, folder: SumsFolder) -> list[Party]:
        return [party for party in self._parties if folder.is_covered_by(party.scope)]

    def _refresh_folder(self, folder: SumsFolder, at: int) -> None:
        content = None if folder in self._from_catalog else self._merged(folder)
        pages: Sequence[tuple[int, str, str]] = ()
        if content is None:
            pages = self._filings.filed_in(folder, self._seq)
            content = self._content(folder, pages, set())
        if not content:
            return  # its first page has no ledger record yet
        present = {filing for filing, _, _ in pages}
        gaps: defaultdict[str, set[int]] = defaultdict(set)
        for party_id, filing in self._gaps.get(folder, ()):
            if filing in present:
                gaps[party_id].add(filing)
        parties = self._covering(folder)
        rejoining = [
            p.id for p in parties if (p.id, folder) in self._own_digests and not gaps[p.id]
        ]
        self._keep(folder, content, at, rejoining)
        for party in parties:
            if gaps[party.id]:
                own = self._content(folder, pages, gaps[party.id])
                self._own_digests[party.id, folder] = sha256(own).hexdigest()
                self._replace_in_tree(party, self._path(folder), own, at)
            else:
                self._own_digests.pop((party.id, folder), None)
                self._replaced.pop((party.id, self._path(folder)), None)
                self._show(folder, party)
            self._step("sums shown")

    def _keep(self, folder: SumsFolder, content: bytes, at: int, rejoining: Sequence[str]) -> None:
        """Write the shared sums of a folder; `rejoining` are trees that had their own until now."""
        digest = sha256(content).hexdigest()
        if self._digests.get(folder) == digest and not rejoining:
            return
        path = self._path(folder)
        for name, new in self._files_of(path, content, at):
            # This file also replaces the sums that only one tree had: its mtime must be later.
            replaced = (self._files.next_mtime(party, name, at) for party in rejoining)
            self._files.keep(f"{_SUMS}/{name}", new, max([at, *replaced]), durable=False)
        self._digests[folder] = digest
        self._step("sums kept")

    def _merged(self, folder: SumsFolder) -> bytes | None:
        """Return the sums on disk with the new pages; None if the file on disk is not ours."""
        try:
            kept = (self._files.folder / _SUMS / self._path(folder)).read_bytes()
        except FileNotFoundError:
            return None
        if sha256(kept).hexdigest() != self._digests.get(folder):
            return None
        start = self._start(folder)
        new = format_sums((path[start:], digest) for path, digest in self._new_pages[folder])
        lines = {*kept.decode().splitlines(True), *new.decode().splitlines(True)}
        return "".join(sorted(lines, key=lambda line: line[_PATH_COLUMN:])).encode()

    def _content(
        self, folder: SumsFolder, pages: Sequence[tuple[int, str, str]], left_out: set[int]
    ) -> bytes:
        start = self._start(folder)
        return format_sums((p[start:], d) for filing, p, d in pages if filing not in left_out)

    def _show(self, folder: SumsFolder, party: Party) -> None:
        path = self._path(folder).removesuffix(layout.SUMS)
        for name in layout.SUMS_FILES:
            kept = f"{self._files.folder}/{_SUMS}/{path}{name}"
            if not self._files.show_in_tree(kept, party.id, path + name):
                return

    def _show_root(self, party: Party, at: int) -> None:
        lines = sorted(
            (f"{_folder_path(folder)}/{layout.SUMS}", self._own_digests.get((party.id, folder), d))
            for folder, d in self._digests.items()
            if folder.is_covered_by(party.scope)
        )
        lines = sorted((*lines, *self._more(party)))
        content = format_sums(lines)
        if lines and self._roots.get(party.id) != content:
            self._replace_in_tree(party, f"{self._election}/{layout.SUMS}", content, at)
            self._roots[party.id] = content

    def _replace_in_tree(self, party: Party, path: str, content: bytes, at: int) -> None:
        digest = sha256(content).hexdigest()
        if self._replaced.get((party.id, path)) == digest:
            return  # a new label would only have another time
        for name, new in self._files_of(path, content, at):
            if not self._files.replace_in_tree(party.id, name, new, at):
                return
        self._replaced[party.id, path] = digest

    def _files_of(self, path: str, content: bytes, at: int) -> list[tuple[str, bytes]]:
        """Return path and bytes of the sums at `path`, of their label and of both signatures."""
        label = format_label(label_of(path, at, self._seq, content))
        made = (self._sign(label), label, self._sign(content), content)
        folder = path.removesuffix(layout.SUMS)
        return [(folder + name, new) for name, new in zip(layout.SUMS_FILES, made, strict=True)]

    def _is_proved(self, file: Path, path: str, content: bytes) -> bool:
        """Say whether the sums that an earlier run has kept have their signature and label."""
        try:
            label = Path(f"{file}{layout.LABEL_SUFFIX}").read_bytes()
            of = parse_label(label)
            signatures = [Path(f"{file}{end}{layout.SIGNATURE_SUFFIX}").read_bytes()
                          for end in ("", layout.LABEL_SUFFIX)]  # fmt: skip
        except (OSError, ValueError):  # an earlier version wrote no labels
            return False
        described = of.describes(path.removesuffix(f"/{layout.SUMS}"), content)
        return described and signatures == [self._sign(content), self._sign(label)]

    def _path(self, folder: SumsFolder) -> str:
        return f"{self._election}/{_folder_path(folder)}/{layout.SUMS}"

    def _start(self, folder: SumsFolder) -> int:
        """Return where the paths in a folder's sums begin, as an index into the full path."""
        return len(f"{self._election}/{_folder_path(folder)}/")


def _folder_path(folder: SumsFolder) -> str:
    return layout.sums_folder(*folder)


def _folder_of(path: Path) -> SumsFolder:
    cevre, kurul = (*path.parts, None)[:2]
    aggregate = layout.sums_folder(None, None)
    if kurul is None:
        return SumsFolder(None, None)
    return SumsFolder(cevre, None if kurul == aggregate else kurul)
