import os
from pathlib import Path

import pytest

from publisher.source import Source, parent, status


def test_a_source_survives_writing_and_parsing() -> None:
    source = Source("/site/intake", "board 1/\udcff.jpg")

    assert bytes(source) == b"/site/intake//board 1/\xff.jpg"
    assert Source.parse(bytes(source)) == source


@pytest.mark.parametrize(
    ("folder", "path", "name"),
    [
        ("/site/intake", "a.jpg", "intake"),
        ("/site/intake", "board 1/2023/a.jpg", "intake/board 1"),
        ("/mnt/scans", "board 1/a.jpg", "/mnt/scans/board 1"),
        ("/sites", "1/a.jpg", "/sites/1"),
        ("/site/intake", "a\n/1.jpg", r"intake/a\n"),
        ("/site/intake", r"a\n/1.jpg", r"intake/a\\n"),
        ("/site/intake", "\udcff/1.jpg", r"intake/\udcff"),
        ("/site/intake", r"\udcff/1.jpg", r"intake/\\udcff"),
    ],
)
def test_every_scanner_folder_has_a_name_of_its_own(folder: str, path: str, name: str) -> None:
    assert Source(folder, path).scanner(Path("/site")) == name


def test_status_and_parent_find_a_file_below_the_intake(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.jpg").write_bytes(b"page")
    (tmp_path / "a" / "b" / "link").symlink_to("1.jpg")

    assert status(Source(str(tmp_path), "a/b/1.jpg")).st_size == 4
    assert status(Source(str(tmp_path), "a/b/link")) == (tmp_path / "a/b/link").lstat()
    with parent(Source(str(tmp_path), "a/b/1.jpg")) as (folder, name):
        assert os.fstat(folder).st_ino == (tmp_path / "a" / "b").stat().st_ino
        assert name == "1.jpg"


@pytest.mark.parametrize("path", ["a/1.jpg", "a/b/1.jpg", "../intake/b/1.jpg", ".."])
def test_a_path_through_a_link_or_out_of_the_intake_is_refused(tmp_path: Path, path: str) -> None:
    """Each of these paths exists when links and `..` are followed."""
    intake = tmp_path / "intake"
    (intake / "b" / "b").mkdir(parents=True)
    (intake / "b" / "1.jpg").touch()
    (intake / "b" / "b" / "1.jpg").touch()
    (intake / "a").symlink_to("b")
    assert (intake / path).exists()

    with pytest.raises(NotADirectoryError):
        status(Source(str(intake), path))
