"""Keeps the change feed, the sums, BENIOKU.txt and the tools in every tree up to date.

A feed is a chain of segments (publisher/feed/chain). If pages were filed since the last segment,
the next one is closed two seconds after it, or later, so that closing takes a tenth of one core's
time at most, but after ten seconds at the latest. If none were, it is closed after 55 seconds. A
closed segment is then shown in every tree of the feed: its signature first, then the segment, then
son.txt, which names the newest.

After a crash the next start shows what is missing. It compares the inodes in each tree's `akis`
folder with those in `feed/`, and links every file that a tree lacks, not only the newest.

A page that a tree could not take (a gap) is left out of that tree's feed until the tree has it.
When this happens in only some trees of a shared feed, the parties that differ are split off: each
gets a feed of its own.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import takewhile
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config import layout
from config.party import Party
from config.settings import Settings
from config.site import TREES
from keys.feed_segment import FeedEntry, FeedSegment
from keys.ledger.writer import Clock
from keys.server_keys import sshsig
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries, FiledPage
from publisher.database import UNAVAILABLE, cause_of
from publisher.feed import readme
from publisher.feed.chain import CHAINS, FeedChain, chain_folder
from publisher.feed.published_files import PublishedFiles
from publisher.feed.result_views import ResultViews
from publisher.feed.sums import Sign, Sums
from publisher.feed.tools import Tools

CLOSE_SECONDS = 2.0  # between two segments while pages are filed, if that costs little
MAX_CLOSE_SECONDS = 10.0  # the same, whatever it costs
CLOSE_SHARE = 0.1  # of the processor time of a core, for closing the segments of all feeds
SILENT_CLOSE_SECONDS = 55.0  # between two segments while none are
SUMS_SECONDS = 55.0  # between two batches of sums
_MAX_ENTRIES = 20_000  # in one segment
_TICK_SECONDS = 0.5
_SUMS_WORK_SECONDS = 1.0  # work on sums before the segments are looked at again
_RETRY_SECONDS = 5.0

Checkpoints = Callable[[], tuple[tuple[str, bytes], ...]]  # (ledger's name, newest checkpoint)

log = structlog.get_logger()


def _no_checkpoints() -> tuple[tuple[str, bytes], ...]:
    return ()


class Feed:
    """The feeds of one site, for one thread; `step` is called with the name of each step done."""

    def __init__(
        self,
        settings: Settings,
        filings: FeedQueries,
        key: Ed25519PrivateKey,
        clock: Clock,
        original: Callable[[str], Path],
        checkpoints: Checkpoints = _no_checkpoints,
        step: Callable[[str], None] = lambda step: None,
        elapsed: Callable[[], float] = time.thread_time,
        client: bytes = b"",
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """`check` is called before each file is replaced, and may raise OSError."""
        self._elapsed = elapsed
        self._settings = settings
        self._filings = filings
        self._sign: Sign = partial(sshsig.sign, key)
        self._clock = clock
        self._original = original
        self._checkpoints = checkpoints
        self._step = step
        self._files = PublishedFiles(settings.site, check)
        self._parties = [party for party in settings.parties if party.mirrors]
        election = settings.election.id
        self._results = ResultViews(settings.site, election, self._files, self._sign)
        self._sums = Sums(
            election, self._parties, self._files, filings, self._sign, step, self._results.sums
        )
        self._tools = Tools(settings, self._files, self._sign, client)
        self._chains: list[FeedChain] = []
        # The segments that a party's tree does not show yet, in order.
        self._unshown: defaultdict[str, deque[tuple[FeedChain, int]]] = defaultdict(deque)
        self._missing_originals: set[str] = set()
        self._last_sums = float("-inf")  # time of the last batch, by the monotonic clock

    def begin(self) -> None:
        """Load the feeds, and show in every tree what an earlier run has closed."""
        at = self._at()
        for party in self._parties:
            text = readme.text(self._settings, party).encode()
            self._files.replace_in_tree(party.id, layout.README, text, at)
        self._tools.show(self._parties, at)
        gaps = self._filings.gaps()
        chains: dict[str, FeedChain] = {}
        for party in self._parties:
            self._files.make_folder(party.id, CHAINS)
            name = self._chain_name(party, any(gap == party.id for gap, _ in gaps))
            if name not in chains:
                chains[name] = FeedChain(self._files, name, self._step)
            chains[name].parties.append(party)
        self._chains = list(chains.values())
        for chain in self._chains:
            kept = chain.expected_inodes()
            for party in chain.parties:
                missing = self._missing_segments(kept, party)
                self._unshown[party.id].extend((chain, number) for number in missing)
            for number in self._results.numbers(chain.parties[0].scope):
                if number <= chain.position.results:
                    for party in chain.parties:
                        self._results.show(number, party, at)
            if chain.position.number:
                self._show_newest(chain)
        self._step("begun")
        self._sums.begin()

    def tick(self, now: float) -> None:
        """Close the segments that are due at `now`, by the monotonic clock, and work on sums."""
        newest, pause = self._filings.newest_number(), self._close_seconds()
        for chain in list(self._chains):
            if any(self._unshown[party.id] for party in chain.parties):
                self._show_newest(chain)
            age = now - chain.closed
            silent = age >= SILENT_CLOSE_SECONDS
            if silent or (age >= pause and self._may_list(chain, newest)):
                more = self._close(chain, now, even_if_empty=silent)
                while more:
                    more = self._close(chain, now, even_if_empty=False)
        # A batch of sums may take longer than a segment can wait, so it is done in parts.
        finished = self._sums.refresh(self._at(), _SUMS_WORK_SECONDS)
        if finished and now - self._last_sums >= SUMS_SECONDS:
            self._tools.show(self._parties, self._at())
            self._sums.start_batch()
            self._sums.refresh(self._at(), _SUMS_WORK_SECONDS)
            self._last_sums = now

    def _may_list(self, chain: FeedChain, newest: int) -> bool:
        """Say whether there is a page or a snapshot of the results that its feed does not list."""
        position = chain.position
        return bool(
            newest > position.seq
            or position.left_out
            or self._results.numbers(chain.parties[0].scope, position.results)
        )

    def _close_seconds(self) -> float:
        """Return how many seconds after its last segment a feed closes the next one."""
        cost = sum(chain.seconds_to_close for chain in self._chains)
        return min(max(CLOSE_SECONDS, cost / CLOSE_SHARE), MAX_CLOSE_SECONDS)

    def _close(self, chain: FeedChain, now: float, even_if_empty: bool) -> bool:
        """Close a segment if it would have entries; return whether there may be more to list."""
        begun, position = self._elapsed(), chain.position
        found = self._filings.after(position.seq, _MAX_ENTRIES)
        gaps = self._filings.gaps()
        left_out = self._filings.with_numbers(position.left_out)
        seq = found[-1].seq if found else position.seq
        scope = chain.parties[0].scope
        wanted = [filed for filed in (*left_out, *found) if filed.folder.is_covered_by(scope)]
        wanted.sort(key=lambda filed: filed.seq)
        lacking = self._show_results(chain)
        not_shown, results = self._split_parties(chain, wanted, gaps, lacking)
        shown = [filed for filed in wanted if filed.seq not in not_shown]
        listed = list(self._entries(shown))
        still_left_out = not_shown | {filed.seq for filed in shown} - {seq for seq, _ in listed}
        if not listed and not results and not even_if_empty:
            # Nothing to list. Unless a page was left out, do not look at these filings again.
            if still_left_out:
                return False
            chain.position = replace(position, seq=seq)
            return len(found) == _MAX_ENTRIES
        entries = [entry for _, entry in listed]
        for number in results:
            entries += self._results.entries(number, scope)
        last = max(results, default=position.results)
        self._write(chain, tuple(entries), seq, tuple(sorted(still_left_out)), last)
        if results:
            self._sums.root_is_due()
        chain.closed, chain.seconds_to_close = now, self._elapsed() - begun
        return len(found) == _MAX_ENTRIES

    def _show_results(self, chain: FeedChain) -> dict[int, frozenset[str]]:
        """Show the new snapshots of the results; return the parties whose trees lack each."""
        new = self._results.numbers(chain.parties[0].scope, chain.position.results)
        at = self._at()
        return {
            number: frozenset(
                party.id for party in chain.parties if not self._results.show(number, party, at)
            )
            for number in new
        }

    def _split_parties(
        self,
        chain: FeedChain,
        wanted: Sequence[FiledPage],
        gaps: frozenset[tuple[str, int]],
        lacking: Mapping[int, frozenset[str]],
    ) -> tuple[set[int], list[int]]:
        """Split off the parties whose trees lack more than others of the same feed.

        `lacking` has the parties whose trees lack a new snapshot of the results. Returns the
        numbers of the wanted pages that the trees of the remaining parties lack, and the snapshots
        that these trees show.
        """
        by_gaps: defaultdict[tuple[frozenset[int], frozenset[int]], list[Party]]
        by_gaps = defaultdict(list)
        for party in chain.parties:
            pages = frozenset(f.seq for f in wanted if (party.id, f.id) in gaps)
            snapshots = frozenset(n for n, parties in lacking.items() if party.id in parties)
            by_gaps[pages, snapshots].append(party)
        fewest = min(by_gaps, key=lambda lacks: len(lacks[0]) + len(lacks[1]))
        for lacks, parties in by_gaps.items():
            if lacks != fewest:
                for party in parties:
                    self._split_off(chain, party)
        chain.parties = by_gaps[fewest]
        not_shown, unshown = fewest
        return set(not_shown), list(takewhile(lambda number: number not in unshown, lacking))

    def _split_off(self, chain: FeedChain, party: Party) -> None:
        self._chains.append(chain.split_off(party))
        log.error("feed-split", party=party.id, advice="fix what keeps pages out of its tree")

    def _write(
        self,
        chain: FeedChain,
        entries: tuple[FeedEntry, ...],
        seq: int,
        left_out: tuple[int, ...],
        results: int,
    ) -> None:
        position = chain.position
        number = position.number + 1
        at = max(self._at(), position.closed_at)  # the clock may have been set back
        segment = FeedSegment(
            self._settings.election.id,
            position.feed,
            number,
            at,
            position.digest,
            entries,
            self._checkpoints(),
        )
        chain.close(segment, seq, left_out, self._sign, results)
        for party in chain.parties:
            self._unshown[party.id].append((chain, number))
        self._show_newest(chain)

    def _missing_segments(self, kept: dict[str, int], party: Party) -> Iterable[int]:
        """Return the numbers of the segments that a tree lacks, or has as another file."""
        shown = self._files.inodes_in_tree(party.id, CHAINS)
        missing = (int(name[:8]) for name, inode in kept.items() if shown.get(name) != inode)
        return dict.fromkeys(missing)  # each once, in order

    def _catch_up(self, party: Party) -> None:
        # In order: if a tree cannot take one segment, it gets no later one.
        waiting = self._unshown[party.id]
        while waiting and self._show(*waiting[0], party.id):
            waiting.popleft()

    def _show(self, chain: FeedChain, number: int, party: str) -> bool:
        path, kept = layout.segment(number), chain.segment_file(number)
        signature = kept.with_name(kept.name + layout.SIGNATURE_SUFFIX)
        if not self._files.show_in_tree(signature, party, path + layout.SIGNATURE_SUFFIX):
            return False
        self._step("signature shown")
        shown = self._files.show_in_tree(kept, party, path)
        self._step("segment shown")
        return shown

    def _show_newest(self, chain: FeedChain) -> None:
        newest = f"{chain.segment_file(chain.position.number).name}\n".encode()
        for party in chain.parties:
            self._catch_up(party)
            if not self._unshown[party.id]:
                self._files.replace_in_tree(party.id, layout.NEWEST_SEGMENT, newest, self._at())
                self._step("newest named")

    def _entries(self, filed: Sequence[FiledPage]) -> Iterator[tuple[int, FeedEntry]]:
        for one in filed:
            try:
                size = self._original(one.sha256).stat().st_size
            except FileNotFoundError:
                if one.sha256 not in self._missing_originals:
                    advice = f"restore {one.sha256} in store/ from a backup"
                    log.error("not-listed", path=one.path, advice=advice)
                    self._missing_originals.add(one.sha256)
                continue
            yield (
                one.seq,
                FeedEntry(
                    one.path, size, one.sha256, one.filed_at, one.sheet, one.version, one.supersedes
                ),
            )

    def _chain_name(self, party: Party, has_gaps: bool) -> str:
        """Return the name of the feed that a party reads: the shared one, or its own."""
        scope = f"{self._settings.election.id}\n{party.scope}\n"
        shared = sha256(scope.encode()).hexdigest()[:16]
        own = f"{shared}-{party.id}"
        if chain_folder(self._files, own).exists():
            return own
        # A new party whose tree lacks a page cannot take over segments that list that page.
        is_new = not (self._settings.site / TREES / party.id / layout.NEWEST_SEGMENT).exists()
        return own if has_gaps and is_new else shared

    def _at(self) -> int:
        return int(self._clock().timestamp())


class FeedThread:
    """A thread that runs a Feed while the publisher files pages. Close it after use.

    After any error it logs `feed-halted`, waits a moment and starts the feed again.
    """

    def __init__(
        self,
        settings: Settings,
        key: Ed25519PrivateKey,
        clock: Clock,
        original: Callable[[str], Path],
        checkpoints: Checkpoints = _no_checkpoints,
        client: bytes = b"",
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """`check` raises OSError if this process may not publish any more."""

        def new_feed(filings: FeedQueries) -> Feed:
            check()
            return Feed(
                settings, filings, key, clock, original, checkpoints, client=client, check=check
            )

        self._new_feed = new_feed
        self._url = catalog.url(settings.site)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait until it has finished its current step."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with FeedQueries(self._url) as filings:
                    feed = self._new_feed(filings)
                    feed.begin()
                    while not self._stop.is_set():
                        feed.tick(time.monotonic())
                        self._stop.wait(_TICK_SECONDS)
            except (OSError, *UNAVAILABLE) as error:
                log.error("feed-halted", cause=cause_of(error), retry_seconds=_RETRY_SECONDS)
            except Exception:
                log.exception("feed-halted", retry_seconds=_RETRY_SECONDS)
            self._stop.wait(_RETRY_SECONDS)
