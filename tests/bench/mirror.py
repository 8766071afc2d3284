"""Measure the memory of the reference mirror while all pages are still to be fetched.

    scripts/bench mirror [--pages 200000] [--each 500]

It writes a feed into the mirror's folder as if all segments were fetched and no page. It prints the
memory of the mirror (by tracemalloc) in this state, the memory when all pages are fetched but no
sums, and the seconds that the mirror needs to read the feed.
"""

import argparse
import sys
import tempfile
import time
import tracemalloc
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from unit.publisher.filed_site import KEY, NOON  # noqa: E402 - from the folders above

from config import layout  # noqa: E402
from config.sheet import Belge, Secim, Sheet  # noqa: E402
from keys.feed_segment import NO_PREVIOUS, FeedEntry, FeedSegment, format_segment  # noqa: E402
from keys.server_keys import sshsig  # noqa: E402

_BOARDS = 1094
_ELECTION = "2023-05-14-cb-mv"


def mirror() -> ModuleType:
    """Load scripts/mirror, whose name cannot be imported."""
    path = str(Path(__file__).parents[2] / "scripts" / "mirror")
    spec = spec_from_loader("mirror", SourceFileLoader("mirror", path))
    assert spec is not None and spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def entry(number: int) -> FeedEntry:
    """Return the feed entry of page `number`, spread over all boards."""
    board, box = number % _BOARDS, number // _BOARDS // 6
    kind = (Belge.SANDIK_SONUC, Belge.SAYIM_DOKUM_CETVELI)[number // _BOARDS % 6 > 0]
    sheet = Sheet(
        Secim.CB, kind, f"{board // 13:02}-istanbul-1", f"kadikoy-{board}", str(box + 1000),
        number // _BOARDS % 6 + 1,
    )  # fmt: skip
    digest = sha256(str(number).encode()).hexdigest()
    return FeedEntry(
        layout.path(_ELECTION, sheet, 1, "jpg"), 200_000, digest, NOON + number, kind, 1
    )


def write(folder: Path, pages: int, each: int) -> None:
    """Write the segments and their signatures as a mirror saves them."""
    (folder / "akis").mkdir()
    before = NO_PREVIOUS
    for number, first in enumerate(range(0, pages, each), start=1):
        entries = tuple(map(entry, range(first, min(first + each, pages))))
        content = format_segment(
            FeedSegment(_ELECTION, "0" * 16, number, NOON + number, before, entries)
        )
        file = folder / layout.segment(number)
        file.write_bytes(content)
        Path(f"{file}.sig").write_bytes(sshsig.sign(KEY, content))
        before = sha256(content).hexdigest()


def main() -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench mirror",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pages", type=int, default=200_000, help="pages in the feed (200000)")
    parser.add_argument("--each", type=int, default=500, help="pages in each segment (500)")
    options = parser.parse_args()
    script = mirror()
    with tempfile.TemporaryDirectory(prefix="ssps-mirror-") as name:
        folder = Path(name)
        write(folder, options.pages, options.each)

        def resume() -> Any:
            made = script.Mirror(folder, [KEY.public_key()], None, 4, print)
            made.resume(recheck=False)
            made.lock_file.close()
            return made

        began = time.perf_counter()
        resume()
        seconds = time.perf_counter() - began
        tracemalloc.start()
        made = resume()
        show_memory(f"{options.pages} pages to fetch", options.pages)
        while taken := made.take_next():
            made.expect_sum(taken[1])
        show_memory("all pages fetched, no sums", options.pages)
        print(f"feed read in {seconds:.1f} s")


def show_memory(state: str, pages: int) -> None:
    """Print the memory in use now, and its peak since the last call."""
    used, peak = tracemalloc.get_traced_memory()
    per_page = f"{used / pages:.0f} bytes per page"
    print(f"{state}: {used / 1e6:.1f} MB, {per_page}, peak {peak / 1e6:.1f} MB")
    tracemalloc.reset_peak()


if __name__ == "__main__":
    main()
