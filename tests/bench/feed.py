"""What a segment of the change feed and the sums cost, however much was filed before.

    scripts/bench feed [--filed 1000000] [--new 3000] [--parties 40] [--segments 43200]

Fills a catalog with so many filings, closes the segments that list them all, then files some more
and closes one more: a minute at fifty pages a second is 3,000, which change the sums of every
board. Prints the seconds of each. What a segment takes may not depend on what was filed before.
With --segments prints instead what a start costs after so many, 43,200 being a month of minutes.
They are linked into every tree, so let TMPDIR name a file system with room for millions of links.
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
from config.settings import Settings  # noqa: E402
from keys.feed_segment import format_segment, parse_segment  # noqa: E402
from publisher.catalog import catalog  # noqa: E402
from publisher.catalog import tables as t  # noqa: E402
from publisher.catalog.catalog import Catalog  # noqa: E402
from publisher.catalog.feed_queries import FeedQueries  # noqa: E402
from publisher.feed.feed import Feed  # noqa: E402

_BOARDS = 1094
_CHUNK = 50_000


def rows(first: int, last: int, election: str) -> tuple[list[dict[str, object]], ...]:
    """Return the arrivals and the filings of these numbers, spread over all boards."""
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
    """File these numbers."""
    engine = sa.create_engine(catalog.url(settings.site))
    for start in range(first, last, _CHUNK):
        arrivals, filings = rows(start, min(start + _CHUNK, last), settings.election.id)
        with engine.begin() as connection:
            connection.execute(sa.insert(t.arrival), arrivals)
            connection.execute(sa.insert(t.filing), filings)
    engine.dispose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--filed", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=3000)
    parser.add_argument("--parties", type=int, default=40)
    parser.add_argument("--segments", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ssps-feed-"))
    try:
        if asked.segments:
            starts(folder / "site", asked.segments, asked.parties)
        else:
            measure(folder / "site", asked.filed, asked.new, asked.parties)
    finally:
        shutil.rmtree(folder)


def world(site: Path, parties: int) -> Settings:
    """Lay out a site on which nothing is filed yet, for so many parties that see everything."""
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


def starts(site: Path, segments: int, parties: int) -> None:
    """Print what a start costs after so many segments, and one that finds trees without some."""
    settings = world(site, parties)

    def feed() -> Feed:
        return Feed(settings, filings, KEY, lambda: datetime.now(UTC), lambda digest: site)

    with FeedQueries(catalog.url(site)) as filings:
        first = feed()
        first.begin()
        first.tick(0)
        (chain,) = (site / "feed" / "akis").iterdir()
        multiply(chain, [site / "trees" / party.id for party in settings.parties], segments)
        print(f"{segments} segments, {parties} parties")
        print(f"  a start                            {timed(feed().begin):8.2f} s")
        print(f"  the next                           {timed(feed().begin):8.2f} s")
        for party in settings.parties:
            for number in range(1, segments, 100):
                (site / "trees" / party.id / layout.segment(number)).unlink()
        last = feed()
        print(f"  each tree without one in a hundred {timed(last.begin):8.2f} s")
        print(f"  one segment more                   {timed(lambda: last.tick(0)):8.2f} s")
        lacking = [p for p in settings.parties if not shown(site / "trees" / p.id, segments + 1)]
        print(f"  trees that lack any                {len(lacking):8}")


def multiply(chain: Path, trees: list[Path], segments: int) -> None:
    """Follow the first segment by others that say nothing, in the chain's folder and every tree."""
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
    """Say whether a tree has every segment and its signature."""
    names = {path.name for path in (tree / "akis").iterdir()}
    wanted = (layout.segment(number).rpartition("/")[2] for number in range(1, segments + 1))
    return all({name, name + layout.SIGNATURE_SUFFIX} <= names for name in wanted)


def measure(site: Path, filed: int, new: int, parties: int) -> None:
    """Print a line for each step."""
    settings = world(site, parties)
    fill(settings, 0, filed)
    for party in settings.parties:
        for board in range(_BOARDS):
            place = f"{settings.election.id}/c-{board // 13}/k-{board}"
            (site / "trees" / party.id / place).mkdir(parents=True)
    page = site / "store" / "page"
    with FeedQueries(catalog.url(site)) as filings:
        feed = Feed(settings, filings, KEY, lambda: datetime.now(UTC), lambda digest: page)
        print(f"{filed} filed, {parties} parties, {_BOARDS} boards")
        print(f"  a start                            {timed(feed.begin):8.2f} s")
        print(
            f"  every board's sums                 {timed(lambda: feed._sums.refresh(NOON)):8.2f} s"
        )
        feed._summed = 0.0
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
