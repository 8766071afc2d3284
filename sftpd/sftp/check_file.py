"""The digests of a file's bytes that a client asks for, over SFTP.

draft-ietf-secsh-filexfer-extensions-00, section 3: `check-file-name` and `check-file-handle`
bring the names of hash algorithms in the client's order, a range (length 0: to the end) and the
size of blocks, each of which is to have its digest (0: one for all). The reply carries the first
algorithm that is known and the digests, one after the other.

A whole file's digest stands with its inode (keys/digest). What is asked of a part is computed, up
to 64 MiB and 2,048 blocks a request, and refused beyond.
"""

import hashlib
import os
from typing import NamedTuple

from keys import digest

ALGORITHMS = ("sha256", "sha1", "md5")
_NAMES = {**{name: name for name in ALGORITHMS}, "sha-256": "sha256", "sha-1": "sha1"}
_MAX_BYTES = 64 << 20
_MAX_BLOCKS = 2048
_MIN_BLOCK = 256
_CHUNK = 1 << 18


class DigestRequest(NamedTuple):
    """Which digests of a file: algorithms as a comma-separated list, start, length, block size."""

    algorithms: bytes
    start: int
    length: int
    block: int


def algorithm(names: bytes) -> str | None:
    """Return the first of a client's algorithms that is known, by the name we have for it."""
    wanted = (name.decode("ascii", "replace") for name in names.split(b","))
    return next((_NAMES[name] for name in wanted if name in _NAMES), None)


def digests(descriptor: int, size: int, request_: DigestRequest) -> bytes | None:
    """Return the digests that are asked for, None if they are refused."""
    name = algorithm(request_.algorithms)
    if name is None or request_.start > size or 0 < request_.block < _MIN_BLOCK:
        return None
    left = size - request_.start
    length = min(request_.length, left) if request_.length else left
    if length == size and not request_.block:
        return bytes.fromhex(getattr(digest.digests_of_file(descriptor), name))
    block = request_.block or length
    if length > _MAX_BYTES or length > block * _MAX_BLOCKS:
        return None
    if not length:
        return hashlib.new(name, usedforsecurity=False).digest()
    starts = range(request_.start, request_.start + length, block)
    end = request_.start + length
    return b"".join(_of_range(descriptor, name, at, min(at + block, end)) for at in starts)


def _of_range(descriptor: int, name: str, at: int, end: int) -> bytes:
    # What the client compares; only sha256 proves anything.
    hashed = hashlib.new(name, usedforsecurity=False)
    while at < end and (chunk := os.pread(descriptor, min(_CHUNK, end - at), at)):
        hashed.update(chunk)
        at += len(chunk)
    return hashed.digest()
