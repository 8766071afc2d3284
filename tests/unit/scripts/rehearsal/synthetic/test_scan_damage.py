import io

import pytest
import zxingcpp
from PIL import Image

from config.election import Election
from config.registry import RegistryEntry
from scripts.rehearsal.synthetic.scan_damage import scan
from scripts.rehearsal.synthetic.seeded_random import seeded_rng
from scripts.rehearsal.synthetic.sheets import print_sheet

QR_CODES = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCodeModel2)


@pytest.fixture(scope="module")
def page(entry: RegistryEntry, election: Election) -> Image.Image:
    return print_sheet(entry, election, 1)


@pytest.mark.slow
def test_the_bytes_of_a_scan_depend_on_the_random_numbers(page: Image.Image) -> None:
    assert scan(page, seeded_rng(1)) == scan(page, seeded_rng(1))
    assert scan(page, seeded_rng(1)).content != scan(page, seeded_rng(2)).content


@pytest.mark.slow
def test_scans_are_readable_jpeg_or_g4_tiff_at_200_dpi(
    page: Image.Image, entry: RegistryEntry
) -> None:
    kinds = set()
    for seed in range(12):
        content, extension = scan(page, seeded_rng(seed))
        image = Image.open(io.BytesIO(content))
        kinds.add((image.format, image.mode, extension))
        assert image.size == (1654, 2339)
        assert [round(float(dpi)) for dpi in image.info["dpi"]] == [200, 200]
        assert image.format == "JPEG" or image.info["compression"] == "group4"
        found = zxingcpp.read_barcodes(
            image.convert("L"),
            formats=QR_CODES,
            try_rotate=False,
            try_downscale=False,
            try_invert=False,
        )
        assert {code.text for code in found} == {entry.karekod}
    assert kinds == {("JPEG", "L", "jpg"), ("JPEG", "RGB", "jpg"), ("TIFF", "1", "tif")}


def test_scanning_does_not_change_the_page(page: Image.Image) -> None:
    before = page.tobytes()
    scan(page, seeded_rng(3))
    assert page.tobytes() == before
