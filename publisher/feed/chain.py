"""Keeps a feed on disk: its segments, the parties that read it, and its position.

A feed is a chain of signed segments (keys/feed_segment). It is kept in `feed/akis/<name>/`, and the
trees only show what is kept there. Closing segment 42 writes three files, each durable before the
next one:

    00000042.csv.sig   the signature
    00000042.state     {"seq": 120345, "owed": [120301], "results": 17}: the number of the last
                       filing that the feed covers, the numbers of filings that it had to leave
                       out, and the number of the last snapshot of the results that it lists
    00000042.csv       the segment; with this file it is closed and never changes again

After a crash before the third file, the next start closes segment 42 again. No client has seen it,
because a tree shows a segment only when it is closed. The position is stored nowhere else, so no
two copies of it can disagree.

All parties with the same scope share one feed. When one party's tree lacks a page (a gap), its feed
is split off (publisher/feed/feed): it keeps the feed's name and its past segments, and goes on in
`feed/akis/<name>-<party>/`.

One feed for each party would need no such split, but it costs too much (`scripts/bench feed
--own-feeds`, 40 parties). After 8,640 segments, which is six days with one a minute, it has 691,000
files of 2.8 GB instead of 17,000 of 0.1 GB, and a start takes 2.7 s instead of 0.4 s. On polling
night a segment of 3,000 pages takes 2.5 s instead of 0.07 s, in the process that files pages.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from config import layout
from config.party import Party
from keys.feed_segment import NO_PREVIOUS, FeedSegment, format_segment, parse_segment
from publisher.feed.published_files import PublishedFiles, inodes
from publisher.feed.sums import Sign

CHAINS = "akis"  # the folder's name in feed/ and in every tree
_STATE = ".state"


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """The position of a feed: its last closed segment and the filings that it covers.

    `seq` is the number of the last filing that the feed covers, and `left_out` has the numbers of
    earlier filings that it does not list yet. `results` is the last snapshot of the results that it
    lists. `digest` is the last segment's SHA-256.
    """

    feed: str
    number: int = 0
    digest: str = NO_PREVIOUS
    seq: int = -1
    left_out: tuple[int, ...] = ()
    closed_at: int = 0
    results: int = 0


class FeedChain:
    """One feed and the parties that read it; `step` is called with the name of each step done."""

    def __init__(self, files: PublishedFiles, name: str, step: Callable[[str], None]) -> None:
        """Load the position from disk; a segment that was not closed is ignored."""
        self.name = name
        self.parties: list[Party] = []
        self.closed = float("-inf")  # time of the last close, by the monotonic clock
        self.seconds_to_close = 0.0  # the processor time that it took
        self.folder = chain_folder(files, name)
        self._files = files
        self._step = step
        self.position = self._load_position()

    def segment_file(self, number: int) -> Path:
        """Return the path of a segment."""
        return self.folder / _name(number)

    def expected_inodes(self) -> dict[str, int]:
        """Return the inode of every file that a tree must show, by name; 0 if the file is lost."""
        present = inodes(self.folder)
        segments = (_name(number) for number in range(1, self.position.number + 1))
        names = (
            name for segment in segments for name in (segment, segment + layout.SIGNATURE_SUFFIX)
        )
        return {name: present.get(name, 0) for name in names}

    def close(
        self,
        segment: FeedSegment,
        seq: int,
        left_out: tuple[int, ...],
        sign: Sign,
        results: int = 0,
    ) -> None:
        """Close the next segment.

        The feed then covers filings up to `seq` except `left_out`, and snapshots up to `results`.
        """
        content = format_segment(segment)
        name, at = f"{CHAINS}/{self.name}/{segment.number:08}", segment.closed_at
        state = json.dumps({"seq": seq, "owed": left_out, "results": results}).encode()
        self._files.keep(f"{name}.csv{layout.SIGNATURE_SUFFIX}", sign(content), at, durable=True)
        self._step("signed")
        self._files.keep(name + _STATE, state, at, durable=True)
        self._step("position kept")
        self._files.keep(f"{name}.csv", content, at, durable=True)
        self._step("closed")
        (self.folder / f"{self.position.number:08}{_STATE}").unlink(missing_ok=True)
        digest = sha256(content).hexdigest()
        self.position = ChainPosition(
            segment.feed, segment.number, digest, seq, left_out, at, results
        )

    def split_off(self, party: Party) -> "FeedChain":
        """Return a feed for one party alone, which goes on from the position of this one."""
        name = f"{self.position.feed}-{party.id}"
        target, unfinished = chain_folder(self._files, name), chain_folder(self._files, f".{name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for kept in self.folder.iterdir() if self.position.number else ():
            os.link(kept, unfinished / kept.name)
        unfinished.rename(target)
        self._step("split off")
        own = FeedChain(self._files, name, self._step)
        own.parties, own.position, own.closed = [party], self.position, self.closed
        own.seconds_to_close = self.seconds_to_close
        return own

    def _load_position(self) -> ChainPosition:
        last = max((name for name in inodes(self.folder) if name.endswith(".csv")), default=None)
        if last is None:
            return ChainPosition(self.name)
        content = (self.folder / last).read_bytes()
        segment = parse_segment(content)
        state = json.loads((self.folder / last).with_suffix(_STATE).read_bytes())
        digest = sha256(content).hexdigest()
        seq, left_out = state["seq"], tuple(state["owed"])
        return ChainPosition(
            segment.feed,
            segment.number,
            digest,
            seq,
            left_out,
            segment.closed_at,
            state.get("results", 0),
        )


def chain_folder(files: PublishedFiles, name: str) -> Path:
    """Return the folder of the feed with that name, which need not exist."""
    return files.folder / CHAINS / name


def _name(number: int) -> str:
    return layout.segment(number).rpartition("/")[2]
