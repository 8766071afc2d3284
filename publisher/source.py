"""Where a file of the intake stands, and how to get at it without following any link.

Who may write in an intake may also swap one of its folders for a link to somewhere else, at any
moment. So the folders between an intake and a file are opened one by one, none of them a link,
and the file is dealt with by its bare name in the last of them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# With O_PATH a folder that may be passed through, but not listed, will do.
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Source(NamedTuple):
    """An intake folder, as it was resolved, and a path below it; written `<folder>//<path>`."""

    folder: str
    path: str

    def __bytes__(self) -> bytes:
        return os.fsencode(f"{self.folder}//{self.path}")

    @classmethod
    def parse(cls, text: bytes) -> "Source":
        """Read back what `bytes` wrote."""
        folder, _, path = os.fsdecode(text).rpartition("//")
        return cls(folder, path)


@contextmanager
def parent(source: Source) -> Iterator[tuple[int, str]]:
    """Open the folder that holds a source, and yield its descriptor and the file's name there.

    Raises NotADirectoryError where a folder on the way is a link.
    """
    *folders, name = source.path.split("/")
    if ".." in (*folders, name):
        raise NotADirectoryError(f"{source.path!r} leads out of the intake")
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
    """Return what the kernel says of a source; of a link, and not of where it leads."""
    with parent(source) as (folder, name):
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
