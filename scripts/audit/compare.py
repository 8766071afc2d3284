"""`ssps audit compare`: compare the change feeds that several parties have mirrored.

All parties with the same scope get one feed, byte for byte the same. If the server shows something
else to one of them, two parties find that out when they compare their feeds. Each segment names the
digest of the one before it (`onceki`), so everything before the first different segment is the
same. (The publisher splits a feed if it cannot link a page into one of the trees; it then logs
`feed-split`.)

The feeds of two scopes have different segments, but some things in them must still agree: the size
and the SHA-256 of a page that both list, the origin of each ledger, and the root of two checkpoints
of the same size.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import combinations
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.site import FEED
from keys.feed_segment import FeedSegment, parse_segment
from keys.ledger import note
from keys.ledger.note import Checkpoint
from scripts.audit import evidence, feeds
from scripts.shared import console


@dataclass(frozen=True, slots=True)
class Difference:
    """The first difference of two feeds; `ssps audit compare --json` prints the fields."""

    one: str
    other: str
    text: str


@dataclass(frozen=True)
class MirroredFeed:
    """One feed as it was mirrored: its segments by number, with the digest of each file."""

    folder: Path
    segments: dict[int, tuple[str, FeedSegment]]

    @cached_property
    def name(self) -> str:
        """The feed's own name, the same for all parties that share it."""
        return next(iter(self.segments.values()))[1].feed

    @cached_property
    def pages(self) -> dict[str, tuple[int, str, int]]:
        """The pages that it lists: size, SHA-256 and the number of the segment."""
        return {
            entry.path: (entry.size, entry.sha256, number)
            for number, (_, segment) in self.segments.items()
            for entry in segment.entries
        }

    @cached_property
    def checkpoints(self) -> dict[str, dict[int, tuple[Checkpoint, int]]]:
        """The ledgers' checkpoints that it carries, by ledger and size, with the segment."""
        found: dict[str, dict[int, tuple[Checkpoint, int]]] = {}
        for number, (_, segment) in self.segments.items():
            for ledger, message in segment.checkpoints:
                checkpoint = note.unverified_checkpoint(message)
                found.setdefault(ledger, {}).setdefault(checkpoint.size, (checkpoint, number))
        return found


@click.command()
@click.argument(
    "folders",
    metavar="AKIS...",
    nargs=-1,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
)
@evidence.key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each difference.")
@console.with_optional_site
def compare(
    folders: tuple[Path, ...], key_files: tuple[Path, ...], as_json: bool, site: Path | None
) -> None:
    """Compare feeds that several parties mirrored.

    Names the first difference of each pair of feeds.

    AKIS is the akis folder of a party's mirror. With --site the site's own
    feeds are compared with them. Signatures are verified. The exit code is 1
    if two feeds differ, or if one of them is damaged.
    """
    keys = evidence.public_keys(key_files, site)
    places = [*folders, *([site / FEED] if site is not None and (site / FEED).exists() else [])]
    found = [_read(feed, keys) for place in places for feed in feeds.find_feeds(place)]
    if len(found) < 2:
        raise click.UsageError("name the akis folders of two mirrors or more")
    differences = [
        found_one
        for one, other in combinations(found, 2)
        if (found_one := first_difference(one, other)) is not None
    ]
    for each in differences:
        text = f"{each.one} and {each.other} differ: {each.text}"
        click.echo(json.dumps(asdict(each)) if as_json else text)
    if not differences and not as_json:
        click.echo(f"OK: {len(found)} feeds agree in everything that they share")
    sys.exit(bool(differences))


def first_difference(one: MirroredFeed, other: MirroredFeed) -> Difference | None:
    """Return the first difference of two feeds, None if they agree."""
    texts = _segments_differ(one, other) if one.name == other.name else iter(())
    for text in (*texts, *_pages_differ(one, other), *_checkpoints_differ(one, other)):
        return Difference(str(one.folder), str(other.folder), text)
    return None


def _segments_differ(one: MirroredFeed, other: MirroredFeed) -> Iterator[str]:
    for number in sorted({*one.segments} & {*other.segments}):
        (digest, segment), (other_digest, other_segment) = (
            one.segments[number],
            other.segments[number],
        )
        if digest != other_digest:
            here, there = set(segment.entries), set(other_segment.entries)
            only = sorted(entry.path for entry in here ^ there)
            what = f"; only one of them has {only[0]}" if only else ""
            yield f"segment {number} differs{what}"
            return


def _pages_differ(one: MirroredFeed, other: MirroredFeed) -> Iterator[str]:
    for path, (size, digest, number) in one.pages.items():
        theirs = other.pages.get(path)
        if theirs is not None and theirs[:2] != (size, digest):
            yield (
                f"{path} has the SHA-256 {digest} in segment {number}, and {theirs[1]} in segment "
                f"{theirs[2]}"
            )
            return


def _checkpoints_differ(one: MirroredFeed, other: MirroredFeed) -> Iterator[str]:
    for ledger, known in one.checkpoints.items():
        theirs = other.checkpoints.get(ledger, {})
        for mine, number in known.values():
            for far, far_number in theirs.values():
                if far.origin != mine.origin:
                    where = f"in segment {number}, and {far.origin} in segment {far_number}"
                    yield f"the {ledger} ledger has the origin {mine.origin} {where}"
                    return
            same = theirs.get(mine.size)
            if same is not None and same[0].root != mine.root:
                where = f"in segment {number}, and another in segment {same[1]}"
                yield f"the {ledger} ledger of {mine.size} records has one root {where}"
                return


def _read(folder: Path, keys: Sequence[Ed25519PublicKey]) -> MirroredFeed:
    """Read a feed; raise Faults if a segment is damaged or not signed by one of the keys."""
    found = {}
    for number in feeds.segment_numbers(folder):
        path = feeds.segment_file(folder, number)
        content = path.read_bytes()
        try:
            segment = parse_segment(content)
            for _, message in segment.checkpoints:
                note.unverified_checkpoint(message)
        except ValueError as error:
            wrong = f"{error}: name a segment exactly as it was mirrored"
            raise console.fault(str(path), "", wrong) from None
        if cause := feeds.signature_problem(path, content, keys):
            raise console.fault(str(path), "", f"{cause}: it cannot be compared")
        found[number] = sha256(content).hexdigest(), segment
    return MirroredFeed(folder, found)
