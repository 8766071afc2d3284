import os
from pathlib import Path

import pytest

from publisher.source import Source, parent, status


def test_a_source_is_read_back_as_it_was_written() -> None:
    source = Source("/site/intake", "board 1/\udcff.jpg")

    assert bytes(source) == b"/site/intake//board 1/\xff.jpg"
    assert Source.parse(bytes(source)) == source


def test_a_file_is_found_below_its_intake(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.jpg").write_bytes(b"page")
    (tmp_path / "a" / "b" / "link").symlink_to("1.jpg")

    assert status(Source(str(tmp_path), "a/b/1.jpg")).st_size == 4
    assert status(Source(str(tmp_path), "a/b/link")) == (tmp_path / "a/b/link").lstat()
    with parent(Source(str(tmp_path), "a/b/1.jpg")) as (folder, name):
        assert os.fstat(folder).st_ino == (tmp_path / "a" / "b").stat().st_ino
        assert name == "1.jpg"


@pytest.mark.parametrize("path", ["a/1.jpg", "a/b/1.jpg", "../intake/b/1.jpg", ".."])
def test_no_link_is_followed_on_the_way_and_no_path_leads_out(tmp_path: Path, path: str) -> None:
    """Each of these exists, if one only follows."""
    intake = tmp_path / "intake"
    (intake / "b" / "b").mkdir(parents=True)
    (intake / "b" / "1.jpg").touch()
    (intake / "b" / "b" / "1.jpg").touch()
    (intake / "a").symlink_to("b")
    assert (intake / path).exists()

    with pytest.raises(NotADirectoryError):
        status(Source(str(intake), path))
