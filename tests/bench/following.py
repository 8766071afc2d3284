"""Measure how soon a filed page is on the disk of a distant party that follows with scripts/mirror.

    scripts/bench following [--link 50:100] [--rate 5] [--seconds 60] [--parties 40]

Pages are filed at a steady rate while the publisher's feed runs for that many parties. Two mirrors
follow one after the other over a delayed link (tests/bench/link.py): one as it is by default, and
one with --eager. For each it prints how many seconds after its filing a page had its final name in
the mirror's folder, which it gets when its SHA-256 is the one in a signed segment; and the share of
a core that the feed took to close segments.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import far
import servers
from far import Link
from link import delayed
from peers import machine
from servers import Server
from unit.publisher.filed_site import KEY, PageFiler

from config import load
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from keys.server_keys import host, sshsig
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed.feed import _TICK_SECONDS, Feed

_PAGE = 200_000  # bytes
_BOARDS = 1094
_DEADLINE = 60.0  # seconds after the last filing


@dataclass
class Night:
    """A site on which pages are filed, and the times at which they were."""

    settings: Settings
    filer: PageFiler

    def __post_init__(self) -> None:
        self.filed: dict[str, float] = {}  # path -> time
        self.number = 0
        self.closing = 0.0  # processor time that the feed took to close segments
        self.segments = 0
        self.over = threading.Event()

    def file_pages(self, rate: float, seconds: float) -> None:
        """File pages at a steady rate."""
        begun = time.monotonic()
        for turn in range(round(rate * seconds)):
            time.sleep(max(0.0, begun + turn / rate - time.monotonic()))
            self.number += 1
            board = self.number % _BOARDS
            box = Sheet(
                Secim.CB, Belge.SANDIK_SONUC, f"c-{board // 13}", f"k-{board}", f"{self.number}", 1
            )
            path = self.filer.file(box, os.urandom(_PAGE // 2).hex())
            self.filed[path] = time.monotonic()

    def run_feed(self) -> None:
        """Run the publisher's feed until `over`."""
        store = self.settings.site / "store"
        with FeedQueries(catalog.url(self.settings.site)) as filings:
            feed = Feed(
                self.settings, filings, KEY, lambda: datetime.now(UTC),
                lambda sha256: store / sha256[:2] / sha256[2:4] / sha256,
            )  # fmt: skip
            feed.begin()
            while not self.over.wait(_TICK_SECONDS):
                numbers = [chain.position.number for chain in feed._chains]
                feed.tick(time.monotonic())
                for chain, before in zip(feed._chains, numbers, strict=True):
                    if chain.position.number > before:
                        self.closing += chain.seconds_to_close
                        self.segments += chain.position.number - before


def follow(server: Server, site: Path, into: Path, *more: str) -> "subprocess.Popen[bytes]":
    """Start scripts/mirror."""
    hosts, signers = into.parent / "known_hosts", into.parent / "allowed_signers"
    hosts.write_text(host.known_hosts(site, "127.0.0.1", server.port))
    signers.write_text(sshsig.allowed_signers(KEY.public_key()))
    command = [sys.executable, str(far._MIRROR), "--host", "127.0.0.1", "--port", str(server.port)]
    command += ["--user", server.user, "--key", str(server.key), "--max-age", "0", "--follow"]
    command += ["--known-hosts", str(hosts), "--signers", str(signers), "--to", str(into), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def waits(night: Night, into: Path, rate: float, seconds: float) -> list[float]:
    """File pages, and return the seconds from each filing until the mirror has the page."""
    before = set(night.filed)
    filing = threading.Thread(target=night.file_pages, args=(rate, seconds))
    filing.start()
    taken: list[float] = []
    waiting: set[str] = set()
    seen = set(before)
    deadline = time.monotonic() + seconds + _DEADLINE
    while filing.is_alive() or waiting or len(seen) < len(night.filed):
        new = night.filed.keys() - seen
        seen |= new
        waiting |= new
        now = time.monotonic()
        come = {path for path in waiting if (into / path).exists()}
        taken += [now - night.filed[path] for path in come]
        waiting -= come
        if now > deadline:
            raise SystemExit(f"{len(waiting)} pages did not come")
        time.sleep(0.02)
    filing.join()
    return taken


def main() -> None:
    """Measure both mirrors over one link, and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench following",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--link", type=far.link, default=Link(50, 100), metavar="MS:MBIT")
    parser.add_argument("--rate", type=float, default=5.0, help="pages a second (5)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of filing for each mirror (60)"
    )
    parser.add_argument("--parties", type=int, default=40, help="parties with a feed (40)")
    options = parser.parse_args()
    line: Link = options.link
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="ssps-following-")))
        folder.chmod(0o755)
        servers.lay_out(folder)
        (folder / "site" / "state").mkdir(exist_ok=True)
        loaded = load.load(folder / "site")
        others = [replace(loaded.parties[0], id=f"p-{n}") for n in range(1, options.parties)]
        settings = replace(loaded, parties=(loaded.parties[0], *others))
        night = Night(settings, PageFiler(settings))
        near = enter(servers.ours(folder))
        port = enter(delayed(near.port, line.round_trip / 1000, line.mbit))
        print(
            f"{machine()}; {line}, {options.rate:g} pages of {_PAGE // 1000} KB a second, "
            f"{options.parties} parties\n"
        )
        feed = threading.Thread(target=night.run_feed)
        feed.start()
        begun = time.monotonic()
        try:
            print(f"{'seconds from filing to proof':<30}{'half':>8}{'9 of 10':>9}{'all':>8}")
            for name, more in (("mirror --follow", []), ("mirror --follow --eager", ["--eager"])):
                into = folder / "got"
                into.mkdir(exist_ok=True)
                process = follow(replace(near, port=port), folder / "site", into, *more)
                try:
                    night.file_pages(1, 1)
                    while not (into / next(reversed(night.filed))).exists():
                        time.sleep(0.1)  # it has logged in and follows
                    taken = sorted(waits(night, into, options.rate, options.seconds))
                finally:
                    process.terminate()
                    process.wait()
                ninth = taken[int(len(taken) * 0.9)]
                half = statistics.median(taken)
                print(f"{name:<30}{half:8.2f}{ninth:9.2f}{taken[-1]:8.2f}", flush=True)
        finally:
            night.over.set()
            feed.join()
        share = night.closing / (time.monotonic() - begun)
        print(f"\nclosing {night.segments} segments took {share:.1%} of a core")


if __name__ == "__main__":
    main()
