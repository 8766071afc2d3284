import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys import digest
from keys.digest import Claim, Digests, Proof

KEY, OTHER_KEY = bytes(range(32)), bytes(32)

PAGE = Digests(
    "f7b31cd48a7f2e9d8ac42ffcf2a4e9eb4cfe5e9a1f5ebbcbc1f7c0b5c1f7b9f6",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "d41d8cd98f00b204e9800998ecf8427e",
)
EMPTY = Digests(
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "d41d8cd98f00b204e9800998ecf8427e",
)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    """A file of three bytes."""
    (tmp_path / "page").write_bytes(b"abc")
    descriptor = os.open(tmp_path / "page", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_digests_are_those_of_the_shell_commands() -> None:
    assert digest.digests_of(b"") == EMPTY
    assert digest.digests_of(b"abc") == Digests(
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "900150983cd24fb0d6963f7d28e17f72",
    )


def test_a_stamp_has_the_digests_and_a_seal_that_proves_them(opened: int) -> None:
    assert digest.read_stamp(opened) is None
    assert digest.check(Claim.of(opened), KEY) is Proof.MISSING

    assert digest.stamp(opened, PAGE, KEY)

    assert digest.read_stamp(opened) == PAGE
    assert os.getxattr(opened, "user.ssps.sha256") == PAGE.sha256.encode()
    assert Claim.of(opened).digests == PAGE
    assert digest.check(Claim.of(opened), KEY) is Proof.PROVEN
    assert digest.is_stamped(opened, PAGE, KEY)
    assert digest.proven_or_computed(opened, KEY) == PAGE
    assert Claim.unpack(Claim.of(opened).pack().decode()) == Claim.of(opened)


def test_a_seal_of_another_key_proves_nothing(opened: int) -> None:
    digest.stamp(opened, PAGE, OTHER_KEY)

    assert digest.check(Claim.of(opened), KEY) is Proof.WRONG
    assert digest.check(Claim.of(opened), None) is Proof.MISSING
    assert digest.proven_or_computed(opened, KEY) == digest.digests_of(b"abc")


def test_a_stamp_without_a_key_removes_an_old_seal(opened: int) -> None:
    digest.stamp(opened, PAGE, KEY)
    digest.stamp(opened, EMPTY)

    assert digest.read_stamp(opened) == EMPTY
    assert digest.check(Claim.of(opened), KEY) is Proof.MISSING


def test_a_seal_that_is_copied_to_another_file_is_wrong(opened: int, tmp_path: Path) -> None:
    digest.stamp(opened, PAGE, KEY)
    other = tmp_path / "other"
    other.write_bytes(b"abd")
    for name in os.listxattr(opened):
        os.setxattr(other, name, os.getxattr(opened, name))

    with other.open("rb") as file:
        assert digest.check(Claim.of(file.fileno()), KEY) is Proof.WRONG


@pytest.mark.parametrize("at", range(6))
def test_every_part_of_a_seal_counts(opened: int, at: int) -> None:
    digest.stamp(opened, PAGE, KEY)
    parts = os.getxattr(opened, "user.ssps.seal").split(b" ")
    parts[at] = parts[at][:-1] + (b"1" if parts[at][-1:] != b"1" else b"2")
    os.setxattr(opened, "user.ssps.seal", b" ".join(parts))

    assert digest.check(Claim.of(opened), KEY) is Proof.WRONG


@pytest.mark.parametrize("seal", [b"", b"\xff", b"v1", b"v1 a b c d e", b" " * 5, b"0" * 64])
def test_a_malformed_seal_proves_nothing(opened: int, seal: bytes) -> None:
    digest.stamp(opened, PAGE, KEY)
    os.setxattr(opened, "user.ssps.seal", seal)

    assert digest.check(Claim.of(opened), KEY) in (Proof.WRONG, Proof.MISSING)
    assert digest.proven_or_computed(opened, KEY) == digest.digests_of(b"abc")


def test_a_seal_ends_with_a_change_after_it(opened: int) -> None:
    digest.stamp(opened, PAGE, KEY)
    claim = Claim.of(opened)

    at = int(claim.seal.split(" ")[1])
    for changed_ns, proof in (
        (at, Proof.PROVEN),
        (at + digest.SETTLE_NS, Proof.PROVEN),
        (at + digest.SETTLE_NS + 1, Proof.RELINKED),
        (at - 1, Proof.RELINKED),
    ):
        assert digest.check(claim._replace(changed_ns=changed_ns), KEY) is proof
    # At the moment of the seal no later ctime shows a change, so that these have to.
    for other in (
        claim._replace(size=4),
        claim._replace(inode=claim.inode + 1),
        claim._replace(modified_ns=claim.modified_ns + 1),
    ):
        assert digest.check(other, KEY) is Proof.WRONG


@pytest.mark.parametrize("left", [b"", b"\xff" * 64, b"abc"])
def test_an_incomplete_stamp_is_ignored(opened: int, left: bytes) -> None:
    digest.stamp(opened, PAGE)
    os.setxattr(opened, "user.ssps.sha256", left)

    assert digest.read_stamp(opened) is None
    assert not digest.is_stamped(opened, PAGE, None)


@pytest.mark.parametrize("name", ["sha256", "sha1", "md5"])
def test_one_digest_of_the_bytes(opened: int, name: str) -> None:
    assert digest.compute_one(opened, name) == getattr(digest.digests_of(b"abc"), name)


def test_without_extended_attributes_the_file_is_hashed(
    opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    assert digest.supported(tmp_path)
    for call in ("setxattr", "getxattr"):
        monkeypatch.setattr(os, call, refuse)

    assert not digest.supported(tmp_path)
    assert not digest.stamp(opened, PAGE, KEY)
    assert digest.check(Claim.of(opened), KEY) is Proof.MISSING
    assert digest.proven_or_computed(opened, KEY) == digest.digests_of(b"abc")


def test_a_disk_without_room_for_a_stamp_is_an_error(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "setxattr", full)

    with pytest.raises(OSError, match="No space"):
        digest.stamp(opened, PAGE)
