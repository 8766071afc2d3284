import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys import digest
from keys.digest import Digests

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


def test_a_stamp_is_used_instead_of_the_bytes(opened: int) -> None:
    assert digest.read_stamp(opened) is None
    assert digest.digests_of_file(opened) == digest.digests_of(b"abc")

    assert digest.stamp(opened, PAGE)

    assert digest.read_stamp(opened) == PAGE
    assert digest.digests_of_file(opened) == PAGE
    assert os.getxattr(opened, "user.ssps.sha256") == PAGE.sha256.encode()


@pytest.mark.parametrize("left", [b"", b"\xff" * 64, b"abc"])
def test_an_incomplete_stamp_is_ignored(opened: int, left: bytes) -> None:
    digest.stamp(opened, PAGE)
    os.setxattr(opened, "user.ssps.sha256", left)

    assert digest.read_stamp(opened) is None
    assert digest.digests_of_file(opened) == digest.digests_of(b"abc")


def test_without_extended_attributes_the_file_is_hashed(
    opened: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    assert digest.supported(tmp_path)
    for call in ("setxattr", "getxattr"):
        monkeypatch.setattr(os, call, refuse)

    assert not digest.supported(tmp_path)
    assert not digest.stamp(opened, PAGE)
    assert digest.digests_of_file(opened) == digest.digests_of(b"abc")


def test_a_disk_without_room_for_a_stamp_is_an_error(
    opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "setxattr", full)

    with pytest.raises(OSError, match="No space"):
        digest.stamp(opened, PAGE)
