"""Stamps files with their digests, in extended attributes that belong to the inode.

There are three attributes, in lower-case hexadecimal as `sha256sum`, `sha1sum` and `md5sum` print
them. For example

    user.ssps.sha256   e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    user.ssps.sha1     da39a3ee5e6b4b0d3255bfef95601890afd80709
    user.ssps.md5      d41d8cd98f00b204e9800998ecf8427e

A file is stamped before any client can see it and never changes afterwards, so a process that has
it open gets its digests without reading its content. A file without a stamp (from an earlier
version, or on a file system without extended attributes) is hashed when a client asks, with the
same result. Only sha256 proves anything; the other two are for clients that compare them.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PREFIX = "user.ssps."
_CHUNK = 1 << 18
_UNSUPPORTED = {errno.ENOTSUP, errno.EPERM, errno.ENOSYS}
_ABSENT = {*_UNSUPPORTED, errno.ENODATA, errno.ERANGE}


class Digests(NamedTuple):
    """Three digests of the same bytes, in hexadecimal."""

    sha256: str
    sha1: str
    md5: str


def digests_of(content: bytes) -> Digests:
    """Return the digests of some bytes."""
    return _hashed([content])


def stamp(descriptor: int, digests: Digests) -> bool:
    """Stamp an open file with its digests; False if its file system has no such attributes.

    The file's mode must allow this process to write, even if the descriptor is read-only.
    """
    try:
        for name, value in digests._asdict().items():
            os.setxattr(descriptor, _PREFIX + name, value.encode())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def read_stamp(descriptor: int) -> Digests | None:
    """Return the digests that a file is stamped with, or None if one of them is missing."""
    try:
        found = [os.getxattr(descriptor, _PREFIX + name).decode() for name in Digests._fields]
    except UnicodeDecodeError:
        return None
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None
    return Digests(*found) if [len(value) for value in found] == [64, 40, 32] else None


def read_stamped_sha256(descriptor: int) -> str | None:
    """Return only the sha256 of a file's stamp, or None; faster than `read_stamp`."""
    try:
        found = os.getxattr(descriptor, _PREFIX + "sha256").decode()
    except (OSError, UnicodeDecodeError):
        return None
    return found if len(found) == 64 else None


def digests_of_file(descriptor: int) -> Digests:
    """Return the digests of a file that is open for reading, from its stamp or its content."""
    return read_stamp(descriptor) or compute(descriptor)


def compute(descriptor: int) -> Digests:
    """Return the digests of the bytes of a file open for reading, whatever its stamp says."""
    return _hashed(_chunks(descriptor))


def has_attributes(descriptor: int) -> bool:
    """Say whether an open file has any attribute of a stamp, well formed or not."""
    try:
        return any(name.startswith(_PREFIX) for name in os.listxattr(descriptor))
    except OSError:
        return False


def supported(folder: Path) -> bool:
    """Say whether files in `folder` can be stamped; it tries to stamp the folder itself."""
    name = _PREFIX + "probe"
    try:
        os.setxattr(folder, name, b"")
    except OSError:
        return False
    with suppress(OSError):
        os.removexattr(folder, name)
    return True


def _hashed(chunks: Iterator[bytes] | list[bytes]) -> Digests:
    # sha1 and md5 are not used for security; with the flag they also work under FIPS.
    sha1 = hashlib.sha1(usedforsecurity=False)
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    for chunk in chunks:
        for one in (sha256, sha1, md5):
            one.update(chunk)
    return Digests(sha256.hexdigest(), sha1.hexdigest(), md5.hexdigest())


def _chunks(descriptor: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(descriptor, _CHUNK, at):
        yield chunk
        at += len(chunk)
