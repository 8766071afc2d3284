"""Measures the cost of a feed segment, of the sums, and of a start.

    scripts/bench feed [--filed 1000000] [--new 3000] [--parties 40] [--own-feeds]
    scripts/bench feed --segments 43200 [--parties 40] [--own-feeds]

Fills a catalog with --filed filings and closes the segments that list them all. Then it adds --new
filings, which change the sums of every board, and closes one segment more. 3,000 is what fifty
pages a second make in a minute. It prints the seconds of each step. The cost of one segment must
not depend on how much was filed before.

With --segments it measures a start instead, after that many segments; 43,200 is a month with one a
minute. They are linked into every tree, so TMPDIR must be on a file system with room for millions
of links.

With --own-feeds every party has a feed of its own, instead of one feed for each scope.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import sqlalchemy as sa

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import office  # noqa: E402 - from the folders above
from unit.publisher.filed_site import KEY, NOON  # noqa: E402

from config import layout, load  # noqa: E402
from config.party import Party  # noqa: E402
from config.settings import Settings  # noqa: E402
from keys.feed_segment import format_segment, parse_segment  # noqa: E402
from publisher.catalog import catalog  # noqa: E402
from publisher.catalog import tables as t  # noqa: E402
from publisher.catalog.catalog import Catalog  # noqa: E402
from publisher.catalog.queries.feed import FeedQueries  # noqa: E402
from publisher.feed.feed import Feed  # noqa: E402

_BOARDS = 1094
_CHUNK = 50_000


def rows(first: int, last: int, election: str) -> tuple[list[dict[str, object]], ...]:
    """Return the rows of arrivals and filings with these numbers, spread over all boards."""
    arrivals, filings = [], []
    for seq in range(first, last):
        cevre, kurul, box = f"c-{seq % _BOARDS // 13}", f"k-{seq % _BOARDS}", seq // _BOARDS // 6
        page, digest = seq // _BOARDS % 6 + 1, sha256(str(seq).encode()).hexdigest()
        arrivals.append(
            {
                "id": f"a-{seq}", "name": "", "source": b"", "source_stamp": "", "received_at": "",
                "state": "filed", "outcome": "filed", "sha256": digest, "seq": seq,
            }
        )  # fmt: skip
        path = f"{election}/{cevre}/{kurul}/sandik-{box}/cb-sayim-dokum-cetveli-s{page}.jpg"
        filings.append(
            {
                "arrival": f"a-{seq}", "frame": 1, "secim": "cb", "belge": "sayim-dokum-cetveli",
                "cevre": cevre, "kurul": kurul, "sandik": str(box), "page": page, "version": 1,
                "karekod": "", "sha256": digest, "path": path, "filed_at": NOON, "seq": seq,
            }
        )  # fmt: skip
    return arrivals, filings


def fill(settings: Settings, first: int, last: int) -> None:
    """Add the filings with these numbers to the catalog."""
    engine = sa.create_engine(catalog.url(settings.site))
    for start in range(first, last, _CHUNK):
        arrivals, filings = rows(start, min(start + _CHUNK, last), settings.election.id)
        with engine.begin() as connection:
            connection.execute(sa.insert(t.arrival), arrivals)
            connection.execute(sa.insert(t.filing), filings)
    engine.dispose()


def main() -> None:
    """Parse the options, measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--filed", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=3000)
    parser.add_argument("--parties", type=int, default=40)
    parser.add_argument("--segments", type=int, default=0)
    parser.add_argument("--own-feeds", action="store_true")
    asked = parser.parse_args()
    feed_class = OwnFeeds if asked.own_feeds else Feed
    folder = Path(tempfile.mkdtemp(prefix="ssps-feed-"))
    try:
        if asked.segments:
            measure_starts(folder / "site", asked.segments, asked.parties, feed_class)
        else:
            measure_segments(folder / "site", asked.filed, asked.new, asked.parties, feed_class)
    finally:
        shutil.rmtree(folder)


class OwnFeeds(Feed):
    """The feeds of a site if every party had its own."""

    def _chain_name(self, party: Party, has_gaps: bool) -> str:
        return f"own-{party.id}"


def new_site(site: Path, parties: int) -> Settings:
    """Make a site without filings, for that many parties whose scope is everything."""
    office.site(site)
    for name in ("state", "trees", "store"):
        (site / name).mkdir()
    (site / "store" / "page").write_bytes(b"a page")
    loaded = load.load(site)
    everybody = tuple(replace(loaded.parties[0], id=f"parti-{n}") for n in range(parties))
    for party in everybody:
        (site / "trees" / party.id).mkdir()
    Catalog(catalog.url(site)).close()
    return replace(loaded, parties=everybody)


def measure_starts(site: Path, segments: int, parties: int, feed_class: type[Feed]) -> None:
    """Print the cost of a start after many segments, and of one whose trees lack some."""
    settings = new_site(site, parties)

    def feed() -> Feed:
        return feed_class(settings, filings, KEY, lambda: datetime.now(UTC), lambda digest: site)

    with FeedQueries(catalog.url(site)) as filings:
        first = feed()
        first.begin()
        first.tick(0)
        trees = [site / "trees" / party.id for party in settings.parties]
        for chain in (site / "feed" / "akis").iterdir():
            inode = (chain / "00000001.csv").stat().st_ino
            readers = [tree for tree in trees if first_inode(tree) == inode]
            multiply(chain, readers, segments)
        os.sync()
        kept = [path.stat() for path in (site / "feed").rglob("*")]
        print(f"{segments} segments, {parties} parties")
        print(f"  files and folders in feed/         {len(kept):8}")
        megabytes = sum(status.st_blocks * 512 for status in kept) / 1e6
        print(f"  their size on the disk             {megabytes:8.0f} MB")
        print(f"  a start                            {timed(feed().begin):8.2f} s")
        print(f"  the next                           {timed(feed().begin):8.2f} s")
        for tree in trees:
            for number in range(1, segments, 100):
                (tree / layout.segment(number)).unlink()
        last = feed()
        print(f"  each tree without one in a hundred {timed(last.begin):8.2f} s")
        print(f"  one segment more                   {timed(lambda: last.tick(0)):8.2f} s")
        lacking = [tree for tree in trees if not shown(tree, segments + 1)]
        print(f"  trees that lack any                {len(lacking):8}")


def first_inode(tree: Path) -> int:
    """Return the inode of a tree's first segment."""
    return (tree / layout.segment(1)).stat().st_ino


def multiply(chain: Path, trees: list[Path], segments: int) -> None:
    """Add empty segments after the first one, in the folder of the chain and in the trees."""
    before = parse_segment((chain / "00000001.csv").read_bytes())
    state = chain / "00000001.state"
    for number in range(2, segments + 1):
        content = format_segment(
            replace(before, number=number, previous=sha256(format_segment(before)).hexdigest())
        )
        before = parse_segment(content)
        for end, kept in (("", content), (layout.SIGNATURE_SUFFIX, b"a signature")):
            file = chain / f"{number:08}.csv{end}"
            file.write_bytes(kept)
            for tree in trees:
                os.link(file, f"{tree}/{layout.segment(number)}{end}")
    state.rename(chain / f"{segments:08}.state")
    for tree in trees:
        (tree / layout.NEWEST_SEGMENT).unlink()
        (tree / layout.NEWEST_SEGMENT).write_text(f"{segments:08}.csv\n")


def shown(tree: Path, segments: int) -> bool:
    """Return whether a tree has every segment and its signature."""
    names = {path.name for path in (tree / "akis").iterdir()}
    wanted = (layout.segment(number).rpartition("/")[2] for number in range(1, segments + 1))
    return all({name, name + layout.SIGNATURE_SUFFIX} <= names for name in wanted)


def measure_segments(
    site: Path, filed: int, new: int, parties: int, feed_class: type[Feed]
) -> None:
    """Print the cost of segments and sums, one line for each step."""
    settings = new_site(site, parties)
    fill(settings, 0, filed)
    for party in settings.parties:
        for board in range(_BOARDS):
            place = f"{settings.election.id}/c-{board // 13}/k-{board}"
            (site / "trees" / party.id / place).mkdir(parents=True)
    page = site / "store" / "page"
    with FeedQueries(catalog.url(site)) as filings:
        feed = feed_class(settings, filings, KEY, lambda: datetime.now(UTC), lambda digest: page)
        print(f"{filed} filed, {parties} parties, {_BOARDS} boards")
        print(f"  a start                            {timed(feed.begin):8.2f} s")
        print(
            f"  every board's sums                 {timed(lambda: feed._sums.refresh(NOON)):8.2f} s"
        )
        feed._last_sums = 0.0
        print(f"  segments of everything             {timed(lambda: feed.tick(0)):8.2f} s")
        fill(settings, filed, filed + new)
        print(f"  one segment of {new:6} new          {timed(lambda: feed.tick(50)):8.2f} s")
        feed._sums.start_batch()
        print(
            f"  the sums after them                {timed(lambda: feed._sums.refresh(NOON)):8.2f} s"
        )
        print(f"  a segment of nothing               {timed(lambda: feed.tick(110)):8.2f} s")


def timed(work: object) -> float:
    """Return how many seconds something took."""
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
