"""Pictures of pages in quarantine, which may be anything."""

import hashlib
import io
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from portal import programs
from portal.pictures import pictures
from portal.pictures.pictures import MAX_SHOWN_PIXELS, OriginalChanged, Picture, Pictures


def encoded(kind: str, size: tuple[int, int] = (300, 420), **options: object) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(file, kind, **options)
    return file.getvalue()


def held(
    folder: Path, content: bytes, size: tuple[int, int] | None = (300, 420), frame: int = 1
) -> Picture | None:
    path = folder / "page"
    path.write_bytes(content)
    return Pictures().of_held(path, hashlib.sha256(content).hexdigest(), frame, size)


def opened(found: Picture | None) -> Image.Image:
    assert found is not None
    return Image.open(io.BytesIO(found.content))


def test_a_jpeg_of_known_size_is_sent_as_it_is(tmp_path: Path) -> None:
    content = encoded("JPEG")
    assert held(tmp_path, content) == Picture(content, "image/jpeg", original=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["TIFF", "PDF", "JPEG"])
def test_any_other_is_rendered_in_a_process_of_its_own(tmp_path: Path, kind: str) -> None:
    found = held(tmp_path, encoded(kind), None)
    assert found is not None and not found.original
    assert opened(found).format == "JPEG"


@pytest.mark.slow
def test_the_pages_of_a_file_are_rendered_one_by_one(tmp_path: Path) -> None:
    pages = [Image.new("L", (200, 300), level) for level in (0, 255)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    for frame, level in ((1, 0), (2, 255)):
        found = held(tmp_path, file.getvalue(), None, frame)
        assert abs(opened(found).getpixel((100, 100)) - level) < 5  # type: ignore[operator]
    assert held(tmp_path, file.getvalue(), None, 3) is None


@pytest.mark.slow
def test_a_picture_that_is_cut_off_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    content = encoded("JPEG", (1200, 1600), quality=95)
    found = held(tmp_path, content[: len(content) // 2], None)
    assert opened(found).size[0] <= 1200


@pytest.mark.slow
def test_a_huge_picture_is_reduced_and_one_beyond_any_scanner_is_not_opened(
    tmp_path: Path,
) -> None:
    side = 6_500
    assert side * side > MAX_SHOWN_PIXELS
    found = held(tmp_path, encoded("PNG", (side, side)), (side, side))
    assert max(opened(found).size) <= 5_000
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert held(tmp_path, bomb.getvalue(), (20_000, 20_000)) is None


@pytest.mark.slow
def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    for content in (b"", b"<html><script>alert(1)</script>", b"\xff\xd8\xff" + b"x" * 50):
        assert held(tmp_path, content, None) is None


def test_a_link_a_pipe_and_a_missing_file_have_no_picture(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encoded("JPEG"))
    digest = hashlib.sha256(secret.read_bytes()).hexdigest()
    (tmp_path / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "missing"):
        assert Pictures().of_held(tmp_path / name, digest, 1, (300, 420)) is None


def test_bytes_that_have_changed_since_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(encoded("JPEG"))
    with pytest.raises(OriginalChanged):
        Pictures().of_held(tmp_path / "page", "0" * 64, 1, (300, 420))


def test_a_worker_that_closes_its_output_and_does_not_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[programs.Child] = []

    def start(kind: str, words: object, stdin: int, stdout: int) -> programs.Child:
        hostile = ["sh", "-c", "exec sleep 5 >/dev/null"]
        started.append(programs.Child(hostile, stdin=stdin, stdout=stdout))
        return started[0]

    monkeypatch.setattr(programs, "start", start)
    monkeypatch.setattr(pictures, "_TIMEOUT", 0.2)

    assert held(tmp_path, encoded("TIFF"), None) is None
    assert started[0].returncode == -signal.SIGKILL
