import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys.kernel import openat2

pytestmark = pytest.mark.skipif(not openat2.supported(), reason="the kernel has no openat2")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A folder with a file, a symbolic link to it and one out of the folder."""
    (tmp_path / "outside").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "folder" / "link").symlink_to("file")
    (tmp_path / "folder" / "out").symlink_to("../outside")
    descriptor = os.open(tmp_path / "folder", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_file_below_the_folder_is_opened(folder: int) -> None:
    descriptor = openat2.open_beneath(folder, b"file", os.O_RDONLY)
    assert os.read(descriptor, 10) == b"x"
    os.close(descriptor)


@pytest.mark.parametrize(
    ("path", "number"),
    [
        (b"../outside", errno.EXDEV),
        (b"/etc/passwd", errno.EXDEV),
        (b"link", errno.ELOOP),
        (b"out", errno.ELOOP),
        (b"none", errno.ENOENT),
    ],
)
def test_links_and_paths_that_leave_the_folder_are_refused(
    folder: int, path: bytes, number: int
) -> None:
    with pytest.raises(OSError) as caught:
        openat2.open_beneath(folder, path, os.O_RDONLY)
    assert caught.value.errno == number
