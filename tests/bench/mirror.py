"""What the reference mirror holds in memory while everything is still to be fetched.

    scripts/bench mirror [--pages 200000] [--each 500]

Writes a feed of so many pages, so many in each segment, into the mirror's folder, as if all of its
segments had come and no page. Prints what the mirror then holds, by tracemalloc, what it holds when
every page has come and no sums yet, and the seconds it takes to learn what is wanted.
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
    """Load the script, which is no module's name."""
    path = str(Path(__file__).parents[2] / "scripts" / "mirror")
    spec = spec_from_loader("mirror", SourceFileLoader("mirror", path))
    assert spec is not None and spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def entry(number: int) -> FeedEntry:
    """Return the page of that number, of a board and a box of its own."""
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
    """Write the segments and their signatures, as a mirror keeps them."""
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
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pages", type=int, default=200_000)
    parser.add_argument("--each", type=int, default=500)
    asked = parser.parse_args()
    script = mirror()
    with tempfile.TemporaryDirectory(prefix="ssps-mirror-") as name:
        folder = Path(name)
        write(folder, asked.pages, asked.each)

        def taken_up() -> Any:
            made = script.Mirror(folder, [KEY.public_key()], None, 4, print)
            made.resume(recheck=False)
            made.lock_file.close()
            return made

        begun = time.perf_counter()
        taken_up()
        seconds = time.perf_counter() - begun
        tracemalloc.start()
        made = taken_up()
        told(f"{asked.pages} pages wait", asked.pages)
        while taken := made.take_next():
            made.expect_sum(taken[1])
        told("all are here, none is summed", asked.pages)
        print(f"learned in {seconds:.1f} s")


def told(what: str, pages: int) -> None:
    """Print what is held now, and the most that was since."""
    held, most = tracemalloc.get_traced_memory()
    print(f"{what}: {held / 1e6:.1f} MB, {held / pages:.0f} bytes a page, {most / 1e6:.1f} at most")
    tracemalloc.reset_peak()


if __name__ == "__main__":
    main()
