import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from config.election import Election
from config.registry import RegistryEntry
from scripts.rehearsal.synthetic import election as synthetic
from scripts.rehearsal.synthetic import scanner
from scripts.rehearsal.synthetic.scanner import PlannedScan, ScanKind

QR_CODES = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)
UNFILABLE_KINDS = {ScanKind.BLANK, ScanKind.TORN, ScanKind.UNREGISTERED}


@pytest.fixture(scope="module")
def entries() -> list[RegistryEntry]:
    return list(synthetic.entries(60, 7))


def read(content: bytes) -> set[str]:
    image = Image.open(io.BytesIO(content)).convert("L")
    found = zxingcpp.read_barcodes(image, formats=QR_CODES)
    return {code.text for code in found}


def test_a_plan_has_every_sheet_once_besides_the_extras(
    entries: list[RegistryEntry],
) -> None:
    planned = list(scanner.plan(entries, 7))
    pages = [scan.entry for scan in planned if scan.kind is ScanKind.PAGE]
    assert len(pages) == len(entries)
    assert set(pages) == set(entries)
    assert [scan.number for scan in planned] == list(range(len(planned)))


@pytest.mark.parametrize("sheets", [6, 10, 49, 60])
@pytest.mark.parametrize("seed", range(5))
def test_a_small_election_has_a_repeat_a_rescan_and_an_unfilable_scan(
    entries: list[RegistryEntry], sheets: int, seed: int
) -> None:
    planned = list(scanner.plan(entries[:sheets], seed))
    kinds = {scan.kind for scan in planned}
    assert {ScanKind.PAGE, ScanKind.REPEAT, ScanKind.RESCAN} < kinds
    assert kinds & UNFILABLE_KINDS


def test_the_smallest_election_has_extras() -> None:
    kinds = {scan.kind for scan in scanner.plan(synthetic.entries(1, 7), 7)}
    assert {ScanKind.PAGE, ScanKind.REPEAT, ScanKind.RESCAN} < kinds


def test_three_hundred_scans_have_the_planned_share_of_extras(
    entries: list[RegistryEntry],
) -> None:
    kinds = Counter(scan.kind for scan in scanner.plan(entries, 7, 300))
    assert kinds == {
        ScanKind.PAGE: 288,
        ScanKind.REPEAT: 6,
        ScanKind.RESCAN: 3,
        ScanKind.BLANK: 1,
        ScanKind.TORN: 1,
        ScanKind.UNREGISTERED: 1,
    }


@pytest.mark.parametrize("count", [1, 7, 49, 51, 120])
def test_a_shorter_plan_is_the_beginning_of_a_longer_one(
    entries: list[RegistryEntry], count: int
) -> None:
    assert list(scanner.plan(entries, 7, count)) == list(scanner.plan(entries, 7))[:count]


def test_the_plan_depends_on_the_seed_but_not_on_registry_order(
    entries: list[RegistryEntry],
) -> None:
    planned = list(scanner.plan(entries, 7))
    assert list(scanner.plan(reversed(entries), 7)) == planned
    assert list(scanner.plan(entries, 8)) != planned


def test_an_extra_repeats_a_sheet_scanned_before(entries: list[RegistryEntry]) -> None:
    plan = list(scanner.plan(entries, 7))
    seen = set()
    for scan in plan:
        if scan.kind is ScanKind.PAGE:
            seen.add(scan.entry.karekod)
        assert scan.entry.karekod in seen
    assert len(plan) > len(seen)


@pytest.mark.slow
def test_a_repeat_has_the_same_bytes_and_another_name(
    entry: RegistryEntry, election: Election
) -> None:
    first = PlannedScan(4, entry, entry.karekod)
    page = scanner.render(first, election, 1)
    again = scanner.render(PlannedScan(9, entry, entry.karekod, ScanKind.REPEAT), election, 1)
    assert again.content == page.content
    assert again.name != page.name
    assert scanner.render(first, election, 1) == page
    assert scanner.render(first, election, 2).content != page.content


def test_a_rescan_has_other_bytes_and_the_same_karekod(
    entry: RegistryEntry, election: Election
) -> None:
    page = scanner.render(PlannedScan(4, entry, entry.karekod), election, 1)
    rescan = scanner.render(PlannedScan(9, entry, entry.karekod, ScanKind.RESCAN, 1), election, 1)
    assert rescan.content != page.content
    assert read(rescan.content) == read(page.content) == {entry.karekod}


def test_an_unfilable_scan_shows_no_registered_karekod(
    entry: RegistryEntry, election: Election
) -> None:
    blank, torn = (PlannedScan(1, entry, None, kind) for kind in (ScanKind.BLANK, ScanKind.TORN))
    unregistered_karekod = PlannedScan(1, entry, "9876543210", ScanKind.UNREGISTERED)
    assert read(scanner.render(blank, election, 1).content) == set()
    assert read(scanner.render(torn, election, 1).content) == set()
    assert read(scanner.render(unregistered_karekod, election, 1).content) == {"9876543210"}


def test_a_planned_unregistered_karekod_is_not_in_the_registry(
    entries: list[RegistryEntry],
) -> None:
    known = {entry.karekod for entry in entries}
    unregistered = [s for s in scanner.plan(entries, 7) if s.kind is ScanKind.UNREGISTERED]
    assert unregistered
    assert not known & {scan.karekod for scan in unregistered}


def test_a_file_is_named_after_scanner_and_number(entry: RegistryEntry, election: Election) -> None:
    scan = PlannedScan(42, entry, entry.karekod)
    assert scanner.render(scan, election, 1).name == "tarayici-02_00000042.jpg"
    later = scanner.render(replace(scan, number=43), election, 1)
    assert later.name.partition("_")[2] == "00000043.jpg"


def test_drop_never_shows_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    write = Path.write_bytes

    def watched(path: Path, content: bytes) -> int:
        written = write(path, content[:3])
        shown.append((tmp_path / "a.jpg").exists())
        assert path.name.startswith(".")
        return written + write(path, content)

    monkeypatch.setattr(Path, "write_bytes", watched)
    assert scanner.drop(tmp_path, "a.jpg", b"whole") == tmp_path / "a.jpg"
    assert shown == [False]
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.jpg": b"whole"}


def test_drop_in_place_grows_the_file_until_it_is_complete(tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    sizes: list[int] = []
    scanner.drop_in_place(
        tmp_path, "a.jpg", content, lambda: sizes.append((tmp_path / "a.jpg").stat().st_size)
    )
    assert sizes == [32768, 65536]
    assert (tmp_path / "a.jpg").read_bytes() == content
