"""What the parties mirror by: the change feed, the sums, and BENIOKU.txt, in every tree.

A feed is a chain of segments, kept as publisher/feed/chain says, each closed after ten seconds if
something came in and after less than a minute if nothing did. What was closed is shown in every
tree of the feed: signature, segment, son.txt. Killed in between, the next start shows it: it holds
the inodes in every tree's folder against those that are kept, and links what is missing, wherever
that is.

What a tree would not take (a gap) is left out of its feed until it does. A feed that is shared
and of which one tree has a gap parts there: that party's goes on as one of its own.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa
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
from publisher.catalog.feed_queries import FeedQueries, FiledPage
from publisher.feed import readme
from publisher.feed.chain import CHAINS, FeedChain, chain_folder
from publisher.feed.published_files import PublishedFiles
from publisher.feed.sums import Sign, Sums

CLOSE_SECONDS, SILENT_CLOSE_SECONDS, SUMS_SECONDS = 10.0, 55.0, 55.0  # seconds
_MAX_ENTRIES = 20_000  # entries in one segment
_TICK_SECONDS = 1.0
_SUMS_WORK_SECONDS = 3.0  # seconds of work on sums between two looks at the segments
_RETRY_SECONDS = 5.0

Checkpoints = Callable[[], tuple[tuple[str, bytes], ...]]  # each ledger's name and its latest

log = structlog.get_logger()


def _none() -> tuple[tuple[str, bytes], ...]:
    return ()


class Feed:
    """Of one site; one thread's own. `step` is told the name of each step that is done."""

    def __init__(
        self,
        settings: Settings,
        filings: FeedQueries,
        key: Ed25519PrivateKey,
        clock: Clock,
        original: Callable[[str], Path],
        checkpoints: Checkpoints = _none,
        step: Callable[[str], None] = lambda step: None,
    ) -> None:
        self._settings = settings
        self._filings = filings
        self._sign: Sign = partial(sshsig.sign, key)
        self._clock = clock
        self._original = original
        self._checkpoints = checkpoints
        self._step = step
        self._files = PublishedFiles(settings.site)
        self._parties = [party for party in settings.parties if party.mirrors]
        election = settings.election.id
        self._sums = Sums(election, self._parties, self._files, filings, self._sign, step)
        self._chains: list[FeedChain] = []
        self._unshown: defaultdict[str, deque[tuple[FeedChain, int]]] = defaultdict(deque)
        self._missing: set[str] = set()
        self._summed = float("-inf")

    def begin(self) -> None:
        """Show in every tree what was there when an earlier run ended."""
        at = self._at()
        for party in self._parties:
            text = readme.text(self._settings, party).encode()
            self._files.replace(party.id, layout.README, text, at)
        gaps = self._filings.gaps()
        chains: dict[str, FeedChain] = {}
        for party in self._parties:
            self._files.make_folder(party.id, CHAINS)
            name = self._chain_of(party, any(of == party.id for of, _ in gaps))
            if name not in chains:
                chains[name] = FeedChain(self._files, name, self._step)
            chains[name].parties.append(party)
        self._chains = list(chains.values())
        for chain in self._chains:
            kept = chain.expected_inodes()
            for party in chain.parties:
                lacking = self._lacking(kept, party)
                self._unshown[party.id].extend((chain, number) for number in lacking)
            if chain.position.number:
                self._show_newest(chain)
        self._step("begun")
        self._sums.begin()

    def tick(self, now: float) -> None:
        """Close what is due as of `now`, by the monotonic clock."""
        for chain in list(self._chains):
            if any(self._unshown[party.id] for party in chain.parties):
                self._show_newest(chain)
            due = now - chain.closed
            while due >= CLOSE_SECONDS and self._close(
                chain, now, silent=due >= SILENT_CLOSE_SECONDS
            ):
                due = CLOSE_SECONDS  # there may be more, but no silence to speak of
        # A batch of sums may take longer than a segment can wait.
        if (
            self._sums.refresh(self._at(), _SUMS_WORK_SECONDS)
            and now - self._summed >= SUMS_SECONDS
        ):
            self._sums.start_batch()
            self._sums.refresh(self._at(), _SUMS_WORK_SECONDS)
            self._summed = now

    def _close(self, chain: FeedChain, now: float, silent: bool) -> bool:
        """Close a segment, if there is something to say; True if there may be more to say."""
        position = chain.position
        found = self._filings.after(position.seq, _MAX_ENTRIES)
        gaps = self._filings.gaps()
        left_out = self._filings.with_numbers(position.left_out)
        seq = found[-1].seq if found else position.seq
        scope = chain.parties[0].scope
        wanted = [filed for filed in (*left_out, *found) if filed.place.is_covered_by(scope)]
        wanted.sort(key=lambda filed: filed.seq)
        ready = self._partings(chain, wanted, gaps)
        entries = [filed for filed in wanted if filed.seq not in ready]
        listed = list(self._entries(entries))
        left = ready | {filed.seq for filed in entries} - {seq for seq, _ in listed}
        if not listed and not silent:
            # Nothing of this feed's: what is not owed need not be looked at again.
            if left:
                return False
            chain.position = replace(position, seq=seq)
            return len(found) == _MAX_ENTRIES
        self._write(chain, tuple(entry for _, entry in listed), seq, tuple(sorted(left)))
        chain.closed = now
        return len(found) == _MAX_ENTRIES

    def _partings(
        self, chain: FeedChain, wanted: Sequence[FiledPage], gaps: frozenset[tuple[str, int]]
    ) -> set[int]:
        """Part the feed where its trees differ; return what the trees that stay do not show."""
        differing: defaultdict[frozenset[int], list[Party]] = defaultdict(list)
        for party in chain.parties:
            without = frozenset(f.seq for f in wanted if (party.id, f.id) in gaps)
            differing[without].append(party)
        stays = min(differing, key=len)
        for without, parties in differing.items():
            if without != stays:
                for party in parties:
                    self._part(chain, party)
        chain.parties = differing[stays]
        return set(stays)

    def _part(self, chain: FeedChain, party: Party) -> None:
        self._chains.append(chain.part(party))
        log.error("feed-parted", party=party.id, advice="mend what keeps its tree from a page")

    def _write(
        self, chain: FeedChain, entries: tuple[FeedEntry, ...], seq: int, left_out: tuple[int, ...]
    ) -> None:
        position = chain.position
        number = position.number + 1
        at = max(self._at(), position.closed_at)  # though somebody has set the clock back
        segment = FeedSegment(
            self._settings.election.id,
            position.feed,
            number,
            at,
            position.digest,
            entries,
            self._checkpoints(),
        )
        chain.close(segment, seq, left_out, self._sign)
        for party in chain.parties:
            self._unshown[party.id].append((chain, number))
        self._show_newest(chain)

    def _lacking(self, kept: dict[str, int], party: Party) -> Iterable[int]:
        """Return the segments that a tree does not show as they are kept, in their order."""
        shown = self._files.inodes_in_tree(party.id, CHAINS)
        lacking = (int(name[:8]) for name, inode in kept.items() if shown.get(name) != inode)
        return dict.fromkeys(lacking)

    def _catch_up(self, party: Party) -> None:
        # In their order: what one tree refuses holds back what comes after it there.
        waiting = self._unshown[party.id]
        while waiting and self._shown(*waiting[0], party.id):
            waiting.popleft()

    def _shown(self, chain: FeedChain, number: int, party: str) -> bool:
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
                self._files.replace(party.id, layout.NEWEST_SEGMENT, newest, self._at())
                self._step("newest named")

    def _entries(self, filed: Sequence[FiledPage]) -> Iterator[tuple[int, FeedEntry]]:
        for one in filed:
            try:
                size = self._original(one.sha256).stat().st_size
            except FileNotFoundError:
                if one.sha256 not in self._missing:
                    advice = f"restore {one.sha256} in store/ from a copy"
                    log.error("not-listed", path=one.path, advice=advice)
                    self._missing.add(one.sha256)
                continue
            yield (
                one.seq,
                FeedEntry(
                    one.path, size, one.sha256, one.filed_at, one.sheet, one.version, one.supersedes
                ),
            )

    def _chain_of(self, party: Party, has_gaps: bool) -> str:
        scope = f"{self._settings.election.id}\n{party.scope}\n"
        shared = sha256(scope.encode()).hexdigest()[:16]
        own = f"{shared}-{party.id}"
        if chain_folder(self._files, own).exists():
            return own
        # Who comes anew and lacks a file that the feed has named cannot share its past.
        seen = (self._settings.site / TREES / party.id / layout.NEWEST_SEGMENT).exists()
        return own if has_gaps and not seen else shared

    def _at(self) -> int:
        return int(self._clock().timestamp())


class FeedThread:
    """A thread that keeps the feed going beside the filing, whatever befalls it; close it."""

    def __init__(
        self,
        settings: Settings,
        key: Ed25519PrivateKey,
        clock: Clock,
        original: Callable[[str], Path],
        checkpoints: Checkpoints = _none,
    ) -> None:
        def made(filings: FeedQueries) -> Feed:
            return Feed(settings, filings, key, clock, original, checkpoints)

        self._made = made
        self._url = catalog.url(settings.site)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed")
        self._thread.start()

    def close(self) -> None:
        """End the thread, once it is done with what it is at."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with FeedQueries(self._url) as filings:
                    feed = self._made(filings)
                    feed.begin()
                    while not self._stop.is_set():
                        feed.tick(time.monotonic())
                        self._stop.wait(_TICK_SECONDS)
            except (OSError, sa.exc.OperationalError) as error:
                log.error("feed-halted", error=str(error), retry_seconds=_RETRY_SECONDS)
            except Exception:
                log.exception("feed-halted", retry_seconds=_RETRY_SECONDS)
            self._stop.wait(_RETRY_SECONDS)
