import errno
import os
import subprocess
import sys
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


def test_what_is_mounted_below_the_folder_is_refused(tmp_path: Path) -> None:
    for name in ("other", "here/folder", "here"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "other/secret").write_text("x")
    (tmp_path / "here/file").write_text("x")
    code = (
        "import errno, os, sys; from keys.kernel import openat2\n"
        "here = os.open(sys.argv[1], os.O_RDONLY)\n"
        "for path in (b'folder/secret', b'folder', b'file'):\n"
        "    try: print(openat2.open_beneath(here, path, os.O_RDONLY) > 0)\n"
        "    except OSError as error: print(errno.errorcode[error.errno])\n"
    )
    script = (
        'cd "$1" && mount --bind other here/folder && mount --bind other/secret here/file'
        ' && exec "$2" -c "$3" here'
    )
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    done = subprocess.run(
        [*own, "sh", "-c", script, "sh", tmp_path, sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(openat2.__file__).parents[2])},
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")

    assert done.stdout.split() == ["EXDEV"] * 3
