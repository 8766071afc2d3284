"""Computes the digest of a file while it is sent, where its seal does not prove one (keys/digest).

A client usually reads a file from its beginning to its end. Then each byte is hashed as it is sent,
and the digest is that of the bytes that the client got. What was skipped, or read out of order, is
read from the disk when the file is closed.
"""

import hashlib
import os

_CHUNK = 1 << 18


class RunningDigest:
    """The SHA-256 of one open file."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._until = 0

    def add(self, offset: int, sent: memoryview) -> None:
        """Take up bytes that are sent, if they follow those that were taken up before."""
        if offset == self._until:
            self._hash.update(sent)
            self._until += len(sent)

    def covers(self, size: int) -> bool:
        """Say whether the first `size` bytes were taken up."""
        return self._until >= size

    def finish(self, descriptor: int) -> bytes:
        """Return the digest of the whole file, in hexadecimal."""
        while chunk := os.pread(descriptor, _CHUNK, self._until):
            self._hash.update(chunk)
            self._until += len(chunk)
        return self._hash.hexdigest().encode("ascii")
