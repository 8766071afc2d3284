"""A reader that takes the karekod from a comment in the file, for rehearsals with shared pages.

A million pages must fit on a small disk and into a short night. So all pages of one sheet type are
the same small scan, and the karekod is not printed on it but written into a JPEG comment (marker
FFFE, directly after the first two bytes):

    ssps-rehearsal <karekod or -> <rescan number>-<number>

`mark_page` writes the comment and `read_mark` reads it. Everything after reading (deciding, store,
trees, catalog, ledger) is the production code. Production code never uses this reader: no setting
and no command of the publisher selects it. `python -m scripts.rehearsal.simulated_reader SITE` runs
a publisher with it, and refuses a site that was not made by `ssps rehearse init`.
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
from scripts.daemons.run import run_publisher
from scripts.rehearsal.synthetic.scanner import PlannedScan
from scripts.rehearsal.synthetic.sheets import print_sheet
from scripts.shared.json_log import configure_logging

_WIDTH = 140  # pixels; a page then fits into one disk block of 4096 bytes
_SOI, _COMMENT = b"\xff\xd8", b"\xff\xfe"
_MARK = re.compile(rb"ssps-rehearsal (\d{10}|-) \d+-\d+")
_PRINTED_COPIES = (  # the corners of both karekods on the small scan
    ((124, 5), (132, 5), (132, 13), (124, 13)),
    ((124, 182), (132, 182), (132, 190), (124, 190)),
)


def shared_scan(entry: RegistryEntry, election: Election, seed: int) -> bytes:
    """Return the small scan that all pages of this entry's sheet type share."""
    page = print_sheet(entry, election, seed, 50).convert("L")
    page.thumbnail((_WIDTH, _WIDTH * 2))
    out = io.BytesIO()
    page.save(out, "JPEG", quality=20)
    return out.getvalue()


def mark_page(shared: bytes, planned: PlannedScan) -> bytes:
    """Return the file of a planned scan; only a repeat has the same bytes as an earlier scan."""
    number = planned.number if planned.karekod != planned.entry.karekod else 0
    text = f"ssps-rehearsal {planned.karekod or '-'} {planned.rescan_number}-{number}".encode()
    return _SOI + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + shared[2:]


def read_mark(page: bytes) -> ReadResult:
    """Return what a real reader would return if the karekod were printed twice on the page."""
    size = int.from_bytes(page[4:6], "big")
    found = _MARK.fullmatch(page[6 : 4 + size])
    if page[:4] != _SOI + _COMMENT or found is None:
        return ReadResult(fault=Reason.NOT_AN_IMAGE)
    karekod = found[1].decode()
    copies = _PRINTED_COPIES if karekod != "-" else ()
    readings = tuple(Reading(karekod, "simulated", "whole", 0, corners) for corners in copies)
    return ReadResult("JPEG", _WIDTH, 198, readings)


class SimulatedReader(WorkerClient):
    """Reads the page's mark; starts no worker process."""

    def read(self, data: bytes) -> ReadResult:
        """Return the reading of the page's mark."""
        return read_mark(data)


def main() -> None:
    """Run a rehearsal's publisher until SIGTERM."""
    site = Path(sys.argv[1])
    if not (site / REHEARSAL_TOML).exists():
        sys.exit(f"{site}: not a rehearsal's site: the simulated reader must not be used with it")
    configure_logging("publish")
    run_publisher(load.load(site), workers=2, new_client=SimulatedReader)


if __name__ == "__main__":
    main()
