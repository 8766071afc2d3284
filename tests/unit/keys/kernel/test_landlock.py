import os
from collections.abc import Callable
from pathlib import Path

import pytest

from keys.kernel import landlock, process

pytestmark = pytest.mark.skipif(landlock.abi() == 0, reason="the kernel has no Landlock")


def restricted(restrict: Callable[[], None], *actions: Callable[[], object]) -> str:
    """Return, for each action in a restricted child, "y" if it succeeds and "n" if not."""
    answer, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            process.forbid_new_privileges()
            restrict()
            for action in actions:
                try:
                    action()
                except PermissionError:
                    os.write(telling, b"n")
                else:
                    os.write(telling, b"y")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(telling)
    with os.fdopen(answer) as file:
        return file.read()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    return tmp_path / "inside"


def test_no_file_is_opened_but_open_ones_are_read(inside: Path) -> None:
    descriptor = os.open(inside / "file", os.O_RDONLY)

    answers = restricted(
        lambda: landlock.deny_files(landlock.abi()),
        (inside / "file").read_text,
        lambda: os.read(descriptor, 1),
    )

    assert answers == "ny"
    os.close(descriptor)


def test_only_files_below_one_folder_are_read(inside: Path) -> None:
    descriptor = os.open(inside, os.O_RDONLY)

    answers = restricted(
        lambda: landlock.deny_all_but_reading([descriptor], landlock.abi()),
        (inside / "file").read_text,
        lambda: os.listdir(inside),  # noqa: PTH208
        lambda: (inside / "file").write_text("y"),
        lambda: (inside / "new").touch(),
        lambda: (inside / "file").unlink(),
        (inside.parent / "outside" / "file").read_text,
    )

    assert answers == "yynnnn"
    os.close(descriptor)
