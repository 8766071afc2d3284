"""Computes the digests that a client requests over SFTP.

draft-ietf-secsh-filexfer-extensions-00, section 3: `check-file-name` and `check-file-handle` name
hash algorithms in the client's order, a range (length 0: to the end), and a block size. Each block
gets its own digest (block size 0: one digest for the whole range). The reply has the name of the
first known algorithm, and the digests one after the other.

The digests of a whole file are in its seal (keys/digest), and are computed if the monitor finds
that the seal does not prove them. Those of a part are computed, up to 64 MiB and 2,048 blocks for
each request; larger requests are refused.
"""

import hashlib
import os
from typing import NamedTuple

from keys import digest
from keys.digest import Digests

ALGORITHMS = ("sha256", "sha1", "md5")
_NAMES = {**{name: name for name in ALGORITHMS}, "sha-256": "sha256", "sha-1": "sha1"}
_MAX_BYTES = 64 << 20
_MAX_BLOCKS = 2048
_MIN_BLOCK = 256
_CHUNK = 1 << 18


class DigestRequest(NamedTuple):
    """A request: algorithms as a comma-separated list, start, length and block size in bytes."""

    algorithms: bytes
    start: int
    length: int
    block: int


def algorithm(names: bytes) -> str | None:
    """Return the first algorithm in a client's list that we know, by our name; None if none."""
    wanted = (name.decode("ascii", "replace") for name in names.split(b","))
    return next((_NAMES[name] for name in wanted if name in _NAMES), None)


def digests(
    descriptor: int, size: int, wanted: DigestRequest, proven: Digests | None = None
) -> bytes | None:
    """Return the requested digests of an open file of `size` bytes, None to refuse.

    `proven` are the digests of the whole file if its seal proves them.
    """
    name = algorithm(wanted.algorithms)
    if name is None or wanted.start > size or 0 < wanted.block < _MIN_BLOCK:
        return None
    left = size - wanted.start
    length = min(wanted.length, left) if wanted.length else left
    if length == size and not wanted.block:
        known = getattr(proven, name) if proven else digest.compute_one(descriptor, name)
        return bytes.fromhex(known)
    block = wanted.block or length
    if length > _MAX_BYTES or length > block * _MAX_BLOCKS:
        return None
    if not length:
        return hashlib.new(name, usedforsecurity=False).digest()
    starts = range(wanted.start, wanted.start + length, block)
    end = wanted.start + length
    return b"".join(_of_range(descriptor, name, at, min(at + block, end)) for at in starts)


def _of_range(descriptor: int, name: str, at: int, end: int) -> bytes:
    # Only sha256 proves anything; sha1 and md5 are for clients that compare them.
    hashed = hashlib.new(name, usedforsecurity=False)
    while at < end and (chunk := os.pread(descriptor, min(_CHUNK, end - at), at)):
        hashed.update(chunk)
        at += len(chunk)
    return hashed.digest()
