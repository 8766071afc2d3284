"""A feed as it is kept: its segments, which parties it is shown to, and how far it has come.

A feed is a chain of segments (keys/feed_segment). Parties of the same scope share one. It is kept
in `feed/akis/<feed>/`, and what is kept there is the truth; each step is durable before the next:

    00000042.csv.sig   the signature
    00000042.state     the number of the last filing that it knows, and of those it had to leave out
    00000042.csv       from here on the segment is closed, and never changes

Killed in between, the next start closes the segment anew, which nobody has seen. No position is
kept elsewhere, so none can disagree.

The feed of a party that parted from the others (publisher/feed/feed) goes on under the same name,
and is kept in `feed/akis/<feed>-<party>/`.
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

CHAINS = "akis"  # in feed/, and in every tree
_STATE = ".state"


@dataclass(frozen=True, slots=True)
class ChainPosition:
    """How far a feed has come: its last segment, and what that knew."""

    feed: str
    number: int = 0
    digest: str = NO_PREVIOUS
    seq: int = -1
    left_out: tuple[int, ...] = ()
    closed_at: int = 0


class FeedChain:
    """One feed and the parties that read it; `step` is told the name of each step that is done."""

    def __init__(self, files: PublishedFiles, name: str, step: Callable[[str], None]) -> None:
        """Learn how far it has come; what was not closed when it was left counts for nothing."""
        self.name = name
        self.parties: list[Party] = []
        self.closed = float("-inf")  # by the monotonic clock
        self.folder = chain_folder(files, name)
        self._files = files
        self._step = step
        self.position = self._load_position()

    def segment_file(self, number: int) -> Path:
        """Return where a segment is kept."""
        return self.folder / _name(number)

    def expected_inodes(self) -> dict[str, int]:
        """Return the inode of each file that trees are to show, by name; 0 of one that is lost."""
        there = inodes(self.folder)
        segments = (_name(number) for number in range(1, self.position.number + 1))
        names = (
            name for segment in segments for name in (segment, segment + layout.SIGNATURE_SUFFIX)
        )
        return {name: there.get(name, 0) for name in names}

    def close(self, segment: FeedSegment, seq: int, left_out: tuple[int, ...], sign: Sign) -> None:
        """Keep the next segment, which knows all filings up to `seq` but those that it owes."""
        content = format_segment(segment)
        name, at = f"{CHAINS}/{self.name}/{segment.number:08}", segment.closed_at
        state = json.dumps({"seq": seq, "owed": left_out}).encode()
        self._files.keep(f"{name}.csv{layout.SIGNATURE_SUFFIX}", sign(content), at, durable=True)
        self._step("signed")
        self._files.keep(name + _STATE, state, at, durable=True)
        self._step("position kept")
        self._files.keep(f"{name}.csv", content, at, durable=True)
        self._step("closed")
        (self.folder / f"{self.position.number:08}{_STATE}").unlink(missing_ok=True)
        digest = sha256(content).hexdigest()
        self.position = ChainPosition(segment.feed, segment.number, digest, seq, left_out, at)

    def part(self, party: Party) -> "FeedChain":
        """Return a feed of that party's own, which goes on where this one is."""
        name = f"{self.position.feed}-{party.id}"
        whole, half = chain_folder(self._files, name), chain_folder(self._files, f".{name}")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        for kept in self.folder.iterdir():
            os.link(kept, half / kept.name)
        half.rename(whole)
        self._step("parted")
        own = FeedChain(self._files, name, self._step)
        own.parties, own.position, own.closed = [party], self.position, self.closed
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
        return ChainPosition(segment.feed, segment.number, digest, seq, left_out, segment.closed_at)


def chain_folder(files: PublishedFiles, name: str) -> Path:
    """Return where a feed of that name is kept, or would be."""
    return files.folder / CHAINS / name


def _name(number: int) -> str:
    return layout.segment(number).rpartition("/")[2]
