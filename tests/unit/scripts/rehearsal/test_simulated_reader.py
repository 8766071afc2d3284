import io
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from config.election import Election
from config.registry import RegistryEntry
from publisher.page import Reason
from publisher.reading.codes.agreement import agreement_on
from scripts.rehearsal import simulated_reader
from scripts.rehearsal.synthetic.scanner import PlannedScan, ScanKind

ROOT = Path(simulated_reader.__file__).parents[2]


@pytest.fixture(scope="module")
def shared(election: Election, entry: RegistryEntry) -> bytes:
    return simulated_reader.shared_scan(entry, election, seed=1)


def test_a_mark_is_read_back_as_two_printed_copies(shared: bytes, entry: RegistryEntry) -> None:
    page = simulated_reader.mark_page(shared, PlannedScan(7, entry, entry.karekod))

    seen = simulated_reader.read_mark(page)

    assert seen.texts == ("0093717526",)
    assert agreement_on("0093717526", seen.readings).copies == 2


def test_the_mark_is_a_comment_after_the_first_two_bytes(entry: RegistryEntry) -> None:
    page = simulated_reader.mark_page(
        b"\xff\xd8rest", PlannedScan(7, entry, entry.karekod, ScanKind.RESCAN, rescan_number=1)
    )

    assert page == b"\xff\xd8\xff\xfe\x00\x1fssps-rehearsal 0093717526 1-0rest"


def test_a_marked_page_is_a_valid_image_of_one_disk_block(
    shared: bytes, entry: RegistryEntry
) -> None:
    page = simulated_reader.mark_page(shared, PlannedScan(7, entry, entry.karekod))

    assert len(page) <= 4096
    Image.open(io.BytesIO(page)).load()


def test_an_unreadable_page_has_no_text(shared: bytes, entry: RegistryEntry) -> None:
    seen = simulated_reader.read_mark(
        simulated_reader.mark_page(shared, PlannedScan(7, entry, None, ScanKind.BLANK))
    )

    assert seen.texts == ()
    assert seen.fault is None


def test_only_a_repeat_has_the_same_bytes(shared: bytes, entry: RegistryEntry) -> None:
    page = simulated_reader.mark_page(shared, PlannedScan(7, entry, entry.karekod))

    assert (
        simulated_reader.mark_page(shared, PlannedScan(9, entry, entry.karekod, ScanKind.REPEAT))
        == page
    )
    assert (
        simulated_reader.mark_page(
            shared, PlannedScan(9, entry, entry.karekod, ScanKind.RESCAN, rescan_number=1)
        )
        != page
    )
    blank = simulated_reader.mark_page(shared, PlannedScan(9, entry, None, ScanKind.BLANK))
    assert simulated_reader.mark_page(shared, PlannedScan(10, entry, None, ScanKind.BLANK)) != blank


@pytest.mark.parametrize("page", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"rubbish"])
def test_a_page_without_a_mark_is_not_an_image(page: bytes) -> None:
    assert simulated_reader.read_mark(page).fault is Reason.NOT_AN_IMAGE


@pytest.mark.slow
def test_the_simulated_reader_refuses_a_site_that_is_not_a_rehearsal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.rehearsal.simulated_reader", str(tmp_path)]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    assert done.returncode == 1
    assert "not a rehearsal's site" in done.stderr
