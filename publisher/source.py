"""The place of a file in an intake folder, and how to open it without following any link.

A user who may write to an intake folder can replace one of its subfolders with a link to another
place at any moment. Therefore the folders between the intake folder and the file are opened one
by one, never through a link, and the file is used by its bare name in the last of them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from config.fault import visible

# O_PATH also opens a folder that may be entered but not listed.
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# What an operation on a source raises if the source no longer exists.
GONE = (FileNotFoundError, NotADirectoryError)


class Source(NamedTuple):
    """A resolved intake folder and a path below it; written as `<folder>//<path>`."""

    folder: str
    path: str

    def __bytes__(self) -> bytes:
        return os.fsencode(f"{self.folder}//{self.path}")

    @classmethod
    def parse(cls, text: bytes) -> "Source":
        """Parse what `bytes` wrote."""
        folder, _, path = os.fsdecode(text).rpartition("//")
        return cls(folder, path)

    def scanner(self, root: Path) -> str:
        """Return the folder of the scanner: the intake folder, and the first folder below it.

        `root` is the resolved folder of the site; the name is relative to it if it is inside.
        The name comes from outside, so control characters and backslashes are escaped; two folders
        never get the same name.
        """
        first, below, _ = self.path.partition("/")
        folder = f"{self.folder}/{first}" if below else self.folder
        return visible(folder.removeprefix(f"{root}/").replace("\\", r"\\"))


@contextmanager
def parent(source: Source) -> Iterator[tuple[int, str]]:
    """Open the folder that contains a source; yield its descriptor and the name of the file in it.

    Raises NotADirectoryError if a folder on the way is a link.
    """
    *folders, name = source.path.split("/")
    if ".." in (*folders, name):
        raise NotADirectoryError(f"{source.path!r} leaves the intake folder")
    descriptor = os.open(source.folder, _FOLDER)
    try:
        for folder in folders:
            below = os.open(folder, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor, name
    finally:
        os.close(descriptor)


def status(source: Source) -> os.stat_result:
    """Return the stat result of a source; for a link, that of the link itself."""
    with parent(source) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
