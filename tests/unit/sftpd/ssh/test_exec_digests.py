from pathlib import Path

import pytest
from unit.sftpd.sftp_client import MemoryRecorder

from keys import digest
from keys.digest import Digests
from sftpd.sftp.view import View
from sftpd.ssh.exec_digests import Output, run

EMPTY_MD5 = b"d41d8cd98f00b204e9800998ecf8427e"


def test_the_shell_that_rclone_asks_for_is_a_posix_one(view: View, kept: MemoryRecorder) -> None:
    assert run(b"echo ${ShellId}%ComSpec%", view, kept) == Output(b"%ComSpec%\n")


@pytest.mark.parametrize(
    ("command", "digest"),
    [
        (b"md5sum", EMPTY_MD5),
        (b"md5 -r", EMPTY_MD5),
        (b"rclone md5sum", EMPTY_MD5),
        (b"sha1sum", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"sha1 -r", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"),
        (b"sha256sum", b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_without_a_path_it_is_the_digest_of_nothing(
    view: View, kept: MemoryRecorder, command: bytes, digest: bytes
) -> None:
    assert run(command, view, kept) == Output(digest + b"  -\n")
    assert kept.told == []


@pytest.mark.parametrize(
    "path",
    [b"BENIOKU.txt", b"/BENIOKU.txt", b"'/BENIOKU.txt'", rb"/BENIOKU\.txt", b'"BENIOKU.txt"'],
)
def test_a_file_is_hashed_however_its_path_is_quoted(
    tree: Path, view: View, kept: MemoryRecorder, path: bytes
) -> None:
    with (tree / "BENIOKU.txt").open("rb") as file:
        digest.stamp(file.fileno(), Digests("a" * 64, "b" * 40, "c" * 32))

    said = run(b"md5sum " + path, view, kept)

    named = b"BENIOKU.txt" if b"/" not in path else b"/BENIOKU.txt"
    assert said == Output(b"c" * 32 + b"  " + named + b"\n")
    assert kept.told == [("hash", "md5", b"/BENIOKU.txt")]


def test_a_name_with_spaces_and_quotes_is_one_path(
    tree: Path, view: View, kept: MemoryRecorder
) -> None:
    (tree / "it's here").write_bytes(b"")

    said = run(b"md5sum 'it'\"'\"'s here'", view, kept)

    assert said == Output(EMPTY_MD5 + b"  it's here\n")
    assert run(rb"md5sum it\'s\ here", view, kept) == said


@pytest.mark.parametrize("path", [b"/none", b"/akis", b"/../parti-b/gizli.txt", b"x" * 5000])
def test_what_is_no_file_is_said_as_md5sum_says_it(
    view: View, kept: MemoryRecorder, path: bytes
) -> None:
    said = run(b"md5sum " + path, view, kept)

    assert said == Output(b"", b"md5sum: " + path + b": No such file or directory\n", 1)
    assert [told[:2] for told in kept.told] == [("missed", "hash")]


def test_a_digest_that_cannot_be_recorded_is_not_given(view: View, kept: MemoryRecorder) -> None:
    kept.willing = False

    said = run(b"sha256sum BENIOKU.txt", view, kept)

    assert said is not None
    assert (said.out, said.status) == (b"", 1)


@pytest.mark.parametrize(
    "command",
    [
        b"",
        b"id",
        b"sh -c id",
        b"md5sum; id",
        b"md5sum a b",
        b"md5sum -c SHA256SUMS",
        b"md5sum --help",
        b"md5sum ''",
        b"md5sum 'open",
        b"md5sum a\0b",
        b"echo ${ShellId}",
        b"echo ${ShellId}%ComSpec%; id",
        b"rclone sync",
        b"rclone",
        b"md5",
        b"b3sum",
        b"scp -f /",
        b"/usr/bin/md5sum",
        b"md5sum " + b"a" * 20_000,
        b"\xff\xfe",
    ],
)
def test_nothing_else_is_a_command(view: View, kept: MemoryRecorder, command: bytes) -> None:
    assert run(command, view, kept) is None
    assert kept.told == []
