import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from publisher.intake import ending

Encode = Callable[..., bytes]
PAGE = Image.effect_noise((120, 160), 60)


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    PAGE.save(file, kind, **options)
    return file.getvalue()


def several(kind: str) -> bytes:
    return encoded(kind, save_all=True, append_images=[PAGE, PAGE])


def big_tiff() -> bytes:
    return encoded("TIFF", big_tiff=True)


FILES = {
    "JPEG": encoded("JPEG"),
    "JPEG with bytes behind it": encoded("JPEG") + b"\0" * 70_000,
    "progressive JPEG": encoded("JPEG", progressive=True),
    "PNG": encoded("PNG"),
    "TIFF": encoded("TIFF"),
    "TIFF of three pages": several("TIFF"),
    "BigTIFF": big_tiff(),
    "PDF": encoded("PDF"),
    "PDF behind PJL": b"\x1b%-12345X@PJL ENTER LANGUAGE=PDF\r\n" + encoded("PDF"),
    "padded PDF": encoded("PDF") + b"\0" * 900_000,
}


def seen(tmp_path: Path, content: bytes) -> tuple[str | None, bool]:
    (tmp_path / "scan").write_bytes(content)
    descriptor = os.open(tmp_path / "scan", os.O_RDONLY)
    try:
        kind = ending.known_format(descriptor)
        return kind, kind is not None and ending.has_end(descriptor, kind)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_has_its_end(tmp_path: Path, name: str) -> None:
    kind = next(k for k in ("JPEG", "PNG", "TIFF", "PDF") if k in name.replace("BigTIFF", "TIFF"))

    assert seen(tmp_path, FILES[name]) == (kind, True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_has_no_end(tmp_path: Path, name: str, share: float) -> None:
    content = FILES[name].rstrip(b"\0") if "behind it" in name or "padded" in name else FILES[name]

    assert not seen(tmp_path, content[: int(len(content) * share)])[1]


@pytest.mark.parametrize("name", ["JPEG", "TIFF", "PDF"])
def test_a_file_that_has_its_size_before_its_bytes_has_no_end(tmp_path: Path, name: str) -> None:
    """SMB clients set the size first; the bytes that are not written yet read as zeros."""
    whole = FILES[name]
    half = whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)

    if name != "TIFF":  # its strips may be anywhere, and zeros are pixels
        assert not seen(tmp_path, half)[1]
    assert seen(tmp_path, bytes(len(whole))) == (None, False)


def test_a_thumbnail_inside_a_jpeg_is_not_its_end(tmp_path: Path) -> None:
    thumbnail = encoded("JPEG")
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = FILES["JPEG"][:2] + exif + FILES["JPEG"][2:]

    assert seen(tmp_path, whole) == ("JPEG", True)
    assert seen(tmp_path, whole[:-100]) == ("JPEG", False)


@pytest.mark.parametrize(
    "content", [b"", b"II", b"II*\0", b"II*\0\xff\xff\xff\xff", b"\xff\xd8\xff"]
)
def test_a_few_bytes_are_not_a_whole_file(tmp_path: Path, content: bytes) -> None:
    assert not seen(tmp_path, content)[1]


def test_a_chain_of_directories_that_loops_is_left_to_the_reader(tmp_path: Path) -> None:
    tiff = bytearray(FILES["TIFF"])
    at = int.from_bytes(tiff[4:8], "little")
    count = int.from_bytes(tiff[at : at + 2], "little")
    link = at + 2 + 12 * count
    tiff[link : link + 4] = at.to_bytes(4, "little")

    assert seen(tmp_path, bytes(tiff)) == ("TIFF", True)
