"""Makes a file in memory that has no name (memfd_create(2)): a program can read it from its start.

A library that insists on a path gets `/proc/self/fd/<descriptor>`; Landlock lets it open that.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def of(content: bytes) -> Iterator[int]:
    """Yield the descriptor of a file with that content."""
    descriptor = os.memfd_create("ssps", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
