"""Pages that share their bytes, and the reader that takes a page's word for its karekod.

So that a million filings fit a small disk and a short night, every page of one form is the same
small scan, and its karekod is not printed on it but stands in a JPEG comment (marker FFFE, right
after the first two bytes):

    ssps-rehearsal <karekod or -> <take>-<number>

`mark` writes it and `read` reads it back. All that comes after reading (desk, store, trees,
catalog, ledger) is the real thing. Nothing in production leads here: no setting and no command of
the publisher names this reader; `python -m scripts.rehearsal.simulated_reader SITE` runs a
publisher with it, and refuses a site that is no rehearsal's.
"""

import io
import re
import sys
from pathlib import Path

from config import load
from config.election import Election
from config.registry import RegistryEntry
from config.site import REHEARSAL_TOML
from publisher.page import Reading, ReadResult, Reason
from publisher.reading.worker_client import WorkerClient
from scripts.daemons.run import configure_logging, run_publisher
from scripts.rehearsal.scanner import PlannedScan
from scripts.rehearsal.sheets import print_sheet

_WIDTH = 140  # pixels, so that a page takes one block of a disk
_SOI, _COMMENT = b"\xff\xd8", b"\xff\xfe"
_MARK = re.compile(rb"ssps-rehearsal (\d{10}|-) \d+-\d+")
_PRINTED_COPIES = (  # where a sheet prints them
    ((124, 5), (132, 5), (132, 13), (124, 13)),
    ((124, 182), (132, 182), (132, 190), (124, 190)),
)


def shared_scan(entry: RegistryEntry, election: Election, seed: int) -> bytes:
    """Return the small scan that all pages of this entry's form share."""
    page = print_sheet(entry, election, seed, 50).convert("L")
    page.thumbnail((_WIDTH, _WIDTH * 2))
    out = io.BytesIO()
    page.save(out, "JPEG", quality=20)
    return out.getvalue()


def mark_page(shared: bytes, planned: PlannedScan) -> bytes:
    """Return the page of a planned scan; only a repeat has the bytes of an earlier one."""
    number = planned.number if planned.karekod != planned.entry.karekod else 0
    text = f"ssps-rehearsal {planned.karekod or '-'} {planned.rescan_number}-{number}".encode()
    return _SOI + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + shared[2:]


def read_mark(page: bytes) -> ReadResult:
    """Return what a reader would have seen had the karekod been printed twice."""
    size = int.from_bytes(page[4:6], "big")
    found = _MARK.fullmatch(page[6 : 4 + size])
    if page[:4] != _SOI + _COMMENT or found is None:
        return ReadResult(fault=Reason.NOT_AN_IMAGE)
    karekod = found[1].decode()
    copies = _PRINTED_COPIES if karekod != "-" else ()
    readings = tuple(Reading(karekod, "standin", "whole", 0, corners) for corners in copies)
    return ReadResult("JPEG", _WIDTH, 198, readings)


class SimulatedReader(WorkerClient):
    """Answers from the page's mark; starts no worker."""

    def read(self, data: bytes) -> ReadResult:
        """Return what the mark says."""
        return read_mark(data)


def main() -> None:
    """Run a rehearsal's publisher until SIGTERM."""
    site = Path(sys.argv[1])
    if not (site / REHEARSAL_TOML).exists():
        sys.exit(f"{site}: no rehearsal's site, so its pages are read and not taken at their word")
    configure_logging("publish")
    run_publisher(load.load(site), workers=2, new_client=SimulatedReader)


if __name__ == "__main__":
    main()
