import errno
import os
from pathlib import Path

import pytest

from publisher.intake.held import HeldSources
from publisher.page import MAX_FILE_BYTES, Stamp
from publisher.source import Source


@pytest.fixture
def source(tmp_path: Path) -> Source:
    (tmp_path / "a.jpg").write_bytes(b"a page")
    return Source(str(tmp_path), "a.jpg")


def held(source: Source, refused: list[Source]) -> HeldSources:
    found = HeldSources(600.0, refused.append)
    found.add(source, Stamp.of(Path(source.folder, source.path).stat()), 0.0)
    return found


def test_a_file_is_removed_once_it_was_quiet_for_long_enough(source: Source) -> None:
    sources = held(source, [])

    assert sources.remove_quiet(599.0) == []
    assert Path(source.folder, "a.jpg").exists()
    assert sources.remove_quiet(600.0) == [source]
    assert not Path(source.folder, "a.jpg").exists()
    assert len(sources) == 0


def test_a_file_that_changed_is_left_for_the_scan(source: Source) -> None:
    sources = held(source, [])
    Path(source.folder, "a.jpg").write_bytes(b"a page and another")

    assert sources.remove_quiet(600.0) == []
    assert sources.remove_quiet(1e9) == []
    assert Path(source.folder, "a.jpg").exists()


def test_a_file_that_was_claimed_again_waits_again(source: Source) -> None:
    sources = held(source, [])
    Path(source.folder, "a.jpg").write_bytes(b"a page and another")
    sources.add(source, Stamp.of(Path(source.folder, "a.jpg").stat()), 100.0)

    assert sources.remove_quiet(699.0) == []
    assert sources.remove_quiet(700.0) == [source]


def test_a_file_that_is_open_or_may_not_be_removed_is_tried_again(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Source] = []
    sources = held(source, refused)
    with Path(source.folder, "a.jpg").open("ab"):
        assert sources.remove_quiet(600.0) == []
    with monkeypatch.context() as patch:

        def unlink(path: str, **at: int) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        patch.setattr(os, "unlink", unlink)
        assert sources.remove_quiet(1200.0) == []

    assert refused == [source]
    assert sources.remove_quiet(1799.0) == []
    assert sources.remove_quiet(1800.0) == [source]


def test_a_file_that_was_too_large_to_be_copied_is_never_removed(source: Source) -> None:
    os.truncate(Path(source.folder, "a.jpg"), MAX_FILE_BYTES + 1)
    sources = held(source, [])

    assert sources.remove_quiet(1e9) == []
    Path(source.folder, "a.jpg").unlink()
    assert sources.remove_quiet(2e9) == [source]
