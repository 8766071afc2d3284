"""Merges two sorted listings, so that a check can compare millions of files with the catalog.

Neither listing is held in memory: files are read one folder at a time, rows one at a time.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

E = TypeVar("E")
F = TypeVar("F")


def merge_sorted(
    expected: Iterable[tuple[bytes, E]], found: Iterable[tuple[bytes, F]]
) -> Iterator[tuple[bytes, E | None, F | None]]:
    """Yield each key of two sorted listings, with its value in each; None if it is not in one."""
    left, right = iter(expected), iter(found)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None  # noqa: S101 - for mypy: the loop ends when both are None
            yield one[0], one[1], None
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(right, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(left, None), next(right, None)


def walk_sorted(
    root: str, refused: Callable[[OSError], None], below: str = ""
) -> Iterator[tuple[bytes, os.DirEntry[str]]]:
    """Yield everything below `root` that is not a folder, sorted by the bytes of its path.

    `refused` is called with the error for each folder that cannot be listed. Symbolic links are
    not followed.
    """
    try:
        with os.scandir(f"{root}/{below}") as found:
            entries = [(entry, entry.is_dir(follow_symlinks=False)) for entry in found]
    except OSError as error:
        refused(error)
        return
    # The paths in a folder begin with its name and a slash, so a folder sorts as if its name
    # ended with a slash.
    for entry, is_folder in sorted(entries, key=lambda e: os.fsencode(e[0].name) + b"/" * e[1]):
        if is_folder:
            yield from walk_sorted(root, refused, f"{below}{entry.name}/")
        else:
            yield os.fsencode(f"{below}{entry.name}"), entry
