import io
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import office
import pytest
import qrcode
from PIL import Image, ImageDraw

from config import load, registry
from config.settings import Settings
from config.site import REGISTRY_INDEX

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
OPENS = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def draw() -> Draw:
    """Draw a page at 200 dpi, half a sheet wide, with its codes top right and bottom right."""

    def drawn(*texts: str, tilt: float = 0, note: str = "") -> Image.Image:
        page = Image.new("L", (900, 1500), 245)
        pen = ImageDraw.Draw(page)
        pen.text((60, 60), f"Sandik Sonuc Tutanagi {note}", fill=20)
        for row in range(120, 1440, 40):
            pen.line((60, row, 640, row), fill=60, width=2)
        for place, text in zip(((720, 60), (720, 1180), (300, 600)), texts, strict=False):
            code = qrcode.QRCode(None, qrcode.constants.ERROR_CORRECT_L, box_size=5, border=4)
            code.add_data(text)
            page.paste(code.make_image().get_image().convert("L"), place)
        return page.rotate(tilt, Image.Resampling.BICUBIC, expand=tilt % 180 == 90, fillcolor=245)

    return drawn


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Encode a drawn page as a scanner's file."""

    def encoded(page: Image.Image, form: str = "JPEG", **options: object) -> bytes:
        file = io.BytesIO()
        page.save(file, form, **options)
        return file.getvalue()

    return encoded


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A small site with three parties, six sheets and one intake folder."""
    site = office.site(tmp_path / "site")
    (site / "state").mkdir()
    (site / "intake").mkdir()
    (site / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")
    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)
    loaded = load.load(site)
    return replace(loaded, intake=replace(loaded.intake, settle_seconds=0.05))
