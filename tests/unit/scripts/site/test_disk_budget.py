import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import office
import pytest
from office import Ssps

from config import ballot, load
from config.registry import Registry
from config.site import REGISTRY_INDEX
from publisher.catalog.queries import counts
from scripts.site import disk_budget

GB = 1_000_000_000
Disk = Callable[[int, int], None]


@pytest.fixture
def imported(site: Path, ssps: Ssps) -> Path:
    (site / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")
    assert (
        ssps("registry", "import", site / "registry.csv", "--why", "x", "--site", site).exit_code
        == 0
    )
    return site


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Returns a function that sets the free bytes and inodes of every disk."""

    class Free:
        f_frsize = 1

        def __init__(self, free: int, inodes: int) -> None:
            self.f_bavail, self.f_favail, self.f_files = free, inodes, inodes

    return lambda free, inodes: monkeypatch.setattr(os, "statvfs", lambda _: Free(free, inodes))


def space_needed(site: Path, *ids: str) -> disk_budget.DiskSpace:
    opened = Registry(site / REGISTRY_INDEX)
    try:
        return disk_budget.space_needed(opened, [p for p in load.load(site).parties if p.id in ids])
    finally:
        opened.close()


def test_a_box_needs_a_folder_in_every_tree_and_a_page_needs_one_inode(
    imported: Path,
) -> None:
    none, one, two = (
        space_needed(imported, *ids) for ids in ((), ("parti-a",), ("parti-a", "parti-b"))
    )

    # Five places with one folder inside each; of these parti-b sees three. Each has a feed with at
    # most one segment for each page, and its signature.
    segments = 2 * len(office.ROWS)
    assert one.inodes - none.inodes == 10 + segments
    assert two.inodes - one.inodes == 6 + segments
    pages = none.inodes - 256 - 256 * 256
    assert pages == len(office.ROWS)
    assert two.bytes - one.bytes < one.bytes - none.bytes < 100_000
    assert none.bytes > len(office.ROWS) * disk_budget.PAGE_BYTES


def test_check_notes_how_much_disk_space_is_missing(imported: Path, ssps: Ssps, disk: Disk) -> None:
    disk(GB, 1_000_000)
    assert "inodes" not in ssps("check", "--site", imported).stderr

    disk(GB, 60_000)
    checked = ssps("check", "--site", imported)
    assert checked.exit_code == 0
    assert "the remaining sheets need about 65.8 k inodes, but 60.0 k are free" in " ".join(
        checked.stderr.split()
    )
    assert "mkfs.ext4 -i" in checked.stderr

    disk(1_000_000, 1_000_000)
    assert "B (pages of 250 KB), but 1.0 MB are free" in " ".join(
        ssps("check", "--site", imported).stderr.split()
    )


def test_a_file_system_without_a_limit_of_inodes_has_enough(
    imported: Path, ssps: Ssps, disk: Disk
) -> None:
    disk(GB, 0)

    assert "inodes" not in ssps("check", "--site", imported).stderr


def test_filed_sheets_need_no_more_space(
    imported: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(GB, 40_000)
    assert disk_budget.shortage(imported, []) is not None

    half = counts.Counts(filed=len(office.ROWS) // 2)
    monkeypatch.setattr(counts, "counts", lambda _: half)

    assert disk_budget.shortage(imported, []) is None


def test_without_a_registry_no_shortage_is_reported(site: Path, disk: Disk) -> None:
    disk(0, 0)

    assert disk_budget.shortage(site, []) is None
    assert not (site / REGISTRY_INDEX).exists()


BALLOT = "secim,cevre,sira,secenek,tur,ad,ittifak\ncb,,1,aday-1,aday,Birinci Aday,\n"


def test_check_prints_what_results_take_and_at_which_pace(
    imported: Path, ssps: Ssps, disk: Disk
) -> None:
    disk(500 * GB, 1_000_000)
    settings = load.load(imported)
    assert disk_budget.results_note(imported, settings) is None  # there is no ballot yet
    (imported / "ballot.csv").write_text(BALLOT, encoding="utf-8")

    note = disk_budget.results_note(imported, settings) or ""

    assert "at one snapshot each 10 s a day takes" in note
    assert note.endswith("of 500.0 GB that are free: the pace follows what is free")
    assert "the trees" not in note
    shown = replace(settings, results=replace(settings.results, in_trees=True))
    assert "and the trees " in (disk_budget.results_note(imported, shown) or "")
    disk(1000, 1_000_000)
    few = disk_budget.results_note(imported, settings) or ""
    assert few.endswith("too little for even one")
    assert "results take about" in ssps("check", "--site", imported).stderr.replace("\n", " ")


def test_more_options_and_boxes_need_more_room(imported: Path) -> None:
    opened = Registry(imported / REGISTRY_INDEX)
    more = BALLOT + "".join(f"cb,,{n},aday-{n},aday,Aday {n},\n" for n in range(2, 30))
    small, large = (
        disk_budget.result_space(opened, ballot.read("ballot.csv", text.splitlines(True), b""))
        for text in (BALLOT, more)
    )
    opened.close()

    assert small.rows == large.rows > 0
    assert large.snapshot > 1.5 * small.snapshot
    assert large.exports > 1.5 * small.exports
