"""SHA256SUMS, as `sha256sum -c` and `rclone checksum` take it, and its signature beside it.

    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  sandik-1/b-sandik-sonuc-s1.jpg

A line a file, by path, relative to the folder. One stands in every board's folder, over all that
is under it; in `birlestirme` of a district and of the election, over what is filed at that level;
and in the election's folder, over all the others. That last one is the root: signed, it answers
for everything that a party ought to have.

They are refreshed in batches, about once a minute, each whole by a rename: pages first, then the
folders' sums, then the root. So a mirror that was taken across a batch may hold sums that name
more than it has, or a root that is one batch behind; the next pass brings it into line. The same
file is linked into every tree whose scope covers the folder. A tree that would not take a page
gets sums of its own that leave it out, until it does.

Times are whole seconds, and a signature has always the same size: what takes the place of another
has a later time, so that clients which compare by both see it.

Nothing here is remembered or synced: a start sums up everything anew, and what then is as it was
is not written again. After that what came since is merged into what stands there.
"""

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from config import layout
from config.party import Party
from publisher.catalog.feed_queries import FeedQueries, SumsFolder
from publisher.feed.published_files import PublishedFiles

_KEPT = "sums"
_MAX_ROWS = 20_000
_AT_ONCE = 100  # places that are put in order
_PATH_AT = 66  # in a line

Sign = Callable[[bytes], bytes]


def format_sums(files: Iterable[tuple[str, str]]) -> bytes:
    """Write the file, of (path, sha256)."""
    return "".join(f"{digest}  {path}\n" for path, digest in files).encode()


def parse_sums(content: bytes) -> list[tuple[str, str]]:
    """Read the file; ValueError for anything that `format_sums` would not have written."""
    found = []
    for line in content.decode("ascii").splitlines():
        digest, _, path = line.partition("  ")
        found.append((path, digest))
    if format_sums(found) != content or any(len(d) != 64 or not p for p, d in found):
        raise ValueError("not a list of sums")
    return found


class Sums:
    """The sums of one election's trees, kept up with what is filed."""

    def __init__(
        self,
        election: str,
        parties: Sequence[Party],
        files: PublishedFiles,
        filings: FeedQueries,
        sign: Sign,
        step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._election = election
        self._parties = parties
        self._files = files
        self._filings = filings
        self._sign = sign
        self._step = step
        self._seq = -1
        self._fresh: dict[
            SumsFolder, list[tuple[str, str]]
        ] = {}  # (path, sha256) since the last sums
        self._from_catalog: set[SumsFolder] = set()  # what is summed up from nothing
        self._missing: dict[SumsFolder, set[tuple[str, int]]] = {}  # (party, filing's id)
        self._root_due = False
        self._current: dict[SumsFolder, str] = {}  # the digest of each folder's sums
        self._own_sums: dict[tuple[str, SumsFolder], str] = {}  # of those that are one tree's own
        self._roots: dict[str, bytes] = {}

    def begin(self) -> None:
        """Show what there was when an earlier run ended, and begin a batch over everything."""
        kept = self._files.folder / _KEPT / self._election
        for file in sorted(kept.rglob(layout.SUMS)):
            place, content = _place(file.parent.relative_to(kept)), file.read_bytes()
            with suppress(FileNotFoundError):
                if Path(f"{file}{layout.SIGNATURE_SUFFIX}").read_bytes() == self._sign(content):
                    self._current[place] = sha256(content).hexdigest()
            for party in self._covering(place) if place in self._current else ():
                if self._files.tree_has_newer(file, party.id, self._path(place)):
                    self._own_sums[party.id, place] = ""  # that tree had sums of its own
                else:
                    self._show(place, party)
        self._seq = self._filings.newest_number()
        self._from_catalog = self._filings.places()
        self._root_due = True
        self.start_batch()

    def start_batch(self) -> None:
        """Begin a batch: learn what was filed since the last one, and what trees lack."""
        while found := self._filings.after(self._seq, _MAX_ROWS):
            for filed in found:
                self._fresh.setdefault(filed.place, []).append((filed.path, filed.sha256))
            self._seq = found[-1].seq
        self._missing = defaultdict(set)
        for place, party, filing in self._filings.gaps_by_place():
            self._missing[place].add((party, filing))
        self._from_catalog |= {place for _, place in self._own_sums} | self._missing.keys()

    def refresh(self, at: int, patience: float = float("inf")) -> bool:
        """Work on the batch for at most so many seconds; True once it is done.

        `at` is the time now, in seconds since 1970.
        """
        until = time.monotonic() + patience
        while due := heapq.nsmallest(
            _AT_ONCE, self._fresh.keys() | self._from_catalog, key=_folder
        ):
            for place in due:
                self._sum_up(place, at)
                self._fresh.pop(place, None)
                self._from_catalog.discard(place)
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

    def _covering(self, place: SumsFolder) -> list[Party]:
        return [party for party in self._parties if place.is_covered_by(party.scope)]

    def _sum_up(self, place: SumsFolder, at: int) -> None:
        content = None if place in self._from_catalog else self._merged(place)
        under: Sequence[tuple[int, str, str]] = ()
        if content is None:
            under = self._filings.filed_in(place, self._seq)
            content = self._content(place, under, set())
        if not content:
            return  # its first page is still under way
        present = {filing for filing, _, _ in under}
        lacking: defaultdict[str, set[int]] = defaultdict(set)
        for party_id, filing in self._missing.get(place, ()):
            if filing in present:
                lacking[party_id].add(filing)
        parties = self._covering(place)
        joining = [p.id for p in parties if (p.id, place) in self._own_sums and not lacking[p.id]]
        self._keep(place, content, at, joining)
        for party in parties:
            if lacking[party.id]:
                own = self._content(place, under, lacking[party.id])
                self._own_sums[party.id, place] = sha256(own).hexdigest()
                self._replace(party, self._path(place), own, at)
            else:
                self._own_sums.pop((party.id, place), None)
                self._show(place, party)
            self._step("sums shown")

    def _keep(self, place: SumsFolder, content: bytes, at: int, joining: Sequence[str]) -> None:
        digest = sha256(content).hexdigest()
        if self._current.get(place) == digest and not joining:
            return
        path = self._path(place)
        for end in (layout.SIGNATURE_SUFFIX, ""):
            # Later than what is shown in its place, in the trees that had sums of their own too.
            later = max([at, *(self._files.next_mtime(party, path + end, at) for party in joining)])
            new = self._sign(content) if end else content
            self._files.keep(f"{_KEPT}/{path}{end}", new, later, durable=False)
        self._current[place] = digest
        self._step("sums kept")

    def _merged(self, place: SumsFolder) -> bytes | None:
        """Return the kept sums with what came since; None if they are not as they were left."""
        try:
            kept = (self._files.folder / _KEPT / self._path(place)).read_bytes()
        except FileNotFoundError:
            return None
        if sha256(kept).hexdigest() != self._current.get(place):
            return None
        start = self._start(place)
        fresh = format_sums((path[start:], digest) for path, digest in self._fresh[place])
        lines = {*kept.decode().splitlines(True), *fresh.decode().splitlines(True)}
        return "".join(sorted(lines, key=lambda line: line[_PATH_AT:])).encode()

    def _content(
        self, place: SumsFolder, under: Sequence[tuple[int, str, str]], left_out: set[int]
    ) -> bytes:
        start = self._start(place)
        return format_sums((p[start:], d) for filing, p, d in under if filing not in left_out)

    def _show(self, place: SumsFolder, party: Party) -> None:
        path = self._path(place)
        kept = f"{self._files.folder}/{_KEPT}/{path}"
        if self._files.show_in_tree(
            kept + layout.SIGNATURE_SUFFIX, party.id, path + layout.SIGNATURE_SUFFIX
        ):
            self._files.show_in_tree(kept, party.id, path)

    def _show_root(self, party: Party, at: int) -> None:
        lines = sorted(
            (f"{_folder(place)}/{layout.SUMS}", self._own_sums.get((party.id, place), digest))
            for place, digest in self._current.items()
            if place.is_covered_by(party.scope)
        )
        content = format_sums(lines)
        if lines and self._roots.get(party.id) != content:
            self._replace(party, f"{self._election}/{layout.SUMS}", content, at)
            self._roots[party.id] = content

    def _replace(self, party: Party, path: str, content: bytes, at: int) -> None:
        signature = self._sign(content)
        if self._files.replace(party.id, path + layout.SIGNATURE_SUFFIX, signature, at):
            self._files.replace(party.id, path, content, at)

    def _path(self, place: SumsFolder) -> str:
        return f"{self._election}/{_folder(place)}/{layout.SUMS}"

    def _start(self, place: SumsFolder) -> int:
        """Return how much of a page's path the lines of these sums leave out."""
        return len(f"{self._election}/{_folder(place)}/")


def _folder(place: SumsFolder) -> str:
    return layout.sums_folder(*place)


def _place(folder: Path) -> SumsFolder:
    cevre, kurul = (*folder.parts, None)[:2]
    aggregate = layout.sums_folder(None, None)
    if kurul is None:
        return SumsFolder(None, None)
    return SumsFolder(cevre, None if kurul == aggregate else kurul)
