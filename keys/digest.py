"""Stamps files with their digests; the stamp is sealed, so that a changed file's is not valid.

A stamp is extended attributes that belong to the inode. Three have the digests, in lower-case
hexadecimal as `sha256sum`, `sha1sum` and `md5sum` print them. The seal repeats them, with a
signature that only the holder of the site's stamp key can make (keys/server_keys/stamp_key):

    user.ssps.sha256   e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    user.ssps.sha1     da39a3ee5e6b4b0d3255bfef95601890afd80709
    user.ssps.md5      d41d8cd98f00b204e9800998ecf8427e
    user.ssps.seal     v1 1684080000123456789 e3b0c442… da39a3ee… d41d8cd9… 8d2c41f0…

The seal has its version, the inode's ctime in nanoseconds when the file was sealed, the three
digests, and 16 bytes of keyed BLAKE2b (RFC 7693) over

    ssps-stamp v1 <inode> <size> <mtime> <ctime> <sha256> <sha1> <md5>

A seal proves the digests of a file while it is on the inode that it names, with that size and
mtime, and while the inode's ctime is at most SETTLE_NS later than it says: that is the time to
write the seal and to make the file read-only. Every write changes the ctime, and no system call
sets it back. So a copied seal, other bytes, and other bytes with the old mtime are found. A new
hard link changes the ctime too: filing seals a page after it has made all links (publisher/store).
After a later link, for a new party, the digest is computed until the file is sealed again.

A file is stamped before any client can see it and never changes afterwards, so a process that has
the key and the open file gets the digests without reading its content. A process without the key
computes them. Only sha256 proves anything; the other two are for clients that compare them.
"""

import errno
import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import NamedTuple

SETTLE_NS = 10_000_000
_PREFIX = "user.ssps."
_SEAL = "user.ssps.seal"
_VERSION = "v1"
_MAC_BYTES = 16
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


class Claim(NamedTuple):
    """What an open file says of itself; `seal` is empty if it has none.

    `modified_ns` is its mtime, and `changed_ns` its ctime.
    """

    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    seal: str

    @classmethod
    def of(cls, descriptor: int) -> "Claim":
        """Return the claim of an open file."""
        return cls.from_status(descriptor, os.fstat(descriptor))

    @classmethod
    def from_status(cls, descriptor: int, status: os.stat_result) -> "Claim":
        """Return the claim of an open file whose status is known."""
        try:
            seal = os.getxattr(descriptor, _SEAL).decode("ascii")
        except (OSError, UnicodeDecodeError):
            seal = ""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, seal)

    def pack(self) -> bytes:
        """Return it as bytes: its fields, separated by spaces."""
        return " ".join(map(str, self)).encode("ascii")

    @classmethod
    def unpack(cls, text: str) -> "Claim":
        """Read it from the text of `pack`; raise ValueError if it is not one."""
        if not text.isascii():
            raise ValueError("a claim is ASCII")
        *numbers, seal = text.split(" ", 4)
        inode, size, modified_ns, changed_ns = map(int, numbers)
        return cls(inode, size, modified_ns, changed_ns, seal)

    @property
    def digests(self) -> Digests | None:
        """The digests in the seal, proven or not; None if it has no seal, or a malformed one."""
        parts = self.seal.split(" ")
        if len(parts) != 6 or parts[0] != _VERSION:
            return None
        return _well_formed(parts[2:5])


class Proof(Enum):
    """What a seal proves about the file that it is on."""

    PROVEN = "proven"  # its digests
    RELINKED = "relinked"  # nothing any more: the inode changed after the file was sealed
    WRONG = "wrong"  # nothing: another key, inode, size or text
    MISSING = "missing"  # there is no seal, or no key to check it with


def check(claim: Claim, key: bytes | None) -> Proof:
    """Say what a file's seal proves to the holder of the site's stamp key."""
    if not claim.seal or key is None:
        return Proof.MISSING
    digests = claim.digests
    if digests is None:
        return Proof.WRONG
    _, sealed_at, _, _, _, mac = claim.seal.split(" ")
    try:
        at = int(sealed_at)
    except ValueError:
        return Proof.WRONG
    if not hmac.compare_digest(mac, _mac(key, claim, at, digests)):
        return Proof.WRONG
    return Proof.PROVEN if 0 <= claim.changed_ns - at <= SETTLE_NS else Proof.RELINKED


def stamp(descriptor: int, digests: Digests, key: bytes | None = None) -> bool:
    """Stamp an open file with its digests; False if its file system has no such attributes.

    With the site's stamp key it is sealed too; without one an old seal is removed. The content must
    be complete. The file's mode must allow this process to write, even if the descriptor is
    read-only.
    """
    try:
        for name, value in digests._asdict().items():
            os.setxattr(descriptor, _PREFIX + name, value.encode())
        if key is None:
            with suppress(OSError):
                os.removexattr(descriptor, _SEAL)
            return True
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return reseal(descriptor, digests, key)


def reseal(descriptor: int, digests: Digests, key: bytes) -> bool:
    """Seal a stamped file again, after something about it has changed just now.

    False if its file system has no such attributes.
    """
    claim = Claim.of(descriptor)
    at = claim.changed_ns
    text = " ".join((_VERSION, str(at), *digests, _mac(key, claim, at, digests)))
    try:
        os.setxattr(descriptor, _SEAL, text.encode("ascii"))
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


def _mac(key: bytes, claim: Claim, at: int, digests: Digests) -> str:
    facts = f"{claim.inode} {claim.size} {claim.modified_ns} {at}"
    text = f"ssps-stamp {_VERSION} {facts} {' '.join(digests)}"
    return hashlib.blake2b(text.encode("ascii"), key=key, digest_size=_MAC_BYTES).hexdigest()


def read_stamp(descriptor: int) -> Digests | None:
    """Return the digests that a file is stamped with, proven or not; None if one is missing."""
    try:
        found = [os.getxattr(descriptor, _PREFIX + name).decode() for name in Digests._fields]
    except UnicodeDecodeError:
        return None
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None
    return _well_formed(found)


def _well_formed(found: list[str]) -> Digests | None:
    return Digests(*found) if [len(value) for value in found] == [64, 40, 32] else None


def is_stamped(descriptor: int, digests: Digests, key: bytes | None) -> bool:
    """Say whether a file is stamped with these digests, and sealed if there is a key."""
    if read_stamp(descriptor) != digests:
        return False
    claim = Claim.of(descriptor)
    return key is None or (check(claim, key) is Proof.PROVEN and claim.digests == digests)


def compute(descriptor: int) -> Digests:
    """Return the digests of the bytes of a file open for reading, whatever its stamp says."""
    return _hashed(_chunks(descriptor))


def proven_or_computed(descriptor: int, key: bytes | None) -> Digests:
    """Return the digests of an open file: from its seal if that proves them, or from its bytes."""
    claim = Claim.of(descriptor)
    if check(claim, key) is Proof.PROVEN and (proven := claim.digests) is not None:
        return proven
    return compute(descriptor)


def compute_one(descriptor: int, algorithm: str) -> str:
    """Return one digest of the bytes of a file open for reading: sha256, sha1 or md5."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in _chunks(descriptor):
        hashed.update(chunk)
    return hashed.hexdigest()


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
